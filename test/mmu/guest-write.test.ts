/** Bytes that the host or emulation writes to a VM's memory, across pages and at the end of a slot. */
import { describe, expect, it } from "vitest";
import { MemoryRangeError } from "../../src/index.js";
import { Guest } from "./guest.js";

const GPA = 0x9000_0000n;
const PAGES = 3;
const END = GPA + BigInt(PAGES * 4096);

function withSlot(): Guest {
  const guest = new Guest();
  guest.start("4level", guest.table());
  const ram = guest.vm.createRam(PAGES * 4096);
  guest.vm.setSlot({ id: 7, gpa: GPA, size: PAGES * 4096, ram, logDirty: true });
  return guest;
}

const counting = (length: number) => Uint8Array.from({ length }, (_, index) => (index % 251) + 1);

describe.each([
  ["writeGuest", (guest: Guest, gpa: bigint, bytes: Uint8Array) => guest.vm.writeGuest(gpa, bytes)],
  ["emulatedWrite", (guest: Guest, gpa: bigint, bytes: Uint8Array) => guest.vcpu.emulatedWrite(gpa, bytes)],
] as const)("%s", (_, write) => {
  it.each([
    [0x10n, 0, []],
    [0x10n, 8, [0]],
    [0xff8n, 8, [0]],
    [0xffcn, 8, [0, 1]],
    [0x0n, 4096, [0]],
    [0xfffn, 4098, [0, 1, 2]],
    [0x800n, 2 * 4096 + 100, [0, 1, 2]],
  ] as const)("at offset %i, %i bytes: all of them, and their pages are in the log", (offset, length, pages) => {
    const guest = withSlot();
    const bytes = counting(length);
    write(guest, GPA + offset, bytes);
    const expected = new Uint8Array(PAGES * 4096);
    expected.set(bytes, Number(offset));
    expect(guest.vm.readGuest(GPA, PAGES * 4096)).toEqual(expected);
    expect(guest.vm.getDirtyLog(7)).toEqual(pages);
    guest.dispose();
  });

  it.each([8, 4096, 2 * 4096])("changes nothing where the last of %i bytes lies in no slot", (length) => {
    const guest = withSlot();
    expect(() => write(guest, END - BigInt(length) + 1n, counting(length))).toThrow(MemoryRangeError);
    expect(guest.vm.readGuest(GPA, PAGES * 4096)).toEqual(new Uint8Array(PAGES * 4096));
    expect(guest.vm.getDirtyLog(7)).toEqual([]);
    guest.dispose();
  });
});
