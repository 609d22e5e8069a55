/** Which mappings reach physical addresses that are looked for. */
import type { Leaf } from "../api.js";

/** Ascending, each once. */
export function ascending(gpas: Iterable<bigint>): bigint[] {
  return [...new Set(gpas)].sort((a, b) => (a < b ? -1 : 1));
}

/** Addresses of the ascending `wanted` that a leaf maps, and where. */
export function* hits(leaf: Leaf, wanted: readonly bigint[]): Generator<{ readonly gpa: bigint; readonly va: bigint }> {
  if (!reaches(leaf, wanted)) return;
  for (let at = firstFrom(wanted, leaf.pa); at < wanted.length; at++) {
    const gpa = wanted[at]!;
    if (gpa >= leaf.pa + leaf.size) return;
    yield { gpa, va: leaf.va + (gpa - leaf.pa) };
  }
}

/** Whether a leaf may map one of them: most do not. */
function reaches({ pa, size }: Leaf, wanted: readonly bigint[]): boolean {
  return pa <= wanted[wanted.length - 1]! && pa + size > wanted[0]!;
}

/** Index of the first of the ascending `values` that is not below `least`. */
function firstFrom(values: readonly bigint[], least: bigint): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle]! < least) low = middle + 1;
    else high = middle;
  }
  return low;
}
