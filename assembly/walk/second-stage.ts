/** The second stage of a two-dimensional walk: which access it sees, and for whom. */
import { EPTP_AD, PFERR_I, PFERR_RSVD, PFERR_U, PFERR_W } from "../abi/bits";
import { FEATURE_GUEST_MODE_EXECUTE_TRAP, FEATURE_KVM, KIND_EPT, RIGHT_USER } from "../abi/codes";
import { Space } from "../abi/records";

/**
 * The access that reading a guest's table is to the second stage: under NPT a user write (APM "Nested Paging"), under
 * EPT a read, and also a write with EPT's accessed and dirty flags (SDM "Accessed and Dirty Flags for EPT"). KVM's own
 * walk always asks for both.
 */
// @ts-ignore: decorator
@inline export function tableCode(space: Space, second: Space): u32 {
  return writesTables(space, second) ? PFERR_U | PFERR_W : PFERR_U;
}

/**
 * The same for loading the PDPTE registers, which stays a read to EPT whatever its accessed and dirty flags (SDM
 * "Accessed and Dirty Flags for EPT"); KVM's load_pdptrs asks for both.
 */
export function pdpteCode(space: Space, second: Space): u32 {
  const kvm = (space.features & FEATURE_KVM) != 0;
  const write = kvm || second.kind != KIND_EPT;
  return write ? PFERR_U | PFERR_W : PFERR_U;
}

// @ts-ignore: decorator
@inline export function writesTables(space: Space, second: Space): bool {
  if (second.kind != KIND_EPT) return true;
  if (space.features & FEATURE_KVM) return true;
  return (second.cr3 & (<u64>EPTP_AD)) != 0;
}

/**
 * The access that the translated address gets. Under NPT every access is a user one, but with guest mode execute trap. Under
 * EPT the user position means a data read and the RSVD position a user-mode linear address, one whose guest `rights` allow
 * user accesses (all, with paging off). KVM's own walk adds the user position to every access (translate_nested_gpa).
 */
// @ts-ignore: decorator
@inline export function finalCode(space: Space, second: Space, code: u32, rights: u32): u32 {
  const access = code & (PFERR_W | PFERR_I);
  if (second.kind != KIND_EPT) return access | nestedMode(second, code);
  const userAddress = rights & RIGHT_USER ? PFERR_RSVD : 0;
  const read = access == 0 || (space.features & FEATURE_KVM) != 0 ? PFERR_U : 0;
  return access | userAddress | read;
}

/**
 * Whose access NPT sees, at the final address: a user's, or with guest mode execute trap that of the guest's mode, which
 * `code` has (APM "Guest Mode Execute Trap Extension").
 */
// @ts-ignore: decorator
@inline export function nestedMode(second: Space, code: u32): u32 {
  return second.features & FEATURE_GUEST_MODE_EXECUTE_TRAP ? code & PFERR_U : PFERR_U;
}
