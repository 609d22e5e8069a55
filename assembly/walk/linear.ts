/** Linear addresses before the walk: masking (LAM) and the canonical check. */
import { LINEAR_SUPERVISOR } from "../abi/bits";
import { KIND_GUEST, MODE_4LEVEL } from "../abi/codes";
import { Space } from "../abi/records";

/** `address` with bit `width - 1` copied to every higher bit. */
// @ts-ignore: decorator
@inline export function signExtend(address: u64, width: u32): u64 {
  const unused: u64 = 64 - width;
  return <u64>((<i64>(address << unused)) >> (<i64>unused));
}

/**
 * Removes the metadata of a data access to a tagged address (SDM "Linear-Address Masking"): bit 63 says whether the
 * user or the supervisor setting applies; bits 62 down to the width are replaced by a copy of the bit below, bit 63 stays,
 * so that the canonical check still requires bit 47 or 56 to equal bit 63. Fetches and implicit accesses never come here.
 */
export function untag(space: Space, address: u64): u64 {
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
