/** Lists of shadow pages that the core links through their headers. */
import type { LinearMemory } from "../linear/linear-memory.js";
import { SP_OFFSET } from "../records/mmu.js";

/** Headers on the list with this head, first to last. */
export function linkedPages(linear: LinearMemory, head: number): number[] {
  const { link } = SP_OFFSET;
  const pages: number[] = [];
  for (let at = linear.u32[head >>> 2]!; at !== head; at = linear.u32[at >>> 2]!) pages.push(at - link);
  return pages;
}

/** Makes a list of headers, first to last, of the one with this head. */
export function linkPages(linear: LinearMemory, head: number, pages: readonly number[]): void {
  const words = linear.u32;
  const places = [head, ...pages.map((page) => page + SP_OFFSET.link), head];
  for (let index = 0; index + 1 < places.length; index++) {
    words[places[index]! >>> 2] = places[index + 1]!;
    words[(places[index + 1]! >>> 2) + 1] = places[index]!;
  }
}
