/**
 * Faults that the core handles in one piece, and those that it takes step by step: a VM with events goes the long way always,
 * so the same guest with and without events has to end with the same results and the same tables.
 */
import { describe, expect, it } from "vitest";
import { FAULT_CODE, type VirtualMachineConfig } from "../../src/mmu/index.js";
import { A, bytesOf, D, FULL, Guest, HIGH_PAGES, HIGH_SLOT, P, RW, US } from "./guest.js";

const NX = 1n << 63n;
const TABLES = [0x0000_4000_0000n, 0x0000_4020_0000n, 0x7fff_8000_0000n];
const PAGES_EACH = 10;
/** Above the other slots. */
const READ_ONLY_SLOT = 0x6000_0000n;

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
    this.each((guest) =>
      guest.vm.setSlot({
        id: 2,
        gpa: READ_ONLY_SLOT,
        size: 64 * 4096,
        ram: guest.high,
        hva: 0x7f60_0000_0000n,
        readOnly: true,
      }),
    );
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

  fault(gva: bigint, errorCode: number, enters = true): number {
    return this.each((guest) => {
      if (enters) guest.vcpu.enterGuest();
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
    const counters = ["PF_TAKEN", "PF_FIXED", "PF_SPURIOUS", "PF_EMULATE", "FLUSHES", "UNSYNC", "BROKEN"] as const;
    return {
      pages,
      counters: counters.map((name) => [name, vm.counter(name)]),
      freeDescs: vm.state.core.vm.descCount,
      log: vm.state.slots.slots.map((slot) => slot.id),
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

const HIGH_HVA = 0x7f40_0000_0000n;

/** What happens to the pair besides faults; each entry is as likely as any other. */
const EVENTS: readonly ((pair: Pair, random: (below: number) => number, gva: bigint) => void)[] = [
  (pair, random, gva) => {
    // The guest changes a leaf, and tells at once or later.
    const flags = FLAGS[random(FLAGS.length)]!;
    const gpa = [HIGH_SLOT, READ_ONLY_SLOT][random(2)]! + BigInt(random(64)) * 4096n;
    pair.each((guest) => void guest.map(pair.root, gva, gpa, flags));
    if (random(2) === 0) pair.each((guest) => guest.vcpu.invlpg(gva));
  },
  (pair) => pair.each((guest) => guest.vcpu.writeCr3(pair.root)),
  (pair, random, gva) => {
    // One of the guest's own tables becomes a page of its own.
    const table = 0x101_000n + BigInt(random(6)) * 4096n;
    pair.each((guest) => void guest.map(pair.root, gva, table));
    pair.each((guest) => guest.vcpu.invlpg(gva));
  },
  (pair, random) => {
    const start = HIGH_HVA + BigInt(random(64)) * 4096n;
    pair.each((guest) => guest.vm.unmapRange(start, start + 0x8000n));
  },
  (pair, random) => {
    const slot = { id: 1, gpa: HIGH_SLOT, size: HIGH_PAGES * 4096, hva: HIGH_HVA, logDirty: random(2) === 0 };
    pair.each((guest) => guest.vm.setSlot(slot));
    if (slot.logDirty) pair.each((guest) => guest.vm.getDirtyLog(1));
  },
  (pair, random) => pair.each((guest) => guest.vcpu.setAc(random(2) === 0)),
  (pair, random, gva) => {
    // An upper entry is written: emulated, which is counted and zaps what lies below, or behind the MMU's back.
    const level = 2 + random(3);
    const flip = random(3) === 0 ? RW : 0n;
    const unseen = random(2) === 0;
    pair.each((guest) => {
      let table = pair.root;
      for (let at = 4; at > level; at--) table = guest.read(guest.entryAddress(table, gva, at)) & ~0xfffn;
      const place = guest.entryAddress(table, gva, level);
      const entry = guest.read(place) ^ flip;
      if (unseen) guest.poke(place, entry);
      else guest.vcpu.emulatedWrite(place, bytesOf(entry, 8));
    });
  },
  (pair) => {
    // Every page goes; the roots too, but only at the next entry to the guest.
    const slot = { id: 3, gpa: 1n << 40n, size: 4096, hva: 0x7f80_0000_0000n };
    pair.each((guest) => guest.vm.setSlot({ ...slot, ram: guest.ram }));
    pair.each((guest) => guest.vm.setSlot({ ...slot, size: 0 }));
    pair.fault(pair.leaves[0]!, 0, false);
  },
];

function run(seed: number, steps: number, config: Partial<VirtualMachineConfig>, wp = true): Pair {
  const random = generator(seed);
  const pair = new Pair(config);
  if (!wp) pair.each((guest) => guest.vcpu.writeCr0(0x8000_0001n));
  for (let step = 0; step < steps; step++) {
    const gva = pair.leaves[random(pair.leaves.length)]! + BigInt(random(2)) * 0x1000n;
    if (random(3) !== 0) pair.fault(gva, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 20, 21][random(12)]!);
    else EVENTS[random(EVENTS.length)]!(pair, random, gva);
    if (step % 10 === 0) pair.compare();
  }
  pair.compare();
  return pair;
}

describe("a fault in one piece", () => {
  it.each([1, 2, 3, 4, 5, 6])("does what the same fault does step by step, seed %i", (seed) => {
    run(seed, 600, {}).dispose();
  });

  it("also with CR0.WP=0, where rights change with the access", () => {
    run(7, 600, {}, false).dispose();
  });

  it("also under a root of five levels, which stands above the guest's", () => {
    run(9, 200, { minimumRootLevel: 5 }).dispose();
  });

  it("also where memory is logged, with encryption, without 1 GiB pages", () => {
    run(8, 200, { hostPage1g: false, pdpteAccessed: true }).dispose();
  });

  it("asks the host for its page, though one was there when it was last looked at", () => {
    const asked: bigint[] = [];
    const page = (hva: bigint) => ({ pfn: 0x10_0000n + ((hva & 0xffff_ffffn) >> 12n), writable: true, level: 1 });
    const pin = (hva: bigint) => {
      asked.push(hva);
      return page(hva);
    };
    const guest = new Guest({ hostMemory: { pin, peek: page } });
    const root = guest.table();
    // Too far apart for one to be prefetched with the other.
    for (const i of [0n, 64n]) guest.map(root, 0x4000_0000n + (i << 12n), HIGH_SLOT + (i << 12n));
    guest.start("4level", root);
    for (const i of [0n, 64n]) expect(guest.vcpu.pageFault(0x4000_0000n + (i << 12n), 2).result).toBe("fixed");
    expect(asked).toEqual([HIGH_HVA, HIGH_HVA + (64n << 12n)]);
    guest.dispose();
  });

  it("makes room for more pages where the limit is near, though this fault needs none", () => {
    const pair = new Pair();
    pair.each((guest) => guest.vm.setPageLimit(64));
    for (let i = 1n; i < 40n; i++) {
      const gva = 0x1_0000_0000n + i * 0x4000_0000n;
      for (const at of [gva, gva + 0x8000n]) {
        pair.each((guest) => void guest.map(pair.root, at, HIGH_SLOT + i * 4096n));
        pair.fault(at, 2);
        pair.compare();
      }
    }
    expect(pair.guests[0]!.vm.counter("RECYCLED")).toBeGreaterThan(0);
    pair.dispose();
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
