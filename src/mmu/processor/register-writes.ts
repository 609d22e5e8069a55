/** What a vCPU does when its control registers are written: by its guest, with an exit or without, or from outside. */
import type { RegisterLoad } from "../../api.js";
import { ConfigError, GeneralProtectionError } from "../../errors.js";
import {
  type ControlRegisters,
  CR3_NO_FLUSH,
  CR4,
  isLongMode,
  isPaePaging,
  numbersOf,
  type PagingRegisters,
  PCID,
  type RegisterWrite,
} from "../../registers/control-registers.js";
import { type Cr3Processor, type Cr3State, checkCr3 } from "../../registers/cr3.js";
import { type Cr4Processor, checkCr4 } from "../../registers/cr4.js";
import { checkEfer } from "../../registers/efer.js";
import { checkChangedRegisters, checkControlRegisters } from "../config/check-config.js";
import type { Cpu } from "../machine/cpu.js";
import type { Machine } from "../machine/machine.js";
import { REQUEST } from "../machine/requests.js";
import { invalidatePcid } from "../roots/invalidation.js";
import { latchPdptes, loadPdptes } from "../roots/pdpte-registers.js";
import { switchRoot, unloadRoots } from "../roots/root-requests.js";
import { initRoles, resetContext } from "./roles.js";

/** What decides about a CR3, in the terms of its check. KVM's guests have no LAM in Linux 6.1. */
export function cr3Processor(vm: Machine): Cr3Processor {
  return { maxPhysAddr: vm.limits.guestPhysicalBits, lam: false };
}

export function cr3State(registers: PagingRegisters): Cr3State {
  return { longMode: isLongMode(registers), cr4: BigInt(registers.cr4) };
}

/** The same about CR4. */
export function cr4Processor(vm: Machine): Cr4Processor {
  return { lam: false, la57: vm.limits.guestLa57, cet: false, lass: false };
}

/** What decides about EFER. */
export const EFER_PROCESSOR = { uai: false };

/**
 * Throws GeneralProtectionError where MOV would refuse CR3 or CR4, or WRMSR EFER; with "vm-entry" VmEntryError where a VM entry
 * would refuse one of them.
 */
export function checkReservedBits(vm: Machine, registers: ControlRegisters, loadedBy: RegisterLoad = "mov"): void {
  checkCr4(registers.cr4, cr4Processor(vm), loadedBy);
  checkEfer(registers.efer, EFER_PROCESSOR, loadedBy);
  checkCr3(registers.cr3, loadedBy, cr3State(numbersOf(registers)), cr3Processor(vm));
}

/**
 * MOV to CR3, whose operand has 32 bits outside long mode. Throws GeneralProtectionError, with nothing changed, where the
 * processor would raise #GP(0).
 */
export function moveToCr3(vm: Machine, cpu: Cpu, operand: bigint): void {
  const { registers } = cpu;
  const pcide = (registers.cr4 & CR4.pcide) !== 0;
  checkCr3(operand, "mov", cr3State(registers), cr3Processor(vm));
  const value = movedCr3(registers, operand, pcide);
  const pae = isPaePaging(registers);
  const same = value === registers.cr3;
  if (!same || pae) {
    const { aliasMask } = vm.limits;
    if (aliasMask !== 0n && !cpu.walksNested && value & aliasMask) {
      throw new GeneralProtectionError(`CR3 0x${value.toString(16)} has alias bits`);
    }
    const reloaded = pae && loadPdptes(vm, cpu, value);
    const { cr0, cr4, efer } = registers;
    cpu.registers = { cr0, cr3: value, cr4, efer };
    cpu.walkMmu.pgd = value;
    if (!same || (reloaded && vm.tdp === undefined)) switchRoot(vm, cpu, value);
  }
  const keeps = pcide && (operand & CR3_NO_FLUSH) !== 0n;
  if (!keeps) invalidatePcid(vm, cpu, pcide ? value & PCID : 0n);
}

/** What CR3 is then: the operand as it is, where that says no more. */
function movedCr3(registers: PagingRegisters, operand: bigint, pcide: boolean): bigint {
  if (!isLongMode(registers)) return BigInt.asUintN(32, operand);
  return pcide ? operand & ~CR3_NO_FLUSH : operand;
}

/** What follows from a write to CR0, CR4 or EFER; with `freesRoots` no root may be used again. */
export function applyWrite(vm: Machine, cpu: Cpu, write: RegisterWrite, freesRoots: boolean): void {
  const { tdp } = vm;
  const reloaded = write.reloadsPdptes && loadPdptes(vm, cpu, write.registers.cr3);
  cpu.registers = write.registers;
  // With two-dimensional paging CR0.WP decides what walks may do, never the root.
  if (tdp !== undefined && write.changesOnlyWriteProtect) initRoles(vm, cpu);
  else if (write.changesRoles) resetContext(vm, cpu);
  // The root is named by its PDPTEs too: with others it is another root.
  else if (reloaded && tdp === undefined) switchRoot(vm, cpu, write.registers.cr3);
  if (freesRoots && tdp === undefined) unloadRoots(cpu);
  if (write.flushes) cpu.requests |= REQUEST.flushGuest;
}

/**
 * Registers set from outside, all at once (KVM_SET_SREGS). Throws ConfigError where CR3 has alias bits, GeneralProtectionError
 * where MOV would refuse CR3 or CR4.
 */
export function setRegisters(vm: Machine, cpu: Cpu, registers: ControlRegisters): void {
  checkControlRegisters(registers);
  checkAliasBits(vm, cpu, registers.cr3);
  checkReservedBits(vm, registers);
  const before = cpu.controlRegisters;
  loadRegisters(vm, cpu, numbersOf(registers));
  const same = (["cr0", "cr3", "cr4", "efer"] as const).every((name) => before[name] === registers[name]);
  if (same && !isPaePaging(cpu.registers)) return;
  resetContext(vm, cpu);
  if (vm.has("flush-first")) cpu.requests |= REQUEST.flushGuest;
}

/** Registers that the guest changed without an exit. Throws ConfigError where CR3 has alias bits. */
export function followRegisters(vm: Machine, cpu: Cpu, changed: Partial<ControlRegisters>): void {
  checkChangedRegisters(changed, cpu.controlRegisters);
  checkAliasBits(vm, cpu, changed.cr3 ?? 0n);
  cpu.registers = numbersOf({ ...cpu.controlRegisters, ...changed });
  const { registers } = cpu;
  cpu.walkMmu.pgd = registers.cr3;
  // MOV to CR3 loads the PDPTEs, whether or not the value is a new one (SDM, "PDPTE Registers").
  if (changed.cr3 !== undefined && isPaePaging(registers)) latchPdptes(vm, cpu, registers.cr3);
}

/** Takes registers, and the PDPTEs that they name; roles and roots are up to the caller. */
export function loadRegisters(vm: Machine, cpu: Cpu, registers: PagingRegisters): void {
  cpu.registers = registers;
  cpu.walkMmu.pgd = registers.cr3;
  if (!isPaePaging(registers)) return;
  try {
    loadPdptes(vm, cpu, registers.cr3);
  } catch (error) {
    // Registers from outside may name a table that is not there yet: the old PDPTEs stay.
    if (!(error instanceof GeneralProtectionError)) throw error;
  }
}

/** Behind L1's second stage CR3 is an address of L2's, where the bits mean nothing. Throws ConfigError. */
export function checkAliasBits(vm: Machine, cpu: Cpu, cr3: bigint): void {
  if (!cpu.walksNested) checkRoot(vm, cr3);
}

/** A table of L1's has no alias. Throws ConfigError. */
export function checkRoot(vm: Machine, table: bigint): void {
  if (table & vm.limits.aliasMask) throw new ConfigError(`root table 0x${table.toString(16)} has alias bits`);
}
