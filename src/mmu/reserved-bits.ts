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
