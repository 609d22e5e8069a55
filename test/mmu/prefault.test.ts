/** Vcpu.prefault does for many addresses, in one call, what faults do one by one. */
import { describe, expect, it, vi } from "vitest";
import { loadSync } from "../../src/index.js";
import { decodePrefault, FAULT_CODE } from "../../src/mmu/index.js";
import { A, D, Guest, HIGH_SLOT, MMIO_GPA, P, RW } from "./guest.js";
import { LARGE_GPA, TdpGuest } from "./tdp-guest.js";

const WRITE = 2;
const READ = 0;
const USER = 4;

/** A guest with `count` pages, 16 KiB apart, so that no fault maps its neighbours, over several tables. */
function paged(count: number) {
  const guest = new Guest();
  const root = guest.table();
  const addresses: bigint[] = [];
  for (let i = 0; i < count; i++) {
    const gva = 0x4000_0000n + BigInt(i) * 0x2_0000n + BigInt(i % 3) * 0x4000_0000n;
    guest.map(root, gva, HIGH_SLOT + BigInt(i % 1024) * 4096n);
    addresses.push(gva);
  }
  guest.start("4level", root);
  guest.vm.setPageLimit(1000);
  return { guest, root, addresses };
}

/** Page of the slot, and rights, that the hardware finds for an address. */
function found({ guest }: { guest: Guest }, gva: bigint) {
  const translation = guest.hardware(gva, WRITE);
  return translation.ok ? [translation.pa - BigInt(guest.high), translation.rights] : translation.errorCode;
}

/** Names of the shadow pages. */
const tables = ({ guest }: { guest: Guest }) =>
  guest.vm
    .pages()
    .map((page) => `${page.role.toString(16)} ${page.gfn.toString(16)}`)
    .sort();

describe("prefault", () => {
  it("leaves what single faults leave, with the same results", () => {
    const single = paged(700);
    const codes = single.addresses.map((gva) =>
      single.guest.vcpu.fault(Number(gva & 0xffff_ffffn), Number(gva >> 32n), WRITE),
    );
    const batch = paged(700);
    const results = new Uint32Array(700);
    expect(batch.guest.vcpu.prefault(BigUint64Array.from(batch.addresses), results, WRITE)).toBe(0);
    expect([...results]).toEqual(codes);
    expect(tables(batch)).toEqual(tables(single));
    for (const gva of batch.addresses.filter((_, i) => i % 7 === 0)) {
      expect(found(batch, gva)).toEqual(found(single, gva));
    }
    expect(batch.guest.vm.audit()).toEqual([]);
    expect(batch.guest.vm.counter("PF_FIXED")).toBe(single.guest.vm.counter("PF_FIXED"));
  });

  it("comes back to the host once for each shadow page, not for each address", () => {
    const { guest, addresses } = paged(600);
    const before = guest.vm.pages().length;
    guest.vcpu.prefault(BigUint64Array.from(addresses), new Uint32Array(600), WRITE);
    expect(guest.vm.stats.hostCalls).toBe(guest.vm.pages().length - before);
  });

  it("tells each address how its fault ended", () => {
    const guest = new Guest();
    const root = guest.table();
    guest.map(root, 0x1000n, HIGH_SLOT);
    guest.map(root, 0x2_1000n, HIGH_SLOT + 0x1000n, P | RW | A | D);
    guest.map(root, 0x4_1000n, MMIO_GPA);
    guest.start("4level", root);
    const results = new Uint32Array(6);
    const addresses = BigUint64Array.of(0x1000n, 0x1000n, 0x1000n, 0x2_1000n, 0x4_1000n, 0x6_1000n);
    expect(guest.vcpu.prefault(addresses, results, WRITE | USER)).toBe(3);
    // The second write to a writable leaf leaves D out (make_spte), the third changes nothing.
    expect([...results].map(decodePrefault)).toEqual([
      { result: "fixed" },
      { result: "fixed" },
      { result: "spurious" },
      { result: "inject", errorCode: 7 },
      { result: "emulate" },
      { result: "inject", errorCode: 6 },
    ]);
    expect(results[0]).toBe(FAULT_CODE.fixed);
  });

  it("sets accessed and dirty bits as an access does", () => {
    const guest = new Guest();
    const root = guest.table();
    const entry = guest.map(root, 0x1000n, HIGH_SLOT, P | RW);
    guest.start("4level", root);
    guest.vcpu.prefault(BigUint64Array.of(0x1000n), new Uint32Array(1), READ);
    expect(guest.read(entry) & (A | D)).toBe(A);
    guest.vcpu.prefault(BigUint64Array.of(0x1000n), new Uint32Array(1), WRITE);
    expect(guest.read(entry) & (A | D)).toBe(A | D);
  });

  it("loads the root, and goes on with a new one where the old root is zapped on the way", () => {
    const { guest, addresses } = paged(40);
    guest.vcpu.prefault(BigUint64Array.from(addresses), new Uint32Array(40), WRITE);
    guest.vm.setSlot({ id: 1, gpa: HIGH_SLOT, size: 0 });
    guest.vm.setSlot({ id: 1, gpa: HIGH_SLOT, size: 1024 * 4096, ram: guest.high, hva: 0x7f40_0000_0000n });
    const results = new Uint32Array(40);
    expect(guest.vcpu.prefault(BigUint64Array.from(addresses), results, WRITE)).toBe(0);
    expect([...new Set(results)]).toEqual([FAULT_CODE.fixed]);
    expect(guest.vm.audit()).toEqual([]);
  });

  it("goes on with a new root where the host's doings take the old one away in a look-up", () => {
    let change: (() => void) | undefined;
    const pin = (hva: bigint) => {
      change?.();
      change = undefined;
      return { pfn: 0x10_0000n + ((hva >> 12n) & 0xffffn), writable: true, level: 1 };
    };
    const guest = new Guest({ hostMemory: { pin, peek: () => undefined } });
    const root = guest.table();
    for (let i = 0n; i < 4n; i++) guest.map(root, 0x1000n + (i << 12n), HIGH_SLOT + (i << 12n));
    guest.start("4level", root);
    const slot = { id: 7, gpa: 0x9000_0000n, size: 4096, ram: guest.ram };
    change = () => {
      guest.vm.setSlot(slot);
      guest.vm.setSlot({ ...slot, size: 0 });
    };
    const results = new Uint32Array(4);
    expect(guest.vcpu.prefault(BigUint64Array.from([0x1000n, 0x2000n, 0x3000n, 0x4000n]), results, WRITE)).toBe(0);
    expect([...results]).toEqual(Array(4).fill(FAULT_CODE.fixed));
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("takes arrays in the core's memory, which growing empties on the way", () => {
    const engine = loadSync();
    const guest = new Guest({}, engine);
    const root = guest.table();
    for (let i = 0n; i < 4n; i++) guest.map(root, 0x1000n + (i << 12n), HIGH_SLOT + (i << 12n));
    guest.start("4level", root);
    const { linearMemory } = engine;
    const at = guest.vm.createRam(4096);
    const addresses = new BigUint64Array(linearMemory.buffer, at, 4);
    addresses.set([0x1000n, 0x2000n, 0x3000n, 0x4000n]);
    const { linear } = engine.internals();
    const spy = vi.spyOn(linear, "allocate").mockImplementationOnce((size) => {
      linearMemory.grow(1);
      return linear.allocate(size);
    });
    expect(guest.vcpu.prefault(addresses, new Uint32Array(linearMemory.buffer, at + 64, 4), WRITE)).toBe(0);
    expect(spy).toHaveBeenCalled();
    expect([...new Uint32Array(linearMemory.buffer, at + 64, 4)]).toEqual(Array(4).fill(FAULT_CODE.fixed));
    guest.dispose();
  });

  it("stays within the page limit, recycling pages between two faults", () => {
    const { guest, root } = paged(1);
    guest.vm.setPageLimit(64);
    const far = Array.from({ length: 100 }, (_, i) => BigInt(i + 1) * 0x8000_0000n);
    for (const gva of far) guest.map(root, gva, HIGH_SLOT);
    expect(guest.vcpu.prefault(BigUint64Array.from(far), new Uint32Array(100), WRITE)).toBe(0);
    expect(guest.vm.counter("RECYCLED")).toBeGreaterThan(0);
    expect(guest.vm.counter("USED")).toBeLessThanOrEqual(64);
    expect(guest.vm.audit()).toEqual([]);
  });

  it("has rmap descriptors for any number of faults: every second mapping of a page takes one", () => {
    const { guest, root } = paged(1);
    const again = Array.from({ length: 400 }, (_, i) => 0x1_0000_0000n + BigInt(i) * 0x2_0000n);
    for (const [i, gva] of again.entries()) guest.map(root, gva, HIGH_SLOT + BigInt(i % 200) * 4096n);
    const results = new Uint32Array(400);
    expect(guest.vcpu.prefault(BigUint64Array.from(again), results, WRITE)).toBe(0);
    expect([...new Set(results)]).toEqual([FAULT_CODE.fixed]);
    expect(guest.vm.state.core.vm.descCount).toBeGreaterThan(0);
    expect(guest.vm.audit()).toEqual([]);
  });

  it("collects the events of all its faults", () => {
    const guest = new Guest({ eventCapacity: 1 << 14 });
    const root = guest.table();
    for (let i = 0n; i < 20n; i++) guest.map(root, 0x1000n + i * 0x2_0000n, HIGH_SLOT + i * 4096n);
    guest.start("4level", root);
    const made: string[] = [];
    guest.vm.events.sink = (event) => made.push(event.ev);
    guest.vcpu.prefault(
      BigUint64Array.from({ length: 20 }, (_, i) => 0x1000n + BigInt(i) * 0x2_0000n),
      new Uint32Array(20),
      WRITE,
    );
    expect(made.filter((name) => name === "kvm_mmu_set_spte")).toHaveLength(20);
    expect(made.filter((name) => name === "kvm_mmu_pagetable_walk")).toHaveLength(20);
  });

  it("asks the host for its pages where there is a host", () => {
    const guest = new TdpGuest("ept");
    const addresses = BigUint64Array.of(0x1000n, LARGE_GPA, LARGE_GPA + 0x1000n, 0x2000n);
    const results = new Uint32Array(4);
    expect(guest.vcpu.prefault(addresses, results, WRITE | USER)).toBe(0);
    expect(guest.leaf(LARGE_GPA)?.level).toBe(2);
    expect(guest.leaf(0x2000n)?.level).toBe(1);
    expect([...results].map((word) => decodePrefault(word).result)).toEqual(["fixed", "fixed", "fixed", "fixed"]);
    guest.dispose();
  });

  it("refuses results without room before anything happens", () => {
    const { guest, addresses } = paged(2);
    expect(() => guest.vcpu.prefault(BigUint64Array.from(addresses), new Uint32Array(1), WRITE)).toThrow(RangeError);
    expect(guest.vm.counter("PF_TAKEN")).toBe(0);
    expect(() => decodePrefault(0)).toThrow(RangeError);
  });
});
