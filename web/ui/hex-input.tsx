/** A field for a hexadecimal number: what is no number is said beside it, and changes nothing. */
import { useEffect, useId, useRef, useState } from "preact/hooks";

/** Digits without 0x; blanks, `_` and `` ` `` between them count for nothing. Throws a RangeError for what is none. */
export function parseHexDigits(text: string, bits: number): bigint {
  const digits = text.replaceAll(/[\s_`]/g, "").replace(/^0x/i, "");
  if (!/^[0-9a-f]+$/i.test(digits)) throw new RangeError("expected hexadecimal digits");
  const value = BigInt(`0x${digits}`);
  if (value >> BigInt(bits) !== 0n) throw new RangeError(`expected at most ${bits} bits`);
  return value;
}

interface HexInputProps {
  readonly label: string;
  readonly value: bigint;
  /** Default 64. */
  readonly bits?: number;
  readonly onValue: (value: bigint) => void;
  /** Only Enter and leaving the field hand the value on. Default: each change that is a number. */
  readonly late?: boolean;
}

export function HexInput({ label, value, bits = 64, onValue, late = false }: HexInputProps) {
  const id = useId();
  const shown = value.toString(16).padStart(late ? 0 : Math.ceil(bits / 4), "0");
  const [text, setText] = useState(shown);
  const [wrong, setWrong] = useState<string | undefined>(undefined);
  /** Values that were handed on and have not come back yet: whoever types is faster than the page. */
  const told = useRef<bigint[]>([]);
  useEffect(() => {
    const own = told.current.indexOf(value);
    if (own >= 0) {
      told.current = told.current.slice(own + 1);
      return;
    }
    told.current = [];
    setText((old) => (isValue(old, value, bits) ? old : shown));
    setWrong(undefined);
  }, [value, bits, shown]);
  const take = (input: string, final: boolean) => {
    setText(input);
    try {
      const parsed = parseHexDigits(input, bits);
      setWrong(undefined);
      if (!final && late) return;
      if (parsed !== value) told.current.push(parsed);
      onValue(parsed);
    } catch (error) {
      setWrong((error as Error).message);
    }
  };
  return (
    <span class="hex-input">
      <label for={id}>{label}</label>
      <input
        id={id}
        value={text}
        size={Math.ceil(bits / 4) + 2}
        spellcheck={false}
        autocomplete="off"
        autocapitalize="off"
        aria-invalid={wrong !== undefined}
        aria-describedby={wrong === undefined ? undefined : `${id}-wrong`}
        onInput={({ currentTarget }) => take(currentTarget.value, false)}
        onChange={({ currentTarget }) => take(currentTarget.value, true)}
      />
      <span id={`${id}-wrong`} class="bad" role="status">
        {wrong}
      </span>
    </span>
  );
}

function isValue(text: string, value: bigint, bits: number): boolean {
  try {
    return parseHexDigits(text, bits) === value;
  } catch {
    return false;
  }
}
