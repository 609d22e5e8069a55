/** How a raw file is read: which of its bytes are which memory. */
import { useId, useState } from "preact/hooks";
import { PC_MACHINES, type PcMachine, type RawRange } from "x86-paging/dump";
import type { RawOptions } from "../../engine/dump/answers.js";
import { guarded } from "../../state/problem.js";
import { parseHexDigits } from "../../ui/hex-input.jsx";

const KINDS = {
  none: "what it says itself",
  offset: "raw memory from an address on",
  ranges: "raw memory in ranges",
  hole: "all RAM of a PC",
};
type Kind = keyof typeof KINDS;

const UNITS: Readonly<Record<string, bigint>> = { "": 1n, K: 2n ** 10n, M: 2n ** 20n, G: 2n ** 30n, T: 2n ** 40n };

/** `GPA:SIZE@OFFSET`, as the command line takes it. Throws a RangeError. */
export function parseRange(text: string): RawRange {
  const [, gpa, size, unit = "", offset] = /^([^:@]+):(0x[0-9a-f]+|\d+)([KMGT]?)@([^:@]+)$/i.exec(text.trim()) ?? [];
  if (gpa === undefined) throw new RangeError(`${text}: expected GPA:SIZE@OFFSET`);
  return {
    gpa: parseHexDigits(gpa, 52),
    size: BigInt(size!) * UNITS[unit.toUpperCase()]!,
    offset: parseHexDigits(offset!, 52),
  };
}

interface RawChoiceProps {
  readonly onChange: (raw: RawOptions) => void;
  /** Reads what is open again; undefined where nothing is. */
  readonly onAgain: ((raw: RawOptions) => void) | undefined;
}

export function RawChoice({ onChange, onAgain }: RawChoiceProps) {
  const id = useId();
  const [kind, setKind] = useState<Kind>("none");
  const [address, setAddress] = useState("0");
  const [ranges, setRanges] = useState("");
  const [hole, setHole] = useState<string>("pc");
  const options = (next: { kind?: Kind; address?: string; ranges?: string; hole?: string } = {}): RawOptions => {
    const now = { kind, address, ranges, hole, ...next };
    if (now.kind === "offset") return { rawOffset: parseHexDigits(now.address, 52) };
    if (now.kind === "ranges")
      return {
        rawRanges: now.ranges
          .split("\n")
          .filter((line) => line.trim() !== "")
          .map(parseRange),
      };
    if (now.kind === "hole")
      return {
        pcHole: PC_MACHINES.includes(now.hole as PcMachine) ? (now.hole as PcMachine) : parseHexDigits(now.hole, 32),
      };
    return {};
  };
  const tell = (next: Parameters<typeof options>[0]) => {
    try {
      onChange(options(next));
    } catch {
      // It is said when the dump is read.
    }
  };
  return (
    <details>
      <summary>How it is read</summary>
      <div class="controls">
        <label for={`${id}-kind`}>The file is</label>
        <select
          id={`${id}-kind`}
          value={kind}
          onChange={({ currentTarget }) => {
            setKind(currentTarget.value as Kind);
            tell({ kind: currentTarget.value as Kind });
          }}
        >
          {Object.entries(KINDS).map(([name, title]) => (
            <option key={name} value={name}>
              {title}
            </option>
          ))}
        </select>
        {kind === "offset" && (
          <label>
            first byte at{" "}
            <input
              value={address}
              size={14}
              onInput={({ currentTarget }) => {
                setAddress(currentTarget.value);
                tell({ address: currentTarget.value });
              }}
            />
          </label>
        )}
        {kind === "ranges" && (
          <label>
            one GPA:SIZE@OFFSET a line{" "}
            <textarea
              value={ranges}
              rows={3}
              cols={32}
              onInput={({ currentTarget }) => {
                setRanges(currentTarget.value);
                tell({ ranges: currentTarget.value });
              }}
            />
          </label>
        )}
        {kind === "hole" && (
          <label>
            its hole is that of{" "}
            <input
              value={hole}
              size={10}
              list={`${id}-machines`}
              onInput={({ currentTarget }) => {
                setHole(currentTarget.value);
                tell({ hole: currentTarget.value });
              }}
            />
            <datalist id={`${id}-machines`}>
              {PC_MACHINES.map((name) => (
                <option key={name} value={name} />
              ))}
            </datalist>
            <span class="hint"> {PC_MACHINES.join(", ")}, or where it begins</span>
          </label>
        )}
        {onAgain !== undefined && (
          <button type="button" onClick={() => void guarded(() => onAgain(options()))}>
            Read it so
          </button>
        )}
      </div>
    </details>
  );
}
