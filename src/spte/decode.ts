/** What a shadow page-table entry says, from its value, its kernel and its VM's masks. */
import { type BitField, type BitLayout, bitOf, type DecodedField, decodeFields, maskOf } from "../abi/bits.js";
import { NONPRESENT_OR_RSVD_BITS, SPTE, SPTE_LEGACY } from "../abi/spte.js";
import type { SpteLayout } from "../abi/spte-layout.js";
import { ConfigError } from "../errors.js";
import { isAccessTracked, isMmio, isPresentIn, type MmioSpte, mmioOf, presentBit, withSavedRights } from "./entry.js";
import { spteLayoutOfKernel } from "./layouts.js";
import { bitRange, eptMasks, legacyMasks, type SpteFormat, type SpteMasks } from "./masks.js";

/** What an SPTE is. */
export type SpteKind =
  /** Stands for nothing: all zero, since Linux 6.10 bit 63 alone. */
  | "none"
  /** No memory behind the address: every access is emulated. */
  | "mmio"
  /** A TDP entry whose change is under way; Linux calls it frozen since 6.11. */
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

/** What an SPTE grants. */
export interface SpteRights {
  readonly read: boolean;
  readonly write: boolean;
  readonly execute: boolean;
  /** Always true in EPT. */
  readonly user: boolean;
  /** Only where EPT has a right of its own for it (Linux 7.2 and later): `execute` is the supervisor's then. */
  readonly userExecute?: boolean;
}

/** An SPTE in its fields. */
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

/** Where an SPTE stands, and in which kernel. */
export interface DecodeOptions {
  /** Whose entry it is: "mainline", or a release from 4.19 (see `spteLayoutOfKernel`). Default "6.1". */
  readonly kernel?: string;
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

const PS = bitOf(SPTE, "PS");
const ADDRESS = bitOf(SPTE, "ADDRESS");
const P = bitOf(SPTE_LEGACY, "P");
const W = bitOf(SPTE_LEGACY, "RW");
/** What entries of special root tables have besides their address. */
const SPECIAL_ROOT = P | W | bitOf(SPTE_LEGACY, "US") | bitOf(SPTE_LEGACY, "A");

/** The masks that a format has where nothing else is known. */
export function defaultMasks(format: SpteFormat, suppressVe = false, layout?: SpteLayout): SpteMasks {
  const options = { physBits: 46, ...(layout !== undefined && { layout }) };
  return format === "ept" ? eptMasks({ ...options, suppressVe }) : legacyMasks(options);
}

/**
 * Decodes an entry.
 * @throws ConfigError if `word` is not an unsigned 64-bit value, or nothing is known of the kernel.
 */
export function decodeSpte(word: bigint, options: DecodeOptions): DecodedSpte {
  if (word < 0n || word >= 1n << 64n) throw new ConfigError(`SPTE ${word} is not an unsigned 64-bit value`);
  const layout = spteLayoutOfKernel(options.kernel ?? "6.1");
  const masks = options.masks ?? defaultMasks(options.format, layout.empty !== 0n, layout);
  if (word === layout.empty || (word === 0n && masks.mmioZero !== true)) {
    return { word, kind: "none", fields: [], unknown: 0n };
  }
  if (word === layout.marker?.value) return { word, kind: "removed", fields: [], unknown: 0n };
  if ((word & presentBit(layout)) === 0n && isMmio(word, masks)) return decodeMmio(word, masks, layout);

  const bits: BitLayout = { ...layout.software, fields: spteFields(layout, options.format) };
  const kind = kindOf(word, masks, layout, options);
  const fields = decodeFields(bits, word).filter((field) => field.name !== "reserved");
  if (kind === "not-present") return { word, kind, fields, unknown: word };
  const defined = bits.fields.reduce((mask, field) => mask | maskOf(field), 0n) & ~ADDRESS;
  const address = word & bitRange(12, masks.physBits - 1) & ~masks.me;
  const unknown = word & ~(defined | address | masks.meValue);
  return { word, kind, address, rights: rightsOf(word, masks, layout, options.format), fields, unknown };
}

function kindOf(word: bigint, masks: SpteMasks, layout: SpteLayout, options: DecodeOptions): SpteKind {
  const { format, level, pdpte } = options;
  const tracked = isAccessTracked(word, masks, layout);
  if (presentBit(layout) === 0n) {
    // The kernel takes the rest for present; nothing that it stores is without rights, but for tracking.
    const mapped = format === "ept" ? (word & masks.accTrack) !== 0n : (word & P) !== 0n;
    if (!mapped && !tracked) return "not-present";
  } else if (!isPresentIn(layout, word, masks)) {
    const special = format !== "ept" && (word & P) !== 0n && (word & ~(SPECIAL_ROOT | ADDRESS)) === 0n;
    return special ? "special-root" : "not-present";
  }
  if (tracked) return "access-tracked";
  if (pdpte) return "pdpte";
  if ((word & PS) !== 0n || level === 1) return "leaf";
  if (level !== undefined) return "non-leaf";
  return (word & W) !== 0n && (word & masks.mmuWritable) === 0n ? "non-leaf" : "leaf";
}

function rightsOf(word: bigint, masks: SpteMasks, layout: SpteLayout, format: SpteFormat): SpteRights {
  const tracked = isPresentIn(layout, word, masks) && isAccessTracked(word, masks, layout);
  const bits = tracked ? withSavedRights(word, layout) : word;
  const write = (bits & W) !== 0n;
  if (format === "ept") {
    const rights = { read: (bits & P) !== 0n, write, execute: (bits & masks.x) !== 0n, user: true };
    return masks.xUser === undefined ? rights : { ...rights, userExecute: (bits & masks.xUser) !== 0n };
  }
  return { read: (bits & P) !== 0n, write, execute: (bits & masks.nx) === 0n, user: (bits & masks.user) !== 0n };
}

function decodeMmio(word: bigint, masks: SpteMasks, layout: SpteLayout): DecodedSpte {
  const generation: BitLayout = { ...layout.software, fields: layout.generation.map(({ field }) => field) };
  const generationBits = generation.fields.reduce((mask, field) => mask | maskOf(field), 0n);
  const moved = (masks.nonpresentOrRsvd << BigInt(NONPRESENT_OR_RSVD_BITS)) & ADDRESS;
  const own = masks.mmio | (masks.mmioStored ?? 0n) | masks.mmioAccess;
  const defined = own | generationBits | masks.lowerGfn | masks.nonpresentOrRsvd | moved;
  return {
    word,
    kind: "mmio",
    mmio: mmioOf(word, masks, layout),
    fields: decodeFields(generation, word & generationBits),
    unknown: word & ~defined,
  };
}

/** All fields of a present entry. Bit 51 marks MMIO entries only; in a present one it is an address bit. */
export function spteFields({ software, legacy, ept }: SpteLayout, format: SpteFormat): readonly BitField[] {
  const own = (format === "ept" ? ept : legacy).fields.filter((field) => field.name !== "MMIO_RSVD");
  return [...software.fields, ...own];
}
