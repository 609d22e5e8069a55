/** Must-be-zero bits of entries, [bit 7][level - 1], in KVM's rule set (__reset_rsvds_bits_mask of Linux 6.1). */

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

/** Bits `low` to `high`. */
export function bits(low: number, high: number): bigint {
  return high < low ? 0n : ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low);
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
    set(1, 2, pse ? bits(17, 21) : 0n);
    return masks;
  }
  let high = input.physicalBits & (level === 3 ? bits(0, 62) : bits(0, 51));
  if (!input.nx) high |= bits(63, 63);
  if (level === 3) {
    set(0, 3, bits(63, 63) | high | bits(5, 8) | bits(1, 2));
    set(0, 2, high);
    set(0, 1, high);
    set(1, 2, high | bits(13, 20));
    set(1, 1, high);
    return masks;
  }
  const bit8 = input.amd ? bits(8, 8) : 0n;
  const giant = input.page1g ? 0n : bits(7, 7);
  for (let at = 4; at <= level; at++) {
    set(0, at, high | bit8 | bits(7, 7));
    set(1, at, high | bit8 | bits(7, 7));
  }
  set(0, 3, high | giant);
  set(0, 2, high);
  set(0, 1, high);
  set(1, 3, high | giant | bits(13, 29));
  set(1, 2, high | bits(13, 20));
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
  const high = physicalBits & bits(0, 51);
  const no1g = hugePageLevel < 3 ? bits(7, 7) : 0n;
  const no2m = hugePageLevel < 2 ? bits(7, 7) : 0n;
  const upper = high | bits(3, 7);
  return [
    ...[high, high | bits(3, 6) | no2m, high | bits(3, 6) | no1g, upper, upper],
    ...[high, high | bits(12, 20) | no2m, high | bits(12, 29) | no1g, upper, upper],
  ];
}

/** One bit for each bad value of an EPT entry's bits 5:0: memory types 2, 3 and 7; writing without reading; X alone. */
export function eptBadTypeAndRights(executeOnly: boolean): bigint {
  let bad = 0n;
  for (let value = 0; value < 64; value++) {
    const rights = value & 7;
    const unreadable = rights === 2 || rights === 6 || (rights === 4 && !executeOnly);
    if ([2, 3, 7].includes(value >> 3) || unreadable) bad |= 1n << BigInt(value);
  }
  return bad;
}
