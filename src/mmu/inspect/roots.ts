/** The roots of a vCPU's paging contexts, for people. */
import type { Cpu } from "../machine/cpu.js";

/** A root that a context has, or had and keeps. */
export interface CachedRoot {
  /** Names its page: `pointer` of a ShadowPage. */
  readonly page: number;
  /** The guest's root table (CR3, nCR3 or EPTP) that it stands for; 0 for a direct root. */
  readonly pgd: bigint;
}

/** The roots of one paging context (KVM's struct kvm_mmu). */
export interface ContextRoots {
  /** `root_mmu` is the guest's own, and L1's; `guest_mmu` shadows L1's second stage. */
  readonly context: "root_mmu" | "guest_mmu";
  /** Faults go through it now. */
  readonly active: boolean;
  /** Undefined where there is none, or one that stands for a table in no slot. */
  readonly current: CachedRoot | undefined;
  /** The three before it, the last first (KVM's prev_roots); undefined where there is none. */
  readonly previous: readonly (CachedRoot | undefined)[];
  /** Switches that found a root among these, and that did not. */
  readonly hits: number;
  readonly misses: number;
}

export function contextRoots({ rootMmu, guestMmu, mmu }: Cpu): ContextRoots[] {
  return [rootMmu, guestMmu].map((context) => {
    const { roots } = context;
    const known = ({ page, pgd }: CachedRoot) => (page === 0 ? undefined : { page, pgd });
    return {
      context: context === rootMmu ? "root_mmu" : "guest_mmu",
      active: context === mmu,
      current: known(roots.current),
      previous: [0, 1, 2].map((index) => known(roots.previous(index))),
      hits: roots.hits,
      misses: roots.misses,
    };
  });
}
