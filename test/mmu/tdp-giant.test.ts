/** Pages of 1 GiB in the TDP MMU. */
import { expect, it } from "vitest";
import { LARGE_GPA, TdpGuest } from "./tdp-guest.js";

const ADDRESS = 0x000f_ffff_ffff_f000n;

it("a page of 1 GiB is split down to 4 KiB when logging begins, at once", () => {
  const size = 1 << 30;
  const hva = 0x7f80_0000_0000n;
  const frame = (at: bigint) => 0x4_0000n + ((at - hva) >> 12n);
  const guest = new TdpGuest("npt", {
    hostMemory: { pin: (at) => ({ pfn: frame(at), writable: true, level: 3 }), peek: () => undefined },
  });
  guest.vm.setSlot({ id: 1, gpa: LARGE_GPA, size: 0 });
  const slot = { id: 7, gpa: 4n * BigInt(size), size, ram: guest.vm.state.slots.slots[0]!.ram, ramSize: 0x1000, hva };
  guest.vm.setSlot(slot);
  expect(guest.access(slot.gpa, "write")).toBe("ok");
  expect(guest.leaf(slot.gpa)!.level).toBe(3);
  guest.vm.setSlot({ ...slot, logDirty: true });
  for (const offset of [0n, 0x1234_5000n, BigInt(size) - 0x1000n]) {
    const { level, spte } = guest.leaf(slot.gpa + offset)!;
    expect([level, (spte & ADDRESS) >> 12n, spte & 2n]).toEqual([1, frame(hva + offset), 0n]);
  }
  // A table for each 2 MiB, and the one above them.
  expect(guest.vm.pages().filter((page) => page.tdp && page.gfn >= slot.gpa >> 12n).length).toBe(513);
  expect(guest.access(slot.gpa + 0x1234_5000n, "write")).toBe("ok");
  expect(guest.vm.getDirtyLog(7)).toEqual([0x12345]);
  guest.dispose();
});
