/** What a vCPU has to do about its roots before it enters the guest (KVM's requests), and what it does at once. */
import { ROLE_DIRECT, ROLE_PAE_ROOT } from "../../role/index.js";
import { ROOTS } from "../context/root-cache.js";
import type { Cpu } from "../machine/cpu.js";
import type { Machine } from "../machine/machine.js";
import { REQUEST } from "../machine/requests.js";
import { checkPaeRoot, fillRoot, loadRoot, rootLow } from "./root-loader.js";

/**
 * What happens before each entry to the guest: requests are served, a root is loaded if there is none. Returns false where
 * a root table lies in no slot. Throws OutOfMemoryError, and the requests stay.
 */
export function enterGuest(vm: Machine, cpu: Cpu): boolean {
  cpu.pdptesAreRead = vm.virtualization === "vmx";
  const loaded = serveRequests(vm, cpu);
  vm.events.collect(cpu.id);
  return loaded;
}

function serveRequests(vm: Machine, cpu: Cpu): boolean {
  const { mmu, requests } = cpu;
  if (requests !== 0 || !mmu.roots.hasCurrent) {
    // The only thing that can fail for want of memory, before anything has changed.
    vm.pages.caches.topUp((mmu.rootRole & ROLE_PAE_ROOT) !== 0);
    cpu.requests = 0;
    try {
      serve(vm, cpu, requests);
    } catch (error) {
      cpu.requests |= requests;
      throw error;
    }
  }
  checkPaeRoot(vm, mmu);
  return mmu.roots.hasCurrent;
}

function serve(vm: Machine, cpu: Cpu, requests: number): void {
  const { mmu } = cpu;
  if (requests & REQUEST.freeObsoleteRoots) freeObsoleteRoots(vm, cpu);
  const { roots } = mmu;
  if (requests & REQUEST.fillRoot && roots.currentPage !== 0) fillRoot(vm, cpu, roots.currentPage);
  if (requests & REQUEST.sync) syncRoots(vm, cpu);
  if (requests & REQUEST.flushGuest) flushGuest(vm, cpu);
  if (!roots.hasCurrent && loadRoot(vm, cpu, mmu)) syncRoots(vm, cpu);
}

/** The guest's whole TLB goes: nothing of the tables under two-dimensional paging, which hold no linear address. */
function flushGuest(vm: Machine, cpu: Cpu): void {
  if (vm.tdp !== undefined) return;
  syncRoots(vm, cpu);
  cpu.rootMmu.roots.freeWhere((page) => vm.pages.isUnsync(page), false);
}

function freeObsoleteRoots(vm: Machine, cpu: Cpu): void {
  for (const { roots } of [cpu.rootMmu, cpu.guestMmu]) roots.freeWhere((page) => vm.pages.isObsolete(page), true);
}

function syncRoots(vm: Machine, cpu: Cpu): void {
  const page = cpu.mmu.roots.currentPage;
  if (cpu.isDirect || page === 0) return;
  cpu.forgetMmio();
  cpu.core.syncRoot(page);
  vm.settle();
}

/** The root table of the context in use changed: use a cached root, or have one loaded at the next entry. */
export function switchRoot(vm: Machine, cpu: Cpu, pgd: bigint): void {
  const { mmu } = cpu;
  const { roots, rootRole: role } = mmu;
  const wanted = role & ROLE_DIRECT ? (role | vm.staleDirectRoleBits) >>> 0 : role;
  if (!roots.switchTo(pgd, wanted, rootLow(vm, mmu, pgd))) return;
  cpu.requests |= REQUEST.fillRoot;
  cpu.forgetMmio();
  if (!(role & ROLE_DIRECT)) vm.core.pages.header(roots.currentPage).flood = 0;
}

/** Frees every root. */
export function unloadRoots(cpu: Cpu): void {
  for (const { roots } of [cpu.rootMmu, cpu.guestMmu]) roots.free(ROOTS.all);
  cpu.forgetMmio();
}
