/** INVLPG and INVPCID of an address: leaves of unsync tables are made anew (kvm_mmu_invlpg, kvm_mmu_invpcid_gva). */
import type { PagingContext } from "./context.js";
import { PCID } from "./control-registers.js";
import type { RootCache } from "./root-cache.js";
import type { Vcpu } from "./vcpu.js";

/** Bits of a linear address by the guest's root level. */
const WIDTH: Readonly<Record<number, number>> = { 4: 48, 5: 57 };

export class Invalidation {
  constructor(
    readonly vcpu: Vcpu,
    readonly context: PagingContext,
    readonly roots: RootCache,
  ) {}

  /** Through one root. A non-canonical address is no operation (SDM, "INVLPG"). */
  through(root: number, address: bigint): void {
    if (!this.#applies(address)) return;
    const { vm, pointer } = this.vcpu;
    vm.caches.topUp(false);
    vm.exports.invlpg(pointer, root, Number(address >> 32n), Number(address & 0xffff_ffffn));
    vm.settle();
  }

  /** INVLPG. */
  page(address: bigint): void {
    if (!this.#applies(address)) return;
    const { vm, pointer } = this.vcpu;
    const { page } = this.roots.current;
    if (page !== 0) this.through(page, address);
    else vm.exports.forgetMmio(pointer, Number(address >> 32n), Number(address & 0xffff_ffffn));
    // Previous roots keep translations only where a CR3 write need not synchronise them, which takes a PCID;
    // guests without long mode have none.
    if (this.context.guestLevel < 4) return;
    for (let i = 0; i < 3; i++) {
      const root = this.roots.previous(i);
      if (root.page !== 0) this.through(root.page, address);
    }
  }

  /** INVPCID type 0: in every root of that PCID. */
  pcidPage(cr3: bigint, pcid: bigint, address: bigint): void {
    const { current } = this.roots;
    if ((cr3 & PCID) === pcid && current.page !== 0) this.through(current.page, address);
    for (let i = 0; i < 3; i++) {
      const root = this.roots.previous(i);
      if (root.page !== 0 && (root.pgd & PCID) === pcid) this.through(root.page, address);
    }
  }

  #applies(address: bigint): boolean {
    const level = this.context.guestLevel;
    if (level < 4) return level !== 0;
    return BigInt.asUintN(64, BigInt.asIntN(WIDTH[level]!, address)) === address;
  }
}
