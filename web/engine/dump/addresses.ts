/** Addresses of 64 bits and numbers of their pages of 4 KiB, which are exact as numbers. */

export const PAGE = 4096;
const BITS = 12n;

export function addressOf(page: number): bigint {
  return BigInt(page) << BITS;
}

export function pageOf(address: bigint): number {
  return Number(address >> BITS);
}
