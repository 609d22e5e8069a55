/** Access rights of legacy translations (SDM vol. 3, "Determination of Access Rights"). */
import { bitOf } from "../abi/bits.js";
import { PTE } from "../abi/entries.js";
import type { Rights } from "../api.js";
import type { MemoryAccess } from "./access.js";
import type { Registers } from "./registers.js";
import { isNestedStackPage, isShadowStackAddress } from "./shadow-stack.js";

const RW = bitOf(PTE, "RW");
const US = bitOf(PTE, "US");
const XD = bitOf(PTE, "XD");

export const ALL_RIGHTS: Rights = { read: true, write: true, user: true, execute: true, userExecute: true };

/** The rights so far ANDed with those of one more entry (any but a PAE PDPTE, which has none to give). */
export function narrow(registers: Registers, rights: Rights, entry: bigint): Rights {
  // Entries of 4 bytes have no bit 63.
  const xdCounts = registers.nxe || registers.lenient;
  const execute = rights.execute && !(xdCounts && (entry & XD) !== 0n);
  return {
    read: true,
    write: rights.write && (entry & RW) !== 0n,
    user: rights.user && (entry & US) !== 0n,
    execute,
    userExecute: execute,
  };
}

/** The access as tables see it that are read with these registers. */
export function seenBy(registers: Registers, access: MemoryAccess): MemoryAccess {
  return registers.stackRule === "unknown" ? { ...access, shadowStack: undefined } : access;
}

/** A translation: its leaf entry, its rights, and what the entries above the leaf grant. */
export interface Found {
  readonly rights: Rights;
  readonly above: Rights;
  readonly leaf: bigint;
}

/** What can refuse an access to a present translation, protection keys apart. */
export type Refusal = "user" | "supervisor" | "execute" | "smep" | "gmet" | "smap" | "write" | "shadow stack";

/** Whether a translation refuses the access; protection keys are judged apart. */
export function rightsDeny(registers: Registers, translation: Found, access: MemoryAccess): boolean {
  return refusals(registers, translation, access).length > 0;
}

/** Everything that refuses the access. */
export function refusals(registers: Registers, { rights, above, leaf }: Found, access: MemoryAccess): Refusal[] {
  if (access.shadowStack !== undefined) {
    if (registers.stackRule === "pages") return stackRefusals(rights, isShadowStackAddress(above, leaf), access);
    if (registers.stackRule === "checked" && access.shadowStack === "supervisor") {
      return isNestedStackPage(above, leaf) ? [] : ["shadow stack"];
    }
  }
  const found: Refusal[] = [];
  if (registers.gmet) return nestedRefusals(rights, access);
  if (access.user) {
    if (!rights.user) found.push("user");
    if (access.write && !rights.write) found.push("write");
  } else {
    if (access.fetch && registers.smep && rights.user) found.push("smep");
    if (!access.fetch && rights.user && smapApplies(registers, access)) found.push("smap");
    if (access.write && registers.wp && !rights.write) found.push("write");
  }
  if (access.fetch && !rights.execute) found.push("execute");
  return found;
}

/**
 * APM vol. 2, "Guest Mode Execute Trap Extension": U/S=1 forbids fetches at CPL 0 to 2, and U/S=0 nothing. That it does not
 * concern reads and writes is how KVM of Linux 7.2 has it. The host's CR0.WP is ignored ("Combining Nested and Guest Attributes").
 */
function nestedRefusals(rights: Rights, access: MemoryAccess): Refusal[] {
  const found: Refusal[] = [];
  if (access.write && !rights.write) found.push("write");
  if (access.fetch && !access.user && rights.user) found.push("gmet");
  if (access.fetch && !rights.execute) found.push("execute");
  return found;
}

/**
 * SDM vol. 3, "Determination of Access Rights": user shadow-stack accesses to user-mode shadow-stack addresses only, supervisor
 * ones to supervisor-mode ones; what is said of reads and writes there does not concern them.
 */
function stackRefusals(rights: Rights, stackAddress: boolean, access: MemoryAccess): Refusal[] {
  const found: Refusal[] = stackAddress ? [] : ["shadow stack"];
  if (access.user !== rights.user) found.push(access.user ? "user" : "supervisor");
  return found;
}

/** EFLAGS.AC lifts SMAP for explicit accesses only. */
function smapApplies(registers: Registers, access: MemoryAccess): boolean {
  return registers.smap && (access.implicit || !access.ac);
}
