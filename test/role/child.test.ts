/** Roles of the pages below a root, and their text in traces. */
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { childRole } from "../../src/role/child-role.js";
import { encodeWord, PROJECT_ROLE } from "../../src/role/index.js";
import { rootOf } from "../../src/role/root-role.js";
import { roleTraceText } from "../../src/role/trace-text.js";
import * as word from "../../src/role/word.js";

const BASE = 0x3700;
const FOUR_BYTE = word.ROLE_4_BYTE_GPTE;

/** The roles from a root down along entry `index` of every level. */
function descend(root: number, index: number): number[] {
  const roles = [root];
  while (word.roleLevel(roles.at(-1)!) > 1) roles.push(childRole(roles.at(-1)!, index, false, word.ACC_ALL));
  return roles;
}
const promoted = (roles: number[]) => roles.filter(word.roleIsPromoted).map(word.roleLevel);

describe("child roles", () => {
  it.each([
    [2, 3],
    [2, 4],
    [2, 5],
    [3, 4],
    [3, 5],
    [4, 5],
  ])("a promotion %i to %i ends at the guest's root level", (guest, level) => {
    const roles = descend(rootOf(guest === 2 ? BASE | FOUR_BYTE : BASE, guest, level), 0);
    expect(roles.map(word.roleLevel)).toEqual([5, 4, 3, 2, 1].slice(5 - level));
    expect(promoted(roles)).toEqual([5, 4, 3].filter((above) => above > guest && above <= level));
    expect(roles.map(word.roleGuestLevel)).toEqual(roles.map((role) => Math.min(guest, word.roleLevel(role))));
  });

  it("pae_root is the root's alone", () => {
    expect(descend(rootOf(BASE, 3, 3), 0).map(word.roleIsPaeRoot)).toEqual([true, false, false]);
    expect(descend(rootOf(BASE, 3, 4), 0).some(word.roleIsPaeRoot)).toBe(false);
  });

  it("a 32-bit guest's directories take address bits 31:30, its tables bit 21", () => {
    const root = rootOf(BASE | FOUR_BYTE, 2, 3);
    for (let quarter = 0; quarter < 4; quarter++) {
      const directory = childRole(root, quarter, false, word.ACC_ALL);
      expect(directory & 0x7f).toBe(0x12 | (quarter << 5));
      for (const index of [0, 1, 510, 511]) {
        const table = childRole(directory, index, false, word.ACC_ALL);
        expect(table & 0x7f).toBe(0x11 | ((index & 1) << 5));
      }
    }
  });

  it("a promoted page has quadrant 0 whatever the entry", () => {
    expect(word.roleQuadrant(childRole(rootOf(BASE | FOUR_BYTE, 2, 5), 3, false, 7))).toBe(0);
    expect(word.roleQuadrant(childRole(rootOf(BASE | FOUR_BYTE, 2, 4), 3, false, 7))).toBe(0);
  });

  it("quadrants exist for 4-byte entries only", () => {
    expect(descend(rootOf(BASE, 3, 3), 3).map(word.roleQuadrant)).toEqual([0, 0, 0]);
  });

  it("the leaf tables of 32-bit and unpaged guests have the 6.1 roles 0x3711 and 0x1781", () => {
    const kept = ~(word.ROLE_LEVEL_PROMOTED | word.ROLE_PAE_ROOT | word.ROLE_GUEST_LEVEL);
    expect(descend(rootOf(0x3710, 2, 3), 0).map((role) => role & kept)).toEqual([0x3713, 0x3712, 0x3711]);
    const unpaged = rootOf(0x1780, 0, 3);
    const directory = childRole(unpaged, 2, true, word.ACC_ALL);
    expect([unpaged & kept, directory & kept]).toEqual([0x1783, 0x1782]);
    expect(word.roleGuestLevel(directory)).toBe(0);
  });

  it("a huge guest page's direct table has no guest level, and keeps entry size and quadrant", () => {
    const directory = childRole(rootOf(BASE | FOUR_BYTE, 2, 3), 1, false, word.ACC_ALL);
    const table = childRole(directory, 5, true, word.ACC_USER);
    expect(table).toBe(
      encodeWord(PROJECT_ROLE, {
        level: 1,
        has_4_byte_gpte: 1,
        quadrant: 1,
        direct: 1,
        access: 4,
        efer_nx: 1,
        cr0_wp: 1,
      }),
    );
  });

  it("inherits the access that is given and never the invalid bit", () => {
    const child = childRole((rootOf(BASE, 4, 4) | word.ROLE_INVALID) >>> 0, 0, false, word.ACC_EXEC);
    expect([word.roleAccess(child), word.roleIsInvalid(child)]).toEqual([word.ACC_EXEC, false]);
  });

  it("keeps everything that does not depend on the level", () => {
    const follows =
      word.ROLE_LEVEL |
      word.ROLE_ACCESS |
      word.ROLE_QUADRANT |
      word.ROLE_LEVEL_PROMOTED |
      (word.ROLE_PAE_ROOT | word.ROLE_GUEST_LEVEL | word.ROLE_DIRECT | word.ROLE_INVALID);
    const kept = ~follows;
    const deep = fc.nat({ max: 0xffffffff }).map((role) => word.withLevel(role, 3));
    fc.assert(
      fc.property(deep, (role) => {
        expect(childRole(role, 1, false, 7) & kept).toBe(role & kept);
      }),
    );
  });
});

describe("trace text", () => {
  it("is the kernel's", () => {
    expect(roleTraceText(0x3712 | (3 << 5))).toBe("l2 4-byte q3 wux nxe ad");
    expect(roleTraceText(0x1782)).toBe("l2 8-byte q0 direct wux nxe ad");
    expect(roleTraceText(0x30704)).toBe("l4 8-byte q0 wux !nxe !ad");
    expect(roleTraceText(0x3f04)).toBe("l4 8-byte q0 wux invalid nxe ad");
  });
});
