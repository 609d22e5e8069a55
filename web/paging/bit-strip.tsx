/** A word as a strip of its fields, the highest bit first; each with its place, name, value and, on demand, its meaning. */
import { useId, useState } from "preact/hooks";
import { placeOf } from "x86-paging/decode";
import { HexInput } from "../ui/hex-input.jsx";
import type { FieldKind } from "./field-kinds.js";

export interface StripField {
  readonly name: string;
  readonly low: number;
  readonly width: number;
  readonly value: bigint;
  readonly kind: FieldKind;
  readonly meaning: string;
  /** What the value is called, where values have names. */
  readonly text?: string | undefined;
  /** The names of all values, where these are the only ones. */
  readonly values?: Readonly<Record<number, string>> | undefined;
  /** The value as it is shown. Default: in hexadecimal. */
  readonly shown?: string | undefined;
}

interface BitStripProps {
  readonly label: string;
  /** Any order. */
  readonly fields: readonly StripField[];
  /** A bit's button flips it; the value of a wider field is entered below the strip. */
  readonly onChange?: (field: StripField, value: bigint) => void;
}

export function BitStrip({ label, fields, onChange }: BitStripProps) {
  const id = useId();
  const [told, setTold] = useState<StripField | undefined>(undefined);
  const sorted = [...fields].sort((one, other) => other.low - one.low);
  const current = told && fields.find(({ name, low }) => name === told.name && low === told.low);
  return (
    <div class="bit-strip">
      <div role="group" aria-label={label} class="strip">
        {sorted.map((field) => (
          <button
            type="button"
            key={`${field.low}`}
            class={`field ${field.kind}${field.value === 0n ? " zero" : ""}${field.width > 8 ? " wide" : ""}`}
            aria-describedby={id}
            aria-pressed={onChange && field.width === 1 ? field.value === 1n : undefined}
            onFocus={() => setTold(field)}
            onPointerEnter={() => setTold(field)}
            onClick={() => {
              setTold(field);
              if (field.width === 1) onChange?.(field, field.value ^ 1n);
            }}
          >
            <small>{placeOf(field)}</small>
            <b>{field.name}</b>
            <code>{field.shown ?? field.value.toString(16)}</code>
          </button>
        ))}
      </div>
      <p id={id} class="hint told" aria-live="polite">
        {current === undefined
          ? "Choose a field for its meaning."
          : `${current.name || "bit"} (bit${current.width === 1 ? "" : "s"} ${placeOf(current)}) = ${
              current.shown ?? (current.width === 1 ? current.value : `0x${current.value.toString(16)}`)
            }: ${current.meaning}${current.text === undefined ? "" : ` – ${current.text}`}`}
      </p>
      {onChange && current && current.width > 1 && (
        <FieldValue field={current} onValue={(value) => onChange(current, value)} />
      )}
    </div>
  );
}

function FieldValue({ field, onValue }: { field: StripField; onValue: (value: bigint) => void }) {
  if (field.values === undefined) {
    return <HexInput label={`${field.name} =`} bits={field.width} value={field.value} onValue={onValue} />;
  }
  return (
    <label>
      {field.name} ={" "}
      <select value={`${field.value}`} onChange={({ currentTarget }) => onValue(BigInt(currentTarget.value))}>
        {field.text === undefined && <option value={`${field.value}`}>{`${field.value}: does not exist`}</option>}
        {Object.entries(field.values).map(([value, text]) => (
          <option key={value} value={value}>
            {value}: {text}
          </option>
        ))}
      </select>
    </label>
  );
}
