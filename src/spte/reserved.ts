/**
 * Must-be-zero bits of entries: in KVM's rule set, as contexts keep them for the guest's tables and their own
 * (__reset_rsvds_bits_mask of Linux 6.1), and what a shadow format reserves, as users of `x86-paging/spte` ask for it.
 */
import { bitOf, fieldOf, flagOf } from "../abi/bits.js";
import { EPT, PDPTE_PAE_RESERVED, PTE } from "../abi/entries.js";
import { bitRange, type SpteMasks } from "./masks.js";

const PS = bitOf(PTE, "PS");
const XD = bitOf(PTE, "XD");
/** Reserved in the two top levels by AMD (APM, "Long-Mode Page Translation"). */
const AMD_BIT_8 = bitOf(PTE, "G");
const EPT_R = flagOf(EPT, "R");
const EPT_W = flagOf(EPT, "W");
const EPT_RWX = EPT_R | EPT_W | flagOf(EPT, "X");
const MEMTYPE_SHIFT = fieldOf(EPT, "MEMTYPE").low;
const LEVELS = 5;

export interface ReservedBitsInput {
  /** Levels of the format: 2 is 32-bit paging, 3 is PAE. */
  readonly level: number;
  /** Address bits from MAXPHYADDR on. */
  readonly physicalBits: bigint;
  readonly nx: boolean;
  readonly page1g: boolean;
  readonly pse: boolean;
  /** Bit 8 of upper entries is reserved. */
  readonly amd: boolean;
}

/** Ten masks: index `5 * bit7 + level - 1`. Levels that the format does not have keep `previous`'s masks. */
export function reservedBits(input: ReservedBitsInput, previous: readonly bigint[]): bigint[] {
  const masks = [...previous];
  const { level, pse } = input;
  const set = (bit7: 0 | 1, at: number, mask: bigint) => {
    masks[5 * bit7 + at - 1] = mask;
  };
  if (level === 2) {
    set(0, 2, 0n);
    set(0, 1, 0n);
    set(1, 1, 0n);
    // 4 MiB pages: PSE-36 is always there, and exactly 36 bits.
    set(1, 2, pse ? bitRange(17, 21) : 0n);
    return masks;
  }
  let high = input.physicalBits & (level === 3 ? bitRange(0, 62) : bitRange(0, 51));
  if (!input.nx) high |= XD;
  if (level === 3) {
    set(0, 3, XD | high | PDPTE_PAE_RESERVED);
    set(0, 2, high);
    set(0, 1, high);
    set(1, 2, high | bitRange(13, 20));
    set(1, 1, high);
    return masks;
  }
  const bit8 = input.amd ? AMD_BIT_8 : 0n;
  const giant = input.page1g ? 0n : PS;
  for (let at = 4; at <= level; at++) {
    set(0, at, high | bit8 | PS);
    set(1, at, high | bit8 | PS);
  }
  set(0, 3, high | giant);
  set(0, 2, high);
  set(0, 1, high);
  set(1, 3, high | giant | bitRange(13, 29));
  set(1, 2, high | bitRange(13, 20));
  set(1, 1, high);
  return masks;
}

/** What a processor's extended page tables allow. */
export interface EptReservedInput {
  /** Address bits that are reserved. */
  readonly physicalBits: bigint;
  readonly executeOnly: boolean;
  /** Largest level of a leaf, 1 to 3. */
  readonly hugePageLevel: number;
}

/** Reserved bits of extended page tables, 5 levels (__reset_rsvds_bits_mask_ept; SDM, "EPT Misconfigurations"). */
export function eptReservedBits({ physicalBits, hugePageLevel }: EptReservedInput): bigint[] {
  const high = physicalBits & bitRange(0, 51);
  const no1g = hugePageLevel < 3 ? PS : 0n;
  const no2m = hugePageLevel < 2 ? PS : 0n;
  const upper = high | bitRange(3, 7);
  return [
    ...[high, high | bitRange(3, 6) | no2m, high | bitRange(3, 6) | no1g, upper, upper],
    ...[high, high | bitRange(12, 20) | no2m, high | bitRange(12, 29) | no1g, upper, upper],
  ];
}

/** One bit for each bad value of an EPT entry's bits 5:0: memory types 2, 3 and 7; writing without reading; X alone. */
export function eptBadTypeAndRights(executeOnly: boolean): bigint {
  let bad = 0n;
  for (let value = 0; value < 64; value++) {
    const rights = value & EPT_RWX;
    const unreadable = (rights & EPT_R) === 0 && ((rights & EPT_W) !== 0 || (rights !== 0 && !executeOnly));
    if ([2, 3, 7].includes(value >> MEMTYPE_SHIFT) || unreadable) bad |= 1n << BigInt(value);
  }
  return bad;
}

/** Reserved bits of SPTEs (struct rsvd_bits_validate of Linux 6.1). */
export interface ReservedBits {
  /** `[bit 7 of the entry][level - 1]`. */
  readonly bits: readonly [readonly bigint[], readonly bigint[]];
  /** EPT: forbidden combinations, indexed by memory type and rights (entry bits 5:0), as a 64-bit mask. */
  readonly badMemtypeRights: bigint;
}

/** What decides reserved bits of legacy entries. */
export interface LegacyReservedOptions {
  /** Levels of the shadow tables, 3 to 5. */
  readonly rootLevel: number;
  /** The tables may use execute-disable. */
  readonly nx: boolean;
  readonly page1g: boolean;
  /** Encryption bits other than `meValue` are reserved (shadow paging), or none is (two-dimensional paging). */
  readonly encryptedOnly?: boolean;
}

/**
 * Reserved bits of the legacy format (reset_shadow_zero_bits_mask, reset_tdp_shadow_zero_bits_mask).
 * Bit 8 of the two top levels, reserved by AMD only, counts always: KVM never sets it.
 */
export function legacyReserved(masks: SpteMasks, options: LegacyReservedOptions): ReservedBits {
  const { rootLevel: level, nx, page1g, encryptedOnly = false } = options;
  const input = { level, physicalBits: bitRange(masks.physBits, 63), nx, page1g, pse: false, amd: true };
  const all = reservedBits(input, new Array<bigint>(2 * LEVELS).fill(0n)).map((mask, index) => {
    if (index % LEVELS >= level) return mask;
    return encryptedOnly && masks.me !== 0n ? (mask | masks.me) & ~masks.meValue : mask & ~masks.me;
  });
  return { bits: [all.slice(0, LEVELS), all.slice(LEVELS)], badMemtypeRights: 0n };
}

/** What decides reserved bits of EPT entries. */
export interface EptReservedOptions {
  /** Execute-only entries are allowed: where L1's own EPT may have them. */
  readonly executeOnly: boolean;
  /** Largest page level, 1 to 3. */
  readonly maxPageLevel: number;
}

/** Reserved bits of EPT (reset_tdp_shadow_zero_bits_mask, reset_ept_shadow_zero_bits_mask). */
export function eptReserved(masks: SpteMasks, { executeOnly, maxPageLevel }: EptReservedOptions): ReservedBits {
  const physicalBits = bitRange(masks.physBits, 51) & ~masks.me;
  const all = eptReservedBits({ physicalBits, executeOnly, hugePageLevel: maxPageLevel });
  return { bits: [all.slice(0, LEVELS), all.slice(LEVELS)], badMemtypeRights: eptBadTypeAndRights(executeOnly) };
}

/** The reserved bits that an entry of that level has set; `badRights` where its low bits are forbidden. */
export function reservedBitsSet(reserved: ReservedBits, spte: bigint, level: number) {
  const row = reserved.bits[spte & PS ? 1 : 0];
  return {
    bits: spte & (row[level - 1] ?? 0n),
    badRights: ((reserved.badMemtypeRights >> (spte & 0x3fn)) & 1n) === 1n,
  };
}
