/** A virtual processor: its registers, its paging contexts, the requests it serves before it enters the guest. */
import { checkFlag, checkInteger, toBytes } from "../checks.js";
import { checkInvpcid } from "../core/invpcid.js";
import { checkLinear } from "../core/linear-address.js";
import { BusyError, ConfigError, GeneralProtectionError, UnsupportedError } from "../errors.js";
import { type CpuRole, cpuRole, ROLE_DIRECT } from "../role/index.js";
import { checkBigint, checkChangedRegisters, checkControlRegisters, checkStageOptions } from "./config/check-config.js";
import {
  type ControlRegisters,
  CR3_NO_FLUSH,
  CR4,
  isPaePaging,
  numbersOf,
  type PagingRegisters,
  PCID,
  pdpteReservedBits,
  type RegisterWrite,
  smmRegisters,
  writeCr0,
  writeCr4,
  writeEfer,
} from "./config/control-registers.js";
import { isValidEptp, sameEptTable } from "./config/eptp.js";
import { PagingContext } from "./context/context.js";
import { nestedNptLevel, type SecondStage, setL2Roles, setNestedRoles, setRootRoles } from "./context/context-roles.js";
import { ROOTS, type RootCache } from "./context/root-cache.js";
import type { AsyncFault } from "./faults/async-faults.js";
import { VcpuFaults } from "./faults/faults.js";
import type { FaultOptions, FaultOutcome, WalkOutcome } from "./faults/outcome.js";
import { prefault } from "./faults/prefault.js";
import { Allocations } from "./memory/allocations.js";
import { VCPU_WORD, vcpuRecord } from "./memory/records.js";
import { Invalidation } from "./roots/invalidation.js";
import { PdpteRegisters } from "./roots/pdpte-registers.js";
import { REQUEST, RootRequests } from "./roots/root-requests.js";
import type { VirtualMachine } from "./vm.js";

export type { ControlRegisters } from "./config/control-registers.js";

export class Vcpu {
  readonly pointer: number;
  /** The guest's own context, and L1's while it runs its nested guest. */
  readonly rootMmu: PagingContext;
  /** Shadows L1's second stage. */
  readonly guestMmu: PagingContext;
  /** Walks L2's own tables, through `guestMmu`. */
  readonly nestedMmu: PagingContext;
  /** The context that faults go through. */
  mmu: PagingContext;
  /** The context that linear addresses go through. */
  walkMmu: PagingContext;
  readonly #memory: Allocations;
  readonly #requests: RootRequests;
  readonly #faults: VcpuFaults;
  readonly #invalidation: Invalidation;
  readonly #pdptes: PdpteRegisters;
  #registers: PagingRegisters = { cr0: 0, cr3: 0n, cr4: 0, efer: 0 };
  #smm = false;
  #guestMode = false;
  /** The host is looking a page up for a fault of this vCPU. */
  waiting = false;

  /** Use VirtualMachine.createVcpu. */
  constructor(
    readonly vm: VirtualMachine,
    readonly id: number,
    registers: ControlRegisters,
  ) {
    const { linear } = vm;
    this.#memory = new Allocations(linear);
    const rootUsers = {
      put: (page: number) => vm.exports.rootPut(vm.pointer, page),
      commit: () => {
        vm.exports.zapCommit(vm.pointer);
        vm.settle();
      },
    };
    const context = (name: PagingContext["name"]) =>
      new PagingContext(vm.exports, linear, this.#memory, name, vm.work, rootUsers);
    [this.pointer, this.rootMmu, this.guestMmu, this.nestedMmu] = this.#memory.guard(() => [
      this.#memory.take(vcpuRecord.size),
      context("root_mmu"),
      context("guest_mmu"),
      context("nested_mmu"),
    ]);
    this.mmu = this.rootMmu;
    this.walkMmu = this.rootMmu;
    this.nestedMmu.second = this.guestMmu;
    this.nestedMmu.pdpteReserved = pdpteReservedBits(vm.limits.guestPhysicalBits, vm.pdpteAccessed);
    this.#requests = new RootRequests(this);
    this.#invalidation = new Invalidation(this, this.#requests);
    this.#pdptes = new PdpteRegisters(this);
    this.#faults = new VcpuFaults(this, this.#invalidation, this.#pdptes);
    vcpuRecord.set32(linear, this.pointer, "VM", vm.pointer);
    this.#setSpace(false);
    this.#use(this.rootMmu, this.rootMmu);
    this.#setRegisters(numbersOf(registers));
    this.#resetContext();
  }

  /** The same as `registers`, as numbers. */
  get pagingRegisters(): PagingRegisters {
    return this.#registers;
  }

  get registers(): ControlRegisters {
    const { cr0, cr3, cr4, efer } = this.#registers;
    return { cr0: BigInt(cr0), cr3, cr4: BigInt(cr4), efer: BigInt(efer) };
  }

  /** The root cache of the guest's own context. */
  get roots(): RootCache {
    return this.rootMmu.roots;
  }

  /** Every root page in use. */
  rootPages(): number[] {
    return [...this.rootMmu.roots.pages(), ...this.guestMmu.roots.pages()];
  }

  #use(mmu: PagingContext, walkMmu: PagingContext): void {
    this.mmu = mmu;
    this.walkMmu = walkMmu;
    vcpuRecord.set32(this.vm.linear, this.pointer, "MMU", mmu.pointer);
    vcpuRecord.set32(this.vm.linear, this.pointer, "WALK_MMU", walkMmu.pointer);
  }

  /** The context that faults go through maps guest-physical addresses as they are. */
  get isDirect(): boolean {
    return (this.mmu.rootRole & ROLE_DIRECT) !== 0;
  }

  /** Bits of a linear address: 32 outside long mode. */
  get linearWidth(): 32 | 48 | 57 {
    const { guestLevel } = this.walkMmu;
    if (guestLevel < 4) return 32;
    return guestLevel === 4 ? 48 : 57;
  }

  /** Throws ConfigError for a linear address that the guest's paging mode does not have. */
  checkLinear(address: bigint): void {
    checkLinear(address, this.linearWidth > 32);
  }

  get inGuestMode(): boolean {
    return this.#guestMode;
  }

  /** The MMIO access that is remembered: `gva` is 0 for none. */
  get mmioInfo(): { gva: bigint; gfn: bigint; access: number; generation: bigint } {
    const { linear } = this.vm;
    return {
      gva: vcpuRecord.get64(linear, this.pointer, "MMIO_GVA"),
      gfn: vcpuRecord.get64(linear, this.pointer, "MMIO_GFN"),
      access: vcpuRecord.get32(linear, this.pointer, "MMIO_ACCESS"),
      generation: vcpuRecord.get64(linear, this.pointer, "MMIO_GENERATION"),
    };
  }

  get inSmm(): boolean {
    return this.#smm;
  }

  /** Address space of its memslots: 1 in system-management mode. */
  get space(): number {
    return this.#smm ? 1 : 0;
  }

  /**
   * Throws DisposedError after the VM was disposed of; BusyError where a callback of the host's uses the vCPU whose fault
   * waits for it. The core is in mid-fault then: other registers or roots would make it go on with half of each.
   */
  begin(): void {
    this.vm.begin();
    if (this.waiting) throw new BusyError(`vCPU ${this.id} is in a fault that waits for this answer of the host's`);
  }

  /** Gives its memory back, with the VM's. */
  release(): void {
    for (const { roots } of [this.rootMmu, this.guestMmu]) roots.free(ROOTS.all);
    this.#memory.release();
  }

  // ---------------------------------------------------------------- requests and roots

  /** Every vCPU gets this when a root in use was zapped. */
  requestObsoleteRoots(): void {
    this.#requests.addObsolete();
  }

  /**
   * What happens before each entry to the guest: requests are served, a root is loaded if there is none.
   * Returns false where a root table lies in no slot: the guest triple-faults. Throws OutOfMemoryError.
   */
  enterGuest(): boolean {
    this.begin();
    this.vm.linear.u32[(this.pointer >>> 2) + VCPU_WORD.pdptesRead] = this.vm.virtualization === "vmx" ? 1 : 0;
    const loaded = this.#requests.serve();
    this.vm.events.collect(this.id);
    return loaded;
  }

  // ---------------------------------------------------------------- faults and walks

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
    this.begin();
    const missing = prefault(this.#faults, addresses, results, errorCode);
    this.vm.events.collect(this.id);
    return missing;
  }

  /**
   * The host has fetched the page of a gfn that the guest waited for (`retry` with `waits`): it is mapped without an access,
   * unless the guest runs on other tables now. Returns whether the guest waited for it.
   */
  pageReady(gfn: bigint): boolean {
    this.begin();
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
    this.begin();
    checkInteger(errorCode, 0, 0xffffffff, "error code");
    checkBigint(address, "address");
    if (!nested) this.checkLinear(address);
    this.#faults.inject({ errorCode, address, nested });
    this.vm.events.collect(this.id);
  }

  /** A walk of the guest's tables by software, as instruction emulation makes it. `code` holds PFERR bits. */
  walk(address: bigint, code: number): WalkOutcome {
    this.begin();
    checkInteger(code, 0, 0xffffffff, "error code");
    checkBigint(address, "linear address");
    const result = this.#faults.walk(address, code);
    this.vm.events.collect(this.id);
    return result;
  }

  /**
   * A write that is emulated: memory first, then the dirty log, then the shadow pages of the written table. `gpa` may have
   * alias bits. Throws MemoryRangeError before anything changes.
   */
  emulatedWrite(gpa: bigint, data: Uint8Array | ArrayBufferView | ArrayBufferLike): void {
    this.begin();
    const bytes = toBytes(data);
    this.vm.writeGuest(gpa, bytes, this.space);
    this.vm.exports.pteWrite(this.pointer, Number(gpa >> 32n), Number(gpa & 0xffff_ffffn), bytes.length);
    this.vm.settle();
    this.vm.events.collect(this.id);
  }

  // ---------------------------------------------------------------- instructions

  /** INVLPG. Throws ConfigError for an address above 32 bits outside long mode. */
  invlpg(address: bigint): void {
    this.begin();
    checkBigint(address, "linear address");
    this.checkLinear(address);
    this.#invalidation.page(address);
    this.vm.events.collect(this.id);
  }

  /**
   * INVPCID types 0 (address), 1 (PCID), 2 (all, globals too), 3 (all but globals); SDM, "INVPCID". Throws
   * GeneralProtectionError, with nothing changed, where the processor would raise #GP(0).
   */
  invpcid(type: number, pcid: number, address: bigint): void {
    this.begin();
    checkBigint(address, "linear address");
    const pcide = (this.#registers.cr4 & CR4.pcide) !== 0;
    checkInvpcid(type, pcid, address, { pcide, width: this.linearWidth });
    if (type === 0) this.#invalidation.pcidPage(BigInt(pcid), address);
    else if (type === 1) this.#invalidation.pcid(BigInt(pcid));
    else this.#requests.add(REQUEST.flushGuest);
    this.vm.events.collect(this.id);
  }

  /** MOV to CR3. Throws GeneralProtectionError, with nothing changed, where the processor would raise #GP(0). */
  writeCr3(value: bigint): void {
    this.begin();
    checkBigint(value, "CR3");
    let noFlush = false;
    let pcid = 0n;
    if (this.#registers.cr4 & CR4.pcide) {
      noFlush = (value & CR3_NO_FLUSH) !== 0n;
      value &= ~CR3_NO_FLUSH;
      pcid = value & PCID;
    }
    const pae = isPaePaging(this.#registers);
    const same = value === this.#registers.cr3;
    if (!same || pae) {
      if (value >> BigInt(this.vm.limits.guestPhysicalBits) !== 0n) {
        throw new GeneralProtectionError(`CR3 0x${value.toString(16)} exceeds MAXPHYADDR`);
      }
      if (this.walkMmu !== this.nestedMmu && value & this.vm.limits.aliasMask) {
        throw new GeneralProtectionError(`CR3 0x${value.toString(16)} has alias bits`);
      }
      const reloaded = pae && this.#loadPdptes(value);
      this.#registers = { ...this.#registers, cr3: value };
      this.walkMmu.pgd = value;
      if (!same || (reloaded && this.vm.tdp === undefined)) this.#requests.newPgd(value);
    }
    if (!noFlush) this.#invalidation.pcid(pcid);
    this.vm.events.collect(this.id);
  }

  /** MOV to CR0. Throws GeneralProtectionError where the processor would raise #GP(0). */
  writeCr0(value: bigint): void {
    this.begin();
    checkBigint(value, "CR0");
    this.#write(writeCr0(this.#registers, value), false);
  }

  /** MOV to CR4. Throws GeneralProtectionError where the processor would raise #GP(0). */
  writeCr4(value: bigint): void {
    this.begin();
    checkBigint(value, "CR4");
    const write = writeCr4(this.#registers, value);
    this.#write(write, write.freesRoots);
  }

  /** WRMSR to IA32_EFER; LMA keeps its value. Throws GeneralProtectionError where LME would change under paging. */
  writeEfer(value: bigint): void {
    this.begin();
    checkBigint(value, "EFER");
    this.#write(writeEfer(this.#registers, value), false);
  }

  #write(write: RegisterWrite, freesRoots: boolean): void {
    const reloaded = write.reloadsPdptes && this.#loadPdptes(write.registers.cr3);
    this.#registers = write.registers;
    vcpuRecord.set32(this.vm.linear, this.pointer, "PAE", write.registers.cr4 & CR4.pae ? 1 : 0);
    const { tdp } = this.vm;
    // With two-dimensional paging CR0.WP decides what walks may do, never the root.
    if (tdp !== undefined && write.changesOnlyWriteProtect) this.#initRoles();
    else if (write.changesRoles) this.#resetContext();
    // The root is named by its PDPTEs too: with others it is another root.
    else if (reloaded && tdp === undefined) this.#requests.newPgd(write.registers.cr3);
    if (freesRoots && tdp === undefined) this.#requests.unload();
    if (write.flush === "all") this.#requests.add(REQUEST.flushGuest);
    if (write.flush === "current") this.#requests.add(REQUEST.flushCurrent);
    this.vm.events.collect(this.id);
  }

  /** Registers set from outside, all at once (KVM_SET_SREGS). Throws ConfigError where CR3 has alias bits. */
  setRegisters(registers: ControlRegisters): void {
    this.begin();
    checkControlRegisters(registers);
    this.#checkCr3(registers.cr3);
    const before = this.registers;
    this.#setRegisters(numbersOf(registers));
    const same = (["cr0", "cr3", "cr4", "efer"] as const).every((name) => before[name] === registers[name]);
    if (!same || isPaePaging(this.#registers)) this.#resetContext();
    this.vm.events.collect(this.id);
  }

  /**
   * Registers that the guest changed without an exit: CR3 and, where it owns the bit, CR0.WP. Throws ConfigError where CR3
   * has alias bits, which the processor refuses.
   */
  setGuestRegisters(changed: Partial<ControlRegisters>): void {
    this.begin();
    checkChangedRegisters(changed, this.registers);
    this.#checkCr3(changed.cr3 ?? 0n);
    const before = this.#registers;
    this.#registers = numbersOf({ ...this.registers, ...changed });
    this.walkMmu.pgd = this.#registers.cr3;
    if (before.cr3 !== this.#registers.cr3 && isPaePaging(this.#registers)) this.#pdptes.latch(this.#registers.cr3);
  }

  /** EFLAGS.AC, for SMAP. */
  setAc(ac: boolean): void {
    this.begin();
    checkFlag(ac, "EFLAGS.AC");
    vcpuRecord.set32(this.vm.linear, this.pointer, "AC", ac ? 1 : 0);
  }

  /** PKRU. Throws RangeError for what has no 32 bits. */
  setPkru(pkru: number): void {
    this.begin();
    checkInteger(pkru, 0, 0xffffffff, "PKRU", RangeError);
    for (const context of [this.rootMmu, this.nestedMmu]) context.setPkru(pkru);
  }

  #setRegisters(registers: PagingRegisters): void {
    this.#registers = registers;
    this.walkMmu.pgd = registers.cr3;
    vcpuRecord.set32(this.vm.linear, this.pointer, "PAE", registers.cr4 & CR4.pae ? 1 : 0);
    if (!isPaePaging(registers)) return;
    try {
      this.#loadPdptes(registers.cr3);
    } catch (error) {
      // Registers from outside may name a table that is not there yet: the old PDPTEs stay.
      if (!(error instanceof GeneralProtectionError)) throw error;
    }
  }

  #loadPdptes(cr3: bigint): boolean {
    const changed = this.#pdptes.load(cr3);
    this.#requests.add(REQUEST.loadPgd);
    return changed;
  }

  // ---------------------------------------------------------------- modes

  /** What formats are derived from has changed (kvm_mmu_after_set_cpuid). No nested guest runs. */
  refreshFormats(): void {
    for (const context of [this.rootMmu, this.guestMmu, this.nestedMmu]) context.forgetRoles();
    this.#resetContext();
  }

  /** Frees the roots and computes the roles anew (kvm_mmu_reset_context). */
  #resetContext(): void {
    this.#requests.unload();
    this.#initRoles();
  }

  /** kvm_init_mmu: of L2's own tables while it runs behind L1's second stage, of the guest's otherwise. */
  #initRoles(): void {
    const { vm } = this;
    if (this.walkMmu === this.nestedMmu) setL2Roles(vm, this.nestedMmu, this.#registers, this.#roleMode);
    else setRootRoles(vm, this.rootMmu, this.cpuRole(), this.#registers);
  }

  get #roleMode() {
    return { smm: this.#smm, guestMode: this.#guestMode };
  }

  cpuRole(): CpuRole {
    return cpuRole(this.#registers, this.#roleMode);
  }

  #setSpace(smm: boolean): void {
    this.#smm = smm;
    vcpuRecord.set32(this.vm.linear, this.pointer, "SPACE", smm ? 1 : 0);
    for (const context of [this.rootMmu, this.guestMmu, this.nestedMmu])
      context.memory = this.vm.slots.memory(this.space);
  }

  /** System-management mode begins: paging off, the SMM address space (enter_smm). */
  enterSmm(): void {
    this.begin();
    this.#setSpace(true);
    this.#resetContext();
    this.#setRegisters(smmRegisters(this.#registers));
    this.#resetContext();
    this.vm.events.collect(this.id);
  }

  /** RSM with the registers that were saved. Throws ConfigError where CR3 has alias bits. */
  leaveSmm(registers: ControlRegisters): void {
    this.begin();
    checkControlRegisters(registers);
    this.#checkCr3(registers.cr3);
    this.#setSpace(false);
    this.#resetContext();
    this.#setRegisters(numbersOf(registers));
    this.#resetContext();
    this.vm.events.collect(this.id);
  }

  /**
   * A nested guest is entered. Without a second stage of L1's its tables are shadowed like L1's own (or, with
   * two-dimensional paging, its guest-physical addresses are L1's), in pages of their own (guest_mode).
   */
  enterNested(registers: ControlRegisters, stage?: SecondStage): void {
    this.begin();
    checkControlRegisters(registers);
    this.#checkStage(registers, stage);
    const numbers = numbersOf(registers);
    this.#requestTransitionFlush();
    this.#setGuestMode(true);
    if (stage !== undefined) {
      this.#use(this.guestMmu, this.walkMmu);
      const pgd = setNestedRoles(this.vm, this.guestMmu, stage, this.#roleMode);
      this.#requests.loader.latch(this.guestMmu);
      this.#requests.newPgd(pgd);
      this.#use(this.guestMmu, this.nestedMmu);
    }
    this.#switch(registers);
    if (stage?.kind === "ept" && isPaePaging(numbers)) this.#pdptes.enterNested(numbers.cr3, stage.pdptes);
  }

  /** Throws UnsupportedError, ConfigError or GeneralProtectionError for what cannot be entered. */
  #checkStage(registers: ControlRegisters, stage: SecondStage | undefined): void {
    const { tdp, limits } = this.vm;
    if (this.#guestMode)
      throw new ConfigError(`vCPU ${this.id} runs a nested guest already, expected exitNested first`);
    if (stage === undefined) {
      this.#checkRoot(registers.cr3);
      return;
    }
    checkStageOptions(stage);
    if (tdp === undefined) throw new UnsupportedError("a second stage of L1's needs NPT or EPT in the host");
    if (stage.kind === "npt") {
      this.#checkRoot(stage.ncr3);
      const level = nestedNptLevel(stage);
      if (level > tdp.level) {
        throw new UnsupportedError(`L1's NPT has ${level} levels, expected at most the host's ${tdp.level}`);
      }
    } else if (limits.aliasMask !== 0n) {
      throw new UnsupportedError("nested EPT is not possible while addresses have alias bits");
    } else if (!isValidEptp(this.vm, stage.eptp)) {
      throw new ConfigError(`EPTP 0x${stage.eptp.toString(16)} is none that this VM's L1 may use`);
    } else if (isPaePaging(numbersOf(registers))) this.#pdptes.checkFields(stage.pdptes);
  }

  /** Behind L1's second stage CR3 is an address of L2's, where the bits mean nothing. Throws ConfigError. */
  #checkCr3(cr3: bigint): void {
    if (this.walkMmu !== this.nestedMmu) this.#checkRoot(cr3);
  }

  /** A table of L1's has no alias. Throws ConfigError. */
  #checkRoot(table: bigint): void {
    if (table & this.vm.limits.aliasMask) throw new ConfigError(`root table 0x${table.toString(16)} has alias bits`);
  }

  /** The nested guest exits to L1, whose registers these are. Throws ConfigError where CR3 has alias bits. */
  exitNested(registers: ControlRegisters): void {
    this.begin();
    checkControlRegisters(registers);
    this.#checkRoot(registers.cr3);
    if (this.mmu.isEpt && this.walkMmu === this.nestedMmu && isPaePaging(this.#registers)) this.#pdptes.exitNested();
    this.#setGuestMode(false);
    this.#requestTransitionFlush();
    this.#use(this.rootMmu, this.rootMmu);
    this.#switch(registers);
  }

  #setGuestMode(guestMode: boolean): void {
    this.#guestMode = guestMode;
    vcpuRecord.set32(this.vm.linear, this.pointer, "GUEST_MODE", guestMode ? 1 : 0);
  }

  /** Without a tag of its own for L2's translations VMX flushes everything, SVM the current root's. */
  #requestTransitionFlush(): void {
    this.#requests.add(this.vm.virtualization === "vmx" ? REQUEST.flushGuest : REQUEST.sync | REQUEST.flushCurrent);
  }

  /** Registers of the other level, and its roles (nested_svm_load_cr3, nested_vmx_load_cr3). */
  #switch(registers: ControlRegisters): void {
    const numbers = numbersOf(registers);
    if (this.mmu === this.rootMmu) this.#setRegisters(numbers);
    else {
      this.#registers = numbers;
      vcpuRecord.set32(this.vm.linear, this.pointer, "PAE", numbers.cr4 & CR4.pae ? 1 : 0);
    }
    this.#initRoles();
    if (this.mmu === this.rootMmu) this.#requests.newPgd(numbers.cr3);
    this.vm.events.collect(this.id);
  }

  /**
   * INVEPT of one EPT of L1's or of all: its shadow roots are freed. Returns whether it succeeds: an EPTP that the VM's
   * capabilities do not allow is an invalid operand, and changes nothing (handle_invept).
   */
  invept(eptp: bigint | "all"): boolean {
    this.begin();
    if (eptp !== "all") checkBigint(eptp, "EPTP");
    if (eptp === "all" ? this.vm.tdp?.format !== "ept" : !isValidEptp(this.vm, eptp)) return false;
    const { roots } = this.guestMmu;
    roots.freeWhere((_, pgd) => eptp === "all" || sameEptTable(pgd, eptp), true);
    this.vm.events.collect(this.id);
    return true;
  }

  /** L1 loads another VMCS: the shadow roots of its second stages go (nested_release_vmcs12). */
  releaseNested(): void {
    this.begin();
    this.guestMmu.roots.free(ROOTS.all);
    this.vm.events.collect(this.id);
  }
}
