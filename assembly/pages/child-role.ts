/** The role of the page below an entry. */
import {
  ROLE_ACCESS,
  ROLE_ACCESS_SHIFT,
  ROLE_DIRECT,
  ROLE_GUEST_LEVEL,
  ROLE_GUEST_LEVEL_SHIFT,
  ROLE_HAS_4_BYTE_GPTE,
  ROLE_INVALID,
  ROLE_LEVEL,
  ROLE_LEVEL_PROMOTED,
  ROLE_PAE_ROOT,
  ROLE_QUADRANT,
  ROLE_QUADRANT_SHIFT,
} from "../abi/role";

/**
 * Role of the page one level below entry `index` of a page with role `parent`.
 * The promotion ends at the guest's own root level; pae_root at level 3; quadrants exist for 4-byte entries only:
 * bits 31:30 of the address at level 2, the low bit of the parent's index at level 1, none in promoted pages.
 */
export function childRole(parent: u32, index: u32, direct: bool, access: u32): u32 {
  const level = (parent & ROLE_LEVEL) - 1;
  let role =
    parent &
    ~(ROLE_LEVEL | ROLE_ACCESS | ROLE_DIRECT | ROLE_QUADRANT | ROLE_PAE_ROOT | ROLE_GUEST_LEVEL | ROLE_INVALID);
  role |= level | (access << ROLE_ACCESS_SHIFT);
  if (role & ROLE_HAS_4_BYTE_GPTE && level <= 2) {
    role |= (level == 2 ? index % 4 : index % 2) << ROLE_QUADRANT_SHIFT;
  }
  if (direct) return (role | ROLE_DIRECT) & ~ROLE_LEVEL_PROMOTED;
  const above = (parent & ROLE_GUEST_LEVEL) >> ROLE_GUEST_LEVEL_SHIFT;
  if (level <= above) role &= ~ROLE_LEVEL_PROMOTED;
  return role | (min<u32>(above, level) << ROLE_GUEST_LEVEL_SHIFT);
}
