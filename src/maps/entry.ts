/** What one paging-structure entry says, from the declared bit layouts. */
import { type BitLayout, bitOf, type DecodedField, decodeFields, fieldOf, valueIn } from "../abi/bits.js";
import { EPT, PDE4M, PDPTE_PAE, PTE, PTE32 } from "../abi/entries.js";
import type { PagingMode } from "../api.js";

const P = bitOf(PTE, "P");
const PS = bitOf(PTE, "PS");
const ADDRESS = bitOf(PTE, "ADDRESS");
const ADDRESS_HIGH = fieldOf(PDE4M, "ADDRESS_HIGH");
const EPT_RWX = bitOf(EPT, "R") | bitOf(EPT, "W") | bitOf(EPT, "X");

export type EntryMode = Exclude<PagingMode, "none">;

export interface DecodedEntry {
  /** PML5E, PML4E, PDPTE, PDE or PTE. */
  readonly name: string;
  readonly kind: "not present" | "table" | "page";
  /** Physical address of the table or page; undefined where the entry is not present. */
  readonly address: bigint | undefined;
  /** Size in bytes of the page that a leaf maps. */
  readonly pageSize: bigint | undefined;
  /** Every field that is not zero but the address; empty where the entry is not present. */
  readonly fields: readonly DecodedField[];
}

/** The manual's name of an entry of that level, 5 to 1. */
export function entryName(level: number): string {
  return ["", "PTE", "PDE", "PDPTE", "PML4E", "PML5E"][level] ?? `level-${level} entry`;
}

/** Number of levels of a mode. */
export function levelsOf(mode: EntryMode): number {
  return { "32bit": 2, pae: 3, "4level": 4, "5level": 5, ept4: 4, ept5: 5 }[mode];
}

/**
 * Decodes an entry of `level` (1 to the mode's number of levels).
 * `pse` says that CR4.PSE is set, without which 32-bit paging has no 4 MiB pages.
 * Throws a RangeError for a level that the mode does not have and for more than 32 bits in 32-bit paging.
 */
export function decodeEntry(mode: EntryMode, level: number, entry: bigint, pse = true): DecodedEntry {
  const levels = levelsOf(mode);
  if (!Number.isInteger(level) || level < 1 || level > levels) {
    throw new RangeError(`expected a level from 1 to ${levels}, found ${level}`);
  }
  if (mode === "32bit" && entry >= 1n << 32n) {
    throw new RangeError(`expected an entry of 32 bits, found 0x${entry.toString(16)}`);
  }
  const name = entryName(level);
  const ept = mode === "ept4" || mode === "ept5";
  // Bit 10 alone is present with mode-based execute control only; without it, bits 2:0 decide.
  const present = (entry & (ept ? EPT_RWX : P)) !== 0n;
  if (!present) return { name, kind: "not present", address: undefined, pageSize: undefined, fields: [] };
  const leaf = isLeaf(mode, level, entry, pse);
  const pageSize = leaf ? pageSizeOf(mode, level) : undefined;
  return {
    name,
    kind: leaf ? "page" : "table",
    address: addressOf(mode, entry, pageSize),
    pageSize,
    fields: decodeFields(layoutOf(mode, level, leaf), entry)
      .filter((field) => !field.name.startsWith("ADDRESS"))
      .map((field) => renamed(field, level, ept)),
  };
}

function isLeaf(mode: EntryMode, level: number, entry: bigint, pse: boolean): boolean {
  if (level === 1) return true;
  if ((entry & PS) === 0n) return false;
  if (mode === "32bit") return pse;
  return level === 2 || (level === 3 && mode !== "pae");
}

function pageSizeOf(mode: EntryMode, level: number): bigint {
  if (level === 1) return 1n << 12n;
  if (level === 2) return mode === "32bit" ? 1n << 22n : 1n << 21n;
  return 1n << 30n;
}

function addressOf(mode: EntryMode, entry: bigint, pageSize: bigint | undefined): bigint {
  if (mode !== "32bit") return entry & ADDRESS & ~((pageSize ?? 4096n) - 1n);
  if (pageSize !== 1n << 22n) return entry & bitOf(PTE32, "ADDRESS");
  // PSE-36: bits 20:13 are address bits 39:32.
  return (entry & bitOf(PDE4M, "ADDRESS")) | (valueIn(ADDRESS_HIGH, entry) << 32n);
}

/** The declared layout of an entry; `leaf` says that it maps a page. */
export function layoutOf(mode: EntryMode, level: number, leaf: boolean): BitLayout {
  if (mode === "ept4" || mode === "ept5") return EPT;
  if (mode === "pae" && level === 3) return PDPTE_PAE;
  if (mode !== "32bit") {
    // PAE paging has no protection keys.
    return mode === "pae" ? { ...PTE, fields: PTE.fields.filter((field) => field.name !== "PKEY") } : PTE;
  }
  if (!(leaf && level === 2)) return PTE32;
  return { ...PTE32, fields: [...PTE32.fields.filter((field) => field.name !== "ADDRESS"), ...PDE4M.fields] };
}

/** Bit 7 of a level-1 entry is PAT, and bits that no field claims are the system's own or reserved. */
function renamed(field: DecodedField, level: number, ept: boolean): DecodedField {
  if (field.name === "PS" && level === 1 && !ept) {
    return { name: "PAT", value: field.value, meaning: "page-attribute table index, high bit" };
  }
  if (field.name !== "reserved") return field;
  return { name: "other", value: field.value, meaning: "ignored (free for the system) or reserved bits" };
}
