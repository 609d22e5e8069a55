/** What a vCPU does when its control registers are written: by its guest, with an exit or without, or from outside. */
import { ConfigError, GeneralProtectionError } from "../../errors.js";
import { checkChangedRegisters, checkControlRegisters } from "../config/check-config.js";
import {
  type ControlRegisters,
  CR3_NO_FLUSH,
  CR4,
  isPaePaging,
  numbersOf,
  type PagingRegisters,
  PCID,
  type RegisterWrite,
} from "../config/control-registers.js";
import type { Cpu } from "../machine/cpu.js";
import type { Machine } from "../machine/machine.js";
import { REQUEST } from "../machine/requests.js";
import { invalidatePcid } from "../roots/invalidation.js";
import { latchPdptes, loadPdptes } from "../roots/pdpte-registers.js";
import { switchRoot, unloadRoots } from "../roots/root-requests.js";
import { initRoles, resetContext } from "./roles.js";

/** MOV to CR3. Throws GeneralProtectionError, with nothing changed, where the processor would raise #GP(0). */
export function moveToCr3(vm: Machine, cpu: Cpu, operand: bigint): void {
  const { registers } = cpu;
  const pcide = (registers.cr4 & CR4.pcide) !== 0;
  const value = pcide ? operand & ~CR3_NO_FLUSH : operand;
  const pae = isPaePaging(registers);
  const same = value === registers.cr3;
  if (!same || pae) {
    if (value >> BigInt(vm.limits.guestPhysicalBits) !== 0n) {
      throw new GeneralProtectionError(`CR3 0x${value.toString(16)} exceeds MAXPHYADDR`);
    }
    if (!cpu.walksNested && value & vm.limits.aliasMask) {
      throw new GeneralProtectionError(`CR3 0x${value.toString(16)} has alias bits`);
    }
    const reloaded = pae && loadPdptes(vm, cpu, value);
    cpu.registers = { ...registers, cr3: value };
    cpu.walkMmu.pgd = value;
    if (!same || (reloaded && vm.tdp === undefined)) switchRoot(vm, cpu, value);
  }
  const keeps = pcide && (operand & CR3_NO_FLUSH) !== 0n;
  if (!keeps) invalidatePcid(vm, cpu, pcide ? value & PCID : 0n);
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

/** Registers set from outside, all at once (KVM_SET_SREGS). Throws ConfigError where CR3 has alias bits. */
export function setRegisters(vm: Machine, cpu: Cpu, registers: ControlRegisters): void {
  checkControlRegisters(registers);
  checkCr3(vm, cpu, registers.cr3);
  const before = cpu.controlRegisters;
  loadRegisters(vm, cpu, numbersOf(registers));
  const same = (["cr0", "cr3", "cr4", "efer"] as const).every((name) => before[name] === registers[name]);
  if (!same || isPaePaging(cpu.registers)) resetContext(vm, cpu);
}

/** Registers that the guest changed without an exit. Throws ConfigError where CR3 has alias bits. */
export function followRegisters(vm: Machine, cpu: Cpu, changed: Partial<ControlRegisters>): void {
  checkChangedRegisters(changed, cpu.controlRegisters);
  checkCr3(vm, cpu, changed.cr3 ?? 0n);
  const before = cpu.registers;
  cpu.registers = numbersOf({ ...cpu.controlRegisters, ...changed });
  const { registers } = cpu;
  cpu.walkMmu.pgd = registers.cr3;
  if (before.cr3 !== registers.cr3 && isPaePaging(registers)) latchPdptes(vm, cpu, registers.cr3);
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
export function checkCr3(vm: Machine, cpu: Cpu, cr3: bigint): void {
  if (!cpu.walksNested) checkRoot(vm, cr3);
}

/** A table of L1's has no alias. Throws ConfigError. */
export function checkRoot(vm: Machine, table: bigint): void {
  if (table & vm.limits.aliasMask) throw new ConfigError(`root table 0x${table.toString(16)} has alias bits`);
}
