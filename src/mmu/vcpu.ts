/** A virtual processor as its users see it: faults, walks, register writes, invalidations, nested guests. */
import { checkFlag, checkInteger, checkOptions, toBytes } from "../checks.js";
import {
  type ControlRegisters,
  CR4,
  isLongMode,
  numbersOf,
  writeCr0,
  writeCr4,
  writeEfer,
} from "../registers/control-registers.js";
import { checkCr4 } from "../registers/cr4.js";
import { checkEfer } from "../registers/efer.js";
import { checkInvpcid } from "../registers/invpcid.js";
import { checkBigint } from "./config/check-config.js";
import type { SecondStage } from "./config/config.js";
import { ROOTS } from "./context/root-cache.js";
import { VcpuFaults } from "./faults/faults.js";
import type { AsyncFault, FaultOptions, FaultOutcome, WalkOutcome } from "./faults/outcome.js";
import { type PreFaulted, preFaultMemory } from "./faults/pre-fault-memory.js";
import { prefault } from "./faults/prefault.js";
import { type ContextRoots, contextRoots } from "./inspect/roots.js";
import type { Cpu } from "./machine/cpu.js";
import type { Machine } from "./machine/machine.js";
import { REQUEST } from "./machine/requests.js";
import { enterNested, enterSmm, exitNested, leaveSmm } from "./processor/modes.js";
import {
  applyWrite,
  cr4Processor,
  EFER_PROCESSOR,
  followRegisters,
  loadRegisters,
  moveToCr3,
  setRegisters,
} from "./processor/register-writes.js";
import { resetContext } from "./processor/roles.js";
import { invalidateEpt, invalidatePage, invalidatePcid, invalidatePcidPage } from "./roots/invalidation.js";
import { enterGuest } from "./roots/root-requests.js";

export type { ControlRegisters } from "../registers/control-registers.js";

/** A virtual processor: faults, register writes, invalidations, nested entries. */
export class Vcpu {
  readonly id: number;
  #cpu: Cpu;
  #vm: Machine;
  #faults: VcpuFaults;

  /** Use VirtualMachine.createVcpu. Without registers: what `cpu` has stays. */
  constructor(vm: Machine, cpu: Cpu, registers?: ControlRegisters) {
    this.#vm = vm;
    this.#cpu = cpu;
    this.id = cpu.id;
    this.#faults = new VcpuFaults(vm, cpu);
    if (registers === undefined) return;
    loadRegisters(vm, cpu, numbersOf(registers));
    resetContext(vm, cpu);
  }

  /** @internal What a saved state is made of, besides the vCPU as data. */
  get kept(): VcpuFaults["kept"] {
    return this.#faults.kept;
  }

  /** @internal Is another machine's vCPU from here on. */
  adopt(vm: Machine, cpu: Cpu, kept: VcpuFaults["kept"]): void {
    this.#vm = vm;
    this.#cpu = cpu;
    this.#faults = new VcpuFaults(vm, cpu);
    this.#faults.adopt(kept);
  }

  /** The vCPU as data: its contexts, roots and record, for looking at it in place; see `VirtualMachine.state`. */
  get state(): Cpu {
    return this.#cpu;
  }

  /** Its control registers, in guest mode L2's. */
  get registers(): ControlRegisters {
    return this.#cpu.controlRegisters;
  }

  /** Whether it runs a nested guest. */
  get inGuestMode(): boolean {
    return this.#cpu.inGuestMode;
  }

  /** Whether it is in system-management mode. */
  get inSmm(): boolean {
    return this.#cpu.inSmm;
  }

  /** Its roots: those that are in use, and those before them, which a switch may find again. */
  roots(): ContextRoots[] {
    return contextRoots(this.#cpu);
  }

  #begin(): Machine {
    this.#vm.beginOn(this.#cpu);
    return this.#vm;
  }

  #end(): void {
    this.#vm.events.collect(this.id);
  }

  // ---------------------------------------------------------------- faults and walks

  /**
   * What happens before each entry to the guest: requests are served, a root is loaded if there is none.
   * Returns false where a root table lies in no slot: the guest triple-faults. Throws OutOfMemoryError.
   */
  enterGuest(): boolean {
    return enterGuest(this.#begin(), this.#cpu);
  }

  /**
   * Handles a page fault, under two-dimensional paging a fault at a guest-physical address. `errorCode` holds PFERR bits
   * 4:0; a write to a table is emulated by nobody where the processor made it itself (`guestTable`). Throws OutOfMemoryError,
   * and ConfigError for a linear address above 32 bits outside long mode, before anything has changed. A guest-physical
   * address beyond the host's MAXPHYADDR, or beyond what the root translates, is to be emulated.
   */
  pageFault(address: bigint, errorCode: number, options?: FaultOptions): FaultOutcome {
    return this.#faults.pageFault(address, errorCode, options);
  }

  /** The same for numbers, without an object for the result: a code of FAULT_CODE; nothing is injected. The fast way. */
  fault(low: number, high: number, errorCode: number): number {
    return this.#faults.fault(low, high, errorCode);
  }

  /**
   * Maps addresses ahead of the guest: what faults with `errorCode` at each of them would do, in order, looped inside the
   * core, which comes back only where the host has to find or make a page. Loads the root first. As with faults, accessed
   * (and for writes dirty) bits of the guest's tables are set; what the guest would have to be told is only reported.
   * `results` gets a word for each address, see `decodePrefault`; returns how many addresses are not mapped afterwards.
   * Throws RangeError where `results` is too short, OutOfMemoryError between two faults.
   */
  prefault(addresses: BigUint64Array, results: Uint32Array, errorCode: number): number {
    this.#begin();
    const missing = prefault(this.#faults, addresses, results, errorCode);
    this.#end();
    return missing;
  }

  /**
   * Maps guest-physical memory ahead of the guest, [gpa, gpa + size) in bytes (KVM_PRE_FAULT_MEMORY): what the TDP can map is
   * there afterwards. Says how far it came, and where nothing was done why. Throws ConfigError for what is no address.
   */
  preFaultMemory(gpa: bigint, size: bigint): PreFaulted {
    this.#begin();
    checkBigint(gpa, "guest-physical address");
    checkBigint(size, "size");
    const left = preFaultMemory(this.#faults, gpa, size);
    this.#end();
    return left;
  }

  /**
   * The instruction that a fault at `address` interrupted writes no table, or cannot be emulated: the table that it hit is
   * given up, and the guest makes the access itself (kvm_mmu_unprotect_gfn_and_retry). Returns whether there was one; with
   * `always` it counts as given up all the same.
   */
  unprotectAndRetry(address: bigint, options: Pick<FaultOptions, "rip" | "cpl"> = {}, always = false): boolean {
    this.#begin();
    checkBigint(address, "address");
    checkOptions(options, { rip: true, cpl: true }, "the options");
    checkFlag(always, "always");
    const found = this.#faults.unprotectAndRetry(address, options, always);
    this.#end();
    return found;
  }

  /**
   * The host has fetched the page of a gfn that the guest waited for (`retry` with `waits`): it is mapped without an access,
   * unless the guest runs on other tables now. Returns whether the guest waited for it.
   */
  pageReady(gfn: bigint): boolean {
    this.#begin();
    checkBigint(gfn, "gfn");
    return this.#faults.pageReady(gfn);
  }

  /** Pages that the host fetches and the guest waits for. */
  get waits(): readonly AsyncFault[] {
    return this.#faults.waits;
  }

  /**
   * The guest gets a page fault that was found by software: a stale SPTE of the address must not make it happen again
   * (kvm_inject_emulated_page_fault). `nested`: by L1's second stage, at a guest-physical address. Throws ConfigError for a
   * linear address above 32 bits outside long mode.
   */
  injectFault(errorCode: number, address: bigint, nested = false): void {
    this.#begin();
    checkInteger(errorCode, 0, 0xffffffff, "error code");
    checkBigint(address, "address");
    if (!nested) this.#cpu.checkLinear(address);
    this.#faults.inject({ errorCode, address, nested });
    this.#end();
  }

  /** A walk of the guest's tables by software, as instruction emulation makes it. `code` holds PFERR bits. */
  walk(address: bigint, code: number): WalkOutcome {
    this.#begin();
    checkInteger(code, 0, 0xffffffff, "error code");
    checkBigint(address, "linear address");
    const result = this.#faults.walk(address, code);
    this.#end();
    return result;
  }

  /**
   * A write that is emulated: memory first, then the dirty log, then the shadow pages of the written table. `gpa` may have
   * alias bits. Throws MemoryRangeError before anything changes.
   */
  emulatedWrite(gpa: bigint, data: Uint8Array | ArrayBufferView | ArrayBufferLike): void {
    const vm = this.#begin();
    checkBigint(gpa, "guest-physical address");
    const bytes = toBytes(data);
    vm.guest.write(gpa, bytes, this.#cpu.space);
    this.#cpu.core.guestWrite(gpa, bytes.length);
    vm.settle();
    this.#end();
  }

  // ---------------------------------------------------------------- invalidations

  /** INVLPG. Throws ConfigError for an address above 32 bits outside long mode. */
  invlpg(address: bigint): void {
    const vm = this.#begin();
    checkBigint(address, "linear address");
    this.#cpu.checkLinear(address);
    invalidatePage(vm, this.#cpu, address);
    this.#end();
  }

  /**
   * INVPCID types 0 (address), 1 (PCID), 2 (all, globals too), 3 (all but globals); SDM, "INVPCID". Throws
   * GeneralProtectionError, with nothing changed, where the processor would raise #GP(0).
   */
  invpcid(type: number, pcid: number, address: bigint): void {
    const vm = this.#begin();
    checkBigint(address, "linear address");
    const { registers } = this.#cpu;
    const pcide = (registers.cr4 & CR4.pcide) !== 0;
    checkInvpcid(type, pcid, address, { pcide, longMode: isLongMode(registers), la57: vm.limits.guestLa57 });
    if (type === 0) invalidatePcidPage(vm, this.#cpu, BigInt(pcid), address);
    else if (type === 1) invalidatePcid(vm, this.#cpu, BigInt(pcid));
    else this.#cpu.requests |= REQUEST.flushGuest;
    this.#end();
  }

  /**
   * INVEPT of one EPT of L1's or of all: its shadow roots are freed. Returns whether it succeeds: an EPTP that the VM's
   * capabilities do not allow is an invalid operand, and changes nothing (handle_invept).
   */
  invept(eptp: bigint | "all"): boolean {
    const vm = this.#begin();
    if (eptp !== "all") checkBigint(eptp, "EPTP");
    const done = invalidateEpt(vm, this.#cpu, eptp);
    this.#end();
    return done;
  }

  /** L1 loads another VMCS: the shadow roots of its second stages go (nested_release_vmcs12). */
  releaseNested(): void {
    this.#begin();
    this.#cpu.guestMmu.roots.free(ROOTS.all);
    this.#end();
  }

  // ---------------------------------------------------------------- registers

  /** MOV to CR3. Throws GeneralProtectionError, with nothing changed, where the processor would raise #GP(0). */
  writeCr3(value: bigint): void {
    const vm = this.#begin();
    checkBigint(value, "CR3");
    moveToCr3(vm, this.#cpu, value);
    this.#end();
  }

  /** MOV to CR0. Throws GeneralProtectionError where the processor would raise #GP(0). */
  writeCr0(value: bigint): void {
    const vm = this.#begin();
    checkBigint(value, "CR0");
    applyWrite(vm, this.#cpu, writeCr0(this.#cpu.registers, value), false);
    this.#end();
  }

  /** MOV to CR4. Throws GeneralProtectionError where the processor would raise #GP(0). */
  writeCr4(value: bigint): void {
    const vm = this.#begin();
    checkBigint(value, "CR4");
    checkCr4(value, cr4Processor(vm));
    const write = writeCr4(this.#cpu.registers, value);
    applyWrite(vm, this.#cpu, write, write.freesRoots);
    this.#end();
  }

  /** WRMSR to IA32_EFER; LMA keeps its value. Throws GeneralProtectionError where LME would change under paging, and for UAIE. */
  writeEfer(value: bigint): void {
    const vm = this.#begin();
    checkBigint(value, "EFER");
    checkEfer(value, EFER_PROCESSOR);
    applyWrite(vm, this.#cpu, writeEfer(this.#cpu.registers, value), false);
    this.#end();
  }

  /**
   * Registers set from outside, all at once (KVM_SET_SREGS). Throws ConfigError for registers that no processor can have, and
   * where CR3 has alias bits.
   */
  setRegisters(registers: ControlRegisters): void {
    setRegisters(this.#begin(), this.#cpu, registers);
    this.#end();
  }

  /**
   * Registers that the guest wrote without an exit: CR3 (the same value, too, loads a PAE guest's PDPTEs anew) and, where it
   * owns the bit, CR0.WP. Throws ConfigError where CR3 has alias bits, which the processor refuses.
   */
  setGuestRegisters(changed: Partial<ControlRegisters>): void {
    followRegisters(this.#begin(), this.#cpu, changed);
  }

  /** EFLAGS.AC, for SMAP. */
  setAc(ac: boolean): void {
    this.#begin();
    checkFlag(ac, "EFLAGS.AC");
    this.#cpu.alignmentCheck = ac;
  }

  /** PKRU. Throws RangeError for what has no 32 bits. */
  setPkru(pkru: number): void {
    this.#begin();
    checkInteger(pkru, 0, 0xffffffff, "PKRU", RangeError);
    for (const context of [this.#cpu.rootMmu, this.#cpu.nestedMmu]) context.setPkru(pkru);
  }

  // ---------------------------------------------------------------- modes

  /** System-management mode begins: paging off, the SMM address space. */
  enterSmm(): void {
    enterSmm(this.#begin(), this.#cpu);
    this.#end();
  }

  /** RSM with the registers that were saved. Throws ConfigError where CR3 has alias bits, GeneralProtectionError for reserved ones. */
  leaveSmm(registers: ControlRegisters): void {
    leaveSmm(this.#begin(), this.#cpu, registers);
    this.#end();
  }

  /**
   * A nested guest is entered. Without a second stage of L1's its tables are shadowed like L1's own (or, with
   * two-dimensional paging, its guest-physical addresses are L1's), in pages of their own (guest_mode).
   * Throws UnsupportedError, ConfigError, GeneralProtectionError (PDPTEs) or VmEntryError (CR3, CR4, EFER), with nothing changed,
   * for what cannot be entered.
   */
  enterNested(registers: ControlRegisters, stage?: SecondStage): void {
    enterNested(this.#begin(), this.#cpu, registers, stage);
    this.#end();
  }

  /** The nested guest exits to L1, whose registers these are. Throws as `leaveSmm` does. */
  exitNested(registers: ControlRegisters): void {
    exitNested(this.#begin(), this.#cpu, registers);
    this.#end();
  }
}
