/** Looks at page tables to find out what they are, where no register says it. */
import { bitOf, flagOf } from "../abi/bits.js";
import { PTE, PTE32 } from "../abi/entries.js";
import type { PageSource } from "../api.js";
import type { KernelRoot } from "./vmcoreinfo.js";

export type InspectedMode = "32bit" | "pae" | "4level" | "5level";

/** What a mode's tables look like. */
interface TableShape {
  readonly mode: InspectedMode;
  readonly levels: number;
  readonly entrySize: 4 | 8;
}

/** Those with the most levels first: the upper levels of their tables also look like tables of fewer levels. */
const SHAPES: readonly TableShape[] = [
  { mode: "5level", levels: 5, entrySize: 8 },
  { mode: "4level", levels: 4, entrySize: 8 },
  { mode: "pae", levels: 3, entrySize: 8 },
  { mode: "32bit", levels: 2, entrySize: 4 },
];

const PAGE = 4096;
const P = flagOf(PTE, "P");
const PS = flagOf(PTE, "PS");
const RIGHTS = flagOf(PTE, "RW") | flagOf(PTE, "US");
const ADDRESS = bitOf(PTE, "ADDRESS");
const ADDRESS_32 = flagOf(PTE32, "ADDRESS");
/** Tables that are looked at below one root. */
const MOST_TABLES = 512;
/** No machine has memory or devices from there on (64 TiB): an entry that points there is none. */
const BEYOND = 2n ** 46n;
/** A mode is taken if at most this share of the entries contradict it. */
const MOST_WRONG = 0.01;

interface Tally {
  entries: number;
  wrong: number;
  leaves: number;
}

/**
 * The paging mode whose tables the page at `root` can be; `holds` says whether the dump has a page.
 * Entries are held against each mode: tables are in the dump, addresses are some that machines have, bits that a level
 * does not have are clear.
 */
export function inspectRoot(
  source: PageSource,
  root: bigint,
  holds: (gpa: bigint) => boolean,
): InspectedMode | undefined {
  return SHAPES.find((shape) => {
    const { entries, wrong, leaves } = tally(source, root, holds, shape);
    return leaves > 0 && wrong <= entries * MOST_WRONG;
  })?.mode;
}

function tally(source: PageSource, root: bigint, holds: (gpa: bigint) => boolean, shape: TableShape): Tally {
  const found: Tally = { entries: 0, wrong: 0, leaves: 0 };
  const page = new Uint8Array(PAGE);
  const view = new DataView(page.buffer);
  const seen = new Set<bigint>();
  let level = [root];
  for (let depth = shape.levels; depth > 0 && level.length > 0; depth--) {
    const below: bigint[] = [];
    for (const table of level) {
      if (seen.size >= MOST_TABLES || !source.readPage(table / 4096n, page)) continue;
      seen.add(table);
      // A PAE root is 32 bytes at the address.
      const [from, to] = shape.mode === "pae" && depth === 3 ? [Number(table % 4096n), 32] : [0, PAGE];
      for (let at = from; at < Math.min(PAGE, from + to); at += shape.entrySize)
        judge(view, at, depth, shape, holds, found, below);
    }
    level = below;
  }
  return found;
}

function judge(
  view: DataView,
  at: number,
  depth: number,
  { mode, entrySize }: TableShape,
  holds: (gpa: bigint) => boolean,
  found: Tally,
  below: bigint[],
): void {
  const low = view.getUint32(at, true);
  if ((low & P) === 0) return;
  found.entries++;
  const wide = entrySize === 8;
  const target = wide ? view.getBigUint64(at, true) & ADDRESS : BigInt((low & ADDRESS_32) >>> 0);
  const large = depth > 1 && (low & PS) !== 0;
  // No table of these levels has large pages.
  // A PAE PDPTE has no rights: these bits of it are reserved.
  if (mode === "pae" && depth === 3 && (low & RIGHTS) !== 0) found.wrong++;
  if (large && (depth > 3 || (mode === "pae" && depth === 3))) found.wrong++;
  else if (large || depth === 1) {
    found.leaves++;
    const size = depth === 1 ? 4096n : wide ? 1n << BigInt(12 + 9 * (depth - 1)) : 1n << 22n;
    // Bit 12 of a large page is its PAT bit; 32-bit paging has more address bits there (PSE-36).
    const rest = target % size;
    const aligned = !wide || rest === 0n || (depth > 1 && rest === 4096n);
    if (target >= BEYOND || !aligned) found.wrong++;
  } else if (holds(target)) below.push(target);
  else found.wrong++;
}

/** Whether a kernel's tables map their own root where VMCOREINFO says: nothing else has such tables at that address. */
export function mapsItself(source: PageSource, { bits, cr3, va, pae, fiveLevel, encryptionMask }: KernelRoot): boolean {
  const levels = bits === 64 ? (fiveLevel ? 5 : 4) : pae ? 3 : 2;
  const entrySize = bits === 64 || pae ? 8 : 4;
  const width = entrySize === 8 ? 9n : 10n;
  const page = new Uint8Array(PAGE);
  const view = new DataView(page.buffer);
  let table = cr3;
  for (let level = levels; level > 0; level--) {
    if (table % 4096n !== 0n || !source.readPage(table / 4096n, page)) return false;
    const shift = 12n + width * BigInt(level - 1);
    const index = Number((va >> shift) % (1n << width));
    if ((index + 1) * entrySize > PAGE) return false;
    const entry = entrySize === 8 ? view.getBigUint64(index * 8, true) : BigInt(view.getUint32(index * 4, true));
    if ((entry & BigInt(P)) === 0n) return false;
    const target = entry & (entrySize === 8 ? ADDRESS : BigInt(ADDRESS_32 >>> 0)) & ~encryptionMask;
    if (level === 1 || ((entry & BigInt(PS)) !== 0n && level <= 3)) {
      const size = 1n << shift;
      return target - (target % size) + (va % size) === cr3;
    }
    table = target;
  }
  return false;
}
