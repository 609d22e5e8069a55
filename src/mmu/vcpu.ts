/** A virtual processor: its registers, its paging contexts, the requests it serves before it enters the guest. */
import { SHADOW_CODES } from "../abi/shadow.js";
import { GeneralProtectionError, OutOfMemoryError } from "../errors.js";
import { type CpuRole, cpuRole, ROLE_DIRECT, ROLE_PAE_ROOT, roleLevel, shadowRoot } from "../role/index.js";
import { Allocations } from "./allocations.js";
import { PagingContext } from "./context.js";
import {
  type ControlRegisters,
  CR3_NO_FLUSH,
  CR4,
  checkPdptes,
  isPaePaging,
  numbersOf,
  type PagingRegisters,
  PCID,
  type RegisterWrite,
  smmRegisters,
  writeCr0,
  writeCr4,
  writeEfer,
} from "./control-registers.js";
import { Invalidation } from "./invalidation.js";
import { pageRecord, vcpuRecord } from "./records.js";
import { ROOTS, RootCache } from "./root-cache.js";
import { RootLoader } from "./root-loader.js";
import type { VirtualMachine } from "./vm.js";

/** How a fault ended. `inject`: the guest gets #PF with `errorCode` and CR2 = `address`. */
export type FaultOutcome =
  | { readonly result: "fixed" | "spurious" | "emulate" | "mmio" | "retry" }
  | { readonly result: "inject"; readonly errorCode: number; readonly address: bigint };

export type { ControlRegisters } from "./control-registers.js";

export type WalkOutcome =
  | { readonly ok: true; readonly gpa: bigint }
  | { readonly ok: false; readonly errorCode: number; readonly address: bigint };

export interface FaultOptions {
  /** The access interrupted the delivery of an event: a shadowed table that it hits is given up first. Default false. */
  readonly eventDelivery?: boolean;
  /** Privilege level of the guest, 0 to 3, for the walk of `eventDelivery`. Default 0. */
  readonly cpl?: number;
}

/** Work that waits for the next entry to the guest. */
const REQUEST = { freeObsoleteRoots: 1, sync: 2, loadPgd: 4, flushCurrent: 8, flushGuest: 16, fillRoot: 32 } as const;

const PFERR = { p: 1, w: 2, u: 4, rsvd: 8 } as const;
const {
  RET_PF_RETRY,
  RET_PF_EMULATE,
  RET_PF_FIXED,
  RET_PF_SPURIOUS,
  RET_PF_INJECT,
  NEED_HOST_PAGE,
  NEED_PAGE,
  NO_SPACE,
} = SHADOW_CODES;
const OUTCOMES: Readonly<Record<number, "fixed" | "spurious" | "retry">> = {
  [RET_PF_RETRY]: "retry",
  [RET_PF_FIXED]: "fixed",
  [RET_PF_SPURIOUS]: "spurious",
};

export class Vcpu {
  readonly pointer: number;
  readonly rootMmu: PagingContext;
  readonly roots: RootCache;
  readonly #memory: Allocations;
  readonly #loader: RootLoader;
  readonly #invalidation: Invalidation;
  #registers: PagingRegisters = { cr0: 0, cr3: 0n, cr4: 0, efer: 0 };
  #smm = false;
  #guestMode = false;
  #requests = 0;

  /** Use VirtualMachine.createVcpu. */
  constructor(
    readonly vm: VirtualMachine,
    readonly id: number,
    registers: ControlRegisters,
  ) {
    const { linear } = vm;
    this.#memory = new Allocations(linear);
    [this.pointer, this.rootMmu] = this.#memory.guard(() => [
      this.#memory.take(vcpuRecord.size),
      new PagingContext(vm.exports, linear, this.#memory, "root_mmu", vm.work),
    ]);
    this.rootMmu.memory = vm.slots.memory(0);
    this.roots = new RootCache(
      linear,
      this.rootMmu,
      (page) => vm.exports.rootPut(vm.pointer, page),
      () => {
        vm.exports.zapCommit(vm.pointer);
        vm.settle();
      },
    );
    this.#loader = new RootLoader(this, this.rootMmu, this.roots);
    this.#invalidation = new Invalidation(this, this.rootMmu, this.roots);
    vcpuRecord.set32(linear, this.pointer, "VM", vm.pointer);
    vcpuRecord.set32(linear, this.pointer, "MMU", this.rootMmu.pointer);
    vcpuRecord.set32(linear, this.pointer, "WALK_MMU", this.rootMmu.pointer);
    this.#setRegisters(numbersOf(registers));
    this.#resetContext();
  }

  get registers(): ControlRegisters {
    const { cr0, cr3, cr4, efer } = this.#registers;
    return { cr0: BigInt(cr0), cr3, cr4: BigInt(cr4), efer: BigInt(efer) };
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

  dispose(): void {
    this.roots.free(ROOTS.all);
    this.#memory.release();
  }

  // ---------------------------------------------------------------- requests and roots

  /** Every vCPU gets this when a root in use was zapped. */
  requestObsoleteRoots(): void {
    this.#requests |= REQUEST.freeObsoleteRoots | REQUEST.fillRoot;
  }

  /**
   * What happens before each entry to the guest: requests are served, a root is loaded if there is none.
   * Throws OutOfMemoryError; a root table outside every slot is a triple fault and throws UnsupportedError.
   */
  enterGuest(): void {
    const requests = this.#requests;
    if (requests !== 0 || this.roots.current.page === 0) {
      // The only thing that can fail for want of memory, before anything has changed.
      this.vm.caches.topUp((this.rootMmu.rootRole & ROLE_PAE_ROOT) !== 0);
      this.#serve(requests);
    }
    this.#loader.check();
    this.vm.events.collect(this.id);
  }

  #serve(requests: number): void {
    this.#requests = 0;
    try {
      if (requests & REQUEST.freeObsoleteRoots) this.#freeObsoleteRoots();
      if (requests & REQUEST.fillRoot && this.roots.current.page !== 0) this.#loader.fill(this.roots.current.page);
      if (requests & REQUEST.sync) this.#syncRoots();
      if (requests & REQUEST.flushGuest) {
        this.#syncRoots();
        this.roots.freeWhere((page) => this.vm.isUnsync(page), false);
      }
      if (this.roots.current.page === 0) {
        this.#loader.load(this.#registers.cr3);
        this.#syncRoots();
      }
    } catch (error) {
      this.#requests |= requests;
      throw error;
    }
  }

  #freeObsoleteRoots(): void {
    this.roots.freeWhere((page) => this.vm.isObsolete(page), true);
  }

  #forgetMmio(): void {
    vcpuRecord.set64(this.vm.linear, this.pointer, "MMIO_GVA", 0n);
  }

  #syncRoots(): void {
    const { page } = this.roots.current;
    if (this.rootMmu.rootRole & ROLE_DIRECT || page === 0) return;
    this.#forgetMmio();
    this.vm.exports.syncFromRoot(this.pointer, page);
    this.vm.settle();
  }

  // ---------------------------------------------------------------- faults and walks

  /** Handles a page fault (or, in direct contexts, a fault at a guest-physical address). */
  pageFault(address: bigint, errorCode: number, options: FaultOptions = {}): FaultOutcome {
    if (options.eventDelivery && !(this.rootMmu.rootRole & ROLE_DIRECT)) {
      const walk = this.#walk(address, options.cpl === 3 ? PFERR.u : 0);
      // A failed walk leaves the kernel with an all-ones address: no table lies there.
      if (walk.ok) this.vm.unprotectGfn(walk.gpa >> 12n);
    }
    const low = Number(address & 0xffff_ffffn);
    const code = this.fault(low, Number(address >> 32n), errorCode);
    const outcome = this.#outcome(code, address);
    this.vm.events.collect(this.id);
    return outcome;
  }

  /** The same for numbers, without an object for the result: a RET_PF_* code. The fast way. */
  fault(low: number, high: number, errorCode: number): number {
    const { vm } = this;
    if (!vm.caches.ready) vm.caches.topUp(false);
    let code = vm.exports.pageFault(this.pointer, high, low, errorCode, 0);
    while (code >= NEED_HOST_PAGE) {
      vm.stats.hostCalls++;
      if (code === NO_SPACE) throw new OutOfMemoryError("the limit on shadow pages leaves none for a fault");
      if (code === NEED_HOST_PAGE) vm.provideHostPage(this);
      else if (code === NEED_PAGE) vm.providePage(this);
      code = vm.exports.pageFaultResume(this.pointer);
    }
    vm.settle();
    return code;
  }

  #outcome(code: number, address: bigint): FaultOutcome {
    if (code === RET_PF_INJECT) {
      const errorCode = vcpuRecord.get32(this.vm.linear, this.pointer, "GW_ERROR");
      this.injectFault(errorCode, address);
      return { result: "inject", errorCode, address };
    }
    if (code === RET_PF_EMULATE) {
      const slot = vcpuRecord.get64(this.vm.linear, this.pointer, "MMIO_GVA");
      const mmio = slot !== 0n && slot === (address & ~0xfffn);
      return { result: mmio ? "mmio" : "emulate" };
    }
    return { result: OUTCOMES[code]! };
  }

  /**
   * The guest gets a page fault that was found by software: a stale SPTE of the address must not make it happen again
   * (kvm_inject_emulated_page_fault).
   */
  injectFault(errorCode: number, address: bigint): void {
    if (!(errorCode & PFERR.p) || errorCode & PFERR.rsvd) return;
    const { page } = this.roots.current;
    if (page !== 0) this.#invalidation.through(page, address);
    this.vm.events.collect(this.id);
  }

  /** A walk of the guest's tables by software, as instruction emulation makes it. `code` holds PFERR bits. */
  walk(address: bigint, code: number): WalkOutcome {
    const result = this.#walk(address, code);
    this.vm.events.collect(this.id);
    return result;
  }

  #walk(address: bigint, code: number): WalkOutcome {
    const { vm, pointer } = this;
    const low = Number(address & 0xffff_ffffn);
    if (vm.exports.walk(pointer, this.rootMmu.pointer, pointer, Number(address >> 32n), low, code) !== 0) {
      return { ok: true, gpa: vcpuRecord.get64(vm.linear, pointer, "GW_GPA") };
    }
    return { ok: false, errorCode: vcpuRecord.get32(vm.linear, pointer, "GW_ERROR"), address };
  }

  /** A write that is emulated: memory first, then the dirty log, then the shadow pages of the written table. */
  emulatedWrite(gpa: bigint, bytes: Uint8Array): void {
    this.vm.writeGuest(gpa, bytes, this.space);
    this.vm.exports.pteWrite(this.pointer, Number(gpa >> 32n), Number(gpa & 0xffff_ffffn), bytes.length);
    this.vm.settle();
    this.vm.events.collect(this.id);
  }

  // ---------------------------------------------------------------- instructions

  /** INVLPG. */
  invlpg(address: bigint): void {
    this.#invalidation.page(address);
    this.vm.events.collect(this.id);
  }

  /** INVPCID types 0 (address), 1 (PCID), 2 (all, globals too), 3 (all but globals); SDM, "INVPCID". */
  invpcid(type: number, pcid: number, address: bigint): void {
    if (type === 0) this.#invalidation.pcidPage(this.#registers.cr3, BigInt(pcid), address);
    else if (type === 1) this.#invalidatePcid(BigInt(pcid));
    else this.#requests |= REQUEST.flushGuest;
    this.vm.events.collect(this.id);
  }

  #invalidatePcid(pcid: bigint): void {
    const { cr3, cr4 } = this.#registers;
    const enabled = (cr4 & CR4.pcide) !== 0;
    if ((enabled ? cr3 & PCID : 0n) === pcid) this.#requests |= REQUEST.sync | REQUEST.flushCurrent;
    // Without PCIDs every CR3 write flushes, so previous roots are synchronised when they come back.
    if (enabled) this.roots.freeWhere((_, pgd) => (pgd & PCID) === pcid, false);
  }

  /** MOV to CR3. Throws GeneralProtectionError, with nothing changed, where the processor would raise #GP(0). */
  writeCr3(value: bigint): void {
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
      const reloaded = pae && this.#loadPdptes(value);
      this.#registers = { ...this.#registers, cr3: value };
      this.rootMmu.pgd = value;
      if (!same || reloaded) this.#newPgd();
    }
    if (!noFlush) this.#invalidatePcid(pcid);
    this.vm.events.collect(this.id);
  }

  /** The guest's root table changed: use a cached root, or have one loaded at the next entry. */
  #newPgd(): void {
    const { cr3 } = this.#registers;
    const role = this.rootMmu.rootRole;
    const wanted = role & ROLE_DIRECT ? (role | this.vm.staleDirectRoleBits) >>> 0 : role;
    if (!this.roots.switchTo(cr3, wanted, this.#loader.low(cr3))) return;
    this.#requests |= REQUEST.loadPgd | REQUEST.fillRoot;
    this.#forgetMmio();
    if (!(role & ROLE_DIRECT)) pageRecord.set32(this.vm.linear, this.roots.current.page, "FLOOD", 0);
  }

  /** MOV to CR0. Throws GeneralProtectionError where the processor would raise #GP(0). */
  writeCr0(value: bigint): void {
    this.#write(writeCr0(this.#registers, value), false);
  }

  /** MOV to CR4. Throws GeneralProtectionError where the processor would raise #GP(0). */
  writeCr4(value: bigint): void {
    const write = writeCr4(this.#registers, value);
    this.#write(write, write.freesRoots);
  }

  /** WRMSR to IA32_EFER; LMA keeps its value. Throws GeneralProtectionError where LME would change under paging. */
  writeEfer(value: bigint): void {
    this.#write(writeEfer(this.#registers, value), false);
  }

  #write(write: RegisterWrite, freesRoots: boolean): void {
    const reloaded = write.reloadsPdptes && this.#loadPdptes(write.registers.cr3);
    this.#registers = write.registers;
    vcpuRecord.set32(this.vm.linear, this.pointer, "PAE", write.registers.cr4 & CR4.pae ? 1 : 0);
    if (write.changesRoles) this.#resetContext();
    // The root is named by its PDPTEs too: with others it is another root.
    else if (reloaded) this.#newPgd();
    if (freesRoots) this.#unload();
    if (write.flush === "all") this.#requests |= REQUEST.flushGuest;
    if (write.flush === "current") this.#requests |= REQUEST.flushCurrent;
    this.vm.events.collect(this.id);
  }

  /** Registers set from outside, all at once (KVM_SET_SREGS). */
  setRegisters(registers: ControlRegisters): void {
    const before = this.registers;
    this.#setRegisters(numbersOf(registers));
    const same = (["cr0", "cr3", "cr4", "efer"] as const).every((name) => before[name] === registers[name]);
    if (!same || isPaePaging(this.#registers)) this.#resetContext();
    this.vm.events.collect(this.id);
  }

  /** EFLAGS.AC, for SMAP. */
  setAc(ac: boolean): void {
    vcpuRecord.set32(this.vm.linear, this.pointer, "AC", ac ? 1 : 0);
  }

  setPkru(pkru: number): void {
    this.rootMmu.setPkru(pkru >>> 0);
  }

  #setRegisters(registers: PagingRegisters): void {
    this.#registers = registers;
    this.rootMmu.pgd = registers.cr3;
    vcpuRecord.set32(this.vm.linear, this.pointer, "PAE", registers.cr4 & CR4.pae ? 1 : 0);
    if (!isPaePaging(registers)) return;
    try {
      this.#loadPdptes(registers.cr3);
    } catch (error) {
      // Registers from outside may name a table that is not there yet: the old PDPTEs stay.
      if (!(error instanceof GeneralProtectionError)) throw error;
    }
  }

  /** Latches the PDPTEs at CR3; returns whether they differ from those before. Throws GeneralProtectionError. */
  #loadPdptes(cr3: bigint): boolean {
    const bytes = this.vm.readGuest(cr3 & 0xffff_ffe0n, 32, this.space);
    if (bytes === undefined) {
      throw new GeneralProtectionError(`page-directory-pointer table at 0x${cr3.toString(16)} lies in no slot`);
    }
    const values = [...new BigUint64Array(bytes.slice().buffer)];
    checkPdptes(values, this.vm.limits.guestPhysicalBits);
    const changed = this.rootMmu.pdptes.some((value, i) => value !== values[i]);
    this.rootMmu.pdptes = values;
    this.#requests |= REQUEST.loadPgd;
    return changed;
  }

  // ---------------------------------------------------------------- modes

  #unload(): void {
    this.roots.free(ROOTS.all);
    this.#forgetMmio();
  }

  /** Frees the roots and computes the roles anew (kvm_mmu_reset_context). */
  #resetContext(): void {
    this.#unload();
    this.#initRoles();
  }

  #initRoles(): void {
    const cpu = this.cpuRole();
    const level = Math.max(roleLevel(cpu.base), this.vm.minimumRootLevel);
    this.rootMmu.setRoles(cpu, shadowRoot(cpu, level), this.vm.limits, this.#registers);
    this.rootMmu.pgd = this.#registers.cr3;
  }

  cpuRole(): CpuRole {
    return cpuRole(this.#registers, { smm: this.#smm, guestMode: this.#guestMode });
  }

  #setSpace(smm: boolean): void {
    this.#smm = smm;
    vcpuRecord.set32(this.vm.linear, this.pointer, "SPACE", smm ? 1 : 0);
    this.rootMmu.memory = this.vm.slots.memory(smm ? 1 : 0);
  }

  /** System-management mode begins: paging off, the SMM address space (enter_smm). */
  enterSmm(): void {
    this.#setSpace(true);
    this.#resetContext();
    this.#setRegisters(smmRegisters(this.#registers));
    this.#resetContext();
    this.vm.events.collect(this.id);
  }

  /** RSM with the registers that were saved. */
  leaveSmm(registers: ControlRegisters): void {
    this.#setSpace(false);
    this.#resetContext();
    this.#setRegisters(numbersOf(registers));
    this.#resetContext();
    this.vm.events.collect(this.id);
  }

  /**
   * A nested guest is entered whose L1 uses no nested paging: its tables are shadowed like L1's own, in pages of
   * their own (guest_mode).
   */
  enterNested(registers: ControlRegisters): void {
    this.#switchNested(true, registers);
  }

  /** The nested guest exits to L1, whose registers these are. */
  exitNested(registers: ControlRegisters): void {
    this.#switchNested(false, registers);
  }

  #switchNested(guestMode: boolean, registers: ControlRegisters): void {
    this.#guestMode = guestMode;
    vcpuRecord.set32(this.vm.linear, this.pointer, "GUEST_MODE", guestMode ? 1 : 0);
    this.#setRegisters(numbersOf(registers));
    this.#initRoles();
    // Without a tag of its own for L2's translations VMX flushes everything, SVM the current root's.
    this.#requests |= this.vm.virtualization === "vmx" ? REQUEST.flushGuest : REQUEST.sync | REQUEST.flushCurrent;
    this.#newPgd();
    this.vm.events.collect(this.id);
  }
}
