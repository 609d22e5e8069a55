/** What a shadow page-table entry says, from its value and its VM's masks. */
import { type BitLayout, bitOf, type DecodedField, decodeFields, fieldOf, maskOf, valueIn } from "../abi/bits.js";
import { hasRule, type Kernel } from "../abi/kernel-rules.js";
import {
  EMPTY_BIT_63,
  NONPRESENT_OR_RSVD_BITS,
  REMOVED_SPTE,
  SPTE,
  SPTE_AD,
  SPTE_EPT,
  SPTE_LEGACY,
  SPTE_MMIO,
} from "../abi/spte.js";
import { ConfigError } from "../errors.js";
import { bitRange, eptMasks, legacyMasks, type SpteFormat, type SpteMasks } from "./masks.js";

export type SpteKind =
  /** Stands for nothing: all zero, in Linux 6.12 bit 63 alone. */
  | "none"
  /** No memory behind the address: every access is emulated. */
  | "mmio"
  /** A TDP entry whose change is under way; Linux 6.12 calls it frozen. */
  | "removed"
  /** A leaf whose rights are taken away until the next access. */
  | "access-tracked"
  /** Maps a page. */
  | "leaf"
  /** Leads to another table. */
  | "non-leaf"
  /** PAE page-directory-pointer-table entry of this project's roots. */
  | "pdpte"
  /** Entry of Linux's special root tables (pae_root, pml4_root, pml5_root): present for hardware only. */
  | "special-root"
  /** Not zero, not present and none of the above: no kernel stores it. */
  | "not-present";

export interface SpteRights {
  readonly read: boolean;
  readonly write: boolean;
  readonly execute: boolean;
  /** Always true in EPT. */
  readonly user: boolean;
}

export interface DecodedSpte {
  readonly word: bigint;
  readonly kind: SpteKind;
  /** Host-physical address of the page or table; absent in entries that have none. */
  readonly address?: bigint;
  /** Rights of an entry that hardware takes for present; of an access-tracked one, those it gets back. */
  readonly rights?: SpteRights;
  readonly mmio?: MmioSpte;
  /** Every field that is not zero. */
  readonly fields: readonly DecodedField[];
  /** Bits that mean nothing in such an entry. */
  readonly unknown: bigint;
}

export interface MmioSpte {
  /** Guest frame number. */
  readonly gfn: bigint;
  /** ACC_* bits: write 2, user 4; always 0 in EPT. */
  readonly access: number;
  /** Low 19 bits of the memslot generation when the entry was made. */
  readonly generation: number;
}

export interface DecodeOptions {
  /** Whose entry it is. Default "6.1". */
  readonly kernel?: Kernel;
  readonly format: SpteFormat;
  /** The VM's masks. Default: those of a host with 46 address bits, A/D bits and no L1TF bug. */
  readonly masks?: SpteMasks;
  /**
   * Level of the table that holds the entry, 1 to 5. Without it an entry without PS is a table if it is
   * writable and not MMU-writable, which no leaf is.
   */
  readonly level?: number;
  /** The entry is one of a PAE root's four. Default false. */
  readonly pdpte?: boolean;
}

const bit = (name: string): bigint => bitOf(SPTE, name);
const PRESENT = bit("MMU_PRESENT");
const PS = bit("PS");
const ADDRESS = bit("ADDRESS");
const AD_TYPE = bit("AD_TYPE");
const AD_TYPE_SHIFT = BigInt(fieldOf(SPTE, "AD_TYPE").low);
const SAVED = bit("SAVED_R") | bit("SAVED_X");
const SAVED_SHIFT = BigInt(fieldOf(SPTE, "SAVED_R").low);
const RSVD_SHIFT = BigInt(NONPRESENT_OR_RSVD_BITS);
const W = bitOf(SPTE_LEGACY, "RW");
const P = bitOf(SPTE_LEGACY, "P");
const GEN_LOW = fieldOf(SPTE_MMIO, "GEN_LOW");
const GEN_HIGH = fieldOf(SPTE_MMIO, "GEN_HIGH");
const GEN = maskOf(GEN_LOW) | maskOf(GEN_HIGH);

/** The masks that a format has where nothing else is known. */
export function defaultMasks(format: SpteFormat, suppressVe = false): SpteMasks {
  return format === "ept" ? eptMasks({ physBits: 46, suppressVe }) : legacyMasks({ physBits: 46 });
}

/** Whether the entry is backed by memory (is_shadow_present_pte). */
export function isPresent(spte: bigint): boolean {
  return (spte & PRESENT) !== 0n;
}

/** Whether the entry marks MMIO (is_mmio_spte). */
export function isMmio(spte: bigint, masks: SpteMasks): boolean {
  return masks.mmioValue !== 0n && (spte & masks.mmio) === masks.mmioValue;
}

/** SPTE_AD of a present entry. */
export function adType(spte: bigint): number {
  return Number((spte & AD_TYPE) >> AD_TYPE_SHIFT);
}

/** Whether the rights of a present entry are taken away to track accesses (is_access_track_spte). */
export function isAccessTracked(spte: bigint, masks: SpteMasks): boolean {
  return masks.accTrack !== 0n && adType(spte) === SPTE_AD.Disabled && (spte & masks.accTrack) === 0n;
}

/** Guest frame, rights and generation of an MMIO entry. */
export function mmioOf(spte: bigint, masks: SpteMasks): MmioSpte {
  const gpa = (spte & masks.lowerGfn) | ((spte >> RSVD_SHIFT) & masks.nonpresentOrRsvd);
  return { gfn: gpa >> 12n, access: Number(spte & masks.mmioAccess), generation: mmioGenerationOf(spte) };
}

/** The 19 bits of an MMIO entry's generation. */
export function mmioGenerationOf(spte: bigint): number {
  return Number(valueIn(GEN_LOW, spte) | (valueIn(GEN_HIGH, spte) << BigInt(GEN_LOW.width!)));
}

/**
 * Decodes an entry.
 * @throws ConfigError if `word` is not an unsigned 64-bit value.
 */
export function decodeSpte(word: bigint, options: DecodeOptions): DecodedSpte {
  if (word < 0n || word >= 1n << 64n) throw new ConfigError(`SPTE ${word} is not an unsigned 64-bit value`);
  const empty = hasRule(options.kernel ?? "6.1", "empty-bit-63") ? EMPTY_BIT_63 : 0n;
  const masks = options.masks ?? defaultMasks(options.format, empty !== 0n);
  if (word === 0n || word === empty) return { word, kind: "none", fields: [], unknown: 0n };
  if (word === (REMOVED_SPTE | empty)) return { word, kind: "removed", fields: [], unknown: 0n };
  if (!isPresent(word) && isMmio(word, masks)) return decodeMmio(word, masks);

  const layout = layoutFor(options.format);
  const kind = kindOf(word, masks, options);
  const fields = decodeFields(layout, word).filter((field) => field.name !== "reserved");
  if (kind === "not-present") return { word, kind, fields, unknown: word };
  const defined = layout.fields.reduce((mask, field) => mask | bitOf(layout, field.name), 0n) & ~ADDRESS;
  const address = word & bitRange(12, masks.physBits - 1) & ~masks.me;
  const unknown = word & ~(defined | address | masks.meValue);
  return { word, kind, address, rights: rightsOf(word, masks, options.format), fields, unknown };
}

function kindOf(word: bigint, masks: SpteMasks, { format, level, pdpte }: DecodeOptions): SpteKind {
  if (!isPresent(word)) {
    const hardware = bitOf(SPTE_LEGACY, "P") | W | bitOf(SPTE_LEGACY, "US") | bitOf(SPTE_LEGACY, "A");
    const special = format !== "ept" && (word & P) !== 0n && (word & ~(hardware | ADDRESS)) === 0n;
    return special ? "special-root" : "not-present";
  }
  if (isAccessTracked(word, masks)) return "access-tracked";
  if (pdpte) return "pdpte";
  if ((word & PS) !== 0n || level === 1) return "leaf";
  if (level !== undefined) return "non-leaf";
  return (word & W) !== 0n && (word & masks.mmuWritable) === 0n ? "non-leaf" : "leaf";
}

function rightsOf(word: bigint, masks: SpteMasks, format: SpteFormat): SpteRights {
  const tracked = isPresent(word) && isAccessTracked(word, masks);
  const bits = tracked ? word | ((word & SAVED) >> SAVED_SHIFT) : word;
  const write = (bits & W) !== 0n;
  if (format === "ept") {
    return { read: (bits & masks.user) !== 0n, write, execute: (bits & masks.x) !== 0n, user: true };
  }
  return { read: (bits & P) !== 0n, write, execute: (bits & masks.nx) === 0n, user: (bits & masks.user) !== 0n };
}

function decodeMmio(word: bigint, masks: SpteMasks): DecodedSpte {
  const mmio = mmioOf(word, masks);
  const moved = (masks.nonpresentOrRsvd << RSVD_SHIFT) & ADDRESS;
  const defined = masks.mmio | masks.mmioAccess | GEN | masks.lowerGfn | masks.nonpresentOrRsvd | moved;
  return {
    word,
    kind: "mmio",
    mmio,
    fields: decodeFields(SPTE_MMIO, word & GEN),
    unknown: word & ~defined,
  };
}

const LAYOUTS: Record<"legacy" | "ept", BitLayout> = {
  legacy: merge(SPTE_LEGACY),
  ept: merge(SPTE_EPT),
};

function merge(format: BitLayout): BitLayout {
  // Bit 51 marks MMIO entries only; in a present one it is an address bit.
  const fields = [...SPTE.fields, ...format.fields.filter((field) => field.name !== "MMIO_RSVD")];
  return { ...format, fields };
}

function layoutFor(format: SpteFormat): BitLayout {
  return format === "ept" ? LAYOUTS.ept : LAYOUTS.legacy;
}
