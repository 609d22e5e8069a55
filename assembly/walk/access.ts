/** What an ACCESS_* word means to the walks. */
import {
  ACCESS_AC,
  ACCESS_FETCH,
  ACCESS_IMPLICIT,
  ACCESS_SHADOW_STACK,
  ACCESS_USER,
  ACCESS_WRITE,
  PFERR_RSVD,
} from "../abi/bits";

/**
 * Error-code bits 4:1 of a guest's access. Implicit accesses are supervisor ones whatever the CPL, and SMAP binds them
 * whatever EFLAGS.AC (SDM "Access Rights"); bit 3 means that SMAP does not apply. Shadow-stack accesses have the bit of
 * implicit ones, and the mode that their word says.
 */
// @ts-ignore: decorator
@inline export function guestCode(access: u32): u32 {
  const kind = access & (ACCESS_WRITE | ACCESS_FETCH);
  if (access & ACCESS_IMPLICIT) return access & ACCESS_SHADOW_STACK ? kind | (access & ACCESS_USER) : kind;
  return kind | (access & ACCESS_USER) | (access & ACCESS_AC ? PFERR_RSVD : 0);
}

/**
 * Whether linear-address masking applies: to data accesses that a program makes (SDM "Linear-Address Masking"), not to those
 * of its shadow stack.
 */
// @ts-ignore: decorator
@inline export function isMasked(access: u32): bool {
  return (access & (ACCESS_FETCH | ACCESS_IMPLICIT)) == 0;
}
