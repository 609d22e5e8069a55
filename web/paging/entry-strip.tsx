/** An entry of a paging structure in all its bits, those that the processor ignores or wants to be 0, too. */
import { type DecodedEntry, decodeEntry, type EntryFeatures, type EntryFormat, entryLayout } from "x86-paging/decode";
import { pageSizeName } from "x86-paging/maps";
import { BitStrip, type StripField } from "./bit-strip.jsx";
import { fieldKind } from "./field-kinds.js";
import { hex } from "./words.js";

interface EntryStripProps {
  readonly label: string;
  readonly format: EntryFormat;
  readonly level: number;
  readonly entry: bigint;
  readonly features?: EntryFeatures;
}

export function EntryStrip({ label, format, level, entry, features = {} }: EntryStripProps) {
  return <BitStrip label={label} fields={entryFields(format, level, entry, features)} />;
}

export function entryFields(
  format: EntryFormat,
  level: number,
  entry: bigint,
  features: EntryFeatures = {},
): StripField[] {
  const { kind } = decodeEntry(format, level, entry, features);
  return entryLayout(format, level, kind, features).fields.map(({ name, low, width, use, meaning, values }) => {
    const value = (entry >> BigInt(low)) & ((1n << BigInt(width)) - 1n);
    return {
      ...{ low, width, value, meaning, text: values?.[Number(value)] },
      name: use === "ignored" ? "" : name === "RESERVED" ? "rsvd" : name.replace("ADDRESS_HIGH", "39:32"),
      kind: use === "read" ? fieldKind(name) : use === "reserved" && value !== 0n ? "refused" : "free",
    };
  });
}

/** What an entry does: `table at 0x1000`. */
export function entryText(entry: DecodedEntry): string {
  if (entry.kind === "not present") return "not present";
  return entry.kind === "page"
    ? `${pageSizeName(entry.pageSize!)} page at ${hex(entry.address!)}`
    : `table at ${hex(entry.address!)}`;
}
