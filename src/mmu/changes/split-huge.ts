/**
 * Splitting huge pages of nested guests when dirty logging begins (kvm_shadow_mmu_try_split_huge_pages): what cannot be
 * split for want of memory or room stays write-protected and is split at its first write.
 */
import { OutOfMemoryError } from "../../errors.js";
import type { Cpu } from "../machine/cpu.js";
import type { Machine } from "../machine/machine.js";
import type { Memslot } from "../memory/memslots.js";

/** A descriptor for each entry of a page and one for its parent. */
const DESCS = 513;
const LARGEST = 3;

/** Splits those of gfns [start, end), `end` above `start`. Only beside the TDP MMU, as in Linux 6.1. */
export function splitNestedHugePages(vm: Machine, slot: Memslot, start: bigint, end: bigint): void {
  const vcpu = vm.cpus[0];
  if (vm.tdpMmu === undefined || vcpu === undefined) return;
  for (let level = LARGEST; level > 1; level--) {
    for (let from = start; from < end; ) {
      const sptep = vm.core.findHuge(slot.core, from, end, level);
      if (sptep === 0) break;
      const next = vm.core.endOfHuge(sptep);
      if (!split(vm, vcpu, slot, sptep)) from = next;
    }
  }
}

/** The vCPU's record holds the request; nothing else of it is used. */
function split(vm: Machine, vcpu: Cpu, slot: Memslot, sptep: number): boolean {
  try {
    vm.pages.caches.topUp(false, DESCS);
  } catch (error) {
    if (error instanceof OutOfMemoryError) return false;
    throw error;
  }
  if (!vcpu.core.requestSplit(sptep)) return false;
  vm.providePage(vcpu);
  vcpu.core.splitHuge(slot.core, sptep);
  return true;
}
