/** A virtual processor: its registers, its paging contexts, the requests it serves before it enters the guest. */
import { SHADOW_CODES } from "../abi/shadow.js";
import { GeneralProtectionError, OutOfMemoryError, UnsupportedError } from "../errors.js";
import {
  type CpuRole,
  cpuRole,
  ROLE_DIRECT,
  ROLE_LEVEL_PROMOTED,
  ROLE_PAE_ROOT,
  roleLevel,
  shadowRoot,
} from "../role/index.js";
import { Allocations } from "./allocations.js";
import { PagingContext } from "./context.js";
import { mmuRecord, PAGE_WORD, pageRecord, VCPU_WORD, vcpuRecord } from "./records.js";
import { ROOTS, RootCache } from "./root-cache.js";
import type { VirtualMachine } from "./vm.js";

export interface ControlRegisters {
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
}

/** How a fault ended. `inject`: the guest gets #PF with `errorCode` and CR2 = `address`. */
export type FaultOutcome =
  | { readonly result: "fixed" | "spurious" | "emulate" | "mmio" | "retry" }
  | { readonly result: "inject"; readonly errorCode: number; readonly address: bigint };

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

const CR0 = { pe: 1, et: 0x10, wp: 0x10000, nw: 0x2000_0000, cd: 0x4000_0000, pg: 0x8000_0000 } as const;
const CR4 = {
  pse: 0x10,
  pae: 0x20,
  pge: 0x80,
  la57: 0x1000,
  pcide: 0x20000,
  smep: 0x100000,
  smap: 0x200000,
  pke: 0x400000,
} as const;
const EFER = { lme: 0x100, lma: 0x400, nx: 0x800 } as const;
/** Bits that reload the PDPTEs, and bits that the roles depend on. */
const CR0_PDPTR = CR0.cd | CR0.nw | CR0.pg;
const CR0_ROLE = CR0.pg | CR0.wp;
const CR4_PDPTR = CR4.pge | CR4.pse | CR4.pae | CR4.smep;
const CR4_ROLE = CR4.pse | CR4.pae | CR4.la57 | CR4.smep | CR4.smap | CR4.pke;
const EFER_ROLE = EFER.lme | EFER.nx;
const CR3_NO_FLUSH = 1n << 63n;
const PCID = 0xfffn;
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
  #cr0 = 0;
  #cr3 = 0n;
  #cr4 = 0;
  #efer = 0;
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
    vcpuRecord.set32(linear, this.pointer, "VM", vm.pointer);
    vcpuRecord.set32(linear, this.pointer, "MMU", this.rootMmu.pointer);
    vcpuRecord.set32(linear, this.pointer, "WALK_MMU", this.rootMmu.pointer);
    this.#setRegisters(registers);
    this.#resetContext();
  }

  get registers(): ControlRegisters {
    return { cr0: BigInt(this.#cr0), cr3: this.#cr3, cr4: BigInt(this.#cr4), efer: BigInt(this.#efer) };
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
    this.#checkRoot();
    this.vm.events.collect(this.id);
  }

  #serve(requests: number): void {
    this.#requests = 0;
    try {
      if (requests & REQUEST.freeObsoleteRoots) this.#freeObsoleteRoots();
      if (requests & REQUEST.fillRoot && this.roots.current.page !== 0) this.#fillRoot(this.roots.current.page);
      if (requests & REQUEST.sync) this.#syncRoots();
      if (requests & REQUEST.flushGuest) {
        this.#syncRoots();
        this.roots.freeWhere((page) => this.vm.isUnsync(page), false);
      }
      if (this.roots.current.page === 0) this.#loadRoot();
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

  /** CR3 bits 11:5 and the latch, where the guest's root is a page-directory-pointer table; part of the root's name. */
  #low(pgd: bigint): number {
    return this.rootMmu.guestLevel === 3 && !(this.rootMmu.rootRole & ROLE_DIRECT) ? Number(pgd & 0xfe0n) | 3 : 0;
  }

  #loadRoot(): void {
    const { vm, rootMmu } = this;
    const role = rootMmu.rootRole;
    const direct = (role & ROLE_DIRECT) !== 0;
    const pgd = direct ? 0n : this.#cr3;
    const gfn = (pgd & 0x000f_ffff_ffff_f000n) >> 12n;
    if (!direct) {
      this.#checkVisible(gfn);
      if (rootMmu.guestLevel === 3) {
        for (const pdpte of rootMmu.pdptes) if (pdpte & 1n) this.#checkVisible((pdpte & 0x000f_ffff_ffff_f000n) >> 12n);
      }
    }
    if (vm.exports.reserveRoom(vm.pointer) === 0)
      throw new OutOfMemoryError("the limit on shadow pages leaves none for a root");
    vm.settle();
    const words = vm.linear.u32;
    const request = this.pointer >>> 2;
    words[request + VCPU_WORD.reqGfn] = Number(gfn & 0xffff_ffffn);
    words[request + VCPU_WORD.reqGfn + 1] = Number(gfn >> 32n);
    words[request + VCPU_WORD.reqRole] = role;
    words[request + VCPU_WORD.reqLow] = this.#low(pgd);
    const page = vm.providePage(this);
    pageRecord.set32(vm.linear, page, "ROOT_COUNT", pageRecord.get32(vm.linear, page, "ROOT_COUNT") + 1);
    this.roots.setCurrent({ page, pgd });
    this.#fillRoot(page);
    this.#syncRoots();
  }

  /**
   * Links the tables right below a root that stands above the guest's own tables or holds its PDPTEs, down to level 2:
   * from here on the guest's writes to its top-level tables are seen, as a kernel with special roots sees them.
   */
  #fillRoot(page: number): void {
    const { vm } = this;
    const role = vm.linear.u32[(page >>> 2) + PAGE_WORD.role]!;
    const low = vm.linear.u32[(page >>> 2) + PAGE_WORD.low]!;
    const level = roleLevel(role);
    const stands = (role & (ROLE_PAE_ROOT | ROLE_LEVEL_PROMOTED)) !== 0 || low !== 0;
    if (!stands || level < 3 || (role & ROLE_DIRECT && !(role & ROLE_PAE_ROOT))) return;
    pageRecord.set32(vm.linear, page, "GAP", 0);
    for (let index = 0; index < (level === 3 ? 4 : 1); index++) {
      if (vm.exports.rootChildRequest(this.pointer, page, index) === 1) {
        vm.providePage(this);
        vm.exports.rootChildLink(this.pointer, page, index);
        vm.settle();
      }
      const child = vm.childPage(page, index);
      if (level > 3 && child !== 0) this.#fillRoot(child);
    }
  }

  #checkVisible(gfn: bigint): void {
    if (this.vm.slots.visible(this.#space, gfn) !== undefined) return;
    throw new UnsupportedError(`root table at gfn 0x${gfn.toString(16)} lies in no slot: triple fault`);
  }

  /** The processor's own check of the PDPTEs of a pae_root at VM entry: no reserved bit in a present entry. */
  #checkRoot(): void {
    const { page } = this.roots.current;
    const words = this.vm.linear.u32;
    if (page === 0 || (words[(page >>> 2) + PAGE_WORD.role]! & ROLE_PAE_ROOT) === 0) return;
    const table = words[(page >>> 2) + PAGE_WORD.spt]!;
    const reserved = mmuRecord.get64(this.vm.linear, this.rootMmu.pointer, "SHADOW_RESERVED", 2);
    for (let i = 0; i < 4; i++) {
      const entry = this.vm.linear.u64[table / 8 + i]!;
      if (entry & 1n && entry & reserved) throw new RangeError(`PDPTE ${i} 0x${entry.toString(16)} has reserved bits`);
    }
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
    if (page !== 0) this.#invalidate(page, address);
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
    this.vm.writeGuest(gpa, bytes, this.#space);
    this.vm.exports.pteWrite(this.pointer, Number(gpa >> 32n), Number(gpa & 0xffff_ffffn), bytes.length);
    this.vm.settle();
    this.vm.events.collect(this.id);
  }

  // ---------------------------------------------------------------- instructions

  /** INVLPG. */
  invlpg(address: bigint): void {
    if (!this.#isCanonical(address) || this.rootMmu.guestLevel === 0) return;
    const { page } = this.roots.current;
    if (page !== 0) this.#invalidate(page, address);
    else this.#forgetPage(address);
    // Previous roots keep translations only where a CR3 write need not synchronise them, which takes a PCID;
    // guests without long mode have none.
    if (this.rootMmu.guestLevel >= 4) {
      for (let i = 0; i < 3; i++) {
        const root = this.roots.previous(i);
        if (root.page !== 0) this.#invalidate(root.page, address);
      }
    }
    this.vm.events.collect(this.id);
  }

  #forgetPage(address: bigint): void {
    this.vm.exports.forgetMmio(this.pointer, Number(address >> 32n), Number(address & 0xffff_ffffn));
  }

  #invalidate(root: number, address: bigint): void {
    if (!this.#isCanonical(address) || this.rootMmu.guestLevel === 0) return;
    const { vm } = this;
    vm.caches.topUp(false);
    vm.exports.invlpg(this.pointer, root, Number(address >> 32n), Number(address & 0xffff_ffffn));
    vm.settle();
  }

  #isCanonical(address: bigint): boolean {
    if (this.rootMmu.guestLevel < 4) return true;
    return BigInt.asUintN(64, BigInt.asIntN(this.#cr4 & CR4.la57 ? 57 : 48, address)) === address;
  }

  /** INVPCID types 0 (address), 1 (PCID), 2 (all, globals too), 3 (all but globals); SDM, "INVPCID". */
  invpcid(type: number, pcid: number, address: bigint): void {
    if (type === 0) {
      if (this.#isCanonical(address)) this.#invalidatePcidAddress(BigInt(pcid), address);
    } else if (type === 1) this.#invalidatePcid(BigInt(pcid));
    else this.#requests |= REQUEST.flushGuest;
    this.vm.events.collect(this.id);
  }

  #invalidatePcidAddress(pcid: bigint, address: bigint): void {
    const { current } = this.roots;
    if ((this.#cr3 & PCID) === pcid && current.page !== 0) this.#invalidate(current.page, address);
    for (let i = 0; i < 3; i++) {
      const root = this.roots.previous(i);
      if (root.page !== 0 && (root.pgd & PCID) === pcid) this.#invalidate(root.page, address);
    }
  }

  #invalidatePcid(pcid: bigint): void {
    const enabled = (this.#cr4 & CR4.pcide) !== 0;
    if ((enabled ? this.#cr3 & PCID : 0n) === pcid) this.#requests |= REQUEST.sync | REQUEST.flushCurrent;
    // Without PCIDs every CR3 write flushes, so previous roots are synchronised when they come back.
    if (enabled) this.roots.freeWhere((_, pgd) => (pgd & PCID) === pcid, false);
  }

  /** MOV to CR3. Throws GeneralProtectionError, with nothing changed, where the processor would raise #GP(0). */
  writeCr3(value: bigint): void {
    let noFlush = false;
    let pcid = 0n;
    if (this.#cr4 & CR4.pcide) {
      noFlush = (value & CR3_NO_FLUSH) !== 0n;
      value &= ~CR3_NO_FLUSH;
      pcid = value & PCID;
    }
    if (value !== this.#cr3 || this.#isPaePaging) {
      if (value >> BigInt(this.vm.limits.guestPhysicalBits) !== 0n) {
        throw new GeneralProtectionError(`CR3 0x${value.toString(16)} exceeds MAXPHYADDR`);
      }
      const changed = this.#isPaePaging && this.#loadPdptes(value);
      const same = value === this.#cr3;
      this.#cr3 = value;
      this.rootMmu.pgd = value;
      if (!same || changed) this.#newPgd();
    }
    if (!noFlush) this.#invalidatePcid(pcid);
    this.vm.events.collect(this.id);
  }

  /** The guest's root table changed: use a cached root, or have one loaded at the next entry. */
  #newPgd(): void {
    const role = this.rootMmu.rootRole;
    const wanted = role & ROLE_DIRECT ? (role | this.vm.staleDirectRoleBits) >>> 0 : role;
    if (!this.roots.switchTo(this.#cr3, wanted, this.#low(this.#cr3))) return;
    this.#requests |= REQUEST.loadPgd | REQUEST.fillRoot;
    this.#forgetMmio();
    if (!(role & ROLE_DIRECT)) pageRecord.set32(this.vm.linear, this.roots.current.page, "FLOOD", 0);
  }

  /** MOV to CR0. Throws GeneralProtectionError where the processor would raise #GP(0). */
  writeCr0(value: bigint): void {
    const cr0 = (Number(value & 0xffff_ffffn) | CR0.et) >>> 0;
    const old = this.#cr0;
    const wasPaging = (old & CR0.pg) !== 0;
    const paging = (cr0 & CR0.pg) !== 0;
    if (paging && !(cr0 & CR0.pe)) throw new GeneralProtectionError("CR0.PG=1 with PE=0");
    if (this.#efer & EFER.lme && !wasPaging && paging && !(this.#cr4 & CR4.pae)) {
      throw new GeneralProtectionError("long mode needs CR4.PAE=1");
    }
    if (!paging && this.#cr4 & CR4.pcide) throw new GeneralProtectionError("CR0.PG=0 with CR4.PCIDE=1");
    if (!(this.#efer & EFER.lme) && paging && this.#cr4 & CR4.pae && (cr0 ^ old) & CR0_PDPTR)
      this.#loadPdptes(this.#cr3);
    if (this.#efer & EFER.lme) {
      if (!wasPaging && paging) this.#efer |= EFER.lma;
      if (wasPaging && !paging) this.#efer &= ~EFER.lma;
    }
    this.#cr0 = cr0;
    if ((cr0 ^ old) & CR0.pg && !paging) this.#requests |= REQUEST.flushGuest;
    if ((cr0 ^ old) & CR0_ROLE) this.#resetContext();
    this.vm.events.collect(this.id);
  }

  /** MOV to CR4. Throws GeneralProtectionError where the processor would raise #GP(0). */
  writeCr4(value: bigint): void {
    const cr4 = Number(value & 0xffff_ffffn);
    const old = this.#cr4;
    const longMode = (this.#efer & EFER.lma) !== 0;
    if (longMode && (!(cr4 & CR4.pae) || (cr4 ^ old) & CR4.la57)) {
      throw new GeneralProtectionError("CR4.PAE and LA57 cannot change in long mode");
    }
    if (cr4 & CR4.pcide && !(old & CR4.pcide) && (this.#cr3 & PCID || !longMode)) {
      throw new GeneralProtectionError("CR4.PCIDE needs long mode and CR3 bits 11:0 zero");
    }
    if (!longMode && this.#cr0 & CR0.pg && cr4 & CR4.pae && (cr4 ^ old) & CR4_PDPTR) this.#loadPdptes(this.#cr3);
    this.#cr4 = cr4;
    vcpuRecord.set32(this.vm.linear, this.pointer, "PAE", cr4 & CR4.pae ? 1 : 0);
    if ((cr4 ^ old) & CR4_ROLE) this.#resetContext();
    if (cr4 & CR4.pcide && !(old & CR4.pcide)) this.#unload();
    if ((cr4 ^ old) & CR4.pge || (old & CR4.pcide && !(cr4 & CR4.pcide))) this.#requests |= REQUEST.flushGuest;
    else if ((cr4 ^ old) & CR4.pae || (cr4 & CR4.smep && !(old & CR4.smep))) this.#requests |= REQUEST.flushCurrent;
    this.vm.events.collect(this.id);
  }

  /** WRMSR to IA32_EFER; LMA keeps its value. Throws GeneralProtectionError where LME would change under paging. */
  writeEfer(value: bigint): void {
    const old = this.#efer;
    const efer = (Number(value & 0xffff_ffffn) & ~EFER.lma) | (old & EFER.lma);
    if (this.#cr0 & CR0.pg && (efer ^ old) & EFER.lme)
      throw new GeneralProtectionError("EFER.LME cannot change under paging");
    this.#efer = efer;
    if ((efer ^ old) & EFER_ROLE) this.#resetContext();
    this.vm.events.collect(this.id);
  }

  /** Registers set from outside, all at once (KVM_SET_SREGS). */
  setRegisters(registers: ControlRegisters): void {
    const before = this.registers;
    this.#setRegisters(registers);
    const same = (["cr0", "cr3", "cr4", "efer"] as const).every((name) => before[name] === registers[name]);
    if (!same || this.#isPaePaging) this.#resetContext();
    this.vm.events.collect(this.id);
  }

  /** EFLAGS.AC, for SMAP. */
  setAc(ac: boolean): void {
    vcpuRecord.set32(this.vm.linear, this.pointer, "AC", ac ? 1 : 0);
  }

  setPkru(pkru: number): void {
    this.rootMmu.setPkru(pkru >>> 0);
  }

  get #space(): number {
    return this.#smm ? 1 : 0;
  }

  get #isPaePaging(): boolean {
    return (this.#cr0 & CR0.pg) !== 0 && (this.#cr4 & CR4.pae) !== 0 && (this.#efer & EFER.lma) === 0;
  }

  #setRegisters({ cr0, cr3, cr4, efer }: ControlRegisters): void {
    this.#cr0 = Number(cr0 & 0xffff_ffffn);
    this.#cr3 = cr3;
    this.#cr4 = Number(cr4 & 0xffff_ffffn);
    this.#efer = Number(efer & 0xffff_ffffn);
    this.rootMmu.pgd = cr3;
    vcpuRecord.set32(this.vm.linear, this.pointer, "PAE", this.#cr4 & CR4.pae ? 1 : 0);
    if (this.#isPaePaging) this.#loadPdptes(cr3, true);
  }

  /**
   * Latches the PDPTEs at CR3; returns whether they differ from those before. Throws GeneralProtectionError, with nothing
   * changed, for reserved bits in a present entry (SDM, "PAE Paging", PDPTE registers).
   */
  #loadPdptes(cr3: bigint, lenient = false): boolean {
    const bytes = this.vm.readGuest(cr3 & 0xffff_ffe0n, 32, this.#space);
    if (bytes === undefined) {
      if (lenient) return false;
      throw new GeneralProtectionError(`page-directory-pointer table at 0x${cr3.toString(16)} lies in no slot`);
    }
    const values = [...new BigUint64Array(bytes.slice().buffer)];
    const high = ~((1n << BigInt(this.vm.limits.guestPhysicalBits)) - 1n) & 0xffff_ffff_ffff_ffffn;
    const bad = values.findIndex((value) => value & 1n && value & (high | 0x1e6n));
    if (bad >= 0) {
      if (lenient) return false;
      throw new GeneralProtectionError(`PDPTE ${bad} 0x${values[bad]!.toString(16)} has reserved bits`);
    }
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
    const registers = { cr0: this.#cr0, cr3: this.#cr3, cr4: this.#cr4, efer: this.#efer };
    this.rootMmu.setRoles(cpu, shadowRoot(cpu, level), this.vm.limits, registers);
    this.rootMmu.pgd = this.#cr3;
  }

  cpuRole(): CpuRole {
    return cpuRole(
      { cr0: this.#cr0, cr4: this.#cr4, efer: this.#efer },
      { smm: this.#smm, guestMode: this.#guestMode },
    );
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
    const cr0 = (this.#cr0 & ~(CR0.pe | CR0.pg | 0xc)) >>> 0;
    this.#setRegisters({ cr0: BigInt(cr0), cr3: this.#cr3, cr4: 0n, efer: 0n });
    this.#resetContext();
    this.vm.events.collect(this.id);
  }

  /** RSM with the registers that were saved. */
  leaveSmm(registers: ControlRegisters): void {
    this.#setSpace(false);
    this.#resetContext();
    this.#setRegisters(registers);
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
    this.#setRegisters(registers);
    this.#initRoles();
    // Without a tag of its own for L2's translations VMX flushes everything, SVM the current root's.
    this.#requests |= this.vm.virtualization === "vmx" ? REQUEST.flushGuest : REQUEST.sync | REQUEST.flushCurrent;
    this.#newPgd();
    this.vm.events.collect(this.id);
  }
}
