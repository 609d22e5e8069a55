/** A virtual processor: its registers, its paging contexts, the requests it serves before it enters the guest. */
import { SHADOW_CODES } from "../abi/shadow.js";
import { ConfigError, GeneralProtectionError, OutOfMemoryError, UnsupportedError } from "../errors.js";
import { type CpuRole, cpuRole, ROLE_DIRECT, ROLE_PAE_ROOT } from "../role/index.js";
import { Allocations } from "./allocations.js";
import { type AsyncFault, AsyncFaults } from "./async-faults.js";
import { PagingContext } from "./context.js";
import { type SecondStage, setL2Roles, setNestedRoles, setRootRoles } from "./context-roles.js";
import {
  type ControlRegisters,
  CR3_NO_FLUSH,
  CR4,
  isPaePaging,
  isWriteProtect,
  numbersOf,
  type PagingRegisters,
  PCID,
  pdpteReservedBits,
  type RegisterWrite,
  smmRegisters,
  writeCr0,
  writeCr4,
  writeEfer,
} from "./control-registers.js";
import { Invalidation, sameEptTable } from "./invalidation.js";
import { FAULT_CODE, type FaultOptions, type FaultOutcome, type InjectedFault, type WalkOutcome } from "./outcome.js";
import { PdpteRegisters } from "./pdptes.js";
import { prefault } from "./prefault.js";
import { PAGE_WORD, VCPU_WORD, vcpuRecord } from "./records.js";
import { ROOTS, type RootCache } from "./root-cache.js";
import { RootLoader } from "./root-loader.js";
import type { VirtualMachine } from "./vm.js";

export type { ControlRegisters } from "./control-registers.js";

/** Work that waits for the next entry to the guest. */
const REQUEST = { freeObsoleteRoots: 1, sync: 2, loadPgd: 4, flushCurrent: 8, flushGuest: 16, fillRoot: 32 } as const;

const PFERR = { p: 1, w: 2, u: 4, rsvd: 8, fetch: 16 } as const;
const { RET_PF_INJECT, NEED_HOST_PAGE, NEED_PAGE, NO_SPACE, NEED_STOCK, ATTEND } = SHADOW_CODES;
/** What most faults end with: the same objects for all. */
const OUTCOMES: readonly (FaultOutcome | undefined)[] = Object.assign(new Array(RET_PF_INJECT + 1).fill(undefined), {
  [SHADOW_CODES.RET_PF_RETRY]: Object.freeze({ result: "retry" }),
  [SHADOW_CODES.RET_PF_FIXED]: Object.freeze({ result: "fixed" }),
  [SHADOW_CODES.RET_PF_SPURIOUS]: Object.freeze({ result: "spurious" }),
});
const MMIO: FaultOutcome = Object.freeze({ result: "mmio" });
const EMULATE: FaultOutcome = Object.freeze({ result: "emulate" });

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
  readonly #loader: RootLoader;
  readonly #invalidation: Invalidation;
  readonly #pdptes: PdpteRegisters;
  readonly #async = new AsyncFaults(this);
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
    this.#loader = new RootLoader(this);
    this.#invalidation = new Invalidation(this);
    this.#pdptes = new PdpteRegisters(this);
    vcpuRecord.set32(linear, this.pointer, "VM", vm.pointer);
    this.#setSpace(false);
    this.#use(this.rootMmu, this.rootMmu);
    this.#setRegisters(numbersOf(registers));
    this.#resetContext();
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
    for (const { roots } of [this.rootMmu, this.guestMmu]) roots.free(ROOTS.all);
    this.#memory.release();
  }

  // ---------------------------------------------------------------- requests and roots

  /** Every vCPU gets this when a root in use was zapped. */
  requestObsoleteRoots(): void {
    this.#requests |= REQUEST.freeObsoleteRoots | REQUEST.fillRoot;
  }

  /**
   * What happens before each entry to the guest: requests are served, a root is loaded if there is none.
   * Returns false where a root table lies in no slot: the guest triple-faults. Throws OutOfMemoryError.
   */
  enterGuest(): boolean {
    const requests = this.#requests;
    this.vm.linear.u32[(this.pointer >>> 2) + VCPU_WORD.pdptesRead] = this.vm.virtualization === "vmx" ? 1 : 0;
    if (requests !== 0 || this.mmu.roots.currentPage === 0) {
      // The only thing that can fail for want of memory, before anything has changed.
      this.vm.caches.topUp((this.mmu.rootRole & ROLE_PAE_ROOT) !== 0);
      this.#serve(requests);
    }
    this.#loader.check(this.mmu);
    this.vm.events.collect(this.id);
    return this.mmu.roots.currentPage !== 0;
  }

  #serve(requests: number): void {
    this.#requests = 0;
    try {
      if (requests & REQUEST.freeObsoleteRoots) this.#freeObsoleteRoots();
      const { roots } = this.mmu;
      if (requests & REQUEST.fillRoot && roots.currentPage !== 0) this.#loader.fill(roots.currentPage);
      if (requests & REQUEST.sync) this.#syncRoots();
      if (requests & REQUEST.flushGuest) this.#flushGuest();
      if (roots.currentPage === 0) {
        if (this.#loader.load(this.mmu)) this.#syncRoots();
      }
    } catch (error) {
      this.#requests |= requests;
      throw error;
    }
  }

  /** The guest's whole TLB goes: nothing of the tables under two-dimensional paging, which hold no linear address. */
  #flushGuest(): void {
    if (this.vm.tdp !== undefined) return;
    this.#syncRoots();
    this.roots.freeWhere((page) => this.vm.isUnsync(page), false);
  }

  #freeObsoleteRoots(): void {
    for (const { roots } of [this.rootMmu, this.guestMmu]) roots.freeWhere((page) => this.vm.isObsolete(page), true);
  }

  #forgetMmio(): void {
    vcpuRecord.set64(this.vm.linear, this.pointer, "MMIO_GVA", 0n);
  }

  #syncRoots(): void {
    const page = this.mmu.roots.currentPage;
    if (this.isDirect || page === 0) return;
    this.#forgetMmio();
    this.vm.exports.syncFromRoot(this.pointer, page);
    this.vm.settle();
  }

  // ---------------------------------------------------------------- faults and walks

  /**
   * Handles a page fault, under two-dimensional paging a fault at a guest-physical address. `errorCode` holds PFERR bits
   * 4:0; a write to a table is emulated by nobody where the processor made it itself (`guestTable`). Throws OutOfMemoryError
   * before anything has changed.
   */
  pageFault(address: bigint, errorCode: number, options?: FaultOptions): FaultOutcome {
    if (options?.eventDelivery && this.vm.tdp === undefined) {
      const walk = this.#walk(address, options.cpl === 3 ? PFERR.u : 0);
      // A failed walk leaves the kernel with an all-ones address: no table lies there.
      if (walk.ok) this.vm.unprotectGfn(this.vm.gfnOf(walk.gpa));
    }
    if (!this.vm.caches.stocked) this.vm.caches.topUp(false);
    // The address goes to the core in one piece: halves of a BigInt take longer than the fault.
    let code = this.vm.exports.pageFaultWide(this.pointer, address, errorCode);
    if (code >= NEED_HOST_PAGE) code = this.attend(code);
    const outcome = OUTCOMES[code];
    return outcome !== undefined ? outcome : this.#rareOutcome(code, address, errorCode, options);
  }

  /** The same for numbers, without an object for the result: a code of FAULT_CODE; nothing is injected. The fast way. */
  fault(low: number, high: number, errorCode: number): number {
    const { vm } = this;
    if (!vm.caches.stocked) vm.caches.topUp(false);
    const code = vm.exports.pageFault(this.pointer, high, low, errorCode, 0);
    return code < NEED_HOST_PAGE ? code : this.attend(code);
  }

  /**
   * Maps addresses ahead of the guest: what faults with `errorCode` at each of them would do, in order, looped inside the
   * core, which comes back only where the host has to find or make a page. Loads the root first. As with faults, accessed
   * (and for writes dirty) bits of the guest's tables are set; what the guest would have to be told is only reported.
   * `results` gets a word for each address, see `decodePrefault`; returns how many addresses are not mapped afterwards.
   * Throws RangeError where `results` is too short, OutOfMemoryError between two faults.
   */
  prefault(addresses: BigUint64Array, results: Uint32Array, errorCode: number): number {
    const missing = prefault(this, addresses, results, errorCode);
    this.vm.events.collect(this.id);
    return missing;
  }

  /** Serves what the core asks for in a fault until it ends, and collects what it left; a code of FAULT_CODE. */
  attend(code: number): number {
    const { vm } = this;
    while (code >= NEED_HOST_PAGE && code < ATTEND) {
      if (code === NO_SPACE) throw new OutOfMemoryError("the limit on shadow pages leaves none for a fault");
      if (code === NEED_STOCK) {
        vm.caches.topUp(false);
        vm.tdpMmu?.topUp();
      } else {
        vm.stats.hostCalls++;
        if (code === NEED_PAGE) vm.providePage(this);
        else if (!vm.provideHostPage(this)) return FAULT_CODE.wait;
      }
      code = vm.exports.pageFaultResume(this.pointer);
    }
    if (code >= ATTEND) {
      vm.settle();
      vm.events.collect(this.id);
    }
    return code & ~ATTEND;
  }

  /** Ends of a fault that say more than a word, or have to be acted upon. */
  #rareOutcome(code: number, address: bigint, errorCode: number, options?: FaultOptions): FaultOutcome {
    let outcome: FaultOutcome;
    if (code === RET_PF_INJECT) {
      const fault = { errorCode: this.injectedCode, address, nested: this.mmu !== this.walkMmu };
      this.#injectFault(fault);
      outcome = { result: "inject", ...fault };
    } else if (code === FAULT_CODE.wait) outcome = { result: "retry", ...this.#async.add() };
    else {
      const mmio = this.vm.exports.mmioHit(this.pointer, Number(address >> 32n), Number(address & 0xffff_ffffn)) !== 0;
      const tableWrite = options?.guestTable && (errorCode & PFERR.p) !== 0 && (errorCode & PFERR.w) !== 0;
      outcome = mmio ? MMIO : EMULATE;
      if (!mmio && tableWrite && this.isDirect) {
        this.vm.unprotectGfn(this.vm.gfnOf(address));
        outcome = { result: "emulate", unprotected: true };
      }
    }
    this.vm.events.collect(this.id);
    return outcome;
  }

  /** Error code of the last guest walk that failed. */
  get injectedCode(): number {
    return vcpuRecord.get32(this.vm.linear, this.pointer, "GW_ERROR");
  }

  /**
   * The host has fetched the page of a gfn that the guest waited for (`retry` with `waits`): it is mapped without an access,
   * unless the guest runs on other tables now. Returns whether the guest waited for it.
   */
  pageReady(gfn: bigint): boolean {
    const wait = this.#async.take(gfn);
    if (wait === undefined) return false;
    const { address } = wait;
    const pgd = this.isDirect ? undefined : this.mmu.pgd;
    // Other bits may be alias bits now, and then the address is another page's.
    const same = pgd === undefined ? this.vm.gfnOf(address) === gfn : true;
    if (same && wait.pgd === pgd && this.enterGuest()) {
      if (!this.vm.caches.stocked) this.vm.caches.topUp(false);
      const [low, high] = [Number(address & 0xffff_ffffn), Number(address >> 32n)];
      // What an execute-only alias maps is nothing to read.
      const fetches = pgd === undefined && (address & this.vm.limits.executeOnlyAliases) !== 0n;
      this.attend(this.vm.exports.pageFault(this.pointer, high, low, fetches ? PFERR.fetch : 0, 1));
      this.vm.events.collect(this.id);
    }
    return true;
  }

  /** Pages that the host fetches and the guest waits for. */
  get waits(): readonly AsyncFault[] {
    return this.#async.waits;
  }

  /**
   * The guest gets a page fault that was found by software: a stale SPTE of the address must not make it happen again
   * (kvm_inject_emulated_page_fault).
   */
  injectFault(errorCode: number, address: bigint, nested = false): void {
    this.#injectFault({ errorCode, address, nested });
    this.vm.events.collect(this.id);
  }

  #injectFault({ errorCode, address, nested = false }: InjectedFault): void {
    const context = nested ? this.mmu : this.walkMmu;
    if (errorCode & PFERR.p && !(errorCode & PFERR.rsvd)) {
      this.#invalidation.through(context, context.roots.current.page, address);
    }
    if (nested && this.mmu.isEpt) this.#invalidation.nestedEpt(address);
  }

  /** A walk of the guest's tables by software, as instruction emulation makes it. `code` holds PFERR bits. */
  walk(address: bigint, code: number): WalkOutcome {
    const result = this.#walk(address, code);
    this.vm.events.collect(this.id);
    return result;
  }

  #walk(address: bigint, code: number): WalkOutcome {
    const { vm, pointer, walkMmu } = this;
    // Under two-dimensional paging CR0.WP can change without an exit: the context follows when rights are checked.
    const stale = vm.tdp !== undefined && walkMmu.writeProtect !== isWriteProtect(this.#registers);
    if (stale) walkMmu.refreshWriteProtect(vm.limits, this.#registers);
    if (vm.tdp !== undefined && isPaePaging(this.#registers)) this.#pdptes.refresh(this.#registers.cr3);
    const low = Number(address & 0xffff_ffffn);
    const ok = vm.exports.walk(pointer, walkMmu.pointer, pointer, Number(address >> 32n), low, code) !== 0;
    const checked = vcpuRecord.get32(vm.linear, pointer, "GW_CHECKED") !== 0;
    if (stale && !checked) walkMmu.refreshWriteProtect(vm.limits, this.#registers);
    if (ok) return { ok: true, gpa: vcpuRecord.get64(vm.linear, pointer, "GW_GPA") };
    const errorCode = vcpuRecord.get32(vm.linear, pointer, "GW_ERROR");
    const nested = vcpuRecord.get32(vm.linear, pointer, "GW_NESTED") !== 0;
    return {
      ok: false,
      errorCode,
      address: nested ? vcpuRecord.get64(vm.linear, pointer, "GW_FAULT") : address,
      nested,
    };
  }

  /**
   * A write that is emulated: memory first, then the dirty log, then the shadow pages of the written table. `gpa` may have
   * alias bits. Throws MemoryRangeError before anything changes.
   */
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
    if (this.vm.tdp !== undefined) {
      this.#requests |= REQUEST.flushGuest;
      return;
    }
    const enabled = (this.#registers.cr4 & CR4.pcide) !== 0;
    if ((enabled ? this.#registers.cr3 & PCID : 0n) === pcid) this.#requests |= REQUEST.sync | REQUEST.flushCurrent;
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
      if (this.walkMmu !== this.nestedMmu && value & this.vm.limits.aliasMask) {
        throw new GeneralProtectionError(`CR3 0x${value.toString(16)} has alias bits`);
      }
      const reloaded = pae && this.#loadPdptes(value);
      this.#registers = { ...this.#registers, cr3: value };
      this.walkMmu.pgd = value;
      if (!same || (reloaded && this.vm.tdp === undefined)) this.#newPgd(value);
    }
    if (!noFlush) this.#invalidatePcid(pcid);
    this.vm.events.collect(this.id);
  }

  /** The root table of the context in use changed: use a cached root, or have one loaded at the next entry. */
  #newPgd(pgd: bigint): void {
    const { roots, rootRole: role } = this.mmu;
    const wanted = role & ROLE_DIRECT ? (role | this.vm.staleDirectRoleBits) >>> 0 : role;
    if (!roots.switchTo(pgd, wanted, this.#loader.low(this.mmu, pgd))) return;
    this.#requests |= REQUEST.loadPgd | REQUEST.fillRoot;
    this.#forgetMmio();
    if (!(role & ROLE_DIRECT)) this.vm.linear.u32[(roots.currentPage >>> 2) + PAGE_WORD.flood] = 0;
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
    const { tdp } = this.vm;
    // With two-dimensional paging CR0.WP decides what walks may do, never the root.
    if (tdp !== undefined && write.changesOnlyWriteProtect) this.#initRoles();
    else if (write.changesRoles) this.#resetContext();
    // The root is named by its PDPTEs too: with others it is another root.
    else if (reloaded && tdp === undefined) this.#newPgd(write.registers.cr3);
    if (freesRoots && tdp === undefined) this.#unload();
    if (write.flush === "all") this.#requests |= REQUEST.flushGuest;
    if (write.flush === "current") this.#requests |= REQUEST.flushCurrent;
    this.vm.events.collect(this.id);
  }

  /** Registers set from outside, all at once (KVM_SET_SREGS). Throws ConfigError where CR3 has alias bits. */
  setRegisters(registers: ControlRegisters): void {
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
    this.#checkCr3(changed.cr3 ?? 0n);
    const before = this.#registers;
    this.#registers = numbersOf({ ...this.registers, ...changed });
    this.walkMmu.pgd = this.#registers.cr3;
    if (before.cr3 !== this.#registers.cr3 && isPaePaging(this.#registers)) this.#pdptes.latch(this.#registers.cr3);
  }

  /** EFLAGS.AC, for SMAP. */
  setAc(ac: boolean): void {
    vcpuRecord.set32(this.vm.linear, this.pointer, "AC", ac ? 1 : 0);
  }

  setPkru(pkru: number): void {
    for (const context of [this.rootMmu, this.nestedMmu]) context.setPkru(pkru >>> 0);
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
    this.#requests |= REQUEST.loadPgd;
    return changed;
  }

  // ---------------------------------------------------------------- modes

  #unload(): void {
    for (const { roots } of [this.rootMmu, this.guestMmu]) roots.free(ROOTS.all);
    this.#forgetMmio();
  }

  /** What formats are derived from has changed (kvm_mmu_after_set_cpuid). No nested guest runs. */
  refreshFormats(): void {
    for (const context of [this.rootMmu, this.guestMmu, this.nestedMmu]) context.forgetRoles();
    this.#resetContext();
  }

  /** Frees the roots and computes the roles anew (kvm_mmu_reset_context). */
  #resetContext(): void {
    this.#unload();
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
    this.#setSpace(true);
    this.#resetContext();
    this.#setRegisters(smmRegisters(this.#registers));
    this.#resetContext();
    this.vm.events.collect(this.id);
  }

  /** RSM with the registers that were saved. Throws ConfigError where CR3 has alias bits. */
  leaveSmm(registers: ControlRegisters): void {
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
    this.#checkStage(registers, stage);
    const numbers = numbersOf(registers);
    this.#requestTransitionFlush();
    this.#setGuestMode(true);
    if (stage !== undefined) {
      this.#use(this.guestMmu, this.walkMmu);
      const pgd = setNestedRoles(this.vm, this.guestMmu, stage, this.#roleMode);
      this.#loader.latch(this.guestMmu);
      this.#newPgd(pgd);
      this.#use(this.guestMmu, this.nestedMmu);
    }
    this.#switch(registers);
    if (stage?.kind === "ept" && isPaePaging(numbers)) this.#pdptes.enterNested(numbers.cr3, stage.pdptes);
  }

  /** Throws UnsupportedError, ConfigError or GeneralProtectionError for what cannot be entered. */
  #checkStage(registers: ControlRegisters, stage: SecondStage | undefined): void {
    const { tdp, limits } = this.vm;
    if (stage === undefined) {
      this.#checkRoot(registers.cr3);
      return;
    }
    if (tdp === undefined) throw new UnsupportedError("a second stage of L1's needs NPT or EPT in the host");
    if (stage.kind === "npt") this.#checkRoot(stage.ncr3);
    else if (limits.aliasMask !== 0n)
      throw new UnsupportedError("nested EPT is not possible while addresses have alias bits");
    else if (isPaePaging(numbersOf(registers))) this.#pdptes.checkFields(stage.pdptes);
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
    this.#requests |= this.vm.virtualization === "vmx" ? REQUEST.flushGuest : REQUEST.sync | REQUEST.flushCurrent;
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
    if (this.mmu === this.rootMmu) this.#newPgd(numbers.cr3);
    this.vm.events.collect(this.id);
  }

  /** INVEPT of one EPT of L1's or of all: its shadow roots are freed. */
  invept(eptp: bigint | "all"): void {
    const { roots } = this.guestMmu;
    roots.freeWhere((_, pgd) => eptp === "all" || sameEptTable(pgd, eptp), true);
    this.vm.events.collect(this.id);
  }

  /** L1 loads another VMCS: the shadow roots of its second stages go (nested_release_vmcs12). */
  releaseNested(): void {
    this.guestMmu.roots.free(ROOTS.all);
    this.vm.events.collect(this.id);
  }
}
