/** Protection keys (SDM vol. 3, "Protection Keys"): 4-level and 5-level paging, data accesses only. */
import { bitOf } from "../abi/bits.js";
import { PTE } from "../abi/entries.js";
import type { MemoryAccess } from "./access.js";
import type { Registers } from "./registers.js";

const PKEY = bitOf(PTE, "PKEY");

/** The key in a leaf entry, 0 in the modes that have none. */
export function protectionKey(registers: Registers, leaf: bigint): number {
  const keyed = registers.mode === "4level" || registers.mode === "5level";
  return keyed ? Number((leaf & PKEY) >> 59n) : 0;
}

/**
 * Whether the key denies the access, whatever the rights say.
 * PKRU governs user-mode addresses, IA32_PKRS supervisor-mode ones, both for user and supervisor accesses: a user access
 * to a supervisor-mode address is denied by rights, and whether PK is reported as well is `pkrsOnUserAccess`.
 * Write-disable binds a supervisor-mode write only while CR0.WP is 1.
 */
export function keyDenies(registers: Registers, key: number, userAddress: boolean, access: MemoryAccess): boolean {
  if (registers.mode !== "4level" && registers.mode !== "5level") return false;
  if (access.fetch) return false;
  if (!(userAddress ? registers.pke : registers.pks && (registers.pkrsOnUserAccess || !access.user))) return false;
  const pair = ((userAddress ? registers.pkru : registers.pkrs) >>> (2 * key)) & 3;
  const accessDisable = (pair & 1) !== 0;
  const writeDisable = (pair & 2) !== 0;
  return accessDisable || (writeDisable && access.write && (access.user || registers.wp));
}
