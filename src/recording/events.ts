/**
 * The kvmmmu trace vocabulary of Linux 6.1 (arch/x86/kvm/mmu/mmutrace.h) and the probes that a recording adds.
 * Field names are those of the recording; 64-bit fields are bigint, the others number.
 */

/** Fields that every event about one shadow page has (KVM_MMU_PAGE_FIELDS). */
export interface ShadowPageFields {
  readonly mmu_valid_gen: number;
  readonly gfn: bigint;
  /** Role word in the layout of Linux 6.1. */
  readonly role: number;
  readonly root_count: number;
  readonly unsync: number;
}

/** Tracepoints of the kvmmmu system. */
export type TraceEvent =
  | { readonly ev: "kvm_mmu_pagetable_walk"; readonly addr: bigint; readonly pferr: number }
  | { readonly ev: "kvm_mmu_paging_element"; readonly pte: bigint; readonly level: number }
  | { readonly ev: "kvm_mmu_set_accessed_bit"; readonly gpa: bigint }
  | { readonly ev: "kvm_mmu_set_dirty_bit"; readonly gpa: bigint }
  | { readonly ev: "kvm_mmu_walker_error"; readonly pferr: number }
  | (ShadowPageFields & { readonly ev: "kvm_mmu_get_page"; readonly created: number })
  | (ShadowPageFields & {
      readonly ev: "kvm_mmu_sync_page" | "kvm_mmu_unsync_page" | "kvm_mmu_prepare_zap_page";
    })
  | {
      readonly ev: "mark_mmio_spte";
      readonly sptep: bigint;
      readonly gfn: bigint;
      readonly access: number;
      readonly gen: number;
    }
  | {
      readonly ev: "handle_mmio_page_fault";
      readonly addr: bigint;
      readonly gfn: bigint;
      readonly access: number;
    }
  | {
      readonly ev: "fast_page_fault";
      readonly vcpu_id: number;
      readonly cr2_or_gpa: bigint;
      readonly error_code: number;
      readonly sptep: bigint;
      readonly old_spte: bigint;
      readonly new_spte: bigint;
      /** RET_PF_*: 1 retry, 3 invalid, 4 fixed, 5 spurious. */
      readonly ret: number;
    }
  | { readonly ev: "kvm_mmu_zap_all_fast"; readonly mmu_valid_gen: number; readonly mmu_used_pages: number }
  | {
      readonly ev: "check_mmio_spte";
      readonly kvm_gen: number;
      readonly spte_gen: number;
      readonly spte: bigint;
    }
  | {
      readonly ev: "kvm_mmu_set_spte";
      readonly gfn: bigint;
      readonly spte: bigint;
      /** Host-physical address of the SPTE (elsewhere sptep is a kernel-virtual one). */
      readonly sptep: bigint;
      readonly level: number;
      readonly r: number;
      readonly x: number;
      /** 1, 0, or -1 where the format has no user bit. */
      readonly u: number;
    }
  | { readonly ev: "kvm_mmu_spte_requested"; readonly gfn: bigint; readonly pfn: bigint; readonly level: number }
  | {
      readonly ev: "kvm_mmu_split_huge_page";
      readonly gfn: bigint;
      readonly spte: bigint;
      readonly level: number;
      readonly errno: number;
    }
  | {
      readonly ev: "kvm_tdp_mmu_spte_changed";
      readonly gfn: bigint;
      readonly old_spte: bigint;
      readonly new_spte: bigint;
      readonly level: number;
      readonly as_id: number;
    };

/**
 * Probes on KVM's functions, with their arguments or return value. A target emits what it has the matching place
 * for and says so in `emits`.
 */
export type ProbeEvent =
  | { readonly ev: "alloc_root"; readonly gfn: bigint; readonly quadrant: number; readonly level: number }
  | { readonly ev: "disallow_lpage" | "allow_lpage"; readonly gfn: bigint }
  | { readonly ev: "slot_gfn_wp"; readonly gfn: bigint; readonly minlevel: number }
  | { readonly ev: "unprotect_page"; readonly gfn: bigint }
  | { readonly ev: "make_mmio_spte"; readonly gfn: bigint; readonly access: number }
  | { readonly ev: "mmio_invalidate"; readonly gen: bigint }
  | {
      readonly ev: "spte_update" | "spte_update_nt";
      readonly sptep: bigint;
      readonly old: bigint;
      readonly new: bigint;
    }
  | { readonly ev: "spte_clear" | "page_zap_pte"; readonly sptep: bigint; readonly old: bigint }
  | { readonly ev: "mark_dirty"; readonly gfn: bigint }
  | { readonly ev: "new_pgd"; readonly pgd: bigint }
  | { readonly ev: "free_roots"; readonly mmu: "root_mmu" | "guest_mmu"; readonly roots: bigint }
  | { readonly ev: "invalidate_gva"; readonly gva: bigint; readonly root: bigint }
  | { readonly ev: "ept_invlpg" | "invlpg"; readonly gva: bigint }
  | { readonly ev: "age_gfn" | "test_age_gfn"; readonly start: bigint; readonly end: bigint }
  | { readonly ev: "slot_remove_wa"; readonly level: number }
  | {
      readonly ev:
        | "reset_context"
        | "init_mmu"
        | "mmu_load"
        | "mmu_unload"
        | "sync_roots"
        | "sync_prev_roots"
        | "free_obsolete_roots"
        | "hugepage_adjust"
        | "zap_all_fast"
        | "zap_collapsible"
        | "slot_leaf_clear_dirty";
    }
  | {
      readonly ev:
        | "mmu_load_ret"
        | "direct_pf_ret"
        | "nonpaging_pf_ret"
        | "p32_pf_ret"
        | "p64_pf_ret"
        | "ept_pf_ret"
        | "tdp_map_ret"
        | "page_fault_ret"
        | "sync_page_ret"
        | "sync_page32_ret"
        | "ept_sync_page_ret"
        | "age_gfn_ret"
        | "test_age_gfn_ret";
      readonly ret: number;
    };

export type MmuEvent = TraceEvent | ProbeEvent;
