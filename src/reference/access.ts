/** The access word, decoded. */
import { Access } from "../abi/access.js";
import { show } from "../checks.js";

export interface MemoryAccess {
  readonly write: boolean;
  readonly fetch: boolean;
  /** A user-mode access: CPL 3 and not implicit. Every other access is a supervisor-mode one. */
  readonly user: boolean;
  readonly implicit: boolean;
  /** EFLAGS.AC=1. */
  readonly ac: boolean;
  readonly probe: boolean;
}

const KNOWN = Object.values(Access).reduce((mask, flag) => mask | flag, 0);

/**
 * Decodes an access word; throws a RangeError for unknown flags and for a write that is also a fetch.
 * SDM vol. 3, "Access Rights": implicit accesses to system structures are supervisor-mode accesses whatever the CPL.
 */
export function decodeAccess(word: number): MemoryAccess {
  if (!Number.isInteger(word) || (word & ~KNOWN) !== 0) {
    throw new RangeError(`access is ${show(word)}: expected Access flags`);
  }
  const write = (word & Access.Write) !== 0;
  const fetch = (word & Access.Fetch) !== 0;
  if (write && fetch) throw new RangeError("an access is either a write or an instruction fetch");
  const implicit = (word & Access.Implicit) !== 0;
  return {
    write,
    fetch,
    user: (word & Access.User) !== 0 && !implicit,
    implicit,
    ac: (word & Access.Ac) !== 0,
    probe: (word & Access.Probe) !== 0,
  };
}
