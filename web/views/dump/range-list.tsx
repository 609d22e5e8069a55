/** All ranges of the space: ordered, chosen by rights, searched by address, written to files. */
import { useCallback, useEffect, useState } from "preact/hooks";
import { FILTERS, type Filter, ORDERS, type Order, type Row, type SpaceAnswer } from "../../engine/dump/answers.js";
import type { ExportFormat } from "../../engine/dump/exporting.js";
import { hex, sizeText } from "../../paging/words.js";
import { arrange, arranged, ask, dump, list, listInUrl, relist, shown } from "../../state/dump/session.js";
import { guarded, noted } from "../../state/problem.js";
import { hrefOf, route, setParams } from "../../state/route.js";
import { download } from "../../ui/download.js";
import { isNarrow } from "../../ui/narrow.js";
import { VirtualRows } from "../../ui/virtual-rows.jsx";
import { RangeRow, RangeSearch } from "./range-row.jsx";
import { useRows } from "./use-rows.js";

const FILTER_NAMES: Readonly<Record<Filter, string>> = {
  user: "user",
  kernel: "supervisor",
  write: "writable",
  execute: "executable",
  wx: "W+X",
  huge: "large pages",
};

export function RangeList({ space }: { space: SpaceAnswer }) {
  const [selected, setSelected] = useState<number | undefined>(undefined);
  const [brought, setBrought] = useState<{ readonly version: number; readonly place: number } | undefined>(undefined);
  const [told, setTold] = useState("");
  const { filters, order } = listInUrl();
  const version = arranged.value;
  const { rowOf, onRange } = useRows(space.id, version);
  useEffect(() => {
    setSelected(undefined);
    setBrought(undefined);
    setTold("");
  }, [version]);
  const listed = list.value;
  useEffect(() => {
    if (listed !== undefined) void noted(() => arrange(filters, order));
  }, [listed, filters.join(), order]);
  const change = (nextFilters: readonly Filter[], nextOrder: Order) => {
    setParams({
      filter: nextFilters.length === 0 ? undefined : nextFilters.join(","),
      order: nextOrder === "address" ? undefined : nextOrder,
    });
  };
  const choose = useCallback(
    (place: number) => {
      setSelected(place);
      setBrought({ version, place });
    },
    [version],
  );
  const jump = (by: "virtual" | "physical", address: bigint) =>
    guarded(async () => {
      const { ended, from } = list.value!;
      const place = await ask("Searching the list", (worker, task) =>
        worker.locate(task, space.id, by, address, by === "physical" ? selected : undefined),
      );
      if (place !== undefined) {
        setTold("");
        choose(place);
      } else if (by === "virtual" && (ended !== "whole" || from > 0n)) {
        // It may be behind what is listed, or in front of it.
        await relist(address);
      } else setTold(by === "virtual" ? "Nothing is listed there or behind it." : "No range that is shown maps this.");
    });
  const count = shown.value ?? 0;
  const row = selected === undefined ? undefined : rowOf(selected);
  return (
    <section aria-labelledby="ranges-title">
      <h2 id="ranges-title">Ranges</h2>
      <fieldset class="controls plain">
        <legend class="unseen">Only ranges that are</legend>
        {FILTERS.map((filter) => (
          <label key={filter}>
            <input
              type="checkbox"
              checked={filters.includes(filter)}
              onChange={({ currentTarget: { checked } }) =>
                change(
                  FILTERS.filter((one) => (one === filter ? checked : filters.includes(one))),
                  order,
                )
              }
            />{" "}
            {FILTER_NAMES[filter]}
          </label>
        ))}
        <label>
          sorted by{" "}
          <select value={order} onChange={({ currentTarget }) => change(filters, currentTarget.value as Order)}>
            {ORDERS.map((one) => (
              <option key={one} value={one}>
                {one === "physical" ? "physical address" : one}
              </option>
            ))}
          </select>
        </label>
      </fieldset>
      <RangeSearch onSearch={jump} />
      <p role="status" class="hint range-count">
        {shown.value === undefined ? "Nothing is listed yet." : countText(count)} {told}
      </p>
      <VirtualRows
        key={version}
        label="Ranges"
        count={count}
        rowHeight={isNarrow.value ? 48 : 28}
        row={(index) => <RangeRow row={rowOf(index)} mode={space.mode} />}
        onRange={onRange}
        selected={selected}
        {...(brought?.version === version ? { shown: brought.place } : {})}
        onSelect={setSelected}
        onOpen={(index) => {
          const opened = rowOf(index);
          if (opened !== undefined) setParams({ address: opened.va.toString(16) });
        }}
      />
      <p class="hint">Enter or a click shows a range's first page below.</p>
      {row !== undefined && <Actions row={row} />}
      <Export space={space} />
    </section>
  );
}

function countText(count: number): string {
  const { count: all, ended, missingTables, cyclic, mapped, from } = list.value!;
  const first = ended === "whole" ? "" : "the first ";
  const ranges = `${count} range${count === 1 ? "" : "s"}`;
  const which = count === all ? `${first}${ranges}` : `${ranges} of ${first}${all}`;
  const why = {
    whole: "",
    full: " (more are not kept; search by address reaches the others)",
    stopped: " (the listing was ended)",
  }[ended];
  const notes = [
    ...(from > 0n ? [`Listed from ${hex(from)} on.`] : []),
    ...(missingTables > 0
      ? [`${missingTables} table${missingTables === 1 ? " is" : "s are"} not in the dump; what they map is not listed.`]
      : []),
    ...(cyclic ? ["A table is below itself."] : []),
  ];
  const text = `${which}${why}, ${sizeText(mapped)} mapped in all.`;
  return [text.replace(/^t/, "T"), ...notes].join(" ");
}

function Actions({ row }: { row: Row }) {
  const address = row.va.toString(16);
  return (
    <div class="controls" role="group" aria-label="The chosen range">
      <code>{hex(row.va)}</code>
      <a class="button" href={hrefOf("walk", { ...keptParams(), address })}>
        Walk
      </a>
      <button type="button" onClick={() => setParams({ address })}>
        Show its first page
      </button>
    </div>
  );
}

/** What a link to another view takes along: which space it is. */
function keptParams() {
  const { cpu, cr3, mode } = route.value.params;
  return { cpu, cr3, mode };
}

function Export({ space }: { space: SpaceAnswer }) {
  const write = (format: ExportFormat) =>
    void guarded(async () => {
      const blob = await ask("Writing the list", (worker, task) => worker.export(task, space.id, format));
      download(
        blob,
        `${(dump.value?.name ?? "dump").replace(/[^\w.-]/g, "_")}.maps.${format === "csv" ? "csv" : "jsonl"}`,
      );
    });
  return (
    <div class="controls">
      <span>Save the list as shown:</span>
      <button type="button" onClick={() => write("csv")}>
        CSV
      </button>
      <button type="button" onClick={() => write("json")}>
        JSON lines
      </button>
    </div>
  );
}
