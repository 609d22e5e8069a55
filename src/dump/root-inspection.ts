/** Looks at page tables to find out what they are, where no register says it. */
import { bitOf, flagOf } from "../abi/bits.js";
import { PTE, PTE32 } from "../abi/entries.js";
import type { PageSource } from "../api.js";
import type { Presence } from "./memory/presence.js";
import type { InspectedMode } from "./tables/table-shape.js";
import type { KernelRoot } from "./vmcoreinfo.js";

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

/** What is known of a table's page. */
type PresenceOf = (gpa: bigint) => Presence;

/**
 * The paging mode whose tables the page at `root` can be, of `modes`; `presence` says whether the dump has a page.
 * Entries are held against each mode: tables are in the dump, addresses are some that machines have, bits that a level
 * does not have are clear. Undefined where no mode fits, or tables that would decide are cut off or left out.
 */
export function inspectRoot(
  source: PageSource,
  root: bigint,
  presence: PresenceOf,
  modes: readonly InspectedMode[] = SHAPES.map(({ mode }) => mode),
): InspectedMode | undefined {
  for (const shape of SHAPES) {
    if (!modes.includes(shape.mode)) continue;
    const { entries, wrong, leaves, unknown } = new Tally(source, presence, shape).of(root);
    if (wrong > entries * MOST_WRONG) continue;
    if (leaves > 0) return shape.mode;
    if (unknown > 0) return undefined;
  }
  return undefined;
}

/** Entries of the tables below a root, as a mode would have them. */
class Tally {
  entries = 0;
  wrong = 0;
  leaves = 0;
  /** Tables that are not there, though the machine had them. */
  unknown = 0;
  readonly #source: PageSource;
  readonly #presence: PresenceOf;
  readonly #shape: TableShape;
  readonly #page = new Uint8Array(PAGE);
  readonly #view = new DataView(this.#page.buffer);

  constructor(source: PageSource, presence: PresenceOf, shape: TableShape) {
    this.#source = source;
    this.#presence = presence;
    this.#shape = shape;
  }

  of(root: bigint): this {
    const { levels, mode, entrySize } = this.#shape;
    let tables = [root];
    let left = MOST_TABLES;
    for (let level = levels; level > 0; level--) {
      const below: bigint[] = [];
      for (const table of tables) {
        if (left === 0 || !this.#source.readPage(table / 4096n, this.#page)) continue;
        left--;
        // A PAE root is 32 bytes at the address.
        const [from, to] = mode === "pae" && level === 3 ? [Number(table % 4096n), 32] : [0, PAGE];
        for (let at = from; at < Math.min(PAGE, from + to); at += entrySize) this.#entry(at, level, below);
      }
      tables = below;
    }
    return this;
  }

  #entry(at: number, level: number, below: bigint[]): void {
    const { mode, entrySize } = this.#shape;
    const low = this.#view.getUint32(at, true);
    if ((low & P) === 0) return;
    this.entries++;
    const wide = entrySize === 8;
    const target = wide ? this.#view.getBigUint64(at, true) & ADDRESS : BigInt((low & ADDRESS_32) >>> 0);
    const pdpte = mode === "pae" && level === 3;
    const large = level > 1 && (low & PS) !== 0;
    // Level 4 and 5 have no large pages, and a PAE PDPTE has neither those nor rights: the bits are reserved.
    if ((large && (level > 3 || pdpte)) || (pdpte && (low & RIGHTS) !== 0)) this.wrong++;
    else if (large || level === 1) {
      this.leaves++;
      const size = level === 1 ? 4096n : 1n << BigInt(12 + 9 * (level - 1));
      // Bit 12 of a large page is its PAT bit; 32-bit paging has more address bits there (PSE-36).
      const rest = target % size;
      const aligned = !wide || rest === 0n || (level > 1 && rest === 4096n);
      if (target >= BEYOND || !aligned) this.wrong++;
    } else this.#table(target, below);
  }

  #table(target: bigint, below: bigint[]): void {
    const presence = this.#presence(target);
    if (presence === "held") below.push(target);
    else if (presence === "absent") this.wrong++;
    else this.unknown++;
  }
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
