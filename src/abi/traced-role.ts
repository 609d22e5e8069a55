/**
 * The part of a page's role that the kernel's own text shows (KVM_MMU_PAGE_PRINTK of arch/x86/kvm/mmu/mmutrace.h), in one layout
 * for all kernels: that of Linux 7.2's role, because its four rights can say what the three of older kernels do.
 */
import type { BitLayout } from "./bits.js";

export const TRACED_ROLE: BitLayout = {
  prefix: "TRACED_ROLE",
  title: "Page role as trace events show it",
  source: "Linux 7.2 arch/x86/kvm/mmu/mmutrace.h (KVM_MMU_PAGE_PRINTK)",
  fields: [
    { name: "level", low: 0, width: 4, meaning: "paging level" },
    { name: "has_4_byte_gpte", low: 4, meaning: "guest entries have 4 bytes" },
    { name: "quadrant", low: 5, width: 2, meaning: "part of a guest table of 4-byte entries" },
    { name: "direct", low: 7, meaning: "maps a linear range" },
    { name: "access", low: 8, width: 4, meaning: "inherited rights: r, w, u, x from the lowest" },
    { name: "invalid", low: 12, meaning: "the page is on its way out" },
    { name: "efer_nx", low: 13, meaning: "EFER.NXE" },
    { name: "ad_disabled", low: 16, meaning: "entries have no accessed and dirty bits" },
  ],
};

/** What libtraceevent's KVM plugin shows of a role: the bits where 5.1's layout has them, whatever the kernel's is. */
export const PLUGIN_ROLE: BitLayout = {
  prefix: "PLUGIN_ROLE",
  title: "Page role as libtraceevent's KVM plugin reads it",
  source: "libtraceevent plugins/plugin_kvm.c (union kvm_mmu_page_role)",
  fields: [
    { name: "level", low: 0, width: 4, meaning: "paging level" },
    { name: "cr4_pae", low: 4, meaning: "guest entries have 8 bytes; from 5.17 on the bit says 4 bytes" },
    { name: "quadrant", low: 5, width: 2, meaning: "part of a guest table of 4-byte entries" },
    { name: "direct", low: 7, meaning: "maps a linear range" },
    { name: "access", low: 8, width: 3, meaning: "inherited rights" },
    { name: "invalid", low: 11, meaning: "the page is on its way out" },
    { name: "nxe", low: 12, meaning: "EFER.NXE" },
    { name: "cr0_wp", low: 13, meaning: "CR0.WP" },
    { name: "smep_andnot_wp", low: 14, meaning: "CR4.SMEP and not CR0.WP" },
    { name: "smap_andnot_wp", low: 15, meaning: "CR4.SMAP and not CR0.WP" },
    { name: "smm", low: 24, width: 8, meaning: "system-management mode" },
  ],
};
