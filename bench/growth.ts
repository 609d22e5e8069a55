/** What grows: time and memory by the number of mappings, of shadow pages and of memslots. */
import type { CoreMemory } from "../src/core/index.js";
import { vcpuRecord } from "../src/mmu/records.js";
import { core, random } from "./machine.js";
import { compare, type RoundOptions } from "./rounds.js";
import { buildShadow, DATA_GFN, type ShadowGuest } from "./shadow-guest.js";

/** A figure by size. */
export interface Curve {
  readonly name: string;
  /** What is counted along the curve. */
  readonly of: string;
  readonly unit: "ns" | "bytes";
  /** The operation should take the same time at every size (but for what the processor's caches hold). */
  readonly constant: boolean;
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

class Curves {
  readonly #curves = new Map<string, { curve: Omit<Curve, "points">; points: { x: number; y: number }[] }>();

  add(curve: Omit<Curve, "points">, x: number, y: number): void {
    const found = this.#curves.get(curve.name) ?? { curve, points: [] };
    this.#curves.set(curve.name, found);
    found.points.push({ x, y });
  }

  list(): Curve[] {
    return [...this.#curves.values()].map(({ curve, points }) => ({ ...curve, points }));
  }
}

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
  curves.add({ name: "map, faults in random order", of, unit: "ns", constant: true }, count, faulted / count);
  const shadow = usedBytes() - before - tables;
  curves.add(
    { name: "memory of shadow tables, per mapping", of, unit: "bytes", constant: true },
    count,
    shadow / count,
  );
  curves.add({ name: "slot and guest tables, made", of, unit: "ns", constant: true }, count, built / count);
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
  curves.add({ name: "spurious fault, random", of, unit: "ns", constant: true }, count, again!.nanoseconds);
  const zapped = once(() => guest.forgetLeaves());
  curves.add({ name: "unmap, per mapping", of, unit: "ns", constant: true }, count, zapped / count);

  const { linear } = core.internals();
  const slot = guest.vm.slots.find(0, 0)!;
  const memory: CoreMemory = core.createMemory({ slots: [{ gpa: 0, size: slot.pages * 4096, linear: slot.ram }] });
  const registers = { cr0: 0x80010001, cr3: Number(guest.roots[0]!), cr4: 0x20, efer: 0xd00, maxPhysAddr: 46 };
  const space = core.createAddressSpace(memory, registers);
  let runs = 0;
  const enumerated = once(() => {
    for (const run of space.mappings()) runs += Number(run.size > 0n);
  });
  if (runs < count / 2) throw new Error(`${runs} runs enumerated of ${count} mappings`);
  curves.add({ name: "enumerate, mappings()", of, unit: "ns", constant: true }, count, enumerated / count);
  space.dispose();
  memory.dispose();
  guest.dispose();
  if (usedBytes() !== before)
    throw new Error(`${usedBytes() - before} bytes of ${linear.freeBytes} were not given back`);
}

/** Asks for the page that shadows level-1 table `table`, as a fault does. */
function requestPage(guest: ShadowGuest, role: number, table: number): number {
  const { vm, vcpu } = guest;
  vcpuRecord.set64(vm.linear, vcpu.pointer, "REQ_GFN", BigInt(guest.table(table)) >> 12n);
  vcpuRecord.set32(vm.linear, vcpu.pointer, "REQ_ROLE", role);
  vcpuRecord.set32(vm.linear, vcpu.pointer, "REQ_LOW", 0);
  return vm.providePage(vcpu);
}

/** Operations with `count` level-1 shadow pages in the VM. */
function shadowPages(curves: Curves, count: number, options: RoundOptions): void {
  const of = "shadow pages";
  const before = usedBytes();
  const guest = buildShadow({ leaves: count, stride: 512, dense: true, roots: 3, selfMapped: true });
  const { vm, vcpu } = guest;
  vm.setPageLimit(1 << 24);
  const fault = (address: number, error: number) => vcpu.fault(address % 2 ** 32, Math.floor(address / 2 ** 32), error);
  const tables = usedBytes() - before;
  const made = once(() => {
    for (const index of shuffled(count)) fault(guest.address(index), ERROR_WRITE);
  });
  curves.add({ name: "first fault, pages made", of, unit: "ns", constant: true }, count, made / count);
  curves.add(
    { name: "memory, per page", of, unit: "bytes", constant: true },
    count,
    (usedBytes() - before - tables) / count,
  );
  const role = vm.page(requestRole(guest)).role;
  const some = shuffled(count, Math.min(count, 256));
  let at = 0;
  const next = () => some[at++ % some.length]!;
  const mmio = { id: 2, gpa: 1n << 44n, size: 4096, ram: vm.createRam(4096), hva: 0x7e00_0000_0000n };
  vm.setSlot(mmio);
  let logging = false;
  // A first look at the tables as pages: their own table's shadow pages are made.
  for (const index of some) fault(guest.tableAddress(index), 0);
  const three = guest.roots;
  for (const root of three) {
    vcpu.writeCr3(root);
    vcpu.enterGuest();
  }
  const operations: Record<string, () => void> = {
    "get_page, found": () => {
      requestPage(guest, role, next());
    },
    "cold fault": () => {
      fault(guest.address(next()), ERROR_WRITE);
    },
    "root switch, cached": () => {
      vcpu.writeCr3(three[at++ % 3]!);
      vcpu.enterGuest();
    },
    "unsync and sync one page": () => {
      fault(guest.tableAddress(next()), ERROR_WRITE);
      vcpu.writeCr3(three[0]!);
      vcpu.enterGuest();
    },
    "emulated write to a table": () => {
      vcpu.emulatedWrite(BigInt(guest.table(next()) + 4088), ZERO);
    },
    "zap one page, make it again": () => {
      const index = next();
      vm.unprotectGfn(BigInt(guest.table(index)) >> 12n);
      fault(guest.address(index), ERROR_WRITE);
    },
    "change a small slot": () => {
      logging = !logging;
      vm.setSlot({ ...mmio, logDirty: logging });
    },
    "unmap and map one host page": () => {
      const hva = 0x7f40_0000_0000n + BigInt(next()) * 4096n;
      vm.unmapRange(hva, hva + 4096n);
    },
  };
  const forget: Record<string, () => void> = { "cold fault": guest.forgetLeaves };
  for (const [name, run] of Object.entries(operations)) {
    const before = forget[name];
    const [result] = compare([{ name, work: 1, run, ...(before ? { before } : {}) }], options);
    curves.add({ name, of, unit: "ns", constant: true }, count, result!.nanoseconds);
  }
  if (vm.counter("BROKEN") !== 0) throw new Error("an internal assertion failed");
  guest.dispose();
}

const ZERO = new Uint8Array(8);

/** The level-1 page that the last fault used. */
function requestRole({ vm, vcpu }: ShadowGuest): number {
  return vcpuRecord.get32(vm.linear, vcpu.pointer, "REQ_PAGE");
}

/** Faults in a VM of `count` slots, each of one page, at random. */
function memslots(curves: Curves, count: number, options: RoundOptions): void {
  const guest = buildShadow({ leaves: count, stride: 8, dense: true });
  const { vm, vcpu } = guest;
  const data = vm.slots.find(0, 1)!;
  vm.setSlot({ id: 1, gpa: data.base << 12n, size: 0 });
  for (let i = 0; i < count; i++) {
    const gpa = BigInt(DATA_GFN + i) << 12n;
    vm.setSlot({ id: 2 + i, gpa, size: 4096, ram: data.ram, hva: 0x7f40_0000_0000n + BigInt(i) * 0x10000n });
  }
  vcpu.enterGuest();
  const order = shuffled(count);
  let at = 0;
  const run = () => {
    const address = guest.address(order[at++ % count]!);
    vcpu.fault(address, 0, 0);
  };
  for (let i = 0; i < 2 * count; i++) run();
  const [result] = compare([{ name: "fault", work: 1, run }], options);
  curves.add(
    { name: "spurious fault, random slot", of: "memslots", unit: "ns", constant: true },
    count,
    result!.nanoseconds,
  );
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

export function measureGrowth({ mappings: counts, pages, slots }: GrowthOptions, step: () => void = () => {}): Curve[] {
  const curves = new Curves();
  const options = { rounds: 5, time: 4 };
  for (const count of slots) {
    memslots(curves, count, options);
    step();
  }
  for (const count of pages) {
    shadowPages(curves, count, options);
    step();
  }
  for (const count of counts) {
    mappings(curves, count);
    step();
  }
  return curves.list();
}
