/** Access rights of legacy translations (SDM vol. 3, "Determination of Access Rights"). */
import { bitOf } from "../abi/bits.js";
import { PTE } from "../abi/entries.js";
import type { Rights } from "../api.js";
import type { MemoryAccess } from "./access.js";
import type { Registers } from "./registers.js";

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

/** Whether a translation with these rights refuses the access; protection keys are judged apart. */
export function rightsDeny(registers: Registers, rights: Rights, access: MemoryAccess): boolean {
  return access.user ? userDenied(rights, access) : supervisorDenied(registers, rights, access);
}

function userDenied(rights: Rights, access: MemoryAccess): boolean {
  if (!rights.user) return true;
  if (access.fetch) return !rights.execute;
  return access.write && !rights.write;
}

function supervisorDenied(registers: Registers, rights: Rights, access: MemoryAccess): boolean {
  if (access.fetch) return !rights.execute || (registers.smep && rights.user);
  if (rights.user && smapApplies(registers, access)) return true;
  return access.write && registers.wp && !rights.write;
}

/** EFLAGS.AC lifts SMAP for explicit accesses only. */
function smapApplies(registers: Registers, access: MemoryAccess): boolean {
  return registers.smap && (access.implicit || !access.ac);
}
