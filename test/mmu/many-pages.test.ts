/** Thousands of shadow pages and dozens of slots: what is looked up grows with them, so that looking up does not. */
import { describe, expect, it } from "vitest";
import { OutOfMemoryError } from "../../src/index.js";
import { type ShadowPage, VirtualMachine } from "../../src/mmu/index.js";
import { core, MASKS } from "./guest.js";
import { countAllocated } from "./machines/allocated.js";

const PAGE = 4096;
const LARGE = 0x20_0000;
const FLAGS = 0x67n;
const PS = 0x80n;
const DATA = 0x1_0000_0000n;
const WRITE = 2;

/** A guest of `large` pages of 2 MiB over a host of small ones: each becomes a direct shadow page. */
function build(large: number) {
  const vm = new VirtualMachine(core(), { masks: MASKS, hostPhysicalBits: 46 });
  const directories = Math.ceil(large / 512);
  const size = (4 + directories) * PAGE;
  const ram = vm.createRam(size);
  vm.setSlot({ id: 0, gpa: 0n, size, ram, hva: 0x7f00_0000_0000n });
  vm.setSlot({ id: 1, gpa: DATA, size: large * LARGE, ram, ramSize: PAGE, hva: 0x7f40_0000_0000n });
  vm.setPageLimit(1 << 20);
  const put = (gfn: number, index: number, entry: bigint) => {
    vm.state.core.internals.linear.u64[(ram + gfn * PAGE) / 8 + index] = entry | FLAGS;
  };
  put(1, 0, 0x2000n);
  for (let i = 0; i < directories; i++) put(2, i, BigInt(4 + i) * 4096n);
  for (let i = 0; i < large; i++) {
    put(4 + Math.floor(i / 512), i % 512, (DATA + BigInt(i) * BigInt(LARGE)) | PS);
  }
  const vcpu = vm.createVcpu({ cr0: 0x8001_0001n, cr3: 0x1000n, cr4: 0x20n, efer: 0xd00n });
  vcpu.enterGuest();
  return { vm, vcpu };
}

const known = new WeakMap<readonly ShadowPage[], Map<number, ShadowPage>>();

/** Roles of the pages of `gfn`, as the core finds them: newest first. */
function chain(vm: VirtualMachine, gfn: bigint, pages = vm.pages()): number[] {
  const { vm: record, internals, pages: shadow } = vm.state.core;
  const bucket = Number(BigInt.asUintN(64, gfn * 0x61c8864680b583ebn) >> BigInt(record.chainShift));
  const byPointer = known.get(pages) ?? new Map(pages.map((page) => [page.pointer, page]));
  known.set(pages, byPointer);
  const found: number[] = [];
  const next = (pointer: number) => {
    const page = byPointer.get(pointer)!;
    if (page.gfn === gfn) found.push(page.role);
  };
  for (let at = internals.linear.u32[(record.chains >>> 2) + bucket]!; at !== 0; at = shadow.header(at).chain) next(at);
  return found;
}

describe("a VM with thousands of shadow pages", () => {
  it("gets more buckets for the pages of a gfn, with the pages of each in their order", () => {
    const { vm, vcpu } = build(4300);
    // Two shadow pages for the first two megabytes: mapped with all rights, then read-only.
    vcpu.fault(0, 0, WRITE);
    const place = (vm.state.slots.find(0, 0)!.ram + 4 * PAGE) / 8;
    vm.state.core.internals.linear.u64[place]! &= ~2n;
    vcpu.invlpg(0n);
    vcpu.fault(0, 0, 0);
    const before = chain(vm, DATA >> 12n);
    expect(before).toHaveLength(2);
    const shift = vm.state.core.vm.chainShift;
    for (let i = 1; i < 4300; i++) vcpu.fault((i * LARGE) % 2 ** 32, Math.floor((i * LARGE) / 2 ** 32), WRITE);
    expect(vm.state.pages.named).toBeGreaterThan(4096);
    expect(vm.state.core.vm.chainShift).toBe(shift - 2);
    expect(chain(vm, DATA >> 12n)).toEqual(before);
    const all = vm.pages();
    expect(all.every((page) => chain(vm, page.gfn, all).includes(page.role))).toBe(true);
    vm.dispose();
  });

  it("leaves nothing when it is gone, the buckets before the last among it", () => {
    const before = build(1).vm;
    before.dispose();
    const counter = countAllocated(before.state.core.internals);
    const { vm, vcpu } = build(4300);
    const shift = vm.state.core.vm.chainShift;
    for (let i = 0; i < 4300; i++) vcpu.fault((i * LARGE) % 2 ** 32, Math.floor((i * LARGE) / 2 ** 32), WRITE);
    expect(vm.state.core.vm.chainShift).toBe(shift - 2);
    vm.dispose();
    expect(counter.bytes).toBe(0);
    counter.undo();
  });

  it("does without more buckets where there is no memory for them", () => {
    const { vm, vcpu } = build(4300);
    const { linear } = vm.state.core.internals;
    const allocate = linear.allocate.bind(linear);
    const shift = vm.state.core.vm.chainShift;
    const refused: number[] = [];
    linear.allocate = (size, alignment) => {
      if (size !== 4 << (64 - shift + 2)) return allocate(size, alignment);
      refused.push(size);
      throw new OutOfMemoryError("injected");
    };
    for (let i = 0; i < 4300; i++) vcpu.fault((i * LARGE) % 2 ** 32, Math.floor((i * LARGE) / 2 ** 32), WRITE);
    Reflect.deleteProperty(linear, "allocate");
    expect(refused.length).toBeGreaterThan(0);
    expect(vm.state.core.vm.chainShift).toBe(shift);
    expect(vm.counter("BROKEN")).toBe(0);
    vm.dispose();
  });
});

describe("a VM with dozens of slots", () => {
  it("finds the slot of each gfn, in whatever order they came, and none in the gaps", () => {
    const { vm, vcpu } = build(1);
    const data = vm.state.slots.find(0, 1)!;
    vm.setSlot({ id: 1, gpa: DATA, size: 0 });
    const pages = Array.from({ length: 50 }, (_, i) => (i * 37) % 50);
    // Every other small page of the 2 MiB has a slot of its own.
    for (const i of pages) {
      const gpa = DATA + BigInt(i * 2 * PAGE);
      vm.setSlot({ id: 10 + i, gpa, size: PAGE, ram: data.ram, hva: 0x7f40_0000_0000n + BigInt(i * 2 * PAGE) });
    }
    vcpu.enterGuest();
    for (const i of pages) {
      expect(vcpu.pageFault(BigInt(i * 2 * PAGE), WRITE).result).toBe("fixed");
      expect(vcpu.pageFault(BigInt((i * 2 + 1) * PAGE), WRITE).result).toBe("mmio");
    }
    expect(vm.audit()).toEqual([]);
    vm.dispose();
  });
});
