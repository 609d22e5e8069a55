/** What grows: time and memory by the number of mappings, of shadow pages and of memslots. */
import type { CoreMemory } from "../src/core/index.js";
import { core, random } from "./machine.js";
import { compare, quantile, type RoundOptions } from "./rounds.js";
import { buildShadow, DATA_GFN, type ShadowGuest } from "./shadow-guest.js";
import { operations } from "./shadow-operations.js";

/** A figure by size. */
export interface Curve {
  readonly name: string;
  /** What is counted along the curve. */
  readonly of: string;
  readonly unit: "ns" | "bytes";
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

class Curves {
  readonly #curves = new Map<string, { curve: Omit<Curve, "points">; values: Map<number, number[]> }>();

  /** What is added for the same size again is another sample. */
  add(curve: Omit<Curve, "points">, x: number, y: number): void {
    const found = this.#curves.get(curve.name) ?? { curve, values: new Map<number, number[]>() };
    this.#curves.set(curve.name, found);
    found.values.set(x, [...(found.values.get(x) ?? []), y]);
  }

  /** With the median of each size's samples. */
  list(): Curve[] {
    return [...this.#curves.values()].map(({ curve, values }) => ({
      ...curve,
      points: [...values].map(([x, samples]) => ({ x, y: quantile(samples, 0.5) })),
    }));
  }
}

/** Small sizes are measured more than once: compiling and collecting garbage take longer than they do. */
const REPEATED = 100_000;
const REPEATS = 5;
const repeated = (count: number, measure: () => void) => () => {
  for (let i = 0; i < (count <= REPEATED ? REPEATS : 1); i++) measure();
};

const ERROR_WRITE = 2;
/** Bytes of linear memory that are in use. */
const usedBytes = () => {
  const { linear } = core.internals();
  return linear.memory.buffer.byteLength - linear.freeBytes;
};

/** Nanoseconds of `work` done once. */
function once(work: () => void): number {
  const start = performance.now();
  work();
  return (performance.now() - start) * 1e6;
}

/** Numbers below `count` in random order: all of them, or `most`. */
function shuffled(count: number, most = count): Uint32Array {
  const next = random(11);
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const other = Math.floor(next() * (i + 1));
    const kept = order[i]!;
    order[i] = order[other]!;
    order[other] = kept;
  }
  return order.subarray(0, most);
}

/** Time and memory per mapping with `count` leaf mappings in the guest. */
function mappings(curves: Curves, count: number): void {
  const before = usedBytes();
  const of = "leaf mappings";
  let guest!: ShadowGuest;
  const built = once(() => {
    guest = buildShadow({ leaves: count, stride: 1, scattered: true });
  });
  guest.vm.setPageLimit(1 << 24);
  const tables = usedBytes() - before;
  const { vcpu } = guest;
  // One fault in each block of eight entries maps the block.
  const blocks = shuffled(Math.ceil(count / 8));
  const faulted = once(() => {
    for (const block of blocks) {
      const address = guest.address(block * 8);
      vcpu.fault(address % 2 ** 32, Math.floor(address / 2 ** 32), ERROR_WRITE);
    }
  });
  curves.add({ name: "map, faults in random order", of, unit: "ns" }, count, faulted / count);
  const shadow = usedBytes() - before - tables;
  curves.add({ name: "memory of shadow tables, per mapping", of, unit: "bytes" }, count, shadow / count);
  curves.add({ name: "slot and guest tables, made", of, unit: "ns" }, count, built / count);
  const [again] = compare(
    [
      {
        name: "fault",
        work: 1000,
        run: () => {
          for (let i = 0; i < 1000; i++) {
            const address = guest.address(blocks[(i * 7919) % blocks.length]! * 8);
            vcpu.fault(address % 2 ** 32, Math.floor(address / 2 ** 32), 0);
          }
        },
      },
    ],
    { rounds: 5, time: 5 },
  );
  curves.add({ name: "spurious fault, random", of, unit: "ns" }, count, again!.nanoseconds);
  const zapped = once(() => guest.forgetLeaves());
  curves.add({ name: "unmap, per mapping", of, unit: "ns" }, count, zapped / count);

  const { linear } = core.internals();
  const slot = guest.vm.state.slots.find(0, 0)!;
  const memory: CoreMemory = core.createMemory({ slots: [{ gpa: 0, size: slot.pages * 4096, linear: slot.ram }] });
  const registers = { cr0: 0x80010001, cr3: Number(guest.roots[0]!), cr4: 0x20, efer: 0xd00, maxPhysAddr: 46 };
  const space = core.createAddressSpace(memory, registers);
  let runs = 0;
  const enumerated = once(() => {
    for (const run of space.mappings()) runs += Number(run.size > 0n);
  });
  if (runs < count / 2) throw new Error(`${runs} runs enumerated of ${count} mappings`);
  curves.add({ name: "enumerate, mappings()", of, unit: "ns" }, count, enumerated / count);
  space.dispose();
  memory.dispose();
  guest.dispose();
  if (usedBytes() !== before)
    throw new Error(`${usedBytes() - before} bytes of ${linear.freeBytes} were not given back`);
}

/** Operations with `count` level-1 shadow pages in the VM. */
function shadowPages(curves: Curves, count: number, options: RoundOptions): void {
  const of = "shadow pages";
  const before = usedBytes();
  const guest = buildShadow({ leaves: count, stride: 512, dense: true, roots: 3, selfMapped: true });
  const { vm, vcpu } = guest;
  vm.setPageLimit(1 << 24);
  const tables = usedBytes() - before;
  const order = shuffled(count);
  const made = once(() => {
    for (const index of order) {
      const address = guest.address(index);
      vcpu.fault(address % 2 ** 32, Math.floor(address / 2 ** 32), ERROR_WRITE);
    }
  });
  curves.add({ name: "first fault, page made", of, unit: "ns" }, count, made / count);
  const bytes = (usedBytes() - before - tables) / count;
  curves.add({ name: "memory, by shadow page", of, unit: "bytes" }, count, bytes);
  for (const candidate of operations(guest, order.subarray(0, 256))) {
    const [result] = compare([candidate], options);
    curves.add({ name: candidate.name, of, unit: "ns" }, count, result!.nanoseconds);
  }
  if (vm.counter("BROKEN") !== 0) throw new Error("an internal assertion failed");
  guest.dispose();
}

/** Faults in a VM of `count` slots, each of one page, at random. */
function memslots(curves: Curves, count: number, options: RoundOptions): void {
  const guest = buildShadow({ leaves: count, stride: 8, dense: true });
  const { vm, vcpu } = guest;
  const data = vm.state.slots.find(0, 1)!;
  vm.setSlot({ id: 1, gpa: data.base << 12n, size: 0 });
  for (let i = 0; i < count; i++) {
    const gpa = BigInt(DATA_GFN + i) << 12n;
    vm.setSlot({ id: 2 + i, gpa, size: 4096, ram: data.ram, hva: 0x7f40_0000_0000n + BigInt(i) * 0x10000n });
  }
  vcpu.enterGuest();
  const order = shuffled(count);
  let at = 0;
  const work = 64;
  const run = () => {
    for (let i = 0; i < work; i++) vcpu.fault(guest.address(order[at++ % count]!), 0, 0);
  };
  for (let i = 0; i < 2 * count; i++) run();
  const [result] = compare([{ name: "fault", work, run }], options);
  curves.add({ name: "spurious fault, random slot", of: "memslots", unit: "ns" }, count, result!.nanoseconds);
  guest.dispose();
}

export interface GrowthOptions {
  readonly mappings: readonly number[];
  readonly pages: readonly number[];
  readonly slots: readonly number[];
}

export const FULL_GROWTH: GrowthOptions = {
  mappings: [1e3, 1e4, 1e5, 1e6, 1e7],
  pages: [1, 10, 100, 1e3, 1e4, 1e5],
  slots: [1, 4, 16, 62],
};

export const QUICK_GROWTH: GrowthOptions = {
  mappings: [1e3, 1e4, 1e5, 1e6],
  pages: [1, 10, 100, 1e3, 1e4],
  slots: [1, 16, 62],
};

/** One call a size: what is counted, and what measures it. The sizes with the most memory come last. */
export function growthSteps({ mappings: counts, pages, slots }: GrowthOptions): {
  curves(): Curve[];
  steps: (() => void)[];
} {
  const curves = new Curves();
  const options = { rounds: 5, time: 4 };
  // The first sizes are measured in code that V8 has compiled already.
  const warm = () => {
    shadowPages(new Curves(), 100, options);
    mappings(new Curves(), 10_000);
  };
  return {
    curves: () => curves.list(),
    steps: [
      warm,
      ...slots.map((count) => () => memslots(curves, count, options)),
      ...pages.map((count) => () => shadowPages(curves, count, options)),
      ...counts.map((count) => repeated(count, () => mappings(curves, count))),
    ],
  };
}
