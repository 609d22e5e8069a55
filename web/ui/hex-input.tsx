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
  /** Takes the focus when this becomes true. */
  readonly focus?: boolean;
}

export function HexInput({ label, value, bits = 64, onValue, late = false, focus = false }: HexInputProps) {
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  // What is being typed; without it, the value.
  const [draft, setDraft] = useState<string | undefined>(undefined);
  const wrong = draft === undefined ? undefined : wrongIn(draft, bits);
  useEffect(() => {
    // Somebody else has changed it.
    if (document.activeElement !== input.current) setDraft(undefined);
  }, [value, bits]);
  useEffect(() => {
    if (focus) input.current?.focus();
  }, [focus]);
  const take = (text: string, final: boolean) => {
    setDraft(text);
    if ((final || !late) && wrongIn(text, bits) === undefined) onValue(parseHexDigits(text, bits));
  };
  return (
    <span class="hex-input">
      <label for={id}>{label}</label>
      <input
        id={id}
        ref={input}
        value={draft ?? value.toString(16).padStart(late ? 0 : Math.ceil(bits / 4), "0")}
        size={Math.ceil(bits / 4) + 2}
        spellcheck={false}
        autocomplete="off"
        autocapitalize="off"
        aria-invalid={wrong !== undefined}
        aria-describedby={wrong === undefined ? undefined : `${id}-wrong`}
        onInput={({ currentTarget }) => take(currentTarget.value, false)}
        onChange={({ currentTarget }) => take(currentTarget.value, true)}
        onBlur={() => wrong === undefined && setDraft(undefined)}
      />
      <span id={`${id}-wrong`} class="bad" role="status">
        {wrong}
      </span>
    </span>
  );
}

function wrongIn(text: string, bits: number): string | undefined {
  try {
    parseHexDigits(text, bits);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
