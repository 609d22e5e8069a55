/** INVLPG and INVPCID of an address: leaves of unsync tables are made anew (kvm_mmu_invlpg, kvm_mmu_invpcid_gva). */

import { CR4, PCID } from "../../registers/control-registers.js";
import { sameEptTable } from "../../registers/eptp.js";
import { ROLE_DIRECT } from "../../role/index.js";
import { nestedEptpProblem } from "../config/eptp.js";
import type { PagingContext } from "../context/context.js";
import type { Cpu } from "../machine/cpu.js";
import type { Machine } from "../machine/machine.js";
import { REQUEST } from "../machine/requests.js";

/** Bits of a linear address by the guest's root level. */
const WIDTH: Readonly<Record<number, number>> = { 4: 48, 5: 57 };

/** Through one root of a context. A non-canonical address is no operation (SDM, "INVLPG"). */
export function invalidateThrough(vm: Machine, cpu: Cpu, context: PagingContext, root: number, address: bigint): void {
  if (root === 0 || !applies(context, address)) return;
  vm.pages.caches.topUp(false);
  cpu.core.invalidatePage(root, address);
  vm.settle();
}

/** INVLPG. */
export function invalidatePage(vm: Machine, cpu: Cpu, address: bigint): void {
  const { rootMmu: context } = cpu;
  if (!applies(context, address)) return;
  const { page } = context.roots.current;
  if (page !== 0) invalidateThrough(vm, cpu, context, page, address);
  else cpu.core.clearMmioInfo(address);
  // Previous roots keep translations only where a CR3 write need not synchronise them, which takes a PCID;
  // guests without long mode have none.
  if (context.guestLevel < 4) return;
  for (let i = 0; i < 3; i++) invalidateThrough(vm, cpu, context, context.roots.previous(i).page, address);
}

/** INVPCID type 0: in every root of that PCID. */
export function invalidatePcidPage(vm: Machine, cpu: Cpu, pcid: bigint, address: bigint): void {
  const { rootMmu: context, registers } = cpu;
  if ((registers.cr3 & PCID) === pcid) invalidateThrough(vm, cpu, context, context.roots.current.page, address);
  for (let i = 0; i < 3; i++) {
    const root = context.roots.previous(i);
    if ((root.pgd & PCID) === pcid) invalidateThrough(vm, cpu, context, root.page, address);
  }
}

/** INVPCID type 1, and a CR3 write that flushes: everything of a PCID (kvm_invalidate_pcid). */
export function invalidatePcid(vm: Machine, cpu: Cpu, pcid: bigint): void {
  if (vm.tdp !== undefined) {
    cpu.requests |= REQUEST.flushGuest;
    return;
  }
  const { registers } = cpu;
  const enabled = (registers.cr4 & CR4.pcide) !== 0;
  const current = enabled ? registers.cr3 & PCID : 0n;
  if (current === pcid) cpu.requests |= REQUEST.sync;
  // Without PCIDs every CR3 write flushes, so previous roots are synchronised when they come back.
  if (enabled) cpu.rootMmu.roots.freeWhere((_, pgd) => (pgd & PCID) === pcid, false);
}

/** L1 gets an EPT violation: the address also goes from roots that were cached for the same table. */
export function invalidateNestedEpt(vm: Machine, cpu: Cpu, address: bigint): void {
  const { guestMmu: context } = cpu;
  for (let i = 0; i < 3; i++) {
    const root = context.roots.previous(i);
    if (sameEptTable(root.pgd, context.pgd)) invalidateThrough(vm, cpu, context, root.page, address);
  }
}

/** INVEPT of one EPT of L1's or of all; false for an EPTP that the VM's capabilities do not allow (handle_invept). */
export function invalidateEpt(vm: Machine, cpu: Cpu, eptp: bigint | "all"): boolean {
  if (eptp === "all" ? vm.tdp?.format !== "ept" : nestedEptpProblem(vm, eptp) !== undefined) return false;
  cpu.guestMmu.roots.freeWhere((_, pgd) => eptp === "all" || sameEptTable(pgd, eptp), true);
  return true;
}

/** Direct tables and those that only walk hold no linear address; guest-physical ones are always canonical. */
function applies(context: PagingContext, address: bigint): boolean {
  const level = context.guestLevel;
  if (level === 0 || context.rootRole & ROLE_DIRECT || context.name === "nested_mmu") return false;
  if (context.name === "guest_mmu" || level < 4) return true;
  return BigInt.asUintN(64, BigInt.asIntN(WIDTH[level]!, address)) === address;
}
