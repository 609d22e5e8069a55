/**
 * What differs between the kernels whose MMU is modelled: one rule for each difference, by a name. A virtual machine has a set
 * of them from the moment it is made (VM.RULES), and the code asks for a rule, never for a kernel. Each was read in both
 * kernels' sources (Debian 6.1.192 and 6.12.117); "since" is the first modelled kernel that has it.
 */
import { type BitLayout, flagOf } from "./bits.js";

/** Kernels whose MMU can be had, oldest first. */
export const KERNELS = ["6.1", "6.12"] as const;

export type Kernel = (typeof KERNELS)[number];

export interface KernelRule {
  /** Upper case, as the core's constants have it. */
  readonly name: string;
  readonly since: Kernel;
  /** Where the rule is in the kernel's source: function, file below arch/x86/kvm. */
  readonly source: string;
  /** What the kernel does with the rule, and what it did before. */
  readonly effect: string;
}

/** In the order of their bits in VM.RULES. */
export const KERNEL_RULES = [
  {
    name: "LATE_UNPROTECT",
    since: "6.12",
    source: "kvm_mmu_write_protect_fault (mmu/mmu.c)",
    effect:
      "during event delivery only a fault that write protection caused gives the table up, once for each instruction and address; before, every fault did",
  },
  {
    name: "INVALIDATE_SYNCS",
    since: "6.12",
    source: "__kvm_mmu_invalidate_addr (mmu/mmu.c)",
    effect: "INVLPG brings the one entry of an unsync page up to date; before, it was zapped and prefetched",
  },
  {
    name: "SYNC_KEEPS",
    since: "6.12",
    source: "FNAME(sync_spte) (mmu/paging_tmpl.h)",
    effect:
      "an SPTE whose rights are unchanged is left as it is; before, it was made anew: without A and D, writable again, access-tracked",
  },
  {
    name: "ZAP_PASSES",
    since: "6.12",
    source: "tdp_mmu_zap_root (mmu/tdp_mmu.c)",
    effect: "a root of the TDP MMU is emptied in passes: 4 KiB, 2 MiB, 1 GiB, root; before: 1 GiB, root",
  },
  {
    name: "ZAP_AT_ONCE",
    since: "6.12",
    source: "tdp_mmu_zap_spte_atomic (mmu/tdp_mmu.c)",
    effect:
      "an atomic zap is one change, to the empty entry, with what follows from it behind the flush; before: to the frozen one",
  },
  {
    name: "FRESH_INVALID",
    since: "6.12",
    source: "kvm_mmu_after_set_cpuid (mmu/mmu.c)",
    effect: "a context that was never used has an invalid root role; before, role 0",
  },
  {
    name: "EMPTY_BIT_63",
    since: "6.12",
    source: "SHADOW_NONPRESENT_VALUE (mmu/spte.h), kvm_mmu_set_ept_masks (mmu/spte.c)",
    effect: "empty SPTEs, frozen ones and those of EPT have bit 63 (suppress #VE); before, empty ones were 0",
  },
  {
    name: "WRITE_PROTECTED",
    since: "6.12",
    source: "RET_PF_WRITE_PROTECTED (mmu/mmu_internal.h), FNAME(page_fault) (mmu/paging_tmpl.h)",
    effect:
      "a fault that write protection of a table caused has a result of its own, 3, and those behind it one more; before: emulate",
  },
  {
    name: "DUMMY_ROOT",
    since: "6.12",
    source: "mmu_alloc_shadow_roots (mmu/mmu.c)",
    effect:
      "a root table or page directory in no slot becomes a dummy root or an empty entry, and accesses fault; before, a triple fault",
  },
  {
    name: "UNMAP_ONLY",
    since: "6.12",
    source: "kvm_mmu_notifier_change_pte (virt/kvm/kvm_main.c of 6.1), gone",
    effect: "another page behind an address is an unmapped one; before, leaves that may only be read led to it at once",
  },
  {
    name: "FLUSH_FIRST",
    since: "6.12",
    source: "__set_sregs (regs.c), kvm_vcpu_reset (x86.c)",
    effect:
      "the first entry, and the first after registers were set from outside, flush the guest's TLB: roots are synchronised",
  },
  {
    name: "NX_EVERY_PAGE",
    since: "6.12",
    source: "account_nx_huge_page (mmu/mmu.c), kvm_tdp_mmu_map (mmu/tdp_mmu.c)",
    effect:
      "every table made where the NX mitigation forbids a huge page is marked; before, those that alone prevented one, and in direct tables those of two-dimensional paging",
  },
  {
    name: "NX_OWN_TABLES",
    since: "6.12",
    source: "disallowed_hugepage_adjust (mmu/mmu.c)",
    effect: "only a table that is so marked keeps a huge page from coming back; before, any table did",
  },
  {
    name: "SPLIT_ON_FAULT",
    since: "6.12",
    source: "kvm_tdp_mmu_map (mmu/tdp_mmu.c)",
    effect:
      "a huge leaf in the way of a fault is replaced by a table of leaves that map the same, in one change; before, it was zapped first",
  },
  {
    name: "NO_SELF_CHANGE",
    since: "6.12",
    source: "FNAME(is_self_change_mapping) (mmu/paging_tmpl.h of 6.1), gone",
    effect:
      "a guest's large page that holds its own tables is limited by them only once they are shadowed; before, it was made small at once",
  },
  {
    name: "LOG_VALID_ROOTS",
    since: "6.12",
    source: "kvm_tdp_mmu_clear_dirty_pt_masked, kvm_tdp_mmu_write_protect_gfn (mmu/tdp_mmu.c)",
    effect: "a new round of logging and write protection pass invalid roots of the TDP MMU by; before, they did not",
  },
  {
    name: "SPLIT_LAST",
    since: "6.12",
    source: "kvm_arch_mmu_enable_log_dirty_pt_masked (mmu/mmu.c)",
    effect: "a huge page that only the last page of a cleared range lies in is split too; before, it stayed",
  },
  {
    name: "RECOVER_UNLOGGED",
    since: "6.12",
    source: "kvm_recover_nx_huge_pages (mmu/mmu.c)",
    effect:
      "a table in a slot whose writes are logged is not given up for a huge page, only forgotten; before, it was zapped",
  },
  {
    name: "LINEAR_STAGES",
    since: "6.12",
    source: "__vmx_handle_ept_violation (vmx/common.h)",
    effect:
      "an EPT violation without a linear address, as loading PDPTEs makes it, is of neither stage in its error code; before, of a guest's table",
  },
] as const satisfies readonly KernelRule[];

/** VM.RULES. */
export const KERNEL_RULE: BitLayout = {
  prefix: "KERNEL_RULE",
  title: "RULES of a VM",
  source: "x86-paging",
  fields: KERNEL_RULES.map(({ name, effect }, low) => ({ name, low, meaning: effect })),
};

/** `late-unprotect` for LATE_UNPROTECT. */
type Spoken<Name extends string> = Name extends `${infer Head}_${infer Rest}`
  ? `${Lowercase<Head>}-${Spoken<Rest>}`
  : Lowercase<Name>;

/** Name of a rule as users write it. */
export type KernelRuleName = Spoken<(typeof KERNEL_RULES)[number]["name"]>;

/** What a rule is called, which bit of the word it has, and from which kernel on. */
export const RULE_BITS: Readonly<Record<KernelRuleName, { readonly bit: number; readonly since: Kernel }>> =
  Object.fromEntries(
    KERNEL_RULES.map(({ name, since }) => [spoken(name), { bit: flagOf(KERNEL_RULE, name), since }]),
  ) as Record<KernelRuleName, { bit: number; since: Kernel }>;

function spoken(name: string): string {
  return name.toLowerCase().replaceAll("_", "-");
}

/** Every rule's name, in the order of the table. */
export const RULE_NAMES = Object.keys(RULE_BITS) as KernelRuleName[];

/** Whether a kernel has a rule. */
export function hasRule(kernel: Kernel, name: KernelRuleName): boolean {
  return KERNELS.indexOf(RULE_BITS[name].since) <= KERNELS.indexOf(kernel);
}
