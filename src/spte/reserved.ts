/** Which bits a shadow format reserves, by level: what no SPTE may have set. */
import { bitRange, type SpteMasks } from "./masks.js";

/** Reserved bits of SPTEs (struct rsvd_bits_validate of Linux 6.1). */
export interface ReservedBits {
  /** `[bit 7 of the entry][level - 1]`. */
  readonly bits: readonly [readonly bigint[], readonly bigint[]];
  /** EPT: forbidden combinations, indexed by memory type and rights (entry bits 5:0), as a 64-bit mask. */
  readonly badMemtypeRights: bigint;
}

export interface LegacyReservedOptions {
  /** Levels of the shadow tables, 3 to 5. */
  readonly rootLevel: number;
  /** The tables may use execute-disable. */
  readonly nx: boolean;
  readonly page1g: boolean;
  /** Encryption bits other than `meValue` are reserved (shadow paging), or none is (two-dimensional paging). */
  readonly encryptedOnly?: boolean;
}

const BIT_7 = 0x80n;
const BIT_8 = 0x100n;
const NX = 1n << 63n;
const LEVELS = 5;

/**
 * Reserved bits of the legacy format (reset_shadow_zero_bits_mask, reset_tdp_shadow_zero_bits_mask).
 * Bit 8 of the two top levels, reserved by AMD only, counts always: KVM never sets it.
 */
export function legacyReserved(masks: SpteMasks, options: LegacyReservedOptions): ReservedBits {
  const { rootLevel, nx, page1g, encryptedOnly = false } = options;
  const pae = rootLevel === 3;
  let high = bitRange(masks.physBits, pae ? 62 : 51);
  if (!nx) high |= NX;
  const no1g = page1g ? 0n : BIT_7;
  const small = new Array<bigint>(LEVELS).fill(0n);
  const large = new Array<bigint>(LEVELS).fill(0n);
  small[0] = large[0] = high;
  small[1] = high;
  large[1] = high | bitRange(13, 20);
  if (pae) small[2] = NX | high | bitRange(5, 8) | bitRange(1, 2);
  else {
    small[2] = high | no1g;
    large[2] = high | no1g | bitRange(13, 29);
    for (let level = 4; level <= rootLevel; level++) small[level - 1] = large[level - 1] = high | BIT_8 | BIT_7;
  }
  for (let index = 0; index < rootLevel; index++) {
    for (const table of [small, large]) {
      if (encryptedOnly && masks.me !== 0n) table[index] = (table[index]! | masks.me) & ~masks.meValue;
      else table[index] = table[index]! & ~masks.me;
    }
  }
  return { bits: [small, large], badMemtypeRights: 0n };
}

export interface EptReservedOptions {
  /** Execute-only entries are allowed: where L1's own EPT may have them. */
  readonly executeOnly: boolean;
  /** Largest page level, 1 to 3. */
  readonly maxPageLevel: number;
}

/** Reserved bits of EPT (reset_tdp_shadow_zero_bits_mask, reset_ept_shadow_zero_bits_mask). */
export function eptReserved(masks: SpteMasks, options: EptReservedOptions): ReservedBits {
  const { executeOnly, maxPageLevel } = options;
  const high = bitRange(masks.physBits, 51) & ~masks.me;
  const no1g = maxPageLevel < 3 ? BIT_7 : 0n;
  const no2m = maxPageLevel < 2 ? BIT_7 : 0n;
  const top = high | bitRange(3, 7);
  const small = [high, high | bitRange(3, 6) | no2m, high | bitRange(3, 6) | no1g, top, top];
  const large = [high, high | bitRange(12, 20) | no2m, high | bitRange(12, 29) | no1g, top, top];
  let bad = 0n;
  for (let low = 0; low < 64; low++) {
    const rights = low & 7;
    const memtype = low >> 3;
    const badMemtype = memtype === 2 || memtype === 3 || memtype === 7;
    // Writable without readable; executable alone where the processor does not support it.
    if (badMemtype || rights === 2 || rights === 6 || (rights === 4 && !executeOnly)) bad |= 1n << BigInt(low);
  }
  return { bits: [small, large], badMemtypeRights: bad };
}

/** The reserved bits that an entry of that level has set; `badRights` where its low bits are forbidden. */
export function reservedBitsSet(reserved: ReservedBits, spte: bigint, level: number) {
  const row = reserved.bits[spte & BIT_7 ? 1 : 0];
  return {
    bits: spte & (row[level - 1] ?? 0n),
    badRights: ((reserved.badMemtypeRights >> (spte & 0x3fn)) & 1n) === 1n,
  };
}
