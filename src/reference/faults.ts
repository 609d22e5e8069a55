/** Makers of the result records of failed translations. */
import { bitOf } from "../abi/bits.js";
import { PFERR } from "../abi/faults.js";
import { Status } from "../abi/status.js";
import type { Fault } from "../api.js";
import type { MemoryAccess } from "./access.js";
import type { Registers } from "./registers.js";

const code = {
  p: bitOf(PFERR, "P"),
  w: bitOf(PFERR, "W"),
  u: bitOf(PFERR, "U"),
  rsvd: bitOf(PFERR, "RSVD"),
  i: bitOf(PFERR, "I"),
  pk: bitOf(PFERR, "PK"),
  ss: bitOf(PFERR, "SS"),
};

/** Where a walk stopped: the entry at fault, or zeros where none was read. */
export interface FaultSite {
  readonly level: number;
  readonly entryAddress: bigint;
  readonly entry: bigint;
}

export const NO_ENTRY: FaultSite = { level: 0, entryAddress: 0n, entry: 0n };

export type PageFaultCause = "notPresent" | "reserved" | "rights";

/** #PF with its error code (SDM vol. 3, "Page-Fault Exceptions"). */
export function pageFault(
  registers: Registers,
  access: MemoryAccess,
  address: bigint,
  site: FaultSite,
  cause: PageFaultCause,
  keyDenied = false,
): Fault {
  const errorCode =
    (cause === "notPresent" ? 0n : code.p) |
    (access.write ? code.w : 0n) |
    (access.user ? code.u : 0n) |
    (cause === "reserved" ? code.rsvd : 0n) |
    (access.fetch && fetchReported(registers) ? code.i : 0n) |
    (keyDenied ? code.pk : 0n) |
    (access.shadowStack === undefined ? 0n : code.ss);
  return { ok: false, status: Status.PageFault, vector: 14, errorCode, address, stage: "guest", ...site };
}

/**
 * The I/D flag is set for fetches only while SMEP is on, or XD is (NXE with 8-byte entries); in nested tables guest mode
 * execute trap stands for SMEP.
 * KVM reports it with NXE in 32-bit paging, too (walk_addr_generic).
 */
function fetchReported(registers: Registers): boolean {
  const wideEntries = registers.mode !== "none" && registers.mode !== "32bit";
  return registers.smep || registers.gmet || (registers.nxe && (wideEntries || registers.rules === "kvm-6.1"));
}

/** #GP(0) (or #SS) for a linear address that paging cannot translate. The address is reported as it was given. */
export function nonCanonical(address: bigint): Fault {
  return {
    ok: false,
    status: Status.NonCanonical,
    vector: 13,
    errorCode: 0n,
    address,
    stage: "guest",
    ...NO_ENTRY,
  };
}

/** #GP(0) (or #SS) of linear-address-space separation. */
export function separated(address: bigint): Fault {
  return { ...nonCanonical(address), status: Status.SpaceSeparation };
}

/** A table lies where the memory has nothing. */
export function outsideMemory(stage: Fault["stage"], address: bigint, level: number, entryAddress: bigint): Fault {
  return {
    ok: false,
    status: Status.OutsideMemory,
    vector: undefined,
    errorCode: 0n,
    address,
    stage,
    level,
    entryAddress,
    entry: 0n,
  };
}
