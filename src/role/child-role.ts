/** Roles below a root, and the comparison of a page's role with its root's. */
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
  if (level === 1) return index & 1;
  return level === 2 ? index & 3 : 0;
}

/** The role bits in which a page below a root may differ from the root. */
export const SYNC_IGNORED =
  role.ROLE_LEVEL |
  role.ROLE_ACCESS |
  role.ROLE_QUADRANT |
  role.ROLE_LEVEL_PROMOTED |
  role.ROLE_PAE_ROOT |
  role.ROLE_GUEST_LEVEL;

/**
 * Whether a page may be synchronised in a context with this root role. Direct pages have nothing
 * to synchronise. A page reached through the context's own root always may; `false` is a bug.
 */
export function canSync(page: number, root: number): boolean {
  return !role.roleIsDirect(page) && ((page ^ root) & ~SYNC_IGNORED) === 0;
}
