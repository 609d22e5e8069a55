/** What one paging-structure entry says, from the declared bit layouts. */
import { bitOf, fieldOf, maskOf, valueIn } from "../abi/bits.js";
import { EPT, PDE4M } from "../abi/entries.js";
import {
  bitsUsed,
  type EntryFeatures,
  type EntryFormat,
  type EntryKind,
  entryBits,
  entryKind,
  entryLayout,
  isEpt,
  offsetBits,
} from "../abi/entry-format.js";
import { isUnknownValue, placeOf, type WordField, wordField } from "./fields.js";

const R = bitOf(EPT, "R");
const W = bitOf(EPT, "W");

/** An entry of a paging structure in its fields. */
export interface DecodedEntry {
  /** PML5E, PML4E, PDPTE, PDE or PTE. */
  readonly name: string;
  readonly kind: EntryKind;
  /** Physical address of the table or page; undefined where the entry is not present. */
  readonly address: bigint | undefined;
  /** Size in bytes of the page that a leaf maps. */
  readonly pageSize: bigint | undefined;
  /**
   * Every field that is not zero but the address, lowest first, those that the processor ignores or wants to be 0 too.
   * Of an entry that is not present, only what the processor reads.
   */
  readonly fields: readonly WordField[];
  /** Why a processor refuses the entry, whatever the access: reserved bits, an EPT misconfiguration. Mostly empty. */
  readonly problems: readonly string[];
}

/** The manual's name of an entry of that level, 5 to 1. */
export function entryName(level: number): string {
  return ["", "PTE", "PDE", "PDPTE", "PML4E", "PML5E"][level] ?? `level-${level} entry`;
}

/**
 * Decodes an entry of `level` (1 to the format's number of levels) by the layout that `entryLayout` gives.
 * Throws a RangeError for a level that the format does not have and for more bits than its entries have.
 */
export function decodeEntry(
  format: EntryFormat,
  level: number,
  entry: bigint,
  features: EntryFeatures = {},
): DecodedEntry {
  const bits = entryBits(format);
  if (entry < 0n || entry >= 1n << BigInt(bits)) {
    throw new RangeError(
      `expected an entry of ${bits} bits, found ${entry < 0n ? "-" : ""}0x${abs(entry).toString(16)}`,
    );
  }
  const kind = entryKind(format, level, entry, features);
  const layout = entryLayout(format, level, kind, features);
  const name = entryName(level);
  const set = layout.fields.filter((field) => (entry & maskOf(field)) !== 0n);
  if (kind === "not present") {
    const fields = set.filter(({ use }) => use === "read").map((field) => wordField(field, entry));
    return { name, kind, address: undefined, pageSize: undefined, fields, problems: [] };
  }
  const problems: string[] = [];
  const reserved = entry & bitsUsed(layout, "reserved");
  if (reserved !== 0n) {
    const places = set.filter(({ use }) => use === "reserved").map(placeOf);
    problems.push(
      `reserved bits are set: 0x${reserved.toString(16)} (bit${places.length === 1 && !places[0]!.includes(":") ? "" : "s"} ${places.join(", ")})`,
    );
  }
  if (isEpt(format) && (entry & (R | W)) === W) problems.push("writable but not readable");
  for (const field of layout.fields) {
    if (field.name.startsWith("MEMTYPE") && isUnknownValue(field, entry)) {
      problems.push(`memory type ${valueIn(field, entry)} does not exist`);
    }
  }
  const pageSize = kind === "page" ? 1n << BigInt(offsetBits(format, level)) : undefined;
  return {
    name,
    kind,
    address: addressOf(layout.fields, entry),
    pageSize,
    fields: set.filter((field) => !isAddress(field)).map((field) => wordField(field, entry)),
    problems,
  };
}

const HIGH = fieldOf(PDE4M, "ADDRESS_HIGH").name;

function isAddress({ name }: { readonly name: string }): boolean {
  return name === "ADDRESS" || name === HIGH;
}

/** The frame's address; PSE-36 has bits 32 and up of it in a field below. */
function addressOf(fields: ReturnType<typeof entryLayout>["fields"], entry: bigint): bigint {
  return fields.filter(isAddress).reduce((address, field) => {
    return address | (field.name === HIGH ? valueIn(field, entry) << 32n : entry & maskOf(field));
  }, 0n);
}

function abs(value: bigint): bigint {
  return value < 0n ? -value : value;
}
