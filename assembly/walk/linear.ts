/** Linear addresses before the walk: separation (LASS), masking (LAM, UAI) and the canonical check. */
import {
  ACCESS_AC,
  ACCESS_FETCH,
  ACCESS_IMPLICIT,
  ACCESS_OTHER_SEGMENT,
  ACCESS_SHADOW_STACK,
  CR4_LASS,
  CR4_SMAP,
  EFER_UAIE,
  LINEAR_SUPERVISOR,
  PFERR_U,
} from "../abi/bits";
import { KIND_GUEST, MODE_4LEVEL } from "../abi/codes";
import { Space } from "../abi/records";
import { guestCode, isMasked } from "./access";

/** `address` with bit `width - 1` copied to every higher bit. */
// @ts-ignore: decorator
@inline export function signExtend(address: u64, width: u32): u64 {
  const unused: u64 = 64 - width;
  return <u64>((<i64>(address << unused)) >> (<i64>unused));
}

/** Bits of an address that upper address ignore looks at. */
// @ts-ignore: decorator
@inline const UAI_WIDTH: u32 = 57;

/** The address that is canonical or not: `address` without its metadata, where the access has some. */
// @ts-ignore: decorator
@inline export function linearOf(space: Space, address: u64, access: u32): u64 {
  return space.mode >= MODE_4LEVEL && isMasked(access) ? untag(space, address, access) : address;
}

/**
 * Whether linear-address-space separation refuses the access (SDM "Linear-Address Pre-Processing"): bit 63 of the address as
 * it is given tells the supervisor's half. Supervisor-mode data accesses are bound by CR4.SMAP, explicit ones with EFLAGS.AC=0.
 */
// @ts-ignore: decorator
@inline export function violatesSeparation(space: Space, address: u64, access: u32): bool {
  return (space.cr4 & CR4_LASS) != 0 && isInOtherHalf(space, address, access);
}

function isInOtherHalf(space: Space, address: u64, access: u32): bool {
  if (space.mode < MODE_4LEVEL) return false;
  const supervisorHalf = <i64>address < 0;
  if (guestCode(access) & PFERR_U) return supervisorHalf;
  if (supervisorHalf) return false;
  if (access & ACCESS_FETCH) return true;
  const implicit = (access & (ACCESS_IMPLICIT | ACCESS_SHADOW_STACK)) == ACCESS_IMPLICIT;
  return (space.cr4 & CR4_SMAP) != 0 && (implicit || !(access & ACCESS_AC));
}

/**
 * Removes the metadata of a data access to a tagged address (SDM "Linear-Address Masking"): bit 63 says whether the
 * user or the supervisor setting applies; bits 62 down to the width are replaced by a copy of the bit below, bit 63 stays,
 * so that the canonical check still requires bit 47 or 56 to equal bit 63. With upper address ignore bit 56 stands for all
 * above it (APM "Upper Address Ignore Operation"). Fetches and implicit accesses never come here.
 */
function untag(space: Space, address: u64, access: u32): u64 {
  if (space.efer & EFER_UAIE && !(access & ACCESS_OTHER_SEGMENT)) return signExtend(address, UAI_WIDTH);
  const width = <i64>address < 0 ? space.lamSupervisor : space.lamUser;
  if (width == 0) return address;
  return (signExtend(address, width) & ~LINEAR_SUPERVISOR) | (address & LINEAR_SUPERVISOR);
}

/** Linear addresses have 32 bits: a guest's outside long mode. */
// @ts-ignore: decorator
@inline export function isNarrow(space: Space): bool {
  return space.mode < MODE_4LEVEL && space.kind == KIND_GUEST;
}

/** Whether `address` is sign-extended in 4- and 5-level paging, elsewhere whether 32 bits hold it. */
// @ts-ignore: decorator
@inline export function isCanonical(space: Space, address: u64): bool {
  const width = space.width;
  if (space.mode >= MODE_4LEVEL) return signExtend(address, width) == address;
  return address >> width == 0;
}
