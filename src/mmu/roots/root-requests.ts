/** What a vCPU has to do about its roots before it enters the guest (KVM's requests), and what it does at once. */
import { ROLE_DIRECT, ROLE_PAE_ROOT } from "../../role/index.js";
import { ROOTS } from "../context/root-cache.js";
import { PAGE_WORD, vcpuRecord } from "../memory/records.js";
import type { Vcpu } from "../vcpu.js";
import { RootLoader } from "./root-loader.js";

/** Work that waits for the next entry to the guest. */
export const REQUEST = {
  freeObsoleteRoots: 1,
  sync: 2,
  loadPgd: 4,
  flushCurrent: 8,
  flushGuest: 16,
  fillRoot: 32,
} as const;

export class RootRequests {
  readonly loader: RootLoader;
  #bits = 0;

  constructor(readonly vcpu: Vcpu) {
    this.loader = new RootLoader(vcpu);
  }

  /** Adds REQUEST bits. */
  add(bits: number): void {
    this.#bits |= bits;
  }

  /** Every vCPU gets this when a root in use was zapped. */
  addObsolete(): void {
    this.#bits |= REQUEST.freeObsoleteRoots | REQUEST.fillRoot;
  }

  /**
   * Serves them, and loads a root if there is none. Returns false where a root table lies in no slot. Throws
   * OutOfMemoryError, and the requests stay.
   */
  serve(): boolean {
    const { vm, mmu } = this.vcpu;
    const requests = this.#bits;
    if (requests !== 0 || mmu.roots.currentPage === 0) {
      // The only thing that can fail for want of memory, before anything has changed.
      vm.caches.topUp((mmu.rootRole & ROLE_PAE_ROOT) !== 0);
      this.#serve(requests);
    }
    this.loader.check(mmu);
    return mmu.roots.currentPage !== 0;
  }

  #serve(requests: number): void {
    const { mmu } = this.vcpu;
    this.#bits = 0;
    try {
      if (requests & REQUEST.freeObsoleteRoots) this.#freeObsoleteRoots();
      const { roots } = mmu;
      if (requests & REQUEST.fillRoot && roots.currentPage !== 0) this.loader.fill(roots.currentPage);
      if (requests & REQUEST.sync) this.#syncRoots();
      if (requests & REQUEST.flushGuest) this.#flushGuest();
      if (roots.currentPage === 0) {
        if (this.loader.load(mmu)) this.#syncRoots();
      }
    } catch (error) {
      this.#bits |= requests;
      throw error;
    }
  }

  /** The guest's whole TLB goes: nothing of the tables under two-dimensional paging, which hold no linear address. */
  #flushGuest(): void {
    const { vm, roots } = this.vcpu;
    if (vm.tdp !== undefined) return;
    this.#syncRoots();
    roots.freeWhere((page) => vm.isUnsync(page), false);
  }

  #freeObsoleteRoots(): void {
    const { vm, rootMmu, guestMmu } = this.vcpu;
    for (const { roots } of [rootMmu, guestMmu]) roots.freeWhere((page) => vm.isObsolete(page), true);
  }

  #forgetMmio(): void {
    vcpuRecord.set64(this.vcpu.vm.linear, this.vcpu.pointer, "MMIO_GVA", 0n);
  }

  #syncRoots(): void {
    const { vm, mmu, pointer, isDirect } = this.vcpu;
    const page = mmu.roots.currentPage;
    if (isDirect || page === 0) return;
    this.#forgetMmio();
    vm.exports.syncFromRoot(pointer, page);
    vm.settle();
  }

  /** The root table of the context in use changed: use a cached root, or have one loaded at the next entry. */
  newPgd(pgd: bigint): void {
    const { vm, mmu } = this.vcpu;
    const { roots, rootRole: role } = mmu;
    const wanted = role & ROLE_DIRECT ? (role | vm.staleDirectRoleBits) >>> 0 : role;
    if (!roots.switchTo(pgd, wanted, this.loader.low(mmu, pgd))) return;
    this.#bits |= REQUEST.loadPgd | REQUEST.fillRoot;
    this.#forgetMmio();
    if (!(role & ROLE_DIRECT)) vm.linear.u32[(roots.currentPage >>> 2) + PAGE_WORD.flood] = 0;
  }

  /** Frees every root. */
  unload(): void {
    for (const { roots } of [this.vcpu.rootMmu, this.vcpu.guestMmu]) roots.free(ROOTS.all);
    this.#forgetMmio();
  }
}
