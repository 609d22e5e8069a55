/**
 * The independent construction of SPTEs, in BigInt, after spte.c of Linux 6.1. Every function is
 * pure: what the kernel takes from its page, slot and vCPU is a parameter.
 */
import { bitOf } from "../abi/bits.js";
import { NONPRESENT_OR_RSVD_BITS, SPTE, SPTE_AD, SPTE_LEGACY, SPTE_MMIO } from "../abi/spte.js";
import type { SpteMasks } from "../spte/masks.js";

/** Rights that a guest's tables give, to be OR-ed (ACC_* of Linux 6.1). */
export const ACC = { Exec: 1, Write: 2, User: 4 } as const;

const MMU_PRESENT = bitOf(SPTE, "MMU_PRESENT");
const PS = bitOf(SPTE, "PS");
const ADDRESS = bitOf(SPTE, "ADDRESS");
const AD_TYPE = bitOf(SPTE, "AD_TYPE");
const SAVED = bitOf(SPTE, "SAVED_R") | bitOf(SPTE, "SAVED_X");
const SAVED_SHIFT = 54n;
/** Present, and writable, in the legacy format; readable and writable in EPT: the same two bits. */
const P = bitOf(SPTE_LEGACY, "P");
const W = bitOf(SPTE_LEGACY, "RW");
const PAGE_SHIFT = 12n;

const adTypeBits = (type: number): bigint => BigInt(type) << 52n;

/** True unless the entry's A/D type is Disabled (spte_ad_enabled). */
function adEnabled(spte: bigint): boolean {
  return (spte & AD_TYPE) !== adTypeBits(SPTE_AD.Disabled);
}

export interface LeafSpte {
  readonly masks: SpteMasks;
  /** Level of the table, 1 to 3: 4 KiB, 2 MiB or 1 GiB pages. */
  readonly level: number;
  /** Host frame number; of a large page, its first. */
  readonly pfn: bigint;
  /** ACC bits. */
  readonly access: number;
  /** SPTE_AD of the table. */
  readonly adType: number;
  /** The host's own mapping is writable, and so is the memslot. */
  readonly hostWritable: boolean;
  /** Made for a neighbour of the faulting address: it has not been accessed. */
  readonly prefetch: boolean;
  /** Huge pages are not executable (the iTLB multi-hit mitigation). */
  readonly nxHugePages: boolean;
  /** A guest table that must not be written lies in the page (mmu_try_to_unsync_pages failed). */
  readonly writeProtect: boolean;
  /** The entry maps device memory of the host: it is never encrypted. */
  readonly mmioPage: boolean;
  /** Memory-type bits in place; 0n in formats without. */
  readonly memtype: bigint;
  /** The entry being replaced, 0n if none: a writable leaf's table pages are unsync already, and its page dirty. */
  readonly old: bigint;
}

export interface MadeLeaf {
  readonly spte: bigint;
  /** The wanted write right was refused because of `writeProtect`. */
  readonly writeProtected: boolean;
}

/** A leaf (make_spte). */
export function makeLeaf(leaf: LeafSpte): MadeLeaf {
  const { masks, level } = leaf;
  let access = leaf.access;
  let spte = MMU_PRESENT | adTypeBits(leaf.adType) | masks.present;
  if (leaf.adType !== SPTE_AD.Disabled) spte |= masks.accessed;
  if (level > 1 && leaf.nxHugePages) access &= ~ACC.Exec;
  spte |= access & ACC.Exec ? masks.x : masks.nx;
  if (access & ACC.User) spte |= masks.user;
  if (level > 1) spte |= PS;
  spte |= leaf.memtype & masks.memtype;
  if (leaf.hostWritable) spte |= masks.hostWritable;
  else access &= ~ACC.Write;
  if (!leaf.mmioPage) spte |= masks.meValue;
  spte |= leaf.pfn << PAGE_SHIFT;

  const oldLeaf = level === 1 || (leaf.old & PS) !== 0n;
  const oldWritable = oldLeaf && (leaf.old & W) !== 0n;
  let writeProtected = false;
  if (access & ACC.Write) {
    if (!oldWritable && leaf.writeProtect) writeProtected = true;
    else spte |= W | masks.mmuWritable;
    // The dirty bit of a page that was writable before has been accounted for already.
    if (!oldWritable && !writeProtected && leaf.adType !== SPTE_AD.Disabled) spte |= masks.dirty;
  }
  // A page that nobody has touched is not accessed.
  if (leaf.prefetch) spte = markForAccessTracking(spte, masks);
  return { spte, writeProtected };
}

/**
 * An entry that leads to another table (make_nonleaf_spte): all rights, they are limited below.
 * @param table host-physical address of the table, a multiple of 4096.
 * @param adDisabled the table has no accessed and dirty bits.
 */
export function makeNonLeaf(table: bigint, adDisabled: boolean, masks: SpteMasks): bigint {
  const rights = masks.present | W | masks.user | masks.x | masks.meValue;
  const accessed = adDisabled ? adTypeBits(SPTE_AD.Disabled) : masks.accessed;
  return MMU_PRESENT | table | rights | accessed;
}

/**
 * An entry of a PAE root that leads to a page directory. It has no rights and no accessed bit: the
 * processor reserves them in a PDPTE, and ignores bits 11:9.
 */
export function makePdpte(table: bigint, masks: SpteMasks): bigint {
  return table | P | MMU_PRESENT | masks.meValue;
}

/**
 * An entry for guest memory that no memslot backs (make_mmio_spte).
 * @param gfn guest frame number.
 * @param access ACC bits; only those of `masks.mmioAccess` are kept.
 * @param generation the memslots' generation; its low 19 bits are kept.
 */
export function makeMmio(gfn: bigint, access: number, generation: number, masks: SpteMasks): bigint {
  const low = BigInt(generation & 0xff) << BigInt(fieldLow("GEN_LOW"));
  const high = BigInt((generation >> 8) & 0x7ff) << BigInt(fieldLow("GEN_HIGH"));
  const gpa = gfn << PAGE_SHIFT;
  // The guard bits take the place of the address bits under them, which move up.
  const moved = (gpa & masks.nonpresentOrRsvd) << BigInt(NONPRESENT_OR_RSVD_BITS);
  return low | high | masks.mmioValue | (BigInt(access) & masks.mmioAccess) | gpa | masks.nonpresentOrRsvd | moved;
}

function fieldLow(name: string): number {
  return SPTE_MMIO.fields.find((field) => field.name === name)!.low;
}

/** What a page table that replaces a huge page needs to know. */
export interface SplitChild {
  /** Level of the new table, 1 or 2. */
  readonly level: number;
  /** ACC bits of the new table's role. */
  readonly access: number;
  readonly nxHugePages: boolean;
}

/**
 * Entry `index` of the table that replaces the huge page `huge` (make_huge_page_split_spte). A 4 KiB
 * child gets back the execute right that the iTLB multi-hit mitigation took from the huge page.
 */
export function makeSplitChild(huge: bigint, index: number, child: SplitChild, masks: SpteMasks): bigint {
  const framesPerEntry = 1n << BigInt(9 * (child.level - 1));
  let spte = huge | ((BigInt(index) * framesPerEntry) << PAGE_SHIFT);
  if (child.level === 1) {
    spte &= ~PS;
    if (child.access & ACC.Exec && child.nxHugePages) spte = makeExecutable(spte, masks);
  }
  return spte;
}

/** The entry with the execute right, access-tracked if it was (make_spte_executable). */
export function makeExecutable(spte: bigint, masks: SpteMasks): bigint {
  const tracked = isTracked(spte, masks);
  const restored = tracked ? restoreAccessTracked(spte, masks) : spte;
  const executable = (restored & ~masks.nx) | masks.x;
  return tracked ? markForAccessTracking(executable, masks) : executable;
}

/**
 * The entry after the host moved the page to a frame that it maps read-only
 * (kvm_mmu_changed_pte_notifier_make_spte).
 */
export function makeChangedPfn(old: bigint, pfn: bigint, masks: SpteMasks): bigint {
  // The encryption bit is no address bit (SPTE_BASE_ADDR_MASK).
  const moved = (old & ~(ADDRESS & ~masks.meValue)) | (pfn << PAGE_SHIFT);
  return markForAccessTracking(moved & ~(W | masks.hostWritable | masks.mmuWritable), masks);
}

/** The entry as not accessed: without its accessed bit, or without rights (mark_spte_for_access_track). */
export function markForAccessTracking(spte: bigint, masks: SpteMasks): bigint {
  if (adEnabled(spte)) return spte & ~masks.accessed;
  // Nothing is left to save; where the host tracks nothing (a nested EPT without A/D bits on a host with them) this is every entry.
  if (isTracked(spte, masks)) return spte;
  // The write right is not saved: it comes back with the next write only.
  const saved = (spte << SAVED_SHIFT) & SAVED;
  return (spte | saved) & ~masks.accTrack;
}

/** The entry with its read and execute rights back (restore_acc_track_spte). */
export function restoreAccessTracked(spte: bigint, masks: SpteMasks): bigint {
  return (spte & ~masks.accTrack & ~SAVED) | ((spte & SAVED) >> SAVED_SHIFT);
}

function isTracked(spte: bigint, masks: SpteMasks): boolean {
  return !adEnabled(spte) && (spte & masks.accTrack) === 0n;
}
