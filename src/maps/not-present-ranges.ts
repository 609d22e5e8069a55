/** Goes through the entries of page tables that are not present and not zero. */
import { bitOf } from "../abi/bits.js";
import { PTE, PTE32 } from "../abi/entries.js";
import { levelsOf } from "../abi/entry-format.js";
import { CR3_PAE, CR4 } from "../abi/registers.js";
import type { PageSource } from "../api.js";
import { pagingModeOf } from "./mode.js";
import { decodeNotPresent, type NotPresentEntry, type NotPresentOptions } from "./not-present.js";
import type { StructureRegisters } from "./structure.js";

const PAGE = 4096;
const PRESENT = bitOf(PTE, "P");
const PAGE_SIZE_BIT = bitOf(PTE, "PS");

/** Consecutive virtual addresses of which the system knows the same, or what goes on page by page. */
export interface NotPresentRange {
  readonly va: bigint;
  /** Bytes. */
  readonly size: bigint;
  /** Number of entries. */
  readonly entries: number;
  /** Bytes that one entry stands for. */
  readonly pageSize: bigint;
  /** The first entry, and what it says. */
  readonly entry: bigint;
  readonly decoded: NotPresentEntry;
}

/** Where an entry is, and what it is. */
interface Found {
  readonly va: bigint;
  readonly pageSize: bigint;
  readonly entry: bigint;
  readonly decoded: NotPresentEntry;
}

/**
 * The ranges that entries of these tables describe which are not present, in ascending order. Tables that are not in the source have
 * none; those that contain themselves are followed as far as their levels go: `inspectTables` comes first.
 */
export function* notPresentRanges(
  source: PageSource,
  registers: StructureRegisters,
  options: NotPresentOptions,
): IterableIterator<NotPresentRange> {
  let range: NotPresentRange | undefined;
  for (const { va, pageSize, entry, decoded } of new Tables(source, registers, options).entries()) {
    if (range !== undefined && follows(range, va, pageSize, decoded)) {
      range = { ...range, size: range.size + pageSize, entries: range.entries + 1 };
      continue;
    }
    if (range !== undefined) yield range;
    range = { va, size: pageSize, entries: 1, pageSize, entry, decoded };
  }
  if (range !== undefined) yield range;
}

function follows(range: NotPresentRange, va: bigint, pageSize: bigint, next: NotPresentEntry): boolean {
  const { decoded: first, size } = range;
  const pages = BigInt(range.entries);
  return (
    va === range.va + size &&
    pageSize === range.pageSize &&
    next.kind === first.kind &&
    next.file === first.file &&
    next.protection === first.protection &&
    next.flags.join() === first.flags.join() &&
    goesOn(first.pa, next.pa, size) &&
    goesOn(first.prototype, next.prototype, 8n * pages) &&
    // A marker's offset is the same for each page.
    goesOn(first.offset, next.offset, first.kind === "marker" ? 0n : pages)
  );
}

function goesOn(first: bigint | undefined, next: bigint | undefined, distance: bigint): boolean {
  return first === undefined ? next === undefined : next === first + distance;
}

class Tables {
  readonly #source: PageSource;
  readonly #registers: StructureRegisters;
  readonly #options: NotPresentOptions;
  readonly #mode: ReturnType<typeof pagingModeOf>;
  readonly #narrow: boolean;

  constructor(source: PageSource, registers: StructureRegisters, options: NotPresentOptions) {
    this.#source = source;
    this.#registers = registers;
    this.#mode = pagingModeOf(registers);
    this.#narrow = this.#mode === "32bit";
    this.#options = { ...options, narrow: this.#narrow };
  }

  *entries(): IterableIterator<Found> {
    if (this.#mode === "none") return;
    const { cr3, encryptionMask = 0n } = this.#registers;
    const levels = levelsOf(this.#mode);
    const address =
      this.#mode === "pae" ? bitOf(CR3_PAE, "PDPT") : this.#narrow ? bitOf(PTE32, "ADDRESS") : bitOf(PTE, "ADDRESS");
    yield* this.#table(cr3 & address & ~encryptionMask, levels, 0n, levels);
  }

  *#table(table: bigint, level: number, base: bigint, levels: number): IterableIterator<Found> {
    const page = new Uint8Array(PAGE);
    if (!this.#source.readPage(table / BigInt(PAGE), page)) return;
    const view = new DataView(page.buffer);
    const bytes = this.#narrow ? 4 : 8;
    const isPdpt = this.#mode === "pae" && level === 3;
    const [start, count] = isPdpt ? [Number(table % BigInt(PAGE)), 4] : [0, PAGE / bytes];
    const size = 1n << BigInt(12 + (this.#narrow ? 10 : 9) * (level - 1));
    for (let index = 0; index < count; index++) {
      const at = start + index * bytes;
      const entry = this.#narrow ? BigInt(view.getUint32(at, true)) : view.getBigUint64(at, true);
      if (entry === 0n) continue;
      const va = base + BigInt(index) * size;
      if ((entry & PRESENT) === 0n) {
        const decoded = decodeNotPresent(entry, { ...this.#options, pageSize: size });
        if (decoded !== undefined) yield { va: this.#canonical(va, levels), pageSize: size, entry, decoded };
      } else if (level > 1 && !this.#isLeaf(entry, level)) {
        yield* this.#table(this.#tableOf(entry), level - 1, va, levels);
      }
    }
  }

  #isLeaf(entry: bigint, level: number): boolean {
    if ((entry & PAGE_SIZE_BIT) === 0n) return false;
    if (this.#narrow) return (this.#registers.cr4 & bitOf(CR4, "PSE")) !== 0n;
    return level === 2 || (level === 3 && this.#mode !== "pae");
  }

  #tableOf(entry: bigint): bigint {
    return (
      entry & (this.#narrow ? bitOf(PTE32, "ADDRESS") : bitOf(PTE, "ADDRESS")) & ~(this.#registers.encryptionMask ?? 0n)
    );
  }

  #canonical(va: bigint, levels: number): bigint {
    return levels < 4 ? va : BigInt.asUintN(64, BigInt.asIntN(12 + 9 * levels, va));
  }
}
