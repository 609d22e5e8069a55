/** Checking the words of Access flags that callers pass. */
import { ACCESS, Access, bitOf } from "../../abi/index.js";
import { show } from "../../checks.js";

const ACCESS_BITS = Number(ACCESS.fields.reduce((mask, field) => mask | bitOf(ACCESS, field.name), 0n));

/** `access` as it is; throws RangeError where it is not a word of Access flags. */
export function checkAccess(access: number): number {
  const exclusive = Access.Write | Access.Fetch;
  if (!Number.isInteger(access) || (access & ~ACCESS_BITS) !== 0 || (access & exclusive) === exclusive) {
    throw new RangeError(`access is ${show(access)}, expected Access flags without both Write and Fetch`);
  }
  return access;
}
