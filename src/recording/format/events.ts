/**
 * The events of a recording: the kvm and kvmmmu tracepoints of Linux 6.1 and 6.12 (arch/x86/kvm/trace.h,
 * arch/x86/kvm/mmu/mmutrace.h) and the probes ("kp") that recordings add on KVM's functions.
 * One table declares every kind and its fields; the types, the reader, the printer and the comparator follow it.
 */

/**
 * What a field holds and how it is compared.
 * u64 and u32: a value. text: a string. rip: a guest instruction pointer, never compared. pointer: a
 * kernel address that names an object, never compared and not part of what a target emits. sptepPa and
 * sptep: the address of an SPTE, host-physical or in the kernel's direct map; compared as (page, index).
 * rootHpa: the address of a root page; compared as a page. spte: an SPTE value.
 */
export type FieldKind = "u64" | "u32" | "text" | "rip" | "pointer" | "sptepPa" | "sptep" | "rootHpa" | "spte";

type Fields = { readonly [field: string]: FieldKind };

const PAGE = { mmu_valid_gen: "u32", gfn: "u64", role: "u32", root_count: "u32", unsync: "u32" } as const;
const RETURN = { ret: "u32" } as const;
const VCPU = { vcpu: "pointer" } as const;
const ENTRY = { sp: "pointer", i: "u32" } as const;

/** Tracepoints of the kvmmmu system. */
export const TRACE_EVENTS = {
  kvm_mmu_pagetable_walk: { addr: "u64", pferr: "u32" },
  kvm_mmu_paging_element: { pte: "u64", level: "u32" },
  kvm_mmu_set_accessed_bit: { gpa: "u64" },
  kvm_mmu_set_dirty_bit: { gpa: "u64" },
  kvm_mmu_walker_error: { pferr: "u32" },
  kvm_mmu_get_page: { ...PAGE, created: "u32" },
  kvm_mmu_sync_page: PAGE,
  kvm_mmu_unsync_page: PAGE,
  kvm_mmu_prepare_zap_page: PAGE,
  mark_mmio_spte: { sptep: "sptep", gfn: "u64", access: "u32", gen: "u32" },
  handle_mmio_page_fault: { addr: "u64", gfn: "u64", access: "u32" },
  fast_page_fault: {
    vcpu_id: "u32",
    cr2_or_gpa: "u64",
    error_code: "u64",
    sptep: "sptep",
    old_spte: "spte",
    new_spte: "spte",
    ret: "u32",
  },
  kvm_mmu_zap_all_fast: { mmu_valid_gen: "u32", mmu_used_pages: "u32" },
  check_mmio_spte: { kvm_gen: "u32", spte_gen: "u32", spte: "spte" },
  kvm_mmu_set_spte: { gfn: "u64", spte: "spte", sptep: "sptepPa", level: "u32", r: "u32", x: "u32", u: "u32" },
  kvm_mmu_spte_requested: { gfn: "u64", pfn: "u64", level: "u32" },
  kvm_mmu_split_huge_page: { gfn: "u64", spte: "spte", level: "u32", errno: "u32" },
  kvm_tdp_mmu_spte_changed: { gfn: "u64", old_spte: "spte", new_spte: "spte", level: "u32", as_id: "u32" },
} as const satisfies Readonly<Record<string, Fields>>;

/** Probes on what the MMU itself does. A target emits those it has the place for and names them in `emits`. */
export const PROBE_EVENTS = {
  alloc_root: { gfn: "u64", quadrant: "u32", level: "u32" },
  disallow_lpage: { gfn: "u64" },
  allow_lpage: { gfn: "u64" },
  slot_gfn_wp: { gfn: "u64", minlevel: "u32" },
  unprotect_page: { gfn: "u64" },
  make_mmio_spte: { gfn: "u64", access: "u32" },
  mmio_invalidate: { gen: "u64" },
  spte_update: { sptep: "sptep", old: "spte", new: "spte" },
  spte_update_nt: { sptep: "sptep", old: "spte", new: "spte" },
  spte_clear: { sptep: "sptep", old: "spte" },
  page_zap_pte: { sp: "pointer", sptep: "sptep", old: "spte" },
  mark_dirty: { gfn: "u64" },
  new_pgd: { vcpu: "pointer", pgd: "u64" },
  free_roots: { mmu: "pointer", roots: "u64" },
  invalidate_gva: { mmu: "pointer", gva: "u64", root: "rootHpa" },
  /** Linux 6.12; bit 0 of `roots` is the current root, the previous ones follow. */
  invalidate_addr: { mmu: "pointer", addr: "u64", roots: "u64" },
  unprotect_gfn_and_retry: { cr2_or_gpa: "u64", always_retry: "u32" },
  unprotect_gfn_and_retry_ret: RETURN,
  sync_spte: ENTRY,
  sync_spte_ret: RETURN,
  sync_spte32: ENTRY,
  sync_spte32_ret: RETURN,
  ept_sync_spte: ENTRY,
  ept_sync_spte_ret: RETURN,
  tdp_pf_ret: RETURN,
  /** Linux 6.1. */
  ept_invlpg: { gva: "u64" },
  invlpg: { gva: "u64" },
  age_gfn: { start: "u64", end: "u64" },
  test_age_gfn: { start: "u64", end: "u64" },
  slot_remove_wa: { slot: "pointer", level: "u32" },
  slot_leaf_clear_dirty: { slot: "pointer" },
  zap_collapsible: { slot: "pointer" },
  zap_all_fast: { kvm: "pointer" },
  reset_context: VCPU,
  init_mmu: VCPU,
  mmu_load: VCPU,
  mmu_unload: VCPU,
  sync_roots: VCPU,
  sync_prev_roots: VCPU,
  free_obsolete_roots: VCPU,
  hugepage_adjust: VCPU,
  init_shadow_npt: { cr0: "u64", cr4: "u64", efer: "u64", ncr3: "u64" },
  init_shadow_ept: { execonly: "u32", huge: "u32", ad: "u32", eptp: "u64" },
  mmu_load_ret: RETURN,
  direct_pf_ret: RETURN,
  nonpaging_pf_ret: RETURN,
  p32_pf_ret: RETURN,
  p64_pf_ret: RETURN,
  ept_pf_ret: RETURN,
  tdp_map_ret: RETURN,
  page_fault_ret: RETURN,
  sync_page_ret: RETURN,
  sync_page32_ret: RETURN,
  ept_sync_page_ret: RETURN,
  age_gfn_ret: RETURN,
  test_age_gfn_ret: RETURN,
} as const satisfies Readonly<Record<string, Fields>>;

/** Events that tell what the guest, the VMM and the host did: inputs, or of no interest to the MMU. */
export const INPUT_EVENTS = {
  vcpu_run: { kvcpu: "pointer" },
  pte_write: { gpa: "u64", new: "u64", bytes: "u32" },
  set_cr0: { cr0: "u64" },
  set_cr3: { cr3: "u64" },
  set_cr4: { cr4: "u64" },
  invpcid_gva: { gva: "u64", pcid: "u64" },
  kvm_entry: { rip: "rip" },
  kvm_exit: {
    exit_reason: "u32",
    guest_rip: "rip",
    info1: "u64",
    info2: "u64",
    intr_info: "u32",
    error_code: "u32",
  },
  kvm_page_fault: { vcpu_id: "u32", guest_rip: "rip", fault_address: "u64", error_code: "u64" },
  kvm_inj_exception: { exception: "u32", has_error: "u32", error_code: "u32", reinjected: "u32" },
  kvm_emulate_insn: { rip: "rip", csbase: "u64", len: "u32", insn: "text", flags: "u32", failed: "u32" },
  kvm_mmio: { type: "u32", len: "u32", gpa: "u64", val: "u64" },
  kvm_msr: { write: "u32", ecx: "u32", data: "u64", exception: "u32" },
  kvm_cr: { rw: "u32", cr: "u32", val: "u64" },
  kvm_nested_vmenter: {
    rip: "rip",
    vmcb: "u64",
    nested_rip: "rip",
    int_ctl: "u32",
    event_inj: "u32",
    tdp_enabled: "u32",
    guest_pgd: "u64",
    isa: "u32",
  },
  kvm_nested_vmexit: {
    exit_reason: "u32",
    guest_rip: "rip",
    isa: "u32",
    info1: "u64",
    info2: "u64",
    intr_info: "u32",
    error_code: "u32",
    vcpu_id: "u32",
  },
  kvm_nested_vmexit_inject: {
    exit_code: "u32",
    exit_info1: "u64",
    exit_info2: "u64",
    exit_int_info: "u32",
    exit_int_info_err: "u32",
    isa: "u32",
  },
  kvm_unmap_hva_range: { start: "u64", end: "u64" },
  kvm_set_spte_hva: { hva: "u64" },
  kvm_age_hva: { start: "u64", end: "u64" },
  kvm_test_age_hva: { hva: "u64" },
} as const satisfies Readonly<Record<string, Fields>>;

/** The fields of every event, by its name. */
export const EVENTS = { ...TRACE_EVENTS, ...PROBE_EVENTS, ...INPUT_EVENTS } as const;

type ValueOf<K> = K extends "u32" ? number : K extends "text" ? string : bigint;

/** A union of event objects: the field values by name, and `ev`. Pointers are left out where `Emitted` is true. */
type EventUnion<T extends Readonly<Record<string, Fields>>, Emitted extends boolean> = {
  [E in keyof T & string]: { readonly ev: E } & {
    readonly [F in keyof T[E] as Emitted extends true ? (T[E][F] extends "pointer" ? never : F) : F]: ValueOf<T[E][F]>;
  };
}[keyof T & string];

/** An event of the kernel's own trace points. */
export type TraceEvent = EventUnion<typeof TRACE_EVENTS, true>;
/** An event of a probe on a kernel function. */
export type ProbeEvent = EventUnion<typeof PROBE_EVENTS, true>;

/** What a target emits: values as the kernel would have recorded them, kernel pointers left out. */
export type MmuEvent = TraceEvent | ProbeEvent;

/** What a recording holds. */
export type RecordedEvent = EventUnion<typeof EVENTS, false>;

/** The name of an event. */
export type EventKind = keyof typeof EVENTS;
/** The event of that name. */
export type EventOf<K extends EventKind> = Extract<RecordedEvent, { readonly ev: K }>;

/** Whether that is the name of an event that recordings have. */
export function isEventKind(name: string): name is EventKind {
  return Object.hasOwn(EVENTS, name);
}

/** Whether that is the name of one of the kernel's own trace events. */
export function isTraceEvent(kind: string): kind is keyof typeof TRACE_EVENTS {
  return Object.hasOwn(TRACE_EVENTS, kind);
}

/** Whether that is the name of a probe's event. */
export function isProbeEvent(kind: string): kind is keyof typeof PROBE_EVENTS {
  return Object.hasOwn(PROBE_EVENTS, kind);
}
