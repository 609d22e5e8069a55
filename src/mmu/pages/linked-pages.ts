/** Lists of shadow pages that the core links through their headers. */
import type { LinearMemory } from "../../core/linear-memory.js";
import { pageRecord } from "../memory/records.js";

/** Headers on the list with this head, first to last. */
export function linkedPages(linear: LinearMemory, head: number): number[] {
  const link = pageRecord.offset("LINK");
  const pages: number[] = [];
  for (let at = linear.u32[head >>> 2]!; at !== head; at = linear.u32[at >>> 2]!) pages.push(at - link);
  return pages;
}
