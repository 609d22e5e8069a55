/**
 * The tracepoints that this reader knows, and the fields of them that it keeps: kvm and kvmmmu of Linux 4.19 to 7.3
 * (arch/x86/kvm/trace.h, arch/x86/kvm/mmu/mmutrace.h). Every other event is counted by its name.
 */

/** Where a record keeps a field. Names are those of the tracepoints' fields, which trace.dat files spell out. */
export const SLOTS = [
  "vcpu_id",
  "guest_rip",
  "address",
  "error_code",
  "pferr",
  "pte",
  "level",
  "gpa",
  "gfn",
  "gen",
  "role",
  "root_count",
  "unsync",
  "created",
  "sptep",
  "access",
  "old_spte",
  "new_spte",
  "spte",
  "ret",
  "used_pages",
  "kvm_gen",
  "spte_gen",
  "r",
  "w",
  "x",
  "u",
  "pfn",
  "as_id",
  "errno",
  "reason",
  "info1",
  "rw",
  "cr",
  "value",
  "entering",
  "spurious",
  "fixed",
  "nested_tdp",
  "isa",
  "npt",
] as const;
/** The name of a field of an event. */
export type SlotName = (typeof SLOTS)[number];

/** The index of a slot by its name. */
export const Slot = Object.freeze(
  Object.fromEntries(SLOTS.map((name, index) => [name, index])) as { readonly [name in SlotName]: number },
);

/** Kinds by number: what a record's `kind` is. 0 is an event of no interest here. */
export const KINDS = [
  "other",
  "kvm_entry",
  "kvm_exit",
  "kvm_page_fault",
  "kvm_nested_vmenter",
  "kvm_nested_vmexit",
  "kvm_nested_vmexit_inject",
  "kvm_smm_transition",
  "kvm_cr",
  "kvm_msr",
  "kvm_emulate_insn",
  "kvm_unmap_hva_range",
  "kvm_age_hva",
  "kvm_mmu_pagetable_walk",
  "kvm_mmu_paging_element",
  "kvm_mmu_set_accessed_bit",
  "kvm_mmu_set_dirty_bit",
  "kvm_mmu_walker_error",
  "kvm_mmu_get_page",
  "kvm_mmu_sync_page",
  "kvm_mmu_unsync_page",
  "kvm_mmu_prepare_zap_page",
  "mark_mmio_spte",
  "handle_mmio_page_fault",
  "fast_page_fault",
  "kvm_mmu_zap_all_fast",
  "check_mmio_spte",
  "kvm_mmu_set_spte",
  "kvm_mmu_spte_requested",
  "kvm_tdp_mmu_spte_changed",
  "kvm_mmu_split_huge_page",
] as const;
/** The name of an event that is understood. */
export type KindName = (typeof KINDS)[number];

/** The number of a kind by its name. */
export const Kind = Object.freeze(
  Object.fromEntries(KINDS.map((name, index) => [name, index])) as { readonly [name in KindName]: number },
);

/** What older kernels called them. */
export const OLDER_NAMES: Readonly<Record<string, KindName>> = {
  kvm_nested_vmrun: "kvm_nested_vmenter",
  kvm_enter_smm: "kvm_smm_transition",
  kvm_mmu_invalidate_zap_all_pages: "kvm_mmu_zap_all_fast",
  kvm_mmu_zap_page: "kvm_mmu_prepare_zap_page",
};

/**
 * The reasons of kvm_exit that say which tables the guest runs on, that it loads others, or that KVM may give up its roots
 * (kvm_mmu_reset_context; INVPCID until 5.16); any other is 0. Processors without
 * decode assists emulate a MOV to a control register without a kvm_cr.
 */
export const ExitReason = {
  Other: 0,
  EptViolation: 1,
  EptMisconfig: 2,
  Npf: 3,
  PageFault: 4,
  WriteCr3: 5,
  /** CR0 or CR4. */
  WriteMode: 6,
  /** Of VMX: the qualification says which register. */
  CrAccess: 7,
  MsrWrite: 8,
  Rsm: 9,
  Invpcid: 10,
} as const;

/** Events whose fields are those of a page. */
export const PAGE_EVENTS: ReadonlySet<number> = new Set([
  Kind.kvm_mmu_get_page,
  Kind.kvm_mmu_sync_page,
  Kind.kvm_mmu_unsync_page,
  Kind.kvm_mmu_prepare_zap_page,
]);
