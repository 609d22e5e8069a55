/**
 * The entries of paging structures, one layout for each format, level and kind, in which every bit stands once: as a field,
 * as one that the processor ignores, or as one that must be 0. The decoders, the page and the tests read these; the places
 * of the fields are those of entries.ts.
 */
import { type BitField, fieldOf, maskOf } from "./bits.js";
import { EPT, PAT_4K, PDE4M, PDPTE_PAE, PTE, PTE32 } from "./entries.js";

/** What a table's entries are: 32-bit, PAE, 4-level and 5-level paging (NPT has the same), EPT with 4 or 5 levels. */
export type EntryFormat = "32bit" | "pae" | "4level" | "5level" | "ept4" | "ept5";

/** What an entry does: nothing, reference a table, or map a page. */
export type EntryKind = "not present" | "table" | "page";

/** Whether the processor reads a bit, ignores it, or refuses the entry where it is set. */
export type BitUse = "read" | "ignored" | "reserved";

export interface EntryField extends BitField {
  readonly width: number;
  readonly use: BitUse;
}

/** What decides bits beside format, level and kind. */
export interface EntryFeatures {
  /** MAXPHYADDR, 32 to 52; address bits from there on are reserved. Default 52. */
  readonly maxPhysAddr?: number;
  /** 32-bit: CR4.PSE, without which PS is ignored. Default true. */
  readonly pse?: boolean;
  /** 32-bit: PSE-36, without which bits 20:13 of a 4 MiB page's entry are reserved. Default true. */
  readonly pse36?: boolean;
  /** EFER.NXE, without which bit 63 is reserved. Default true. */
  readonly nxe?: boolean;
  /** 1 GiB pages, without which PS of a PDPTE is reserved. Default true. */
  readonly page1g?: boolean;
  /** CR4.PKE or CR4.PKS, without which the key is ignored. Default true. */
  readonly keys?: boolean;
  /** Bit 8 of PML4E and PML5E is reserved, as AMD has it. Default false: ignored. */
  readonly amdReservedBit8?: boolean;
  /** Mode-based execute control: bit 10 alone makes an EPT entry present. Default false. */
  readonly modeBasedExecute?: boolean;
  /** Bit that says that memory is encrypted (SME, SEV, TDX's shared bit): no part of the address. Default 0. */
  readonly encryption?: bigint;
}

export interface EntryLayout {
  readonly format: EntryFormat;
  readonly level: number;
  readonly kind: EntryKind;
  /** The manual's section. */
  readonly source: string;
  /** From bit 0 on, each bit in one field. */
  readonly fields: readonly EntryField[];
}

/** Lowest bit of a frame's address. */
const ADDRESS_FIRST = fieldOf(PTE, "ADDRESS").low;
/** Bits of the widest physical address. */
const MOST_ADDRESS_BITS = 52;
/** PSE-36 reaches no farther, whatever MAXPHYADDR. */
const PSE36_MOST_BITS = 40;

/** Number of levels of a format. */
export function levelsOf(format: EntryFormat): number {
  return { "32bit": 2, pae: 3, "4level": 4, "5level": 5, ept4: 4, ept5: 5 }[format];
}

/** Bits of an entry, 32 or 64. */
export function entryBits(format: EntryFormat): 32 | 64 {
  return format === "32bit" ? 32 : 64;
}

/** Bits of an address within what an entry of `level` maps. */
export function offsetBits(format: EntryFormat, level: number): number {
  return ADDRESS_FIRST + (format === "32bit" ? 10 : 9) * (level - 1);
}

export function isEpt(format: EntryFormat): boolean {
  return format === "ept4" || format === "ept5";
}

const P = maskOf(fieldOf(PTE, "P"));
const PS = maskOf(fieldOf(PTE, "PS"));
const EPT_RWX = ["R", "W", "X"].reduce((all, name) => all | maskOf(fieldOf(EPT, name)), 0n);
const EPT_XU = maskOf(fieldOf(EPT, "XU"));

/** What an entry of `level` does. */
export function entryKind(format: EntryFormat, level: number, entry: bigint, features: EntryFeatures = {}): EntryKind {
  const present = isEpt(format) ? EPT_RWX | (features.modeBasedExecute ? EPT_XU : 0n) : P;
  if ((entry & present) === 0n) return "not present";
  if (level === 1) return "page";
  return (entry & PS) !== 0n && hasPages(format, level, features) ? "page" : "table";
}

/** Whether entries of a level above 1 can map pages; elsewhere bit 7 is reserved or ignored. */
export function hasPages(format: EntryFormat, level: number, features: EntryFeatures = {}): boolean {
  if (format === "32bit") return level === 2 && features.pse !== false;
  return level === 2 || (level === 3 && format !== "pae" && features.page1g !== false);
}

/** The layout of entries of `level`, 1 to the format's number of levels. */
export function entryLayout(
  format: EntryFormat,
  level: number,
  kind: EntryKind,
  features: EntryFeatures = {},
): EntryLayout {
  if (!Number.isInteger(level) || level < 1 || level > levelsOf(format)) {
    throw new RangeError(`expected a level from 1 to ${levelsOf(format)}, found ${level}`);
  }
  if (kind === "page" && level > 1 && !hasPages(format, level, features)) {
    throw new RangeError(`expected a level whose entries map pages in ${format}, found ${level}`);
  }
  if (kind === "table" && level === 1)
    throw new RangeError("expected a level above 1 for an entry that references a table");
  const draft = kind === "not present" ? absent(format) : draftOf(format, level, kind, features);
  return { format, level, kind, source: draft.source, fields: complete(format, draft, features.encryption ?? 0n) };
}

/** Fields that are read; ranges that are reserved where no such field lies; all other bits are ignored. */
interface Draft {
  readonly source: string;
  readonly read: readonly BitField[];
  /** Pairs of first and last bit; none where the last lies below the first. */
  readonly reserved: readonly (readonly [number, number])[];
}

function draftOf(format: EntryFormat, level: number, kind: "table" | "page", features: EntryFeatures): Draft {
  if (isEpt(format)) return eptDraft(format, level, kind, features);
  if (format === "32bit") return draft32(level, kind, features);
  if (format === "pae" && level === 3) return pdpteDraft(features);
  return draft64(format, level, kind, features);
}

/** The system may use all bits but those that make an entry present; EPT has one more that is read. */
function absent(format: EntryFormat): Draft {
  if (isEpt(format)) return { source: EPT.source, read: [...named(EPT, "R W X"), fieldOf(EPT, "SVE")], reserved: [] };
  const { source } = format === "32bit" ? PTE32 : PTE;
  return { source, read: [fieldOf(PTE, "P")], reserved: [] };
}

const COMMON = "P RW US PWT PCD A";

function draft32(level: number, kind: "table" | "page", features: EntryFeatures): Draft {
  const { source } = PTE32;
  const address = { ...fieldOf(PTE32, "ADDRESS"), meaning: ADDRESS_OF[kind] };
  if (level === 1) return { source, read: [...named(PTE32, `${COMMON} D G`), PAT_4K, address], reserved: [] };
  if (kind === "table") {
    // Without CR4.PSE, PS is ignored.
    const size = features.pse === false ? [] : [fieldOf(PTE32, "PS")];
    return { source, read: [...named(PTE32, COMMON), ...size, address], reserved: [] };
  }
  const high = fieldOf(PDE4M, "ADDRESS_HIGH");
  const width = features.pse36 === false ? 0 : Math.min(addressWidth(features), PSE36_MOST_BITS) - 32;
  const pse36 = width > 0 ? [{ ...high, width }] : [];
  return {
    source: PDE4M.source,
    read: [...named(PTE32, `${COMMON} D PS G`), ...named(PDE4M, "PAT ADDRESS"), ...pse36],
    reserved: [[high.low + width, fieldOf(PDE4M, "ADDRESS").low - 1]],
  };
}

function pdpteDraft(features: EntryFeatures): Draft {
  const width = addressWidth(features);
  return {
    source: PDPTE_PAE.source,
    read: [...named(PDPTE_PAE, "P PWT PCD"), addressField("table", ADDRESS_FIRST, width)],
    reserved: [
      [fieldOf(PTE, "RW").low, fieldOf(PTE, "US").low],
      [fieldOf(PTE, "A").low, fieldOf(PTE, "G").low],
      [width, 63],
    ],
  };
}

function draft64(format: EntryFormat, level: number, kind: "table" | "page", features: EntryFeatures): Draft {
  const { source } = PTE;
  const width = addressWidth(features);
  const xd = fieldOf(PTE, "XD");
  const high: (readonly [number, number])[] = [
    // PAE paging reserves everything up to bit 62; with 4 and 5 levels the bits above 51 are the system's, or a key.
    [width, format === "pae" ? xd.low - 1 : MOST_ADDRESS_BITS - 1],
    ...(features.nxe === false ? [[xd.low, xd.low] as const] : []),
  ];
  const nx = features.nxe === false ? [] : [xd];
  if (kind === "table") {
    const size = fieldOf(PTE, "PS");
    const bit8 = fieldOf(PTE, "G").low;
    const sizes = hasPages(format, level, features);
    return {
      source,
      read: [...named(PTE, COMMON), ...(sizes ? [size] : []), addressField("table", ADDRESS_FIRST, width), ...nx],
      reserved: [
        ...high,
        ...(sizes ? [] : [[size.low, size.low] as const]),
        ...(level > 3 && features.amdReservedBit8 === true ? [[bit8, bit8] as const] : []),
      ],
    };
  }
  const keys = format === "pae" || features.keys === false ? [] : [fieldOf(PTE, "PKEY")];
  const first = offsetBits(format, level);
  const pat = level === 1 ? [PAT_4K] : [fieldOf(PTE, "PS"), fieldOf(PDE4M, "PAT")];
  return {
    source,
    read: [...named(PTE, `${COMMON} D G`), ...pat, addressField("page", first, width), ...keys, ...nx],
    reserved: [...high, ...(level === 1 ? [] : [[fieldOf(PDE4M, "PAT").low + 1, first - 1] as const])],
  };
}

function eptDraft(format: EntryFormat, level: number, kind: "table" | "page", features: EntryFeatures): Draft {
  const { source } = EPT;
  const width = addressWidth(features);
  const high = [width, MOST_ADDRESS_BITS - 1] as const;
  const memory = fieldOf(EPT, "MEMTYPE");
  const size = fieldOf(EPT, "PS");
  if (kind === "table") {
    const sizes = hasPages(format, level, features);
    return {
      source,
      read: [...named(EPT, "R W X A XU"), ...(sizes ? [size] : []), addressField("table", ADDRESS_FIRST, width)],
      reserved: [[memory.low, size.low], high],
    };
  }
  const first = offsetBits(format, level);
  return {
    source,
    read: [
      ...named(EPT, `R W X MEMTYPE IPAT A D XU VPW PW SSS SVE ${level === 1 ? "SPP" : "PS"}`),
      addressField("page", first, width),
    ],
    reserved: [[ADDRESS_FIRST, first - 1], high],
  };
}

function addressWidth({ maxPhysAddr = MOST_ADDRESS_BITS }: EntryFeatures): number {
  if (!Number.isInteger(maxPhysAddr) || maxPhysAddr < 32 || maxPhysAddr > MOST_ADDRESS_BITS) {
    throw new RangeError(`expected maxPhysAddr from 32 to ${MOST_ADDRESS_BITS}, found ${maxPhysAddr}`);
  }
  return maxPhysAddr;
}

/** Bits `first` to MAXPHYADDR - 1 of the address. */
function addressField(kind: "table" | "page", first: number, width: number): BitField {
  return { ...fieldOf(PTE, "ADDRESS"), low: first, width: width - first, meaning: ADDRESS_OF[kind] };
}

const ADDRESS_OF = { table: "physical address of the table", page: "physical address of the page" };

function named(layout: Parameters<typeof fieldOf>[0], names: string): BitField[] {
  return names.split(" ").map((name) => fieldOf(layout, name));
}

const RESERVED = { name: "RESERVED", meaning: "must be 0" };
const IGNORED = { name: "IGNORED", meaning: "free for the system" };
const ENCRYPTED = { name: "C", meaning: "memory encryption" };

/** Every bit in order; neighbours that are ignored, or reserved, are one field. */
function complete(format: EntryFormat, draft: Draft, encryption: bigint): EntryField[] {
  const fields: EntryField[] = [];
  for (let bit = 0; bit < entryBits(format); ) {
    const field = fieldAt(draft, bit, encryption);
    const last = fields.at(-1);
    if (last !== undefined && last.use === field.use && last.name === field.name) {
      fields[fields.length - 1] = { ...last, width: last.width + field.width };
    } else {
      fields.push(field);
    }
    bit += field.width;
  }
  return fields;
}

/** The field that begins at a bit, or the part of it from there on: an encryption bit cuts an address in two. */
function fieldAt(draft: Draft, bit: number, encryption: bigint): EntryField {
  const at = (field: { low: number; width?: number }) => bit >= field.low && bit < field.low + (field.width ?? 1);
  if (((encryption >> BigInt(bit)) & 1n) !== 0n) return { ...ENCRYPTED, low: bit, width: 1, use: "read" };
  const found = draft.read.find(at);
  if (found !== undefined) {
    let end = bit + 1;
    while (end < found.low + (found.width ?? 1) && ((encryption >> BigInt(end)) & 1n) === 0n) end++;
    return { ...found, low: bit, width: end - bit, use: "read" };
  }
  const isReserved = draft.reserved.some(([first, last]) => bit >= first && bit <= last);
  return { ...(isReserved ? RESERVED : IGNORED), low: bit, width: 1, use: isReserved ? "reserved" : "ignored" };
}

/** The mask of a layout's bits that are used so. */
export function bitsUsed({ fields }: EntryLayout, use: BitUse): bigint {
  return fields.filter((field) => field.use === use).reduce((all, field) => all | maskOf(field), 0n);
}
