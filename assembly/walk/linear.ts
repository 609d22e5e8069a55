/** Linear addresses before the walk: masking (LAM) and the canonical check. */
import { KIND_GUEST, MODE_4LEVEL } from "../abi/codes";
import { SPACE_KIND, SPACE_LAM_SUPERVISOR, SPACE_LAM_USER, SPACE_MODE, SPACE_WIDTH } from "../abi/layout";

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
export function untag(space: usize, address: u64): u64 {
  const width = <i64>address < 0 ? load<u32>(space, SPACE_LAM_SUPERVISOR) : load<u32>(space, SPACE_LAM_USER);
  if (width == 0) return address;
  const top: u64 = 0x8000000000000000;
  return (signExtend(address, width) & ~top) | (address & top);
}

/** Linear addresses have 32 bits: a guest's outside long mode. */
// @ts-ignore: decorator
@inline export function isNarrow(space: usize): bool {
  return load<u32>(space, SPACE_MODE) < MODE_4LEVEL && load<u32>(space, SPACE_KIND) == KIND_GUEST;
}

/** Whether `address` is sign-extended in 4- and 5-level paging, elsewhere whether 32 bits hold it. */
// @ts-ignore: decorator
@inline export function isCanonical(space: usize, address: u64): bool {
  const width = load<u32>(space, SPACE_WIDTH);
  if (load<u32>(space, SPACE_MODE) >= MODE_4LEVEL) return signExtend(address, width) == address;
  return address >> width == 0;
}
