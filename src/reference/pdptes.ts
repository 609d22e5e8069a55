/** PAE page-directory-pointer-table entries held in registers (SDM vol. 3, "PDPTE Registers"). */
import { bitOf } from "../abi/bits.js";
import { PTE } from "../abi/entries.js";
import { CR3_PAE } from "../abi/registers.js";
import { GeneralProtectionError, PdpteLoadError } from "../errors.js";
import type { PhysicalMemory } from "./memory.js";
import type { Registers } from "./registers.js";
import { pdpteReserved } from "./reserved-bits.js";
import { isFault, type SecondStage, tableAccess } from "./second-stage.js";
import { Trace } from "./trace.js";
import { configU64, hex } from "./values.js";

const P = bitOf(PTE, "P");

/** Physical address of the PDPT: CR3 is 32 bits wide in PAE paging and the table is 32-byte aligned. */
export function pdptAddress(registers: Registers): bigint {
  return registers.cr3 & bitOf(CR3_PAE, "PDPT");
}

/**
 * Loads the four PDPTE registers as MOV to CR3 does. Throws a GeneralProtectionError where a present one has a
 * reserved bit set, or where the table lies outside memory; a PdpteLoadError where the second stage does not let it
 * be read.
 */
export function loadPdptes(
  registers: Registers,
  memory: PhysicalMemory,
  secondStage: SecondStage | undefined,
  given: readonly bigint[] | undefined,
): bigint[] {
  const values =
    given?.map((value, index) => configU64(value, `pdpteValues[${index}]`)) ?? readAll(registers, memory, secondStage);
  values.forEach((value, index) => {
    const stripped = value & ~registers.encryptionMask;
    const reserved = stripped & pdpteReserved(registers);
    if ((stripped & P) !== 0n && reserved !== 0n) {
      throw new GeneralProtectionError(`PDPTE${index} is ${hex(value)}: bits ${hex(reserved)} are reserved`);
    }
  });
  return values;
}

function readAll(registers: Registers, memory: PhysicalMemory, secondStage: SecondStage | undefined): bigint[] {
  const gpa = pdptAddress(registers);
  let pa = gpa;
  if (secondStage !== undefined) {
    // Loading registers is a probe.
    const outcome = secondStage.translateGpa(
      gpa,
      tableAccess("pdptes", registers.rules === "kvm-6.1"),
      new Trace(false),
    );
    if (isFault(outcome)) {
      throw new PdpteLoadError(`the PDPTEs at ${hex(gpa)}: the second stage fails at level ${outcome.level}`, outcome);
    }
    pa = outcome.mapped.pa;
  }
  return [0n, 1n, 2n, 3n].map((index) => {
    const value = memory.readEntry(pa + 8n * index, 8);
    if (value === undefined) throw new GeneralProtectionError(`the PDPTEs at ${hex(gpa)} lie outside memory`);
    return value;
  });
}
