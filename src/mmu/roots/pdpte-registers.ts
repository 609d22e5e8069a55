/** The PDPTEs of a PAE guest: loaded with CR3, and for software walks where the guest loads CR3 without an exit. */
import { bitOf, CR3_PAE, flagOf, PFERR } from "../../abi/index.js";
import { GeneralProtectionError } from "../../errors.js";
import { checkPdptes, pdpteReservedBits } from "../config/pdpte-check.js";
import type { Cpu } from "../machine/cpu.js";
import type { Machine } from "../machine/machine.js";

/** A user's write: what load_pdptrs asks of L1's second stage, whatever the access. */
const TABLE_ACCESS = flagOf(PFERR, "W") | flagOf(PFERR, "U");
const PAGE = ~0xfffn;

/** Loads those at CR3; returns whether they differ from those before. Throws GeneralProtectionError. */
export function loadPdptes(vm: Machine, cpu: Cpu, cr3: bigint): boolean {
  const { walkMmu } = cpu;
  const values = read(vm, cpu, cr3);
  const changed = walkMmu.pdptes.some((value, i) => value !== values[i]);
  walkMmu.pdptes = values;
  cpu.hardwarePdptes = values;
  return changed;
}

/**
 * Before a software walk under two-dimensional paging: VMX has the PDPTEs that the processor latched (ept_save_pdptrs),
 * SVM has none and memory is read (svm_cache_reg). Malformed ones leave the old ones in force.
 */
export function refreshPdptes(vm: Machine, cpu: Cpu, cr3: bigint): void {
  const { walkMmu } = cpu;
  if (vm.virtualization === "vmx") walkMmu.pdptes = cpu.hardwarePdptes;
  // With nested paging the walk itself loads L2's, when it comes to them.
  else if (!cpu.walksNested) walkMmu.pdptes = tryRead(vm, cpu, cr3) ?? walkMmu.pdptes;
}

/** The guest wrote CR3 without an exit; where the processor raised #GP it kept its registers. */
export function latchPdptes(vm: Machine, cpu: Cpu, cr3: bigint): void {
  cpu.hardwarePdptes = tryRead(vm, cpu, cr3) ?? cpu.hardwarePdptes;
}

/** Throws GeneralProtectionError for fields that VM entry refuses. */
export function checkPdpteFields(vm: Machine, fields: readonly bigint[] | undefined): void {
  if (fields !== undefined) checkPdptes(fields, pdpteReservedBits(vm.limits.guestPhysicalBits, vm.pdpteAccessed));
}

/**
 * VM entry to a nested guest that uses PAE paging and EPT: the registers come from the VMCS, and CR3 is not looked at
 * (SDM, "Loading Page-Directory-Pointer-Table Entries"). Fields that L1 has not written are those of the last exit; before
 * the first, the table at CR3.
 */
export function enterWithPdptes(vm: Machine, cpu: Cpu, cr3: bigint, fields: readonly bigint[] | undefined): void {
  cpu.hardwarePdptes = fields ?? cpu.pdpteFields ?? tryRead(vm, cpu, cr3) ?? cpu.hardwarePdptes;
  cpu.pdpteFields = cpu.hardwarePdptes;
}

/** VM exit from such a guest: it saves the registers (SDM, "Saving Non-Register State"). */
export function savePdptes(cpu: Cpu): void {
  cpu.pdpteFields = cpu.hardwarePdptes;
}

function tryRead(vm: Machine, cpu: Cpu, cr3: bigint): bigint[] | undefined {
  try {
    return read(vm, cpu, cr3);
  } catch (error) {
    if (error instanceof GeneralProtectionError) return undefined;
    throw error;
  }
}

/** Throws GeneralProtectionError where the table lies in no slot or an entry has reserved bits. */
function read(vm: Machine, cpu: Cpu, cr3: bigint): bigint[] {
  const table = l1Address(cpu, cr3 & bitOf(CR3_PAE, "PDPT"));
  const bytes = table === undefined ? undefined : vm.guest.read(table, 32, cpu.space);
  if (bytes === undefined) {
    throw new GeneralProtectionError(`page-directory-pointer table at 0x${cr3.toString(16)} lies in no slot`);
  }
  const values = [...new BigUint64Array(bytes.slice().buffer)];
  // L2's own addresses have no alias bits.
  const aliasMask = cpu.walksNested ? 0n : vm.limits.aliasMask;
  checkPdptes(values, pdpteReservedBits(vm.limits.guestPhysicalBits, vm.pdpteAccessed, aliasMask));
  return values;
}

/** While L2 runs behind L1's second stage CR3 is L2's: through that stage, undefined where L1 maps nothing. */
function l1Address(cpu: Cpu, table: bigint): bigint | undefined {
  if (!cpu.walksNested) return table;
  const { core, guestMmu } = cpu;
  if (!core.walkGuest(guestMmu.core, table & PAGE, TABLE_ACCESS)) return undefined;
  return (core.record.gwGfn << 12n) | (table & 0xfffn);
}
