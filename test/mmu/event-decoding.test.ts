/** Events: what their masks say of an SPTE, by bits of 64, and what becomes of those that nobody reads. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { SHADOW_CODES } from "../../src/abi/shadow.js";
import { TakenEvent } from "../../src/core/mmu/event-ring.js";
import { Access } from "../../src/index.js";
import { decodeEvent, splitMasks } from "../../src/mmu/trace/events.js";
import { eptMasks, legacyMasks, mmioGenerationOf } from "../../src/spte/index.js";
import { Guest } from "./guest.js";

const GVA = 0x4000_0000n;
const FAULT = { vcpuId: 3, high: 0n, writeProtected: false };
const U64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });

/** The second of two records, with these words. */
function eventOf(type: number, words: { a?: number; b?: number; c?: number; x?: bigint; y?: bigint; z?: bigint }) {
  const { a = 0, b = 0, c = 0, x = 0n, y = 0n, z = 0n } = words;
  const event = new TakenEvent(20);
  event.at = 10;
  event.words.set([type, a, b, c], 10);
  event.wide.set([x, y, z], 7);
  return event;
}

it.each([
  ["legacy", legacyMasks({ physBits: 46 })],
  ["EPT", eptMasks({ physBits: 46 })],
])("say what an SPTE grants, in %s tables", (_, masks) => {
  const { nx, x, user, present } = masks;
  const granted = (spte: bigint) => ({
    r: present !== 0n || (spte & 1n) !== 0n ? 1 : 0,
    x: (spte & (x | nx)) === x ? 1 : 0,
    u: (spte & user) !== 0n ? 1 : 0,
  });
  const check = (spte: bigint) => {
    const event = eventOf(SHADOW_CODES.EV_SET_SPTE, { a: 2, x: 5n, y: spte, z: 1n << 40n });
    expect(decodeEvent(event, splitMasks(masks), FAULT)).toEqual({
      ev: "kvm_mmu_set_spte",
      gfn: 5n,
      spte,
      sptep: 1n << 40n,
      level: 2,
      ...granted(spte),
    });
  };
  for (const bit of [0n, 1n, 2n, nx, x, user, present, nx | x | user]) check(bit | (1n << 20n));
  fc.assert(fc.property(U64, check));
});

it("say whatever bits an MMIO SPTE has", () => {
  fc.assert(
    fc.property(U64, (spte) => {
      const event = eventOf(SHADOW_CODES.EV_MARK_MMIO, { x: 7n, y: spte, z: 8n });
      expect(decodeEvent(event, splitMasks(legacyMasks({ physBits: 46 })), FAULT)).toEqual({
        ev: "mark_mmio_spte",
        sptep: 8n,
        gfn: 7n,
        access: Number(spte & 7n),
        gen: mmioGenerationOf(spte),
      });
    }),
  );
});

it("say fast faults as the kernel numbers them", () => {
  const words = { a: 0x8000_0002, b: 0x1234_5604, c: 0xffff_f008, x: 1n, y: 2n, z: 3n };
  const event = eventOf(SHADOW_CODES.EV_FAST_PAGE_FAULT, words);
  const decoded = decodeEvent(event, splitMasks(legacyMasks({ physBits: 46 })), {
    vcpuId: 3,
    high: 0x1_0000_0000n,
    writeProtected: true,
  });
  expect(decoded).toMatchObject({
    vcpu_id: 3,
    cr2_or_gpa: 1n,
    error_code: 0x1_8000_0002n,
    sptep: 0x12_3456_ffff_f008n,
    old_spte: 2n,
    new_spte: 3n,
  });
});

it("go where nobody reads them, and those that find no room are counted all the same", () => {
  const guest = new Guest({ eventCapacity: 2 });
  const root = guest.table();
  guest.map(root, GVA, 0x20_0000n);
  guest.map(root, GVA + 0x4000_0000n, 0x30_2000n);
  guest.start("4level", root);
  const { events } = guest.vm;
  const before = events.lost;
  expect(guest.access(GVA, Access.Write)).toBe("ok");
  expect(events.lost).toBeGreaterThan(before);
  expect(guest.vm.state.core.vm.eventCount).toBe(0);
  const seen: string[] = [];
  events.sink = (event) => seen.push(event.ev);
  guest.vcpu.enterGuest();
  expect(seen).toEqual([]);
  expect(guest.access(GVA + 0x4000_0000n, Access.Write)).toBe("ok");
  expect(seen).toContain("lost_events");
  expect(seen[0]).toBe("kvm_mmu_pagetable_walk");
  guest.dispose();
});
