/** Running out of memory under the TDP MMU. */
import { describe, expect, it } from "vitest";
import { OutOfMemoryError } from "../../src/index.js";
import { failAfter } from "./fail-after.js";
import { LARGE_GPA, LARGE_HVA, TdpGuest } from "./tdp-guest.js";

/** What must be as before after a failure. */
function structures(guest: TdpGuest) {
  return {
    pages: guest.vm.pages(),
    slots: guest.vm.state.slots.slots.map(({ id, base, flags, core }) => ({ id, base, flags, log: core.hasLog })),
    log: guest.vm.state.slots.slots.filter(({ core }) => core.hasLog).map(({ id }) => guest.vm.getDirtyLog(id)),
    roots: guest.vm.vcpus.map((vcpu) => vcpu.state.rootMmu.roots.pages()),
    audit: guest.vm.audit(),
  };
}

const CONFIG = { manualDirtyLog: 1 } as const;
const INITIALLY_SET = { manualDirtyLog: 3 } as const;
/** A slot of eight large pages, more than the pool's usual stock. */
const SIZE = 16 << 20;
const GPA = LARGE_GPA + 0x4000_0000n;
let ram = 0;
const slot = (logDirty: boolean) => ({ id: 2, gpa: GPA, size: SIZE, ram, hva: LARGE_HVA + 0x4000_0000n, logDirty });
const touch = (guest: TdpGuest) => {
  ram = guest.vm.createRam(SIZE);
  guest.vm.setSlot(slot(false));
  for (let offset = 0; offset < SIZE; offset += 2 << 20) guest.access(GPA + BigInt(offset), "write");
};
type Act = (guest: TdpGuest) => void;
const SCENES: readonly [name: string, config: { manualDirtyLog: number }, prepare: Act, act: Act][] = [
  ["a first root", CONFIG, () => {}, (guest) => guest.vcpu.enterGuest()],
  ["a fault", CONFIG, (guest) => guest.vcpu.enterGuest(), (guest) => guest.vcpu.pageFault(0x1000n, 6)],
  ["splitting large pages when logging begins", CONFIG, touch, (guest) => guest.vm.setSlot(slot(true))],
  [
    "splitting large pages when the log is cleared",
    INITIALLY_SET,
    (guest) => {
      touch(guest);
      guest.vm.setSlot(slot(true));
    },
    (guest) => guest.vm.clearDirtyLog(2, 0, 64, [3, 4]),
  ],
];

describe("memory exhaustion under the TDP MMU", () => {
  it.each(SCENES)("during %s leaves the structures as before, at every allocation", (_name, config, prepare, act) => {
    let failures = 0;
    for (let count = 0; ; count++) {
      const guest = new TdpGuest("npt", config);
      prepare(guest);
      const before = structures(guest);
      const injected = failAfter(guest, count);
      let thrown: unknown;
      try {
        act(guest);
      } catch (error) {
        thrown = error;
      }
      injected.undo();
      if (!injected.hit()) {
        guest.dispose();
        break;
      }
      failures++;
      expect(thrown).toBeInstanceOf(OutOfMemoryError);
      expect(structures(guest)).toEqual(before);
      expect(guest.access(LARGE_GPA, "write")).toBe("ok");
      guest.dispose();
    }
    expect(failures).toBeGreaterThan(0);
  });
});
