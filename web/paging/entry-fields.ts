/** The fields of an entry for a strip: every bit, those that the processor ignores or wants to be 0 too. */
import { type EntryLayout, placeOf } from "x86-paging/decode";
import type { StripField } from "./bit-strip.jsx";
import { fieldKind } from "./field-kinds.js";

/** How many bits without a name stand together; others are single, so that each can be seen and flipped. */
const WIDEST_FREE = 1;

export function entryFields({ fields }: EntryLayout, entry: bigint): StripField[] {
  return fields.flatMap(({ name, low, width, use, meaning, values }) => {
    const value = (entry >> BigInt(low)) & ((1n << BigInt(width)) - 1n);
    const kind = use === "read" ? fieldKind(name) : "free";
    const shown = use === "ignored" ? "" : use === "reserved" ? "rsvd" : name;
    const text = values?.[Number(value)];
    const field = {
      name: shown,
      low,
      width,
      value,
      kind,
      meaning,
      ...(text === undefined ? {} : { text }),
      ...(values && { values }),
    };
    if (use === "read" || width <= WIDEST_FREE) return [field];
    return Array.from({ length: width }, (_, bit) => ({
      ...field,
      low: low + bit,
      width: 1,
      value: (value >> BigInt(bit)) & 1n,
      meaning: `${meaning} (of ${placeOf({ low, width })})`,
    }));
  });
}
