/** The access word, decoded. */
import { ACCESS, Access } from "../abi/access.js";
import { bitOf } from "../abi/bits.js";
import { show } from "../checks.js";
import type { StackMode } from "./shadow-stack.js";

export interface MemoryAccess {
  readonly write: boolean;
  readonly fetch: boolean;
  /** A user-mode access: CPL 3 and not implicit. Every other access is a supervisor-mode one. */
  readonly user: boolean;
  readonly implicit: boolean;
  /** EFLAGS.AC=1, where SMAP asks for it. */
  readonly ac: boolean;
  /** EFLAGS.AC=1 and the access is explicit. */
  readonly alignmentCheck: boolean;
  /** A data access by SS, FS or GS. */
  readonly otherSegment: boolean;
  readonly probe: boolean;
  /** A shadow-stack access, and whose; a nested access is one on behalf of a guest's. */
  readonly shadowStack: StackMode | undefined;
}

const KNOWN = Object.values(Access).reduce((mask, flag) => mask | flag, 0);
const STACK = Number(bitOf(ACCESS, "SHADOW_STACK"));

/**
 * Decodes an access word; throws a RangeError for unknown flags and for a fetch that is also a write or a shadow-stack access.
 * SDM vol. 3, "Access Rights": implicit accesses to system structures are supervisor-mode accesses whatever the CPL.
 */
export function decodeAccess(word: number): MemoryAccess {
  if (!Number.isInteger(word) || (word & ~KNOWN) !== 0) {
    throw new RangeError(`access is ${show(word)}: expected Access flags`);
  }
  const write = (word & Access.Write) !== 0;
  const fetch = (word & Access.Fetch) !== 0;
  if (write && fetch) throw new RangeError("an access is either a write or an instruction fetch");
  const stack = (word & STACK) !== 0;
  if (stack && (fetch || (word & Access.Implicit) === 0)) {
    throw new RangeError(`access is ${show(word)}: a shadow-stack access is Access.ShadowStack, and no fetch`);
  }
  const implicit = !stack && (word & Access.Implicit) !== 0;
  const user = (word & Access.User) !== 0 && !implicit;
  return {
    write,
    fetch,
    user,
    implicit,
    // SMAP does not concern shadow-stack accesses.
    ac: !stack && (word & Access.Ac) !== 0,
    alignmentCheck: !implicit && (word & Access.Ac) !== 0,
    otherSegment: (word & Access.OtherSegment) !== 0,
    shadowStack: stack ? (user ? "user" : "supervisor") : undefined,
    probe: (word & Access.Probe) !== 0,
  };
}
