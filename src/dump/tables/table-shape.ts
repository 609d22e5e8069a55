/** What page tables of a paging mode look like, as far as a search for them asks. */
import { bitOf, flagOf } from "../../abi/bits.js";
import { PTE, PTE32 } from "../../abi/entries.js";

/** Modes that tables can be told by. */
export type InspectedMode = "32bit" | "pae" | "4level" | "5level";

export interface TableShape {
  readonly mode: InspectedMode;
  readonly levels: number;
  /** Words of 32 bits in an entry. */
  readonly words: 1 | 2;
  /** Bytes of the root, which is aligned to them. */
  readonly rootBytes: number;
  /** Entries of the root from here on are the kernel's, as systems of this kind have it. */
  readonly kernelFrom: number;
}

export const SHAPES: Readonly<Record<InspectedMode, TableShape>> = {
  "5level": { mode: "5level", levels: 5, words: 2, rootBytes: 4096, kernelFrom: 256 },
  "4level": { mode: "4level", levels: 4, words: 2, rootBytes: 4096, kernelFrom: 256 },
  // The kernel has the last of four gigabytes, or the last two.
  pae: { mode: "pae", levels: 3, words: 2, rootBytes: 32, kernelFrom: 3 },
  "32bit": { mode: "32bit", levels: 2, words: 1, rootBytes: 4096, kernelFrom: 768 },
};

export const PRESENT = flagOf(PTE, "P");
export const WRITABLE = flagOf(PTE, "RW");
export const USER = flagOf(PTE, "US");
export const LARGE = flagOf(PTE, "PS");
/** In the upper word. */
export const NO_EXECUTE = Number(bitOf(PTE, "XD") >> 32n) | 0;
const ADDRESS_HIGH = Number(bitOf(PTE, "ADDRESS") >> 32n);
const ADDRESS_LOW = flagOf(PTE32, "ADDRESS");
/** A PAE PDPTE grants everything and maps no page: these bits are reserved. */
const PDPTE_RESERVED = WRITABLE | USER | LARGE;

/** No machine has memory or devices from there on (64 TiB): an entry that points there is none. */
export const BEYOND = 2 ** 46;

/** The physical address in an entry, an integer; `encrypted` is the upper word of the bit that says so. */
export function addressOf(low: number, high: number, encrypted: number): number {
  return (high & ADDRESS_HIGH & ~encrypted) * 2 ** 32 + ((low & ADDRESS_LOW) >>> 0);
}

/** Bytes that an entry of `level` maps, or that the table it points to maps. */
export function bytesAt({ words }: TableShape, level: number): number {
  return 2 ** (12 + (words === 2 ? 9 : 10) * (level - 1));
}

/** Whether a present entry of `level` maps a page. */
export function isLeaf(shape: TableShape, level: number, low: number): boolean {
  return level === 1 || ((low & LARGE) !== 0 && level <= (shape.mode === "pae" || shape.words === 1 ? 2 : 3));
}

/** Whether a present entry has a bit that is reserved at its level in every processor. */
export function isImpossible(shape: TableShape, level: number, low: number): boolean {
  if (shape.mode === "pae" && level === 3) return (low & PDPTE_RESERVED) !== 0;
  return level > 3 && (low & LARGE) !== 0;
}
