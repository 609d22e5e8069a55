/** Checking the words of Access flags that callers pass. */
import { ACCESS, Access, bitOf } from "../../abi/index.js";
import { show } from "../../checks.js";

const ACCESS_BITS = Number(ACCESS.fields.reduce((mask, field) => mask | bitOf(ACCESS, field.name), 0n));
const STACK_BIT = Number(bitOf(ACCESS, "SHADOW_STACK"));

/** `access` as it is; throws RangeError where it is not a word of Access flags. */
export function checkAccess(access: number): number {
  if (!Number.isInteger(access) || (access & ~ACCESS_BITS) !== 0 || !isPossible(access)) {
    throw new RangeError(`access is ${show(access)}, expected Access flags, Fetch without Write and ShadowStack`);
  }
  return access;
}

/** A fetch is neither a write nor a shadow-stack access, and the latter has both bits of its flag. */
function isPossible(access: number): boolean {
  const fetch = (access & Access.Fetch) !== 0;
  if ((access & STACK_BIT) !== 0) return !fetch && (access & Access.Implicit) !== 0;
  return !fetch || (access & Access.Write) === 0;
}
