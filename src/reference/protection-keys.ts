/** Protection keys (SDM vol. 3, "Protection Keys"): 4-level and 5-level paging, data accesses only. */
import { fieldOf, flagOf, valueIn } from "../abi/bits.js";
import { PTE } from "../abi/entries.js";
import { KEY_RIGHTS } from "../abi/registers.js";
import type { MemoryAccess } from "./access.js";
import type { Registers } from "./registers.js";

const PKEY = fieldOf(PTE, "PKEY");
const AD = flagOf(KEY_RIGHTS, "AD");
const WD = flagOf(KEY_RIGHTS, "WD");

/** The key in a leaf entry, 0 in the modes that have none. */
export function protectionKey(registers: Registers, leaf: bigint): number {
  const keyed = registers.mode === "4level" || registers.mode === "5level";
  return keyed ? Number(valueIn(PKEY, leaf)) : 0;
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
  const pair = (userAddress ? registers.pkru : registers.pkrs) >>> (2 * key);
  const accessDisable = (pair & AD) !== 0;
  const writeDisable = (pair & WD) !== 0;
  return accessDisable || (writeDisable && access.write && (access.user || registers.wp));
}
