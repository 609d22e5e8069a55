/** Turning the records of a listing into columns, four records a turn. */
import { Leaf } from "../../abi/records";

/** 2^52 as a double: a number below it, put into these bits, and 2^52 taken away again, is that number as a double. */
// @ts-ignore: decorator
@inline const TWO_52: u64 = 0x4330_0000_0000_0000;
/** The exponent of 1 as a float, and where exponents begin. */
// @ts-ignore: decorator
@inline const ONE_EXPONENT: u32 = 127;
// @ts-ignore: decorator
@inline const EXPONENT_LOW: u32 = 23;

/**
 * Writes `count` LEAF records, from place `index` on, a multiple of 4, into columns of `stride` elements each, also a multiple
 * of 4, one behind the other: first addresses and
 * first physical addresses in pages of 4 KiB (f64), sizes in such pages (u32), rights with the level from bit 8 on (u32), and
 * entries (u64). A level has `step` address bits. Places up to the next multiple of 4 are written, too, and 16 bytes behind
 * the columns.
 */
export function leafColumns(records: usize, count: u32, columns: usize, index: u32, stride: u32, step: u32): void {
  const wide: usize = stride << 3;
  const end = records + count * Leaf.SIZE;
  // V8 would make vectors that are constants anew in every turn, not such that are loaded.
  const constants = columns + 4 * wide;
  store<u64>(constants, TWO_52);
  store<u32>(constants, step << EXPONENT_LOW, 8);
  store<u32>(constants, (ONE_EXPONENT - step) << EXPONENT_LOW, 12);
  const offset = v128.load_splat<u64>(constants);
  const steps = v128.load_splat<u32>(constants, 8);
  const least = v128.load_splat<u32>(constants, 12);
  let at = columns + (index << 3);
  let below = columns + 2 * wide + (index << 2);
  for (let from = records; from < end; from += 4 * Leaf.SIZE) {
    const first = columnsOfTwo(from, at, wide, offset);
    const next = columnsOfTwo(from + 2 * Leaf.SIZE, at + 16, wide, offset);
    const levels = v128.shuffle<u32>(first, next, 1, 3, 5, 7);
    // 2^n pages, by way of the float of that value.
    v128.store(below, v128.trunc_sat<i32>(v128.add<i32>(v128.mul<i32>(levels, steps), least)));
    const rights = v128.shuffle<u32>(first, next, 0, 2, 4, 6);
    v128.store(below + (wide >> 1), v128.or(rights, v128.shl<i32>(levels, 8)));
    at += 32;
    below += 16;
  }
}

/** The columns of 8 bytes of two records; returns their rights and levels. */
// @ts-ignore: decorator
@inline function columnsOfTwo(from: usize, at: usize, wide: usize, offset: v128): v128 {
  const a = v128.load(from, offsetof<Leaf>("va"));
  const b = v128.load(from, Leaf.SIZE + offsetof<Leaf>("va"));
  const c = v128.load(from, offsetof<Leaf>("entry"));
  const d = v128.load(from, Leaf.SIZE + offsetof<Leaf>("entry"));
  storePages(at, v128.shuffle<u64>(a, b, 0, 2), offset);
  storePages(at + wide, v128.shuffle<u64>(a, b, 1, 3), offset);
  v128.store(at + 3 * wide, v128.shuffle<u64>(c, d, 0, 2));
  return v128.shuffle<u64>(c, d, 1, 3);
}

// @ts-ignore: decorator
@inline function storePages(at: usize, addresses: v128, offset: v128): void {
  v128.store(at, v128.sub<f64>(v128.or(v128.shr<u64>(addresses, 12), offset), offset));
}
