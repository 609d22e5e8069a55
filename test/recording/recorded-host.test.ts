/** The host of a recording: which pages it has at each notice. */
import { describe, expect, it } from "vitest";
import type { Recording, Step } from "../../src/recording/format/recording.js";
import type { SlotInput } from "../../src/recording/format/state.js";
import { RecordedHost } from "../../src/recording/world/recorded-host.js";
import { SlotTable } from "../../src/recording/world/slot-table.js";

const HVA = 0x7f00_0000_0000n;
const BLOCK = 1n << 21n;
const PAGE = 0x1000n;

/** A host with 4 MiB behind a slot, mapped by pages of `pageSize`, in a step with notices of these ranges. */
function hostWith(notices: readonly (readonly [start: bigint, end: bigint])[], pageSize = PAGE): RecordedHost {
  const slots = new SlotTable();
  const slot: SlotInput = { addressSpace: 0, id: 0, gpa: 0n, size: 2n * BLOCK, hva: HVA, flags: 0 };
  slots.set(slot);
  const backing = pageSize === PAGE ? [] : [{ hva: HVA, size: 2n * BLOCK, pageSize }];
  const pfnMap = [{ gfn: 0n, pfn: 0x8000n, count: 1024 }];
  const recording = { config: { backing }, slots: [slot], pfnMap, steps: [] } as unknown as Recording;
  const host = new RecordedHost(recording, slots, { notifierInFault: () => {}, injectPageFault: () => {} });
  const events = notices.map(([start, end]) => ({ ev: "kvm_unmap_hva_range", start: HVA + start, end: HVA + end }));
  host.beginStep({ events } as unknown as Step);
  for (const [start, end] of notices) host.unmapped(HVA + start, HVA + end);
  return host;
}

/** Whether the host has the page at an offset for prefetching. */
const has = (host: RecordedHost, offset: bigint): boolean => host.pinAtomic(HVA + offset) !== undefined;

describe("a notice of the host", () => {
  it("takes its pages away until they are asked for", () => {
    const host = hostWith([[PAGE, 3n * PAGE]]);
    expect([0n, PAGE, 2n * PAGE, 3n * PAGE].map((offset) => has(host, offset))).toEqual([true, false, false, true]);
    host.pin(HVA + PAGE, false);
    expect([PAGE, 2n * PAGE].map((offset) => has(host, offset))).toEqual([true, false]);
  });

  it("takes a whole 2 MiB block away", () => {
    const host = hostWith([[BLOCK, 2n * BLOCK]]);
    expect([BLOCK - PAGE, BLOCK, 2n * BLOCK - PAGE].map((offset) => has(host, offset))).toEqual([true, false, false]);
  });

  it.each([
    ["before", [[0n, BLOCK] as const, [5n * PAGE, 6n * PAGE] as const]],
    ["after", [[5n * PAGE, 6n * PAGE] as const, [0n, BLOCK] as const]],
  ])("only splits a block %s one of a part of it: the others stay", (_, notices) => {
    const host = hostWith(notices);
    expect([0n, 5n * PAGE, 6n * PAGE, BLOCK - PAGE].map((offset) => has(host, offset))).toEqual([
      true,
      false,
      true,
      true,
    ]);
  });

  it("does not split for a part of another block, nor pages that the host never splits", () => {
    const other: [bigint, bigint][] = [
      [0n, BLOCK],
      [BLOCK + PAGE, BLOCK + 2n * PAGE],
    ];
    expect(has(hostWith(other), 0n)).toBe(false);
    const part: [bigint, bigint][] = [
      [0n, BLOCK],
      [PAGE, 2n * PAGE],
    ];
    expect(has(hostWith(part, BLOCK), 0n)).toBe(false);
    expect(has(hostWith(part), 0n)).toBe(true);
  });
});
