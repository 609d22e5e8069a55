/**
 * Dirty logging as live migration uses it: pages are fetched and cleared while writes go on, and a set kept beside it
 * knows which pages were written since they were last cleared. None of them may be missing from the log.
 * SEQUENCES sets how many random sequences are run per configuration.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Access } from "../../src/index.js";
import { NestedNpt } from "./nested-guest.js";
import { FORMATS, LARGE_GPA, LARGE_PAGES, SMALL_PAGES, TdpGuest } from "./tdp-guest.js";

const SEQUENCES = Number(process.env.SEQUENCES ?? 25);
const OPERATIONS = 120;
const MODES = [
  ["cleared by get", 0],
  ["manual protect", 1],
  ["manual protect, initially set", 3],
] as const;

type Step = readonly [kind: number, a: number, b: number];

/** Some pages are used much more often than others, so that operations meet. */
function pageOf(a: number, pages: number): number {
  return a % 3 === 0 ? a % pages : (a * 7) % 24;
}

class Migration {
  readonly guest: TdpGuest;
  /** By slot: pages written since they were cleared in the log. */
  readonly written: [Set<number>, Set<number>] = [new Set(), new Set()];
  readonly logging: [boolean, boolean] = [false, false];
  readonly #manual: number;

  constructor(format: (typeof FORMATS)[number], manual: number, tdpMmu: boolean) {
    this.guest = new TdpGuest(format, { manualDirtyLog: manual, tdpMmu });
    this.#manual = manual;
  }

  run([kind, a, b]: Step): void {
    const { guest } = this;
    const id = (a & 1) as 0 | 1;
    const page = pageOf(b, id === 0 ? SMALL_PAGES : LARGE_PAGES);
    const gpa = (id === 0 ? 0n : LARGE_GPA) + (BigInt(page) << 12n);
    const hva = guest.hva(gpa);
    if (kind < 40) {
      const vcpu = guest.vm.vcpus[(a >> 1) & 1]!;
      expect(guest.access(gpa, "write", vcpu)).toBe("ok");
      this.written[id].add(page);
    } else if (kind < 55) expect(guest.access(gpa, "read")).toBe("ok");
    else if (kind < 60) expect(guest.access(gpa, "exec")).toBe("ok");
    else if (kind < 75) this.#collect(id);
    else if (kind < 85) this.#clear(id, b);
    else if (kind < 88) this.#toggle(id);
    else if (kind < 92) guest.vm.age(hva, hva + 0x8000n);
    else if (kind < 96) guest.vm.unmapRange(hva, hva + 0x3000n);
    else if (kind < 98) {
      guest.vm.writeGuest(gpa, Uint8Array.of(a));
      this.written[id].add(page);
    } else if (kind < 99) {
      guest.vm.unmapRange(hva, hva + 0x1000n);
      guest.shared.add(hva);
    } else guest.toggleNested();
  }

  #log(id: 0 | 1): Set<number> {
    return new Set(this.guest.vm.getDirtyLog(id));
  }

  #collect(id: 0 | 1): void {
    if (!this.logging[id]) return;
    const log = this.#log(id);
    expect([...this.written[id]].filter((page) => !log.has(page))).toEqual([]);
    if (this.#manual === 0) this.written[id].clear();
  }

  /** Manual protect: clears a part of the log after having fetched it. */
  #clear(id: 0 | 1, b: number): void {
    if (!this.logging[id] || this.#manual === 0) return;
    const pages = id === 0 ? SMALL_PAGES : LARGE_PAGES;
    const first = (b * 64) % pages;
    const log = this.#log(id);
    const mine = [...log].filter((page) => page >= first && page < first + 64 && (page + b) % 5 !== 0);
    expect([...this.written[id]].filter((page) => !log.has(page))).toEqual([]);
    this.guest.vm.clearDirtyLog(id, first, 64, mine);
    for (const page of mine) this.written[id].delete(page);
  }

  #toggle(id: 0 | 1): void {
    this.logging[id] = !this.logging[id];
    this.guest.vm.setSlot(this.guest.slot(id, this.logging[id]));
    this.written[id].clear();
  }
}

const step = fc.tuple(fc.nat(99), fc.nat(255), fc.nat(4095));
const CASES = FORMATS.flatMap((format) =>
  MODES.flatMap(([name, manual]) =>
    [true, false].map((tdp) => [format, name, manual, tdp ? "TDP MMU" : "classic MMU"] as const),
  ),
);

describe.each(CASES)("the dirty log, %s, %s (%i), %s", (format, _name, manual, mmu) => {
  it("loses no page while writes go on", () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: OPERATIONS, maxLength: OPERATIONS }), (steps) => {
        const migration = new Migration(format, manual, mmu === "TDP MMU");
        try {
          migration.guest.newVcpu();
          migration.run([85, 0, 0]);
          migration.run([85, 1, 0]);
          for (const one of steps) migration.run(one);
          expect(migration.guest.vm.audit()).toEqual([]);
        } finally {
          migration.guest.dispose();
        }
      }),
      { numRuns: SEQUENCES },
    );
  });
});

describe.each([false, true])("a round of the log (TDP MMU: %s)", (tdpMmu) => {
  it("leaves small pages writable where the processor logs, with no dirty bit", () => {
    const guest = new TdpGuest("ept with PML", { tdpMmu });
    guest.access(0x3000n, "write");
    const dirty = guest.masks.dirty;
    expect(guest.leaf(0x3000n)!.spte & (2n | dirty)).toBe(2n | dirty);
    guest.vm.setSlot(guest.slot(0, true));
    expect(guest.leaf(0x3000n)!.spte & (2n | dirty)).toBe(2n);
    guest.dispose();
  });

  it("is the last where logging ends: pages are mapped as large as before", () => {
    const guest = new TdpGuest("npt", { tdpMmu });
    guest.vm.setSlot(guest.slot(1, true));
    guest.access(LARGE_GPA, "write");
    expect(guest.leaf(LARGE_GPA)!.level).toBe(1);
    guest.vm.setSlot(guest.slot(1, false));
    guest.access(LARGE_GPA, "write");
    expect(guest.leaf(LARGE_GPA)!.level).toBe(2);
    guest.dispose();
  });

  it("ends at the next write to a page without the host's being asked for it", () => {
    let asked = 0;
    const page = (hva: bigint) => ({ pfn: 0x100_0000n + ((hva >> 12n) & 0xf_ffffn), writable: true, level: 1 });
    const pin = (hva: bigint) => {
      asked++;
      return page(hva);
    };
    const guest = new TdpGuest("npt", { tdpMmu, hostMemory: { pin, peek: () => undefined } });
    guest.vm.setSlot(guest.slot(0, true));
    guest.access(0x3000n, "write");
    expect([asked, guest.vm.getDirtyLog(0)]).toEqual([1, [3]]);
    expect(guest.leaf(0x3000n)!.spte & 2n).toBe(0n);
    guest.access(0x3000n, "write");
    expect([asked, guest.vm.getDirtyLog(0)]).toEqual([1, [3]]);
    guest.dispose();
  });
});

describe("clearing a range of the log", () => {
  it("leaves the pages next to it dirty", () => {
    const guest = new TdpGuest("npt", { manualDirtyLog: 1 });
    guest.vm.setSlot(guest.slot(1, true));
    for (const page of [0n, 63n, 64n, 127n, 128n]) guest.access(LARGE_GPA + (page << 12n), "write");
    guest.vm.clearDirtyLog(1, 64, 64, [0, 63, 64, 127, 128]);
    expect(guest.vm.getDirtyLog(1)).toEqual([0, 63, 128]);
    guest.dispose();
  });
});

describe("clearing pages of one word of the log", () => {
  // Without the TDP MMU nothing is split ahead, so the large page over the last of them has to be write-protected.
  it("reaches the large page of the last one, where another begins in between", () => {
    const page = (hva: bigint) => ({ pfn: 0x100_0000n + ((hva >> 12n) & 0xf_ffffn), writable: true, level: 2 });
    const guest = new NestedNpt(4, "4level", { manualDirtyLog: 3, hostMemory: { pin: page, peek: page } });
    const ram = guest.vm.createRam(544 * 4096);
    // 32 pages before a large one.
    const offset = 0x1e_0000n;
    const slot = { id: 7, gpa: 0x5000_0000n + offset, hva: 0x7f90_0000_0000n + offset, size: 544 * 4096, ram };
    guest.vm.setSlot(slot);
    guest.touch(slot.gpa + (40n << 12n), Access.Write | Access.User);
    const before = guest.second(slot.gpa + (40n << 12n), Access.Write | Access.User);
    expect(before.ok && before.pageSize).toBe(0x20_0000);
    guest.vm.setSlot({ ...slot, logDirty: true });
    guest.vm.clearDirtyLog(7, 0, 64, [3, 40]);
    expect(guest.second(slot.gpa + (40n << 12n), Access.Write | Access.User).ok).toBe(false);
    guest.dispose();
  });
});

describe("where logging begins in the TDP MMU", () => {
  it.each(FORMATS)("every huge page of the slot is split, up to its end (%s)", (format) => {
    const guest = new TdpGuest(format);
    const ends = [0n, 511n, 512n, BigInt(LARGE_PAGES - 1)].map((page) => LARGE_GPA + (page << 12n));
    for (const gpa of ends) guest.access(gpa, "write");
    expect(ends.map((gpa) => guest.leaf(gpa)!.level)).toEqual([2, 2, 2, 2]);
    guest.vm.setSlot(guest.slot(1, true));
    expect(ends.map((gpa) => guest.leaf(gpa)!.level)).toEqual([1, 1, 1, 1]);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it("huge pages that begin in the log are split by the pages that are cleared", () => {
    const guest = new TdpGuest("npt", { manualDirtyLog: 3 });
    const ends = [0n, BigInt(LARGE_PAGES - 1)].map((page) => LARGE_GPA + (page << 12n));
    for (const gpa of ends) guest.access(gpa, "write");
    guest.vm.setSlot(guest.slot(1, true));
    expect(ends.map((gpa) => guest.leaf(gpa)!.level)).toEqual([2, 2]);
    guest.vm.clearDirtyLog(1, LARGE_PAGES - 64, 64, [LARGE_PAGES - 1]);
    expect(ends.map((gpa) => guest.leaf(gpa)!.level)).toEqual([2, 1]);
    expect(guest.leaf(ends[1]!)!.spte & 2n).toBe(0n);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });
});

describe.each([true, false])("the log (TDP MMU: %s)", (tdpMmu) => {
  it.each(FORMATS)("gets no page for being looked at: ageing is no write (%s)", (format) => {
    const guest = new TdpGuest(format, { tdpMmu });
    guest.vm.setSlot(guest.slot(0, true));
    for (const gpa of [0x3000n, 0x5000n]) guest.access(gpa, "write");
    expect(guest.vm.getDirtyLog(0)).toEqual([3, 5]);
    expect(guest.vm.age(guest.hva(0x3000n), guest.hva(0x6000n))).toBe(true);
    guest.access(0x3000n, "read");
    expect(guest.vm.testAge(guest.hva(0x3000n), guest.hva(0x6000n))).toBe(true);
    guest.vm.unmapRange(guest.hva(0x5000n), guest.hva(0x6000n));
    expect(guest.vm.getDirtyLog(0)).toEqual([]);
    guest.access(0x3000n, "write");
    expect(guest.vm.getDirtyLog(0)).toEqual([3]);
    guest.dispose();
  });
});
