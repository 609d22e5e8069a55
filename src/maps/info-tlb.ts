/** Lines of QEMU's monitor command `info tlb` (target/i386/monitor.c, tlb_info_32, _pae32, _la48, _la57, print_pte). */
import { bitOf } from "../abi/bits.js";
import { PTE } from "../abi/entries.js";
import type { Leaf, PagingMode } from "../api.js";

/** What `info tlb` prints when CR0.PG is clear. */
export const INFO_TLB_PAGING_OFF = "PG disabled";

/** The letters in their order, with the bit of the leaf entry that each shows; the bits above the leaf play no part. */
const LETTERS: readonly (readonly [string, bigint])[] = [
  ["X", bitOf(PTE, "XD")],
  ["G", bitOf(PTE, "G")],
  ["P", bitOf(PTE, "PS")],
  ["D", bitOf(PTE, "D")],
  ["A", bitOf(PTE, "A")],
  ["C", bitOf(PTE, "PCD")],
  ["T", bitOf(PTE, "PWT")],
  ["U", bitOf(PTE, "US")],
  ["W", bitOf(PTE, "RW")],
];

/** QEMU keeps 50 bits of an entry in long mode. */
const LONG_MODE_LIMIT = 2n ** 50n;
const ALL = (1n << 64n) - 1n;

/**
 * Which bits of a leaf are shown as its address. QEMU's masks, exact: long mode cuts at the page size and at 50 bits; PAE
 * and 32-bit masks reach up to bit 63 (execute-disable shows in the address) and start one bit below the size of a
 * large page; PSE-36 bits are not put together.
 */
function addressMask(leaf: Leaf, mode: PagingMode): bigint {
  if (mode === "4level" || mode === "5level") return (LONG_MODE_LIMIT - 1n) & ~(leaf.size - 1n);
  if (leaf.level === 1) return ALL & ~0xfffn;
  return ALL & ~(leaf.size / 2n - 1n);
}

/** One line without its end, e.g. `0000000000400000: 000000001f974000 X---A--U-`. */
export function infoTlbLine(leaf: Leaf, mode: PagingMode): string {
  // Bit 7 of a level-1 entry is PAT; QEMU drops it so that P means a large page.
  const entry = leaf.level === 1 ? leaf.entry & ~bitOf(PTE, "PS") : leaf.entry;
  return `${hex16(leaf.va)}: ${hex16(entry & addressMask(leaf, mode))} ${lettersOf(entry)}`;
}

/** The letters of every combination seen so far, by the entry's low 9 bits and bit 63: there are at most 1,024. */
const lettersSeen = new Map<number, string>();

function lettersOf(entry: bigint): string {
  const key = Number(entry & 0x1ffn) | (entry >> 63n === 0n ? 0 : 0x200);
  let letters = lettersSeen.get(key);
  if (letters === undefined) {
    letters = LETTERS.map(([letter, bit]) => ((entry & bit) === 0n ? "-" : letter)).join("");
    lettersSeen.set(key, letters);
  }
  return letters;
}

function hex16(value: bigint): string {
  return value.toString(16).padStart(16, "0");
}
