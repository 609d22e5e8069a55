/** Guests for the benchmarks: tables of a chosen size in RAM that nothing moves afterwards, and addresses to translate. */
import type { CoreMemory, CoreSpace } from "../src/core/index.js";
import { type Core, loadSync } from "../src/core/index.js";

const PRESENT = 0x67n; // P, RW, US, A, D
const PAGE_SIZE = 0x80n;
const ENTRIES = 512;
export const BATCH = 1024;
/** One instance serves everything: a call site that sees two instances is about twice as slow. */
export const core = loadSync();

export interface Machine {
  readonly core: Core;
  readonly memory: CoreMemory;
  readonly space: CoreSpace;
  /** Linear address and size of RAM; guest-physical addresses begin at 0. */
  readonly ramLinear: number;
  readonly ramSize: number;
  /** Frees the guest. */
  dispose(): void;
  /** Number of level-1 tables. */
  readonly tables: number;
  /** Virtual page number of mapped page `index`, in units of 4 KiB. */
  page(index: number): bigint;
  /** Where level-1 entry `index` lies in guest-physical memory. */
  entry(index: number): number;
}

export interface Shape {
  readonly tables: number;
  /** The level-1 tables are spread evenly over that many entries of the root table; 1 keeps them contiguous. */
  readonly regions: number;
  /** Share of level-1 entries that are not present, 0 to 1, spread at random. */
  readonly absent?: number;
  /** Present level-1 entries: one of that many, in order. */
  readonly everyNth?: number;
  /** Neighbours change places, so that no two pages are a run. */
  readonly swapped?: boolean;
  /** 2 MiB pages: "level-1" is level 2 in all of this. */
  readonly large?: boolean;
}

/** A small deterministic generator (mulberry32): every candidate and every run sees the same numbers. */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}

const powerOfTwo = (least: number) => 2 ** Math.ceil(Math.log2(least));

/** A 4-level guest with `shape.tables` full level-1 tables. */
export function build(shape: Shape, options: { tlbEntries?: number; spare?: number } = {}): Machine {
  const { tables, regions } = shape;
  const perRegion = Math.ceil(tables / regions);
  const directories = Math.ceil(perRegion / ENTRIES);
  const pointers = Math.ceil(directories / ENTRIES);
  const pages = 2 + tables + regions * (directories + pointers);
  const ramSize = powerOfTwo(pages * 4096);
  const { linear } = core.internals();
  // Room for addresses, results and the candidates' own data, so that the memory never grows while they run.
  const spare = linear.allocate(options.spare ?? 64 << 20, 4096);
  linear.free(spare, options.spare ?? 64 << 20);
  const ramLinear = linear.lend(ramSize, 4096);
  const memory = core.createMemory({ slots: [{ gpa: 0, size: ramSize, linear: ramLinear }] });
  const words = linear.u64.subarray(ramLinear / 8, (ramLinear + ramSize) / 8);
  const next = random(7);
  let free = 1;
  const root = free++ * ENTRIES;
  const entries = new Float64Array(tables);
  let table = 0;
  const leafShift = shape.large ? 21n : 12n;
  const leafBits = shape.large ? PRESENT | PAGE_SIZE : PRESENT;
  for (let region = 0; region < regions; region++) {
    // The tables above those of the leaves, from the root's entry on.
    let pdpt = 0;
    let pd = 0;
    for (let index = 0; index < perRegion && table < tables; index++, table++) {
      if (index % (shape.large ? ENTRIES : ENTRIES * ENTRIES) === 0) {
        pdpt = free++ * ENTRIES;
        const slot = Math.floor(index / (shape.large ? ENTRIES : ENTRIES ** 2));
        words[root + region * 3 + slot] = (BigInt(pdpt) << 3n) | PRESENT;
      }
      if (!shape.large && index % ENTRIES === 0) {
        pd = free++ * ENTRIES;
        words[pdpt + (Math.floor(index / ENTRIES) % ENTRIES)] = (BigInt(pd) << 3n) | PRESENT;
      }
      const leaves = free++ * ENTRIES;
      entries[table] = leaves;
      words[(shape.large ? pdpt : pd) + (index % ENTRIES)] = (BigInt(leaves) << 3n) | PRESENT;
      for (let slot = 0; slot < ENTRIES; slot++) {
        const kept = shape.everyNth ? slot % shape.everyNth === 0 : !(shape.absent && next() < shape.absent);
        // Frames run on, so that every result is its own.
        const frame = table * ENTRIES + (shape.swapped ? slot ^ 1 : slot) + 16;
        if (kept) words[leaves + slot] = (BigInt(frame) << leafShift) | leafBits;
      }
    }
  }
  const registers = { cr0: 0x80010001, cr3: root * 8, cr4: 0x20, efer: 0xd00, maxPhysAddr: 46 };
  const space = core.createAddressSpace(memory, {
    ...registers,
    ...(options.tlbEntries ? { tlbEntries: options.tlbEntries } : {}),
  });
  return {
    core,
    memory,
    space,
    ramLinear,
    ramSize,
    tables,
    page(index) {
      const at = Math.floor(index / ENTRIES);
      const region = Math.floor(at / perRegion);
      const within = BigInt((at % perRegion) * ENTRIES + (index % ENTRIES));
      return (BigInt(region * 3) << 27n) + (within << (leafShift - 12n));
    },
    dispose() {
      space.dispose();
      memory.dispose();
      linear.takeBack(ramLinear, ramSize);
    },
    entry: (index) => (entries[Math.floor(index / ENTRIES)]! + (index % ENTRIES)) * 8,
  };
}

export type Pattern = "random" | "sequential" | "sorted" | "local";

/** `count` addresses of mapped-or-not pages in the given order, with offsets. */
export function addresses(machine: Machine, pattern: Pattern, count: number, seed = 1): BigUint64Array {
  const next = random(seed);
  const pages = machine.tables * ENTRIES;
  const chosen = new Float64Array(count);
  let at = 0;
  for (let index = 0; index < count; index++) {
    if (pattern === "sequential") at = index % pages;
    else if (pattern === "local" && index % 32 !== 0)
      at = Math.min(pages - 1, Math.max(0, at + Math.floor(next() * 17) - 8));
    else at = Math.floor(next() * pages);
    chosen[index] = at;
  }
  // Ascending within every batch; each batch spans everything.
  if (pattern === "sorted")
    for (let first = 0; first < count; first += BATCH) chosen.subarray(first, first + BATCH).sort();
  return BigUint64Array.from(chosen, (page) => (machine.page(page) << 12n) | BigInt(Math.floor(next() * 512) * 8));
}
