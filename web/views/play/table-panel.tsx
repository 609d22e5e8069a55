/** The tables that CR3 leads to; every entry can be changed. */

import { useState } from "preact/hooks";
import { type EntryFormat, entryLayout, entryName } from "x86-paging/decode";
import type { PlayEntry, PlayTable } from "../../engine/play/machine.js";
import type { PlayShown } from "../../engine/play/session.js";
import { BitStrip } from "../../paging/bit-strip.jsx";
import { entryFields } from "../../paging/entry-fields.js";
import { hex } from "../../paging/words.js";
import { HexInput } from "../../ui/hex-input.jsx";
import { kindOf } from "./entry-kind.js";
import { act } from "./store.js";

export function TablePanel({ machine }: { machine: PlayShown }) {
  const { tables, mode } = machine;
  const [chosen, setChosen] = useState<number | undefined>(undefined);
  return (
    <section>
      <h2>Tables</h2>
      {tables.length === 0 && <p>With paging off there are none.</p>}
      {tables.map((table) => (
        <Table
          key={`${table.address}/${table.level}`}
          table={table}
          format={mode as EntryFormat}
          chosen={chosen}
          onChoose={(address) => setChosen(address === chosen ? undefined : address)}
        />
      ))}
    </section>
  );
}

interface TableProps {
  readonly table: PlayTable;
  readonly format: EntryFormat;
  readonly chosen: number | undefined;
  readonly onChoose: (address: number | undefined) => void;
}

function Table({ table, format, chosen, onChoose }: TableProps) {
  const [index, setIndex] = useState("");
  // Which entry was asked for by its index: its editor has the focus then.
  const [asked, setAsked] = useState<number | undefined>(undefined);
  const size = format === "32bit" ? 4 : 8;
  const number = Number(index);
  const isIndex = index !== "" && Number.isInteger(number) && number >= 0 && number < table.size;
  return (
    <div class="play-table">
      <h3>
        {table.name} at {hex(table.address)}
      </h3>
      <ul>
        {table.entries.map((entry) => (
          <li key={entry.index}>
            <button
              type="button"
              class="link"
              aria-expanded={entry.address === chosen}
              onClick={() => {
                setAsked(undefined);
                onChoose(entry.address);
              }}
            >
              <code>
                [{entry.index}] {entry.entry.toString(16)}
              </code>
            </button>{" "}
            <span class="hint">{entry.says}</span>
            {entry.address === chosen && (
              <EntryEditor entry={entry} level={table.level} format={format} focus={entry.index === asked} />
            )}
          </li>
        ))}
      </ul>
      <form
        class="controls"
        onSubmit={(event) => {
          event.preventDefault();
          if (!isIndex) return;
          const address = table.address + number * size;
          const there = table.entries.find((entry) => entry.index === number);
          // It is shown from then on, and 0 until it is edited.
          act({ do: "entry", address, entry: there?.entry ?? 0n }, `entry ${number}`).then(
            () => address !== chosen && onChoose(address),
          );
          setAsked(number);
          setIndex("");
        }}
      >
        <label>
          Entry{" "}
          <input
            type="number"
            min={0}
            max={table.size - 1}
            value={index}
            onInput={({ currentTarget }) => setIndex(currentTarget.value)}
          />
        </label>
        <button type="submit" disabled={!isIndex}>
          Edit<span class="unseen"> an entry of the {table.name}</span>
        </button>
      </form>
    </div>
  );
}

interface EntryEditorProps {
  readonly entry: PlayEntry;
  readonly level: number;
  readonly format: EntryFormat;
  readonly focus: boolean;
}

function EntryEditor({ entry, level, format, focus }: EntryEditorProps) {
  const bits = format === "32bit" ? 32 : 64;
  const name = `${entryName(level)}[${entry.index}]`;
  const write = (word: bigint) => act({ do: "entry", address: entry.address, entry: word }, `${name} is ${hex(word)}`);
  const layout = entryLayout(format, level, kindOf(format, level, entry.entry));
  return (
    <div class="editor">
      <HexInput
        label={name}
        bits={bits}
        late
        value={entry.entry}
        focus={focus}
        onValue={(word) => word !== entry.entry && write(word)}
      />
      <BitStrip
        label={name}
        fields={entryFields(layout, entry.entry)}
        onChange={({ low, width }, value) => {
          const mask = ((1n << BigInt(width)) - 1n) << BigInt(low);
          write((entry.entry & ~mask) | ((value << BigInt(low)) & mask));
        }}
      />
    </div>
  );
}
