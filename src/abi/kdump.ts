/** Flags of kdump-compressed dumps, of the whole file and of each page. */
import type { BitLayout } from "./bits.js";

/** Of a page descriptor: how the page is compressed; of the header: what is in the file. */
export const KDUMP_FLAGS: BitLayout = {
  prefix: "KDUMP",
  title: "Status of a kdump-compressed file, and flags of a page in it",
  source: "makedumpfile, diskdump_mod.h",
  fields: [
    { name: "ZLIB", low: 0, meaning: "compressed with zlib" },
    { name: "LZO", low: 1, meaning: "compressed with lzo" },
    { name: "SNAPPY", low: 2, meaning: "compressed with snappy" },
    { name: "INCOMPLETE", low: 3, meaning: "the writer stopped before the end" },
    { name: "EXCLUDED_VMEMMAP", low: 4, meaning: "unused parts of the page structures are left out" },
    { name: "ZSTD", low: 5, meaning: "compressed with zstd" },
  ],
};

/** Kinds of pages that makedumpfile leaves out (`-d`), as the sub-header has them. */
export const DUMP_LEVEL: BitLayout = {
  prefix: "DUMP_LEVEL",
  title: "makedumpfile's dump level",
  source: "makedumpfile(8), -d",
  fields: [
    { name: "ZERO", low: 0, meaning: "zero pages" },
    { name: "CACHE", low: 1, meaning: "page cache" },
    { name: "CACHE_PRIVATE", low: 2, meaning: "private page cache" },
    { name: "USER", low: 3, meaning: "user pages" },
    { name: "FREE", low: 4, meaning: "free pages" },
  ],
};
