/** Ranges of an address space as columns: millions of them in little memory; and an order and a choice of them. */
import { ScanRights } from "x86-paging/maps";
import type { RunningTask } from "../tasks.js";
import type { Filter, Order } from "./answers.js";

/** Ranges of a chunk: columns grow without being copied. */
const CHUNK = 2 ** 16;
/** Elements that are gone through between two looks at the clock. */
const PIECE = 2 ** 14;

interface Chunk {
  /** In pages of 4 KiB. */
  readonly va: Float64Array;
  readonly pa: Float64Array;
  readonly pages: Float64Array;
  /** Level << 3 | ScanRights. */
  readonly kind: Uint8Array;
}

export class Ranges {
  readonly #chunks: Chunk[] = [];
  length = 0;
  /** Highest physical page, and all pages. */
  highest = 0;
  pages = 0;

  add(va: number, pa: number, pages: number, level: number, rights: number): void {
    const at = this.length % CHUNK;
    if (at === 0) this.#chunks.push(emptyChunk());
    const chunk = this.#chunks.at(-1)!;
    chunk.va[at] = va;
    chunk.pa[at] = pa;
    chunk.pages[at] = pages;
    chunk.kind[at] = (level << 3) | rights;
    this.length++;
    this.pages += pages;
    this.highest = Math.max(this.highest, pa + pages - 1);
  }

  va(index: number): number {
    return this.#chunks[Math.floor(index / CHUNK)]!.va[index % CHUNK]!;
  }

  pa(index: number): number {
    return this.#chunks[Math.floor(index / CHUNK)]!.pa[index % CHUNK]!;
  }

  size(index: number): number {
    return this.#chunks[Math.floor(index / CHUNK)]!.pages[index % CHUNK]!;
  }

  level(index: number): number {
    return this.#chunks[Math.floor(index / CHUNK)]!.kind[index % CHUNK]! >> 3;
  }

  rights(index: number): number {
    return this.#chunks[Math.floor(index / CHUNK)]!.kind[index % CHUNK]! & 7;
  }

  /** The first range that ends behind a page, in ascending order. */
  firstBehind(page: number): number {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.va(middle) + this.size(middle) > page) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  passes(index: number, filters: readonly Filter[]): boolean {
    const rights = this.rights(index);
    return filters.every((filter) => {
      if (filter === "user") return (rights & ScanRights.User) !== 0;
      if (filter === "kernel") return (rights & ScanRights.User) === 0;
      if (filter === "huge") return this.level(index) > 1;
      const wanted = (filter !== "execute" ? ScanRights.Write : 0) | (filter !== "write" ? ScanRights.Execute : 0);
      return (rights & wanted) === wanted;
    });
  }
}

function emptyChunk(): Chunk {
  return {
    va: new Float64Array(CHUNK),
    pa: new Float64Array(CHUNK),
    pages: new Float64Array(CHUNK),
    kind: new Uint8Array(CHUNK),
  };
}

/** Which ranges are shown, and in which order; undefined: all, by address. */
export type View = Uint32Array | undefined;

/** Ascending by address and physical address, the largest first by size; what is equal by address. */
export async function viewOf(
  ranges: Ranges,
  filters: readonly Filter[],
  order: Order,
  task: RunningTask,
): Promise<View> {
  if (filters.length === 0 && order === "address") return undefined;
  const chosen = new Uint32Array(ranges.length);
  let count = 0;
  for (let index = 0; index < ranges.length; index++) {
    if (index % PIECE === 0) await task.turn((0.3 * index) / ranges.length);
    if (ranges.passes(index, filters)) chosen[count++] = index;
  }
  const view = chosen.slice(0, count);
  if (order === "address") return view;
  const keys = order === "physical" ? (index: number) => ranges.pa(index) : (index: number) => -ranges.size(index);
  return sorted(view, (a, b) => keys(a) - keys(b) || a - b, task);
}

/** A merge sort that stops in between. */
async function sorted(
  from: Uint32Array,
  compare: (a: number, b: number) => number,
  task: RunningTask,
): Promise<Uint32Array> {
  for (let at = 0; at < from.length; at += PIECE) {
    from.subarray(at, at + PIECE).sort(compare);
    await task.turn(0.3 + (0.4 * at) / from.length);
  }
  let source: Uint32Array = from;
  let target: Uint32Array = new Uint32Array(from.length);
  for (let width = PIECE; width < source.length; width *= 2) {
    for (let left = 0; left < source.length; left += 2 * width) {
      const middle = Math.min(left + width, source.length);
      const right = Math.min(left + 2 * width, source.length);
      let [one, other] = [left, middle];
      for (let at = left; at < right; at++) {
        const takesOne = one < middle && (other >= right || compare(source[one]!, source[other]!) <= 0);
        target[at] = takesOne ? source[one++]! : source[other++]!;
        if (at % PIECE === 0) await task.turn(0.8);
      }
    }
    [source, target] = [target, source];
  }
  return source;
}
