/** The kernel's half of page tables, as far as a look at its layout needs it. */
import type { TableMemory } from "../tables/table-reader.js";
import { addressOf, bytesAt, isLeaf, PRESENT, type TableShape } from "../tables/table-shape.js";

const PAGE = 4096;
const ENTRIES = 512;
/** Entries of 1 GiB that are looked at: no kernel maps more than this. */
const MOST_SLOTS = 2 ** 17;
const KERNEL = 2n ** 63n;
/** Entries that are looked at before the tables are taken for no kernel's; reading a table counts as so many. */
const MOST_LOOKS = 2 ** 24;
const LOOKS_OF_READ = 64;

/** An aligned GiB in which something is mapped. */
export interface Slot {
  readonly va: bigint;
  /** The first address that is mapped in it. */
  readonly first: Place;
}

export interface Place {
  readonly va: bigint;
  readonly pa: bigint;
}

/** Reads tables of 4 or 5 levels. */
export class KernelTables {
  readonly #memory: TableMemory;
  readonly #shape: TableShape;
  readonly #root: number;
  readonly #encrypted: number;
  readonly #pages: readonly Uint32Array[];
  /** The address of the table in each page. */
  readonly #held: number[];
  #left = MOST_LOOKS;

  constructor(memory: TableMemory, shape: TableShape, root: bigint, encryptionMask: bigint) {
    this.#memory = memory;
    this.#shape = shape;
    this.#root = Number(root);
    this.#encrypted = Number(encryptionMask >> 32n) | 0;
    this.#pages = Array.from({ length: shape.levels + 1 }, () => new Uint32Array(PAGE / 4));
    this.#held = this.#pages.map(() => -1);
  }

  /** Whether more was looked at than tables of a kernel ask for: what was found may be wrong. */
  get isExhausted(): boolean {
    return this.#left < 0;
  }

  /** All slots of the kernel's half, ascending; undefined where there are more than any kernel has. */
  slots(): Slot[] | undefined {
    const found: Slot[] = [];
    const { levels, kernelFrom } = this.#shape;
    return this.#addSlots(this.#root, levels, kernelFrom, 0n, { left: MOST_SLOTS }, found) ? found : undefined;
  }

  #addSlots(
    table: number,
    level: number,
    from: number,
    base: bigint,
    budget: { left: number },
    found: Slot[],
  ): boolean {
    for (let index = from; index < ENTRIES; index++) {
      const entry = this.#entry(table, level, index);
      if (entry === undefined) continue;
      const va = base + BigInt(index) * BigInt(bytesAt(this.#shape, level));
      if (level > 3) {
        if (!this.#addSlots(entry.address, level - 1, 0, va, budget, found)) return false;
        continue;
      }
      if (--budget.left < 0) return false;
      const first = this.#first(entry, level, va);
      if (first !== undefined) found.push({ va: canonical(va, this.#shape), first });
    }
    return true;
  }

  #first(entry: Entry, level: number, va: bigint): Place | undefined {
    if (entry.leaf) return { va: canonical(va, this.#shape), pa: BigInt(entry.address) };
    for (let index = 0; index < ENTRIES; index++) {
      const below = this.#entry(entry.address, level - 1, index);
      if (below === undefined) continue;
      const first = this.#first(below, level - 1, va + BigInt(index) * BigInt(bytesAt(this.#shape, level - 1)));
      if (first !== undefined) return first;
    }
    return undefined;
  }

  /** Where a byte of the kernel's half lies; undefined where it is not mapped, or a table is missing. */
  translate(va: bigint): bigint | undefined {
    const found = this.#descend(va, 1);
    return found?.leaf ? BigInt(found.address) + (va & BigInt(found.size - 1)) : undefined;
  }

  /** Whether something may be mapped in the 2 MiB at `va`: its entry is present. */
  touches(va: bigint): boolean {
    return this.#descend(va, 2) !== undefined;
  }

  /** The entry of that level on the way to `va`, or a leaf above it. */
  #descend(va: bigint, to: number): (Entry & { readonly size: number }) | undefined {
    let table = this.#root;
    for (let level = this.#shape.levels; ; level--) {
      const size = bytesAt(this.#shape, level);
      const entry = this.#entry(table, level, Number((va / BigInt(size)) % BigInt(ENTRIES)));
      if (entry === undefined) return undefined;
      if (entry.leaf || level === to) return { ...entry, size };
      table = entry.address;
    }
  }

  #entry(table: number, level: number, index: number): Entry | undefined {
    if (this.#left-- < 0) return undefined;
    const words = this.#pages[level]!;
    if (this.#held[level] !== table) {
      this.#left -= LOOKS_OF_READ;
      this.#held[level] = -1;
      const frame = BigInt(Math.floor(table / PAGE));
      if (!this.#memory.tableSource.readPage(frame, new Uint8Array(words.buffer))) words.fill(0);
      this.#held[level] = table;
    }
    const low = words[2 * index]!;
    if ((low & PRESENT) === 0) return undefined;
    const leaf = isLeaf(this.#shape, level, low);
    const address = addressOf(low, words[2 * index + 1]!, this.#encrypted);
    return { leaf, address: leaf ? address - (address % bytesAt(this.#shape, level)) : address };
  }
}

interface Entry {
  readonly leaf: boolean;
  readonly address: number;
}

/** An offset into the tables' reach as an address of the kernel's half. */
function canonical(va: bigint, { levels }: TableShape): bigint {
  const reach = 1n << BigInt(12 + 9 * levels);
  return va >= KERNEL ? va : (1n << 64n) - reach + va;
}
