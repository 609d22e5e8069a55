/** The entries of a table, decoded: the map in words. */
import { useState } from "preact/hooks";
import type { DecodedEntry } from "x86-paging/decode";
import { pageSizeName } from "x86-paging/maps";
import type { SpaceAnswer, TableAnswer } from "../../engine/dump/answers.js";
import { hex, placeText } from "../../paging/words.js";
import { isNarrow } from "../../ui/narrow.js";
import { VirtualRows } from "../../ui/virtual-rows.jsx";
import { entryVa } from "./map-cells.js";

interface EntryListProps {
  readonly table: TableAnswer;
  readonly decode: (index: number) => DecodedEntry | undefined;
  readonly space: SpaceAnswer;
  readonly selected: number;
  readonly onSelect: (index: number) => void;
  readonly onOpen: (index: number) => void;
}

export function EntryList({ table, decode, space, selected, onSelect, onOpen }: EntryListProps) {
  const [shown, setShown] = useState(false);
  const [all, setAll] = useState(false);
  const entries = table.entries!;
  const indices = Array.from(entries.keys()).filter((index) => all || entries[index] !== 0n);
  return (
    <details open={shown} onToggle={({ currentTarget }) => setShown(currentTarget.open)}>
      <summary>Entries, decoded</summary>
      {shown && (
        <>
          <label>
            <input type="checkbox" checked={all} onChange={({ currentTarget }) => setAll(currentTarget.checked)} />{" "}
            those that are zero, too
          </label>
          <VirtualRows
            label="Entries of the table"
            count={indices.length}
            rowHeight={isNarrow.value ? 48 : 28}
            selected={indices.indexOf(selected) < 0 ? undefined : indices.indexOf(selected)}
            onSelect={(row) => onSelect(indices[row]!)}
            onOpen={(row) => onOpen(indices[row]!)}
            row={(row) => {
              const index = indices[row]!;
              return (
                <EntryRow
                  place={placeText(table.level, index)}
                  va={entryVa(table, index, space.mode)}
                  word={entries[index]!}
                  digits={space.mode === "32bit" ? 8 : 16}
                  entry={decode(index)}
                />
              );
            }}
          />
        </>
      )}
    </details>
  );
}

interface EntryRowProps {
  readonly place: string;
  readonly va: bigint;
  readonly word: bigint;
  readonly digits: number;
  readonly entry: DecodedEntry | undefined;
}

function EntryRow({ place, va, word, digits, entry }: EntryRowProps) {
  const what =
    entry === undefined || entry.kind === "not present"
      ? "not present"
      : `${entry.kind === "page" ? `${pageSizeName(entry.pageSize!)} page` : "table"} ${hex(entry.address!)}`;
  const flags = (entry?.fields ?? [])
    .filter(({ use }) => use === "read")
    .map(({ name, value, width }) => (width === 1 ? name : `${name}=${value}`));
  return (
    <span class="columns">
      <span class="col-place">{place}</span>
      <span class="col-address">{hex(va)}</span>
      <span class="col-address">{word.toString(16).padStart(digits, "0")}</span>
      <span>{what}</span>
      <span>{flags.join(" ")}</span>
      {(entry?.problems.length ?? 0) > 0 && <span class="bad">{entry!.problems.join("; ")}</span>}
    </span>
  );
}
