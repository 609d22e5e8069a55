/** What is kept in stock for a fault: of each kind as much as it may take, whatever was freed and taken before. */
import { expect, it } from "vitest";
import { Access } from "../../src/index.js";
import { roleHasGptes } from "../../src/role/index.js";
import { Guest, registersOf } from "./guest.js";

const PAGE = 0x20_0000n;

it("is enough for tables of the guest's after many of another kind were freed", () => {
  const guest = new Guest();
  guest.vm.setPageLimit(1000);
  guest.mode = "4level";
  const root = guest.table();
  const gvas = Array.from({ length: 24 }, (_, i) => BigInt(i + 1) << 39n);
  for (const gva of gvas) guest.map(root, gva, PAGE);
  // Direct pages have no translations of their own.
  const vcpu = guest.start("nopg", 0n);
  const slots = Array.from({ length: 24 }, (_, i) => 0x8000_0000n + (BigInt(i) << 21n));
  slots.forEach((gpa, i) => {
    guest.vm.setSlot({ id: 10 + i, gpa, size: 0x1000, ram: guest.ram });
  });
  vcpu.enterGuest();
  for (const gpa of slots) expect(guest.access(gpa, Access.Read)).toBe("ok");
  guest.vm.state.core.zapAllFast();
  guest.vm.state.settle();
  guest.mode = "4level";
  vcpu.setRegisters(registersOf("4level", root));
  for (const gva of gvas) expect(guest.access(gva, Access.Write)).toBe("ok");
  const tables = guest.vm.pages().filter((page) => roleHasGptes(page.role));
  expect(tables.length).toBe(3 * gvas.length + 1);
  const { pages } = guest.vm.state.core;
  expect(tables.filter((page) => pages.header(page.pointer).shadowed === 0)).toEqual([]);
  for (const gva of gvas) {
    const found = guest.hardware(gva, Access.Write);
    expect(found.ok && guest.gfnOf(found.pa)).toBe(PAGE >> 12n);
  }
  expect(guest.vm.audit()).toEqual([]);
  guest.dispose();
});
