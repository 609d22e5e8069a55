/** Which paging mode the control registers select. */

import { bitOf } from "../abi/bits.js";
import { CR0, CR4, EFER } from "../abi/registers.js";
import type { PagingMode } from "../api.js";

const PG = bitOf(CR0, "PG");
const PAE = bitOf(CR4, "PAE");
const LA57 = bitOf(CR4, "LA57");
const LMA = bitOf(EFER, "LMA");

/** The registers that select the mode. */
export interface ModeRegisters {
  readonly cr0: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
}

/** SDM vol. 3, "Paging Modes and Control Bits". */
export function pagingModeOf(registers: ModeRegisters): Exclude<PagingMode, "ept4" | "ept5"> {
  if ((registers.cr0 & PG) === 0n) return "none";
  if ((registers.cr4 & PAE) === 0n) return "32bit";
  if ((registers.efer & LMA) === 0n) return "pae";
  return (registers.cr4 & LA57) === 0n ? "4level" : "5level";
}

/** A mode in words. */
export function modeTitle(mode: PagingMode): string {
  return {
    none: "paging off",
    "32bit": "32-bit paging",
    pae: "PAE paging",
    "4level": "4-level paging",
    "5level": "5-level paging",
    ept4: "4-level EPT",
    ept5: "5-level EPT",
  }[mode];
}
