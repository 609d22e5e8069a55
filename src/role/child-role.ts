/** Roles of the pages below a root: what the audit expects of every entry that leads to a table. */
import * as role from "./word.js";

/**
 * The role of the page that an entry of a page leads to (kvm_mmu_child_role of Linux 6.1, for this
 * project's roots).
 * @param parent role of the page that holds the entry; level 2 to 5.
 * @param index the entry's index, 0 to 511.
 * @param direct the child maps a linear range: a huge guest page, or no guest table at all.
 * @param access rights that the child inherits, an OR of ACC_*.
 */
export function childRole(parent: number, index: number, direct: boolean, access: number): number {
  const level = role.roleLevel(parent) - 1;
  const guestRootLevel = role.roleGuestLevel(parent);
  let child = role.withAccess(role.withLevel(parent, level), access);
  child = role.withFlag(child, role.ROLE_DIRECT, direct);
  child = role.withFlag(child, role.ROLE_INVALID, false);
  // A promoted parent's guest level is the guest's root level, so the test is exact; a parent at or
  // below the guest root is not promoted and has nothing to pass on.
  const promoted = !direct && role.roleIsPromoted(parent) && level > guestRootLevel;
  child = role.withFlag(child, role.ROLE_LEVEL_PROMOTED, promoted);
  if (level !== 3) child = role.withFlag(child, role.ROLE_PAE_ROOT, false);
  child = role.withGuestLevel(child, direct ? 0 : Math.min(guestRootLevel, level));
  return role.withQuadrant(child, role.roleHas4ByteGpte(child) ? childQuadrant(level, index) : 0);
}

/**
 * Which part of a 4-byte-entry guest table a page shadows: an 8-byte table maps half of what a
 * 4-byte one maps. A page directory covers 1 GiB of the guest's 4 GiB (address bits 31:30, the
 * PDPT's index); a page table covers 2 MiB of 4 MiB (address bit 21, the directory index's lowest bit).
 */
function childQuadrant(level: number, index: number): number {
  if (level === 1) return index % 2;
  return level === 2 ? index % 4 : 0;
}
