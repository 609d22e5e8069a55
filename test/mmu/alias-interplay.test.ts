/** GPA aliases together with the rest of the engine. */
import { describe, expect, it } from "vitest";
import { FORMATS, LARGE_GPA, TdpGuest } from "./tdp-guest.js";

const OTHER = 1n << 41n;
const MMUS = [false, true];

/** Ends a test. */
function sound(guest: { vm: { audit(): unknown }; dispose(): void }): void {
  expect(guest.vm.audit()).toEqual([]);
  guest.dispose();
}

describe("the dirty log", () => {
  it.each(FORMATS.flatMap((format) => MMUS.map((tdpMmu) => [format, tdpMmu] as const)))(
    "reaches the alias of a slot that ends where the alias begins (%s, TDP MMU: %s)",
    (format, tdpMmu) => {
      const guest = new TdpGuest(format, { tdpMmu, aliases: { mask: OTHER } });
      const gpa = OTHER - 0x2000n;
      const slot = { id: 7, gpa, size: 0x2000, ram: guest.vm.createRam(0x2000), hva: 0x7f00_1000_0000n };
      guest.vm.setSlot({ ...slot, logDirty: true });
      for (let round = 0; round < 3; round++) {
        expect(guest.access(gpa | OTHER, "write")).toBe("ok");
        expect(guest.vm.getDirtyLog(7)).toEqual([0]);
      }
      sound(guest);
    },
  );

  it("splits no large page of another slot", () => {
    const guest = new TdpGuest("npt", { manualDirtyLog: 3 });
    guest.access(0n, "write");
    guest.access(LARGE_GPA, "write");
    guest.vm.setSlot(guest.slot(0, true));
    guest.vm.clearDirtyLog(0, 0, 64, [0]);
    expect(guest.leaf(LARGE_GPA)!.level).toBe(2);
    sound(guest);
  });
});
