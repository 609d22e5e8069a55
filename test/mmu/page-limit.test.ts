/** The limit on shadow pages: which pages go, and that nothing else does. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/index.js";
import { roleIsPaeRoot, roleLevel } from "../../src/role/index.js";
import { FULL, Guest, type Mode } from "./guest.js";
import { NestedEpt } from "./nested-guest.js";

const LIMIT = 64;
const PAGE = 0x20_0000n;

describe("the oldest pages go", () => {
  it("with the pages below them, which may be the next oldest", () => {
    const guest = new NestedEpt();
    // A chain of three tables each: a nested guest's tables go with the one that leads to them.
    const gpas = Array.from({ length: 60 }, (_, i) => BigInt(i + 1) << 39n);
    for (const gpa of gpas) guest.mapEpt(gpa, PAGE);
    guest.vm.setPageLimit(1000);
    guest.enter();
    for (const gpa of gpas) expect(guest.touch(gpa, Access.Read)).toBe(PAGE >> 12n);
    expect(guest.vm.counter("USED")).toBeGreaterThan(3 * gpas.length);
    guest.vm.setPageLimit(LIMIT);
    expect(guest.vm.counter("USED")).toBeLessThanOrEqual(LIMIT);
    expect(guest.vm.counter("USED")).toBeGreaterThan(LIMIT - 4);
    expect(guest.vm.audit()).toEqual([]);
    // The newest are still there, the oldest come back.
    expect(guest.second(gpas.at(-1)!, Access.Read).ok).toBe(true);
    expect(guest.second(gpas[0]!, Access.Read).ok).toBe(false);
    for (const gpa of gpas) expect(guest.touch(gpa, Access.Read)).toBe(PAGE >> 12n);
    expect(guest.vm.counter("USED")).toBeLessThanOrEqual(LIMIT);
    expect(guest.vm.audit()).toEqual([]);
    guest.dispose();
  });

  it.each<Mode>(["pae", "32"])(
    "but not those right below a %s guest's current root, which it cannot do without",
    (mode) => {
      const guest = new Guest();
      guest.mode = mode;
      const root = guest.table();
      const gvas = Array.from({ length: 100 }, (_, i) => BigInt(i + 1) << 22n);
      for (const gva of gvas) guest.map(root, gva, PAGE, FULL);
      guest.start(mode, root);
      const parts = () => {
        const pages = guest.vm.pages();
        const top = pages.find((page) => page.pointer === guest.vcpu.state.rootMmu.roots.current.page)!;
        expect(roleIsPaeRoot(top.role)).toBe(true);
        return pages.filter((page) => roleLevel(page.role) === 2).map((page) => page.pointer);
      };
      const before = parts();
      expect(before.length).toBeGreaterThan(0);
      for (const gva of gvas) expect(guest.access(gva, Access.Read)).toBe("ok");
      guest.vm.setPageLimit(LIMIT);
      expect(guest.vm.counter("USED")).toBeLessThanOrEqual(LIMIT);
      expect(parts()).toEqual(before);
      expect(guest.vcpu.pageFault(gvas[0]!, 0).result).toBe("fixed");
      expect(guest.vm.audit()).toEqual([]);
      guest.dispose();
    },
  );
});
