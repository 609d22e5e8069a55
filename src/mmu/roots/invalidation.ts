/** INVLPG and INVPCID of an address: leaves of unsync tables are made anew (kvm_mmu_invlpg, kvm_mmu_invpcid_gva). */
import { ROLE_DIRECT } from "../../role/index.js";
import { CR4, PCID } from "../config/control-registers.js";
import { sameEptTable } from "../config/eptp.js";
import type { PagingContext } from "../context/context.js";
import type { Vcpu } from "../vcpu.js";
import { REQUEST, type RootRequests } from "./root-requests.js";

/** Bits of a linear address by the guest's root level. */
const WIDTH: Readonly<Record<number, number>> = { 4: 48, 5: 57 };

export class Invalidation {
  constructor(
    readonly vcpu: Vcpu,
    readonly requests: RootRequests,
  ) {}

  /** Through one root of a context. A non-canonical address is no operation (SDM, "INVLPG"). */
  through(context: PagingContext, root: number, address: bigint): void {
    if (root === 0 || !this.#applies(context, address)) return;
    const { vm, pointer } = this.vcpu;
    vm.caches.topUp(false);
    vm.exports.invlpg(pointer, root, Number(address >> 32n), Number(address & 0xffff_ffffn));
    vm.settle();
  }

  /** INVLPG. */
  page(address: bigint): void {
    const { vm, pointer, rootMmu: context } = this.vcpu;
    if (!this.#applies(context, address)) return;
    const { page } = context.roots.current;
    if (page !== 0) this.through(context, page, address);
    else vm.exports.forgetMmio(pointer, Number(address >> 32n), Number(address & 0xffff_ffffn));
    // Previous roots keep translations only where a CR3 write need not synchronise them, which takes a PCID;
    // guests without long mode have none.
    if (context.guestLevel < 4) return;
    for (let i = 0; i < 3; i++) this.through(context, context.roots.previous(i).page, address);
  }

  /** INVPCID type 0: in every root of that PCID. */
  pcidPage(pcid: bigint, address: bigint): void {
    const { rootMmu: context, pagingRegisters } = this.vcpu;
    if ((pagingRegisters.cr3 & PCID) === pcid) this.through(context, context.roots.current.page, address);
    for (let i = 0; i < 3; i++) {
      const root = context.roots.previous(i);
      if ((root.pgd & PCID) === pcid) this.through(context, root.page, address);
    }
  }

  /** INVPCID type 1, and a CR3 write that flushes: everything of a PCID (kvm_invalidate_pcid). */
  pcid(pcid: bigint): void {
    const { vm, roots, pagingRegisters } = this.vcpu;
    if (vm.tdp !== undefined) {
      this.requests.add(REQUEST.flushGuest);
      return;
    }
    const enabled = (pagingRegisters.cr4 & CR4.pcide) !== 0;
    const current = enabled ? pagingRegisters.cr3 & PCID : 0n;
    if (current === pcid) this.requests.add(REQUEST.sync | REQUEST.flushCurrent);
    // Without PCIDs every CR3 write flushes, so previous roots are synchronised when they come back.
    if (enabled) roots.freeWhere((_, pgd) => (pgd & PCID) === pcid, false);
  }

  /** L1 gets an EPT violation: the address also goes from roots that were cached for the same table. */
  nestedEpt(address: bigint): void {
    const { guestMmu: context } = this.vcpu;
    for (let i = 0; i < 3; i++) {
      const root = context.roots.previous(i);
      if (sameEptTable(root.pgd, context.pgd)) this.through(context, root.page, address);
    }
  }

  /** Direct tables and those that only walk hold no linear address; guest-physical ones are always canonical. */
  #applies(context: PagingContext, address: bigint): boolean {
    const level = context.guestLevel;
    if (level === 0 || context.rootRole & ROLE_DIRECT || context.name === "nested_mmu") return false;
    if (context.name === "guest_mmu" || level < 4) return true;
    return BigInt.asUintN(64, BigInt.asIntN(WIDTH[level]!, address)) === address;
  }
}
