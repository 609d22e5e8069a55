/** The fields of an SPTE for a strip: every bit, those too that mean nothing in it. */
import type { DecodedSpte, SpteFormat, SpteLayout } from "x86-paging/spte";
import { spteFields } from "x86-paging/spte";
import type { StripField } from "./bit-strip.jsx";
import { fieldKind } from "./field-kinds.js";
import { filled } from "./filled.js";

export function spteStrip({ word, kind }: DecodedSpte, layout: SpteLayout, format: SpteFormat): StripField[] {
  const own = kind === "mmio" ? layout.generation.map(({ field }) => field) : spteFields(layout, format);
  // Where two fields share a place, the later is what the entry has there in this format.
  const known = own.filter(({ low, width = 1 }, index) =>
    own.slice(index + 1).every((other) => other.low + (other.width ?? 1) <= low || low + width <= other.low),
  );
  return filled(
    word,
    64,
    known
      .filter(({ name }) => name !== "reserved")
      .map(({ name, low, width = 1, meaning }) => ({ name, low, width, meaning, kind: fieldKind(name) })),
    { name: "", meaning: "means nothing in such an entry" },
  );
}
