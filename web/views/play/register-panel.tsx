/** The control registers, bit by bit where paging looks at them. */
import { bitOf, CR0, CR4, EFER } from "x86-paging/abi";
import type { PlayShown } from "../../engine/play/session.js";
import { MODES, type Registers } from "../../engine/play/setup.js";
import { navigate } from "../../state/route.js";
import { HexInput } from "../../ui/hex-input.jsx";
import { act } from "./store.js";

interface Bit {
  readonly register: "cr0" | "cr4" | "efer";
  readonly name: string;
  readonly mask: bigint;
  readonly meaning: string;
}

const one = (register: Bit["register"], layout: typeof CR0, names: readonly string[]): Bit[] =>
  names.map((name) => ({
    register,
    name,
    mask: bitOf(layout, name),
    meaning: layout.fields.find((field) => field.name === name)!.meaning,
  }));

const BITS: readonly Bit[] = [
  ...one("cr0", CR0, ["PG", "WP"]),
  ...one("cr4", CR4, ["PSE", "PGE", "SMEP", "SMAP"]),
  ...one("efer", EFER, ["NXE"]),
];

const TITLES = { "4level": "4-level", pae: "PAE", "32bit": "32-bit", none: "off" } as const;

export function RegisterPanel({ machine }: { machine: PlayShown }) {
  const { registers, mode } = machine;
  const write = (name: keyof Registers, value: bigint) =>
    act({ do: "register", name, value }, `${name.toUpperCase()} was written`);
  return (
    <section>
      <h2>Registers</h2>
      <div class="controls">
        <label>
          Paging{" "}
          <select
            value={MODES.find((name) => name === mode) ?? "none"}
            onChange={({ currentTarget }) => navigate("play", { mode: currentTarget.value })}
          >
            {MODES.map((name) => (
              <option key={name} value={name}>
                {TITLES[name]}
              </option>
            ))}
            {mode === "none" && <option value="none">off</option>}
          </select>
        </label>
        <HexInput
          label="CR3"
          late
          bits={64}
          value={registers.cr3}
          onValue={(value) => value !== registers.cr3 && write("cr3", value)}
        />
      </div>
      <fieldset class="plain bits">
        <legend class="unseen">Bits of control registers</legend>
        {BITS.map(({ register, name, mask, meaning }) => (
          <label key={name}>
            <input
              type="checkbox"
              checked={(registers[register] & mask) !== 0n}
              onChange={({ currentTarget }) => {
                // What the processor refuses stays as it was.
                currentTarget.checked = (registers[register] & mask) !== 0n;
                write(register, registers[register] ^ mask);
              }}
            />{" "}
            <b>
              {register.toUpperCase()}.{name}
            </b>{" "}
            <span class="hint">{meaning}</span>
          </label>
        ))}
      </fieldset>
    </section>
  );
}
