/** The TDP MMU's record in linear memory; see docs/tdp-mmu.md. Its pages are ordinary SP records. */
import type { RecordLayout } from "./layout.js";

/** The TDP MMU of one virtual machine, and its iterator. */
export const TDP: RecordLayout = {
  prefix: "TDP",
  className: "Tdp",
  title: "TDP MMU",
  fields: [
    { name: "NEXT_GFN", type: "u64", meaning: "iterator: gfn that it descends towards" },
    { name: "GFN", type: "u64", meaning: "iterator: first gfn of the current entry" },
    { name: "ALIAS", type: "u64", meaning: "iterator: alias bits of the range that is walked" },
    { name: "ALIAS_MASK", type: "u64", meaning: "iterator: all alias bits, 0 where gfns are taken as they are" },
    { name: "START", type: "u64", meaning: "iterator: first gfn of the range, without alias bits" },
    { name: "LAST", type: "u64", meaning: "iterator: last gfn of the range, without alias bits" },
    { name: "OLD", type: "u64", meaning: "iterator: value of the current entry when it was reached" },
    { name: "SPTEP", type: "u32", to: "u64[]", meaning: "iterator: the current entry, 0 at the end" },
    { name: "LEVEL", type: "u32", meaning: "iterator: its level" },
    { name: "MIN_LEVEL", type: "u32", meaning: "iterator: lowest level to visit" },
    { name: "ROOT_LEVEL", type: "u32", meaning: "iterator: level of the root" },
    { name: "SPACE", type: "u32", meaning: "iterator: address space of the root" },
    { name: "POOL", type: "u32", to: "SP", optional: true, meaning: "free list of pages, linked through SP.LINK" },
    { name: "POOL_COUNT", type: "u32", meaning: "its length" },
    { name: "PAGE_COUNT", type: "u32", meaning: "pages in use, roots included" },
    {
      name: "PATH",
      type: "u32",
      count: 5,
      to: "u64[]",
      meaning: "iterator: tables down to the current entry, by level - 1",
    },
    { name: "ROOTS", type: "u32", count: 2, of: "LINK", meaning: "list head (next, previous) of the roots" },
    { name: "PAGES", type: "u32", count: 2, of: "LINK", meaning: "list head (next, previous) of the other pages" },
  ],
};
