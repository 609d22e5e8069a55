/** A vCPU's ways into system-management mode and into a nested guest, and back. */
import { ConfigError, UnsupportedError } from "../../errors.js";
import { type ControlRegisters, isPaePaging, numbersOf, smmRegisters } from "../../registers/control-registers.js";
import { checkControlRegisters, checkStageOptions } from "../config/check-config.js";
import type { SecondStage } from "../config/config.js";
import { nestedEptpProblem } from "../config/eptp.js";
import { nestedNptLevel, setNestedRoles } from "../context/context-roles.js";
import type { Cpu } from "../machine/cpu.js";
import type { Machine } from "../machine/machine.js";
import { REQUEST } from "../machine/requests.js";
import { checkPdpteFields, enterWithPdptes, savePdptes } from "../roots/pdpte-registers.js";
import { latchNestedPdptes } from "../roots/root-loader.js";
import { switchRoot } from "../roots/root-requests.js";
import { checkAliasBits, checkReservedBits, checkRoot, loadRegisters } from "./register-writes.js";
import { initRoles, resetContext } from "./roles.js";

/** System-management mode begins: paging off, the SMM address space (enter_smm). */
export function enterSmm(vm: Machine, cpu: Cpu): void {
  cpu.inSmm = true;
  resetContext(vm, cpu);
  loadRegisters(vm, cpu, smmRegisters(cpu.registers));
  resetContext(vm, cpu);
}

/** RSM with the registers that were saved. Throws ConfigError where CR3 has alias bits, GeneralProtectionError for reserved ones. */
export function leaveSmm(vm: Machine, cpu: Cpu, registers: ControlRegisters): void {
  checkControlRegisters(registers);
  checkReservedBits(vm, registers);
  checkAliasBits(vm, cpu, registers.cr3);
  cpu.inSmm = false;
  resetContext(vm, cpu);
  loadRegisters(vm, cpu, numbersOf(registers));
  resetContext(vm, cpu);
}

/**
 * A nested guest is entered. Without a second stage of L1's its tables are shadowed like L1's own (or, with
 * two-dimensional paging, its guest-physical addresses are L1's), in pages of their own (guest_mode).
 * Throws UnsupportedError, ConfigError, GeneralProtectionError (PDPTEs) or VmEntryError (CR3, CR4, EFER), with nothing changed,
 * for what cannot be entered.
 */
export function enterNested(vm: Machine, cpu: Cpu, registers: ControlRegisters, stage?: SecondStage): void {
  checkControlRegisters(registers);
  checkStage(vm, cpu, registers, stage);
  const numbers = numbersOf(registers);
  checkReservedBits(vm, registers, "vm-entry");
  requestTransitionFlush(vm, cpu);
  cpu.inGuestMode = true;
  if (stage !== undefined) {
    cpu.use(cpu.guestMmu, cpu.walkMmu);
    const pgd = setNestedRoles(vm, cpu.guestMmu, stage, cpu.roleMode);
    latchNestedPdptes(vm, cpu, cpu.guestMmu);
    switchRoot(vm, cpu, pgd);
    cpu.use(cpu.guestMmu, cpu.nestedMmu);
  }
  switchLevel(vm, cpu, registers);
  if (stage?.kind === "ept" && isPaePaging(numbers)) enterWithPdptes(vm, cpu, numbers.cr3, stage.pdptes);
}

function checkStage(vm: Machine, cpu: Cpu, registers: ControlRegisters, stage: SecondStage | undefined): void {
  const { tdp, limits } = vm;
  if (cpu.inGuestMode) throw new ConfigError(`vCPU ${cpu.id} runs a nested guest already, expected exitNested first`);
  if (stage === undefined) {
    checkRoot(vm, registers.cr3);
    return;
  }
  checkStageOptions(stage);
  if (tdp === undefined) throw new UnsupportedError("a second stage of L1's needs NPT or EPT in the host");
  if (stage.kind === "npt") {
    checkRoot(vm, stage.ncr3);
    const level = nestedNptLevel(stage);
    if (level > tdp.level) {
      throw new UnsupportedError(`L1's NPT has ${level} levels, expected at most the host's ${tdp.level}`);
    }
  } else if (limits.aliasMask !== 0n) {
    throw new UnsupportedError("nested EPT is not possible while addresses have alias bits");
  } else {
    const problem = nestedEptpProblem(vm, stage.eptp);
    if (problem !== undefined) throw new ConfigError(`EPTP 0x${stage.eptp.toString(16)} of L1 has ${problem}`);
    if (isPaePaging(numbersOf(registers))) checkPdpteFields(vm, stage.pdptes);
  }
}

/** The nested guest exits to L1, whose registers these are. Throws as `leaveSmm` does. */
export function exitNested(vm: Machine, cpu: Cpu, registers: ControlRegisters): void {
  checkControlRegisters(registers);
  checkReservedBits(vm, registers);
  checkRoot(vm, registers.cr3);
  if (cpu.mmu.isEpt && cpu.walksNested && isPaePaging(cpu.registers)) savePdptes(cpu);
  cpu.inGuestMode = false;
  requestTransitionFlush(vm, cpu);
  cpu.use(cpu.rootMmu, cpu.rootMmu);
  switchLevel(vm, cpu, registers);
}

/** Without a tag of its own for L2's translations VMX flushes everything, SVM the current root's. */
function requestTransitionFlush(vm: Machine, cpu: Cpu): void {
  cpu.requests |= vm.virtualization === "vmx" ? REQUEST.flushGuest : REQUEST.sync;
}

/** Registers of the other level, and its roles (nested_svm_load_cr3, nested_vmx_load_cr3). */
function switchLevel(vm: Machine, cpu: Cpu, registers: ControlRegisters): void {
  const numbers = numbersOf(registers);
  const root = cpu.mmu === cpu.rootMmu;
  if (root) loadRegisters(vm, cpu, numbers);
  else cpu.registers = numbers;
  initRoles(vm, cpu);
  if (root) switchRoot(vm, cpu, numbers.cr3);
}
