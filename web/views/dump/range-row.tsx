/** A range in the list, and what looks for one. */
import { useState } from "preact/hooks";
import { pageSizeName } from "x86-paging/maps";
import type { Row, SpaceAnswer } from "../../engine/dump/answers.js";
import { addressDigits, hex, rightsLetters, sizeText } from "../../paging/words.js";
import { HexInput } from "../../ui/hex-input.jsx";

export function RangeRow({ row, mode }: { row: Row | undefined; mode: SpaceAnswer["mode"] }) {
  if (row === undefined) return <span class="hint">…</span>;
  const { va, pa, size, pageSize, rights, presence, region } = row;
  const digits = (value: bigint) => BigInt.asUintN(64, value).toString(16).padStart(addressDigits(mode), "0");
  const letters = rightsLetters(rights);
  const loud = letters.endsWith("wx") ? " wx" : letters.startsWith("uw") ? " uw" : "";
  return (
    <span class="columns">
      <span class={`col-range${loud}`}>
        {digits(va)} – {digits(va + size - 1n)}
      </span>
      <span class={`col-rights${loud}`}>{letters}</span>
      <span class="col-size">{sizeText(size)}</span>
      <span class="col-pages">
        {(size / pageSize).toString()} × {pageSizeName(pageSize)}
      </span>
      <span class="col-physical">→ {hex(pa)}</span>
      {presence !== "held" && <span class="hint">{presence}</span>}
      {region !== undefined && <span class="hint">{region}</span>}
    </span>
  );
}

interface RangeSearchProps {
  readonly onSearch: (by: "virtual" | "physical", address: bigint) => void;
}

export function RangeSearch({ onSearch }: RangeSearchProps) {
  const [address, setAddress] = useState(0n);
  const [by, setBy] = useState<"virtual" | "physical">("virtual");
  return (
    <form
      class="controls"
      onSubmit={(event) => {
        event.preventDefault();
        onSearch(by, address);
      }}
    >
      <HexInput label="Go to address" value={address} onValue={setAddress} />
      <select
        aria-label="Kind of address"
        value={by}
        onChange={({ currentTarget }) => setBy(currentTarget.value as "virtual" | "physical")}
      >
        <option value="virtual">virtual</option>
        <option value="physical">physical (the next one)</option>
      </select>
      <button type="submit">Go</button>
    </form>
  );
}
