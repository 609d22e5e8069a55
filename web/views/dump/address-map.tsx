/** The address space as a map: the entries of one table as cells, coloured by what lies below; it zooms from the root to pages. */
import { useEffect, useRef, useState } from "preact/hooks";
import { bitOf, CR4 } from "x86-paging/abi";
import { decodeEntry } from "x86-paging/decode";
import type { SpaceAnswer, TableAnswer } from "../../engine/dump/answers.js";
import { hex, placeText, sizeText, tableName } from "../../paging/words.js";
import { ask, list } from "../../state/dump/session.js";
import { noted } from "../../state/problem.js";
import { route, setParams } from "../../state/route.js";
import { CellGrid } from "../../ui/cell-grid.jsx";
import { isNarrow } from "../../ui/narrow.js";
import { EntryList } from "./entry-list.jsx";
import { Legend } from "./legend.jsx";
import { cellOf, entryVa } from "./map-cells.js";

/** The indices in the URL, `511.510`. */
function pathInUrl(): number[] {
  const { table = "" } = route.value.params;
  return /^\d{1,4}(\.\d{1,4}){0,3}$/.test(table) ? table.split(".").map(Number) : [];
}

const textOf = (path: readonly number[]) => (path.length === 0 ? undefined : path.join("."));

export function AddressMap({ space }: { space: SpaceAnswer }) {
  const [table, setTable] = useState<TableAnswer | undefined>(undefined);
  const [current, setCurrent] = useState(0);
  const [physical, setPhysical] = useState(false);
  const shown = useRef("");
  // Which entry the user came up from.
  const left = useRef<number | undefined>(undefined);
  const path = pathInUrl();
  const wanted = path.join(".");
  const listed = list.value;
  useEffect(() => {
    let gone = false;
    void noted(async () => {
      try {
        const answer = await ask("Reading a table", (worker, task) => worker.table(task, space.id, path));
        if (gone) return;
        setTable(answer);
        // With the table, so that the focus follows: what the user came up from, or what is mapped first.
        const key = `${space.id} ${answer.path.join(".")}`;
        if (key !== shown.current)
          setCurrent(
            left.current ??
              Math.max(
                0,
                answer.mapped.findIndex((bytes) => bytes > 0),
              ),
          );
        shown.current = key;
        left.current = undefined;
      } catch (error) {
        if (!gone && path.length > 0) setParams({ table: undefined });
        throw error;
      }
    });
    return () => {
      gone = true;
    };
  }, [space.id, wanted, listed]);
  if (table === undefined) return null;
  const pse = (space.registers.cr4 & bitOf(CR4, "PSE")) !== 0n;
  const decode = (index: number) =>
    table.entries === undefined || space.mode === "none"
      ? undefined
      : decodeEntry(space.mode, table.level, table.entries[index]!, {
          pse,
          encryption: space.registers.encryptionMask,
        });
  const go = (to: readonly number[]) => {
    if (textOf(to) === textOf(path)) return;
    left.current = to.length < path.length ? path[to.length] : undefined;
    setParams({ table: textOf(to) });
  };
  const open = (index: number) => {
    const entry = decode(index);
    if (entry?.kind === "table") go([...path, index]);
    else if (entry?.kind === "page") setParams({ address: entryVa(table, index, space.mode).toString(16) });
  };
  const cells = Array.from({ length: table.mapped.length }, (_, index) =>
    cellOf(table, index, decode(index), space.mode, physical),
  );
  return (
    <section aria-labelledby="map-title">
      <h2 id="map-title">Map</h2>
      <Breadcrumb path={path} level={table.level} onGo={go} />
      <p class="hint">
        {tableName(table.level)} at <code>{hex(table.address)}</code>: {cells.length} entries of {sizeText(table.span)}{" "}
        each. Arrows move, Enter or a click zooms in, Backspace zooms out.
      </p>
      {table.entries === undefined ? (
        <p class="bad">This table is not in the dump ({table.presence}).</p>
      ) : (
        <>
          <CellGrid
            label={`${tableName(table.level)}: ${cells.length} entries`}
            columns={Math.min(cells.length, isNarrow.value ? 16 : 32)}
            cells={cells}
            current={Math.min(current, cells.length - 1)}
            onCurrent={setCurrent}
            onOpen={open}
            onBack={() => path.length > 0 && go(path.slice(0, -1))}
            of={`${table.path.join(".")}`}
          />
          <p class="cell-told mono">{cells[Math.min(current, cells.length - 1)]!.label}</p>
          <Legend physical={physical} onPhysical={setPhysical} highest={table.highest} />
          <EntryList
            table={table}
            decode={decode}
            space={space}
            selected={current}
            onSelect={setCurrent}
            onOpen={open}
          />
        </>
      )}
    </section>
  );
}

function Breadcrumb({
  path,
  level,
  onGo,
}: {
  path: readonly number[];
  level: number;
  onGo: (path: readonly number[]) => void;
}) {
  const top = level + path.length;
  return (
    <nav aria-label="Zoomed in to" class="breadcrumb">
      <button type="button" class="link" aria-current={path.length === 0} onClick={() => onGo([])}>
        {tableName(top)}
      </button>
      {path.map((index, depth) => (
        <span key={`${depth} ${index}`}>
          {" › "}
          <button
            type="button"
            class="link"
            aria-current={depth === path.length - 1}
            onClick={() => onGo(path.slice(0, depth + 1))}
          >
            {placeText(top - depth, index)}
          </button>
        </span>
      ))}
    </nav>
  );
}
