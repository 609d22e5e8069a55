/**
 * Faults that the core handles in one piece, and those that it takes step by step: a VM with events goes the long way always,
 * so the same guest with and without events has to end with the same results and the same tables.
 */
import { describe, expect, it } from "vitest";
import { FAULT_CODE, type VirtualMachineConfig } from "../../src/mmu/index.js";
import { A, D, FULL, Guest, HIGH_PAGES, HIGH_SLOT, P, RW, US } from "./guest.js";

const NX = 1n << 63n;
const TABLES = [0x0000_4000_0000n, 0x0000_4020_0000n, 0x7fff_8000_0000n];
const PAGES_EACH = 24;

/** A small deterministic generator (xorshift). */
function generator(seed: number): (below: number) => number {
  let state = seed * 0x9e3779b1 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** One guest under both ways of handling faults. */
class Pair {
  readonly guests: readonly Guest[];
  readonly root: bigint;
  readonly leaves: bigint[] = [];

  constructor(config: Partial<VirtualMachineConfig> = {}) {
    this.guests = [new Guest(config), new Guest({ ...config, eventCapacity: 1 << 16 })];
    this.root = this.each((guest) => guest.table());
    for (const base of TABLES) {
      for (let i = 0; i < PAGES_EACH; i++) {
        const gva = base + BigInt(i * (i % 3 === 0 ? 1 : 5)) * 4096n;
        this.each((guest) => guest.map(this.root ?? 0x100n << 12n, gva, HIGH_SLOT + BigInt(i * 7) * 4096n));
        this.leaves.push(gva);
      }
    }
    this.each((guest) => void guest.start("4level", this.root));
  }

  /** Does the same to both guests; their answers are equal. */
  each<T>(work: (guest: Guest) => T): T {
    const answers = this.guests.map(work);
    expect(answers[0]).toEqual(answers[1]);
    return answers[0]!;
  }

  fault(gva: bigint, errorCode: number): number {
    return this.each((guest) => {
      guest.vcpu.enterGuest();
      return guest.vcpu.fault(Number(gva & 0xffff_ffffn), Number(gva >> 32n), errorCode);
    });
  }

  /** Everything that a fault may have changed, without the places of tables and RAM. */
  state(guest: Guest) {
    const { vm } = guest;
    const pages = vm.pages().map((page) => ({
      gfn: page.gfn,
      role: page.role,
      unsync: page.unsync,
      unsyncChildren: page.unsyncChildren,
      flood: page.writeFlooding,
      shadowed: [...page.shadowed],
      entries: [...page.entries].map(([index, spte]) => [index, spte & ~0x000f_ffff_ffff_f000n]),
    }));
    const counters = ["PF_TAKEN", "PF_FIXED", "PF_SPURIOUS", "PF_EMULATE", "FLUSHES", "UNSYNC", "BROKEN", "DESC_COUNT"];
    return {
      pages,
      counters: counters.map((name) => [name, vm.counter(name)]),
      log: vm.slots.slots.map((slot) => slot.id),
    };
  }

  compare(): void {
    this.each((guest) => this.state(guest));
    this.each((guest) => guest.vm.audit());
    expect(this.guests[0]!.vm.audit()).toEqual([]);
  }

  dispose(): void {
    for (const guest of this.guests) guest.dispose();
  }
}

/** Leaf flags that matter to a fault. */
const FLAGS = [FULL, P | US | A, P | RW | US, P | RW | US | A, P | RW | A | D, FULL | NX, 0n, P | US | A | D];

function run(seed: number, steps: number, config: Partial<VirtualMachineConfig>, wp = true): Pair {
  const random = generator(seed);
  const pair = new Pair(config);
  if (!wp) pair.each((guest) => guest.vcpu.writeCr0(0x8000_0001n));
  for (let step = 0; step < steps; step++) {
    const gva = pair.leaves[random(pair.leaves.length)]! + BigInt(random(2)) * 0x1000n;
    const what = random(20);
    if (what < 13) pair.fault(gva, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 20, 21][random(12)]!);
    else if (what < 15) {
      const flags = FLAGS[random(FLAGS.length)]!;
      const gpa = HIGH_SLOT + BigInt(random(HIGH_PAGES)) * 4096n;
      // The guest changes a leaf and tells nobody until the next INVLPG.
      pair.each((guest) => void guest.map(pair.root, gva, gpa, flags));
      pair.each((guest) => guest.vcpu.invlpg(gva));
    } else if (what < 16) pair.each((guest) => guest.vcpu.writeCr3(pair.root));
    else if (what < 17) {
      // One of the guest's own tables becomes a page of its own.
      const table = 0x101_000n + BigInt(random(6)) * 4096n;
      pair.each((guest) => void guest.map(pair.root, gva, table));
      pair.each((guest) => guest.vcpu.invlpg(gva));
    } else if (what < 18) pair.each((guest) => guest.vm.unmapRange(0x7f40_0000_0000n, 0x7f40_0010_0000n));
    else if (what < 19) {
      const logDirty = random(2) === 0;
      const slot = { id: 1, gpa: HIGH_SLOT, size: HIGH_PAGES * 4096, hva: 0x7f40_0000_0000n, logDirty };
      pair.each((guest) => guest.vm.setSlot(slot));
      if (logDirty) pair.each((guest) => guest.vm.getDirtyLog(1));
    } else pair.each((guest) => guest.vcpu.setAc(random(2) === 0));
    if (step % 10 === 0) pair.compare();
  }
  pair.compare();
  return pair;
}

describe("a fault in one piece", () => {
  it.each([1, 2, 3, 4, 5, 6])("does what the same fault does step by step, seed %i", (seed) => {
    run(seed, 300, {}).dispose();
  });

  it("also with CR0.WP=0, where rights change with the access", () => {
    run(7, 200, {}, false).dispose();
  });

  it("also where memory is logged, with encryption, without 1 GiB pages", () => {
    run(8, 200, { hostPage1g: false, pdpteAccessed: true }).dispose();
  });

  it("leaves alone what it does not fully handle: prefetched neighbours are the same", () => {
    const pair = new Pair();
    for (let i = 0n; i < 16n; i++)
      pair.each((guest) => void guest.map(pair.root, 0x4000_0000n + i * 4096n, HIGH_SLOT + i * 4096n));
    expect(pair.fault(0x4000_0000n + 5n * 4096n, 2)).toBe(FAULT_CODE.fixed);
    expect(pair.fault(0x4000_0000n + 5n * 4096n, 0)).toBe(FAULT_CODE.fixed);
    expect(pair.fault(0x4000_0000n + 4n * 4096n, 0)).toBe(FAULT_CODE.fixed);
    expect(pair.fault(0x4000_0000n + 4n * 4096n, 0)).toBe(FAULT_CODE.spurious);
    pair.compare();
    pair.dispose();
  });
});
