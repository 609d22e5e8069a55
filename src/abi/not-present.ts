/** What operating systems put into entries that are not present. */
import type { BitLayout } from "./bits.js";
import type { Release } from "./release.js";

/** Linux's entry of 8 bytes for a page that is elsewhere; OFFSET is stored inverted, so that it names no memory (L1TF). */
export const LINUX_SWAP: BitLayout = {
  prefix: "LINUX_SWAP",
  title: "Linux: swap entry (8 bytes)",
  source: "arch/x86/include/asm/pgtable_64.h, pgtable-3level.h (from Linux 4.19 on)",
  fields: [
    { name: "SD", low: 1, meaning: "soft-dirty" },
    { name: "F", low: 2, meaning: "write-protected by userfaultfd" },
    { name: "E", low: 3, meaning: "exclusive to one process" },
    { name: "OFFSET", low: 9, width: 50, meaning: "page of the swap file, or page frame number; inverted" },
    { name: "TYPE", low: 59, width: 5, meaning: "number of the swap file, or kind of entry" },
  ],
};

/** Linux's swap entry of 4 bytes; nothing is inverted. */
export const LINUX_SWAP32: BitLayout = {
  prefix: "LINUX_SWAP32",
  title: "Linux: swap entry (4 bytes)",
  source: "arch/x86/include/asm/pgtable-2level.h",
  fields: [
    { name: "TYPE", low: 1, width: 5, meaning: "number of the swap file, or kind of entry" },
    { name: "OFFSET", low: 9, width: 23, meaning: "page of the swap file, or page frame number" },
  ],
};

/** Linux: bits of entries that are not present, and that tell which kind they are. */
export const LINUX_NOT_PRESENT: BitLayout = {
  prefix: "LINUX_NOT_PRESENT",
  title: "Linux: kinds of entries that are not present",
  source: "arch/x86/include/asm/pgtable_types.h, pgtable-invert.h",
  fields: [
    { name: "A", low: 5, meaning: "accessed: processors may set it by an erratum" },
    { name: "D", low: 6, meaning: "dirty: likewise" },
    { name: "PS", low: 7, meaning: "a large page" },
    {
      name: "PROT_NONE",
      low: 8,
      meaning: "a page that nobody may access; its address is inverted in entries of 8 bytes",
    },
    { name: "ADDRESS", low: 12, width: 40, meaning: "of a page without access: its address" },
  ],
};

/** What a type of a swap entry stands for, from the highest on; those below are swap files. */
export type LinuxSwapType =
  | "marker"
  | "device exclusive"
  | "device exclusive read"
  | "device exclusive write"
  | "device read"
  | "device write"
  | "migration write"
  | "migration exclusive read"
  | "migration read"
  | "poisoned";

/** Types in order from 31 down, in kernels from a release on that have migration, memory failure and device-private memory. */
export interface LinuxSwapEra {
  readonly since: Release;
  readonly types: readonly LinuxSwapType[];
}

const DEVICES_2: readonly LinuxSwapType[] = ["device read", "device write"];
const DEVICES_4: readonly LinuxSwapType[] = ["device exclusive read", "device exclusive write", ...DEVICES_2];
const MIGRATION_2: readonly LinuxSwapType[] = ["migration write", "migration read"];
const MIGRATION_3: readonly LinuxSwapType[] = ["migration write", "migration exclusive read", "migration read"];

/** include/linux/swap.h: SWP_DEVICE_NUM, SWP_MIGRATION_NUM, SWP_HWPOISON_NUM and SWP_PTE_MARKER_NUM of each release. */
export const LINUX_SWAP_ERAS: readonly LinuxSwapEra[] = [
  { since: [4, 19, 0], types: [...DEVICES_2, ...MIGRATION_2, "poisoned"] },
  { since: [5, 14, 0], types: [...DEVICES_4, ...MIGRATION_2, "poisoned"] },
  { since: [5, 19, 0], types: ["marker", ...DEVICES_4, ...MIGRATION_3, "poisoned"] },
  { since: [6, 15, 0], types: ["marker", "device exclusive", ...DEVICES_2, ...MIGRATION_3, "poisoned"] },
];

/** Windows: what tells kinds of entries that are not valid, and what they have in common. */
export const WINDOWS_SOFTWARE: BitLayout = {
  prefix: "WINDOWS_SOFTWARE",
  title: "Windows: entry of a page in a page file, or of none yet (_MMPTE_SOFTWARE)",
  source: "public symbols of ntoskrnl, Windows 10 (1803) and later, 64 bits",
  fields: [
    {
      name: "SWIZZLE",
      low: 4,
      meaning: "the entry is stored as it is; where it is clear, the system's InvalidPteMask is in it",
    },
    { name: "PROTECTION", low: 5, width: 5, meaning: "the page's protection" },
    { name: "PROTOTYPE", low: 10, meaning: "the entry stands for another one" },
    { name: "TRANSITION", low: 11, meaning: "the page is still in memory" },
    { name: "FILE", low: 12, width: 4, meaning: "number of the page file" },
    { name: "OFFSET", low: 32, width: 32, meaning: "page of the page file" },
  ],
};

/** Windows: a page that is no longer valid, and still in memory. */
export const WINDOWS_TRANSITION: BitLayout = {
  prefix: "WINDOWS_TRANSITION",
  title: "Windows: entry of a page in transition (_MMPTE_TRANSITION)",
  source: "public symbols of ntoskrnl, Windows 10 and later, 64 bits",
  fields: [{ name: "FRAME", low: 12, width: 36, meaning: "page frame number" }],
};

/** Windows: an entry that stands for a prototype, of a section. */
export const WINDOWS_PROTOTYPE: BitLayout = {
  prefix: "WINDOWS_PROTOTYPE",
  title: "Windows: entry that leads to a prototype (_MMPTE_PROTOTYPE)",
  source: "public symbols of ntoskrnl, Windows 10 and later, 64 bits",
  fields: [{ name: "ADDRESS", low: 16, width: 48, meaning: "the prototype's virtual address, sign-extended" }],
};

/** The prototype's address in entries of pages that the address descriptor (VAD) knows more of. */
export const WINDOWS_VAD_PROTOTYPE = 0xffff_ffff_0000n;
