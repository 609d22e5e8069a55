/**
 * The text of events, by kernel: what TP_printk prints, with `{field:conversion}` for each value. Of a kind with several texts
 * the first that fits is the event's; `since` is the oldest tree in which a text was read, not necessarily the first to have it.
 */
import type { KindName, SlotName } from "./kinds.js";

/** How a value is written; `-` is text that is not kept. */
export type Conversion =
  /** Hexadecimal, without and with 0x. */
  | "x"
  | "0x"
  /** Decimal, perhaps negative. */
  | "d"
  /** Names of error-code bits, possibly none. */
  | "pferr"
  /** A page's role: from its level to `ad`. */
  | "role"
  /** The same as libtraceevent's plugin prints it: without A/D, with CR0.WP. */
  | "plugin-role"
  | "sync"
  | "created"
  | "r"
  | "w"
  | "exec"
  | "user"
  | "reason"
  | "rw"
  | "entering"
  /** What stands until the next space, or the end. */
  | "word"
  /** All the rest. */
  | "rest";

export interface TextFormat {
  readonly kind: KindName;
  readonly text: string;
  /** Oldest and newest tree in which it was read: what the text says of the kernel. */
  readonly kernels: readonly [first: string, last?: string];
  /** Not the kernel's own text, but that of libtraceevent's plugin. */
  readonly plugin?: true;
}

const PAGE_4 = "sp gen {gen:x} gfn {gfn:x} {role:role} root {root_count:d} {unsync:sync}";
const PAGE_5_1 = "sp gfn {gfn:x} {role:role} root {root_count:d} {unsync:sync}";
const PAGE_PLUGIN = "{role:plugin-role} root {root_count:d} {unsync:sync}";

const pageKinds = ["kvm_mmu_sync_page", "kvm_mmu_unsync_page", "kvm_mmu_prepare_zap_page"] as const;

const PAGES: readonly TextFormat[] = pageKinds.flatMap((kind): TextFormat[] => [
  { kind, text: PAGE_4, kernels: ["4.19"] },
  { kind, text: PAGE_5_1, kernels: ["5.1", "5.3.1"] },
  // The plugin leaves the frame number out.
  { kind, text: PAGE_PLUGIN, kernels: ["4.19"], plugin: true },
]);

export const FORMATS: readonly TextFormat[] = [
  { kind: "kvm_entry", text: "vcpu {vcpu_id:d}, rip 0x{guest_rip:x} intr_info {_:rest}", kernels: ["6.14"] },
  { kind: "kvm_entry", text: "vcpu {vcpu_id:d}, rip 0x{guest_rip:x}{_:rest}", kernels: ["5.10", "6.13.2"] },
  { kind: "kvm_entry", text: "vcpu {vcpu_id:d} rip 0x{guest_rip:x}{_:rest}", kernels: ["5.10"], plugin: true },
  { kind: "kvm_entry", text: "vcpu {vcpu_id:d}{_:rest}", kernels: ["4.19", "5.9.1"] },
  {
    kind: "kvm_exit",
    text: "vcpu {vcpu_id:d} reason {reason:reason}rip 0x{guest_rip:x} info1 0x{info1:x} info2 0x{_:x} intr_info 0x{_:x} error_code 0x{_:x} requests {_:rest}",
    kernels: ["6.14"],
  },
  {
    kind: "kvm_exit",
    text: "vcpu {vcpu_id:d} reason {reason:reason}rip 0x{guest_rip:x} info1 0x{info1:x}{_:rest}",
    kernels: ["5.10", "6.13.2"],
  },
  {
    kind: "kvm_exit",
    // Until 5.9; libtraceevent's plugin prints the same of any kernel.
    text: "vcpu {vcpu_id:d} reason {reason:reason}rip 0x{guest_rip:x} info {info1:x}{_:rest}",
    kernels: ["5.4"],
  },
  {
    kind: "kvm_exit",
    // Until 5.3; and the plugin.
    text: "reason {reason:reason}rip 0x{guest_rip:x} info {info1:x}{_:rest}",
    kernels: ["4.19"],
  },
  {
    kind: "kvm_exit",
    text: "reason {reason:reason}rip 0x{guest_rip:x}{_:rest}",
    kernels: ["4.19"],
    plugin: true,
  },
  {
    kind: "kvm_exit",
    text: "vcpu {vcpu_id:d} reason {reason:reason}rip 0x{guest_rip:x}{_:rest}",
    kernels: ["4.19"],
    plugin: true,
  },
  {
    kind: "kvm_page_fault",
    text: "vcpu {vcpu_id:d} rip 0x{guest_rip:x} address 0x{address:x} error_code 0x{error_code:x}",
    kernels: ["6.1"],
  },
  { kind: "kvm_page_fault", text: "address {address:x} error_code {error_code:x}", kernels: ["4.19", "6.0.1"] },
  {
    kind: "kvm_nested_vmenter",
    text: "rip: 0x{guest_rip:x} {_:word} 0x{_:x} nested_rip: 0x{_:x} int_ctl: 0x{_:x} event_inj: 0x{_:x} nested_{nested_tdp:word} {_:word} 0x{value:x}",
    kernels: ["6.1"],
  },
  {
    kind: "kvm_nested_vmenter",
    text: "rip: 0x{guest_rip:x} vmcb: 0x{_:x} nrip: 0x{_:x} int_ctl: 0x{_:x} event_inj: 0x{_:x} npt: {nested_tdp:word}",
    kernels: ["4.19", "6.0.1"],
  },
  { kind: "kvm_nested_vmexit", text: "{_:rest}", kernels: ["4.19"] },
  { kind: "kvm_nested_vmexit_inject", text: "{_:rest}", kernels: ["4.19"] },
  {
    kind: "kvm_smm_transition",
    text: "vcpu {vcpu_id:d}: {entering:entering} SMM, smbase 0x{_:x}",
    kernels: ["4.19"],
  },
  { kind: "kvm_cr", text: "cr_{rw:rw} {cr:x} = 0x{value:x}", kernels: ["4.19"] },
  { kind: "kvm_msr", text: "msr_{rw:rw} {cr:x} = 0x{value:x}{_:rest}", kernels: ["4.19"] },
  { kind: "kvm_emulate_insn", text: "{_:rest}", kernels: ["4.19"] },
  { kind: "kvm_unmap_hva_range", text: "{_:rest}", kernels: ["4.19"] },
  { kind: "kvm_age_hva", text: "{_:rest}", kernels: ["4.19"] },
  { kind: "kvm_mmu_pagetable_walk", text: "addr {address:x} pferr {pferr:x} {_:rest}", kernels: ["4.19"] },
  { kind: "kvm_mmu_paging_element", text: "pte {pte:x} level {level:d}", kernels: ["4.19"] },
  { kind: "kvm_mmu_set_accessed_bit", text: "gpa {gpa:x}", kernels: ["4.19"] },
  { kind: "kvm_mmu_set_dirty_bit", text: "gpa {gpa:x}", kernels: ["4.19"] },
  { kind: "kvm_mmu_walker_error", text: "pferr {pferr:x} {_:rest}", kernels: ["4.19"] },
  { kind: "kvm_mmu_get_page", text: `${PAGE_4} {created:created}`, kernels: ["4.19"] },
  { kind: "kvm_mmu_get_page", text: `${PAGE_5_1} {created:created}`, kernels: ["5.1", "5.3.1"] },
  {
    kind: "kvm_mmu_get_page",
    text: `{created:created} sp gfn {gfn:x} ${PAGE_PLUGIN}`,
    kernels: ["4.19"],
    plugin: true,
  },
  ...PAGES,
  { kind: "mark_mmio_spte", text: "sptep:{sptep:word} gfn {gfn:x} access {access:x} gen {gen:x}", kernels: ["4.19"] },
  { kind: "handle_mmio_page_fault", text: "addr:{address:x} gfn {gfn:x} access {access:x}", kernels: ["4.19"] },
  {
    kind: "fast_page_fault",
    text: "vcpu {vcpu_id:d} gva {address:x} error_code {error_code:pferr} sptep {sptep:word} old {old_spte:0x} new {new_spte:x} spurious {spurious:d} fixed {fixed:d}",
    kernels: ["4.19"],
  },
  { kind: "kvm_mmu_zap_all_fast", text: "kvm-mmu-valid-gen {gen:x} used_pages {used_pages:x}", kernels: ["4.19"] },
  {
    kind: "check_mmio_spte",
    text: "spte {spte:x} kvm_gen {kvm_gen:x} spte-gen {spte_gen:x} valid {_:d}",
    kernels: ["4.19"],
  },
  {
    kind: "kvm_mmu_set_spte",
    text: "gfn {gfn:x} spte {spte:x} ({r:r}{w:w}{x:exec}{u:user}) level {level:d} at {sptep:x}",
    kernels: ["5.3"],
  },
  { kind: "kvm_mmu_spte_requested", text: "gfn {gfn:x} pfn {pfn:x} level {level:d}", kernels: ["5.3", "7.1.5"] },
  {
    kind: "kvm_mmu_spte_requested",
    text: "gfn {gfn:x} pfn {pfn:x} level {level:d} access {access:x}",
    kernels: ["7.2.13"],
  },
  {
    kind: "kvm_tdp_mmu_spte_changed",
    text: "as id {as_id:d} gfn {gfn:x} level {level:d} old_spte {old_spte:x} new_spte {new_spte:x}",
    kernels: ["5.11.5"],
  },
  {
    kind: "kvm_mmu_split_huge_page",
    text: "gfn {gfn:x} spte {spte:x} level {level:d} errno {errno:d}",
    kernels: ["5.18.12"],
  },
];

/** The slot of a field, `_` for what is not kept. */
export type FieldName = SlotName | "_";
