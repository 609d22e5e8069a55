/** A word as a strip of its fields, the highest bit first; each with its place, name, value and, on demand, its meaning. */
import { useId, useState } from "preact/hooks";
import { placeOf } from "x86-paging/decode";
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
  /** The value as it is shown. Default: in hexadecimal. */
  readonly shown?: string | undefined;
}

interface BitStripProps {
  readonly label: string;
  /** Any order. */
  readonly fields: readonly StripField[];
  /** Fields of one bit become buttons that change it. */
  readonly onFlip?: (field: StripField) => void;
}

export function BitStrip({ label, fields, onFlip }: BitStripProps) {
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
            aria-pressed={onFlip && field.width === 1 ? field.value === 1n : undefined}
            onFocus={() => setTold(field)}
            onPointerEnter={() => setTold(field)}
            onClick={() => {
              setTold(field);
              if (field.width === 1) onFlip?.(field);
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
    </div>
  );
}
