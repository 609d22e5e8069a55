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
