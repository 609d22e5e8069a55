/** The shadow MMU's records in linear memory; see docs/shadow-mmu.md. */
import { type BitLayout, bitOf, flagOf } from "./bits.js";
import type { RecordLayout } from "./layout.js";
import { TDP } from "./tdp.js";

export { KERNEL_RULE } from "./kernel-rules.js";

/** One virtual machine. The masks are KVM's shadow_*_mask variables. */
export const VM: RecordLayout = {
  prefix: "VM",
  className: "Vm",
  title: "Virtual machine",
  fields: [
    { name: "HOST_WRITABLE", type: "u64", meaning: "SPTE bit: the host page may be written" },
    { name: "MMU_WRITABLE", type: "u64", meaning: "SPTE bit: no shadow page forbids writing" },
    { name: "NX", type: "u64", meaning: "SPTE bit that denies execution, 0 where x allows it" },
    { name: "X", type: "u64", meaning: "SPTE bit that allows execution, 0 where nx denies it" },
    { name: "USER", type: "u64", meaning: "SPTE user bit (EPT: read)" },
    { name: "ACCESSED", type: "u64", meaning: "SPTE accessed bit, 0 without A/D bits" },
    { name: "DIRTY", type: "u64", meaning: "SPTE dirty bit, 0 without A/D bits" },
    { name: "MMIO_VALUE", type: "u64", meaning: "value of the MMIO mask's bits in an MMIO SPTE" },
    { name: "MMIO_MASK", type: "u64", meaning: "bits that tell an MMIO SPTE" },
    { name: "MMIO_ACCESS", type: "u64", meaning: "access bits kept in an MMIO SPTE" },
    { name: "PRESENT", type: "u64", meaning: "SPTE present bit, 0 where execute-only is possible" },
    { name: "MEMTYPE", type: "u64", meaning: "EPT memory-type field, 0 in other formats" },
    { name: "MEMTYPE_VALUE", type: "u64", meaning: "EPT memory type and ignore-PAT of RAM" },
    { name: "ME_VALUE", type: "u64", meaning: "memory-encryption bit set in SPTEs" },
    { name: "ME_MASK", type: "u64", meaning: "bits usurped by memory encryption" },
    { name: "ACC_TRACK", type: "u64", meaning: "bits cleared in an access-tracked SPTE" },
    { name: "NONPRESENT_OR_RSVD", type: "u64", meaning: "bits set in every non-present SPTE against L1TF" },
    { name: "LOWER_GFN", type: "u64", meaning: "address bits of an MMIO SPTE that lie in place" },
    { name: "EMPTY", type: "u64", meaning: "an SPTE that stands for nothing; 0 in a pae_root" },
    { name: "ALIAS_MASK", type: "u64", meaning: "gfn bits that tell aliases of one page apart" },
    { name: "EXECUTE_ONLY", type: "u64", meaning: "of them: bits whose alias only grants execution" },
    { name: "MAX_GFN", type: "u64", meaning: "most that a gfn can be, alias bits apart; above it nothing is mapped" },
    { name: "INVALIDATE_START", type: "u64", meaning: "first hva of the invalidations in progress" },
    { name: "INVALIDATE_END", type: "u64", meaning: "hva after them" },
    { name: "NORMAL_ZONE", type: "u64", meaning: "host-physical address of linear address 0 in the normal zone" },
    { name: "RULES", type: "u32", meaning: "KERNEL_RULE_* bits" },
    { name: "INVALIDATE_SEQ", type: "u32", meaning: "number of invalidations completed" },
    { name: "INVALIDATE_IN_PROGRESS", type: "u32", meaning: "number of invalidations in progress" },
    { name: "MMIO_CACHING", type: "u32", meaning: "1: MMIO SPTEs are made" },
    { name: "CPU_DIRTY_LOG", type: "u32", meaning: "1: the processor logs dirty pages (PML)" },
    { name: "NX_HUGE", type: "u32", meaning: "1: huge pages are not executable" },
    { name: "MAX_HUGE_LEVEL", type: "u32", meaning: "largest level that a leaf may have" },
    { name: "TDP", type: "u32", meaning: "1: two-dimensional paging" },
    { name: "DEFAULT_PDPTE", type: "u32", meaning: "1: unused entries of a pae_root hold PDPTE_VALUE" },
    { name: "PDPTE_VALUE", type: "u64", meaning: "that value" },
    { name: "ASK_HOST", type: "u32", meaning: "1: every fault asks the host for its page" },
    { name: "VALID_GEN", type: "u32", meaning: "generation of valid shadow pages, 0 or 1" },
    { name: "USED", type: "u32", meaning: "shadow pages in use, without those above the guest's own tables" },
    { name: "MAX", type: "u32", meaning: "limit on them" },
    { name: "INDIRECT", type: "u32", meaning: "shadow pages that shadow guest tables" },
    {
      name: "ROOT_REQUEST",
      type: "u32",
      meaning: "ROOT_REQUEST_* bits",
    },
    { name: "FLUSHES", type: "u32", meaning: "remote TLB flushes" },
    { name: "RANGED_FLUSH", type: "u32", meaning: "1: a flush can be limited to ranges of gfns" },
    { name: "FLUSH_ALL", type: "u32", meaning: "1: everything has to be flushed" },
    { name: "FLUSH_COUNT", type: "u32", meaning: "entries of FLUSH_RANGES" },
    { name: "DESC_FREE", type: "u32", to: "DESC", optional: true, meaning: "free list of DESC records" },
    { name: "DESC_COUNT", type: "u32", meaning: "its length" },
    {
      name: "FREED",
      type: "u32",
      to: "SP",
      optional: true,
      meaning: "list of freed pages that the host has not collected",
    },
    { name: "PAGE_MAP", type: "u32", to: "u32[]", meaning: "pointer to u32 headers by linear page number" },
    { name: "CHAINS", type: "u32", to: "u32[]", meaning: "pointer to the buckets of pages by gfn" },
    { name: "CHAIN_SHIFT", type: "u32", meaning: "64 less the bits of a bucket's number" },
    { name: "EVENTS", type: "u32", to: "EVENT[]", meaning: "pointer to EVENT records, 0: events are off" },
    { name: "EVENT_CAPACITY", type: "u32", meaning: "number of records" },
    { name: "EVENT_COUNT", type: "u32", meaning: "records not yet drained" },
    { name: "EVENT_LOST", type: "u32", meaning: "records that did not fit" },
    { name: "PF_TAKEN", type: "u32", meaning: "page faults" },
    { name: "PF_FIXED", type: "u32", meaning: "of them fixed" },
    { name: "PF_SPURIOUS", type: "u32", meaning: "of them spurious" },
    { name: "PF_EMULATE", type: "u32", meaning: "of them to be emulated" },
    { name: "ZAPPED", type: "u32", meaning: "shadow pages zapped" },
    { name: "FLOODED", type: "u32", meaning: "of them because of write flooding or misaligned writes" },
    { name: "NO_HUGE_COUNT", type: "u32", meaning: "how often NO_HUGE was set" },
    { name: "RECYCLED", type: "u32", meaning: "of them because of the page limit" },
    { name: "PTE_WRITES", type: "u32", meaning: "emulated writes to shadowed pages" },
    { name: "UNSYNC", type: "u32", meaning: "pages that are unsync" },
    { name: "SYNC_MISMATCH", type: "u32", meaning: "pages refused by the assertion on the role in sync" },
    { name: "BROKEN", type: "u32", meaning: "internal assertions that failed" },
    {
      name: "TDP_MMU",
      type: "u32",
      to: "TDP",
      optional: true,
      meaning: "pointer to the TDP record, 0: direct roots are classic ones",
    },
    { name: "WALK_COUNT", type: "u32", meaning: "scratch: entries of WALK_PAGES" },
    {
      name: "LEAF",
      type: "u64",
      count: 8,
      meaning: "by rights: level-1 SPTE of an accessed page, writable where they say so, less address and dirty bit",
    },
    {
      name: "FLUSH_RANGES",
      type: "u64",
      count: 32,
      of: "FLUSH_RANGE",
      meaning: "ranges that have to be flushed: (gfn with alias bits, pages)",
    },
    { name: "SLOTS", type: "u32", count: 2, to: "SLOTSET", meaning: "pointers to SLOTSET records: normal and SMM" },
    { name: "ACTIVE", type: "u32", count: 2, of: "LINK", meaning: "list head (next, previous) of the active pages" },
    { name: "INVALID", type: "u32", count: 2, of: "LINK", meaning: "list head of the pages being zapped" },
    {
      name: "WALK_PAGES",
      type: "u32",
      count: 32,
      of: "COLLECTED",
      meaning: "scratch: unsync pages found, (page, index)",
    },
    {
      name: "PATH_PARENT",
      type: "u32",
      count: 6,
      to: "SP",
      optional: true,
      meaning: "scratch: parents of the page being handled",
    },
    { name: "PATH_INDEX", type: "u32", count: 6, meaning: "scratch: indices in them" },
  ],
};

export const SLOTSET: RecordLayout = {
  prefix: "SLOTSET",
  className: "SlotSet",
  title: "Memslots of one address space",
  fields: [
    { name: "GENERATION", type: "u64", meaning: "memslots generation, GENERATION_* bits" },
    { name: "COUNT", type: "u32", meaning: "number of slots" },
    { name: "LAST", type: "u32", to: "MEMSLOT", optional: true, meaning: "slot that was hit last" },
    {
      name: "SLOTS",
      type: "u32",
      count: 64,
      to: "MEMSLOT",
      meaning: "pointers to MEMSLOT records, in ascending order of gfns",
    },
  ],
};

export const MEMSLOT: RecordLayout = {
  prefix: "MEMSLOT",
  className: "Memslot",
  title: "Memslot",
  fields: [
    { name: "BASE", type: "u64", meaning: "first gfn" },
    { name: "HVA", type: "u64", meaning: "host virtual address of its first byte" },
    { name: "PAGES", type: "u32", meaning: "number of pages" },
    { name: "SPACE", type: "u32", meaning: "address space: 0 normal, 1 SMM" },
    { name: "FLAGS", type: "u32", meaning: "MEMSLOT_LOG, MEMSLOT_READONLY, MEMSLOT_INVALID, MEMSLOT_INTERNAL" },
    {
      name: "MEMTYPE",
      type: "u32",
      meaning: "MEMSLOT_TYPE_SET where its pages have an EPT memory type of their own, and that",
    },
    { name: "RAM", type: "u32", to: "u8[]", meaning: "linear address of its first byte" },
    { name: "TRACK", type: "u32", to: "u16[]", meaning: "pointer to u16 write-track counts" },
    { name: "HOST", type: "u32", to: "u64[]", meaning: "pointer to u64 host pages: pfn << 12 | HOST_* bits" },
    { name: "DIRTY", type: "u32", to: "u64[]", meaning: "pointer to the dirty bitmap, 0 without logging" },
    { name: "RMAP", type: "u32", count: 3, to: "u32[]", meaning: "by level - 1: pointers to rmap heads" },
    {
      name: "LPAGE",
      type: "u32",
      count: 2,
      to: "u32[]",
      meaning: "by level - 2: pointers to counts that forbid a large page",
    },
  ],
};

/** A place in a doubly linked list; a list's head is one, too. */
export const LINK: RecordLayout = {
  prefix: "LINK",
  className: "Link",
  title: "Link of a list",
  fields: [
    { name: "NEXT", type: "u32", to: "LINK", meaning: "next link, the head behind the last" },
    { name: "PREVIOUS", type: "u32", to: "LINK", meaning: "previous link" },
  ],
};

export const FLUSH_RANGE: RecordLayout = {
  prefix: "FLUSH_RANGE",
  className: "FlushRange",
  title: "Range that has to be flushed",
  fields: [
    { name: "GFN", type: "u64", meaning: "first gfn, with alias bits" },
    { name: "PAGES", type: "u64", meaning: "number of pages" },
  ],
};

/** One step of the walk that looks for unsync pages; KVM's kvm_mmu_pages. */
export const COLLECTED: RecordLayout = {
  prefix: "COLLECTED",
  className: "Collected",
  title: "Page that the search for unsync pages came through",
  fields: [
    { name: "PAGE", type: "u32", to: "SP", meaning: "the page" },
    { name: "INDEX", type: "u32", meaning: "the entry of its parent that leads to it" },
  ],
};

/** A shadow page's header. */
export const SP: RecordLayout = {
  prefix: "SP",
  className: "ShadowPage",
  title: "Shadow page",
  fields: [
    { name: "GFN", type: "u64", meaning: "gfn of the shadowed table, or first gfn of a direct page" },
    { name: "ROLE", type: "u32", meaning: "page role in this project's layout" },
    { name: "SPT", type: "u32", to: "u64[]", meaning: "linear address of its 512 SPTEs" },
    {
      name: "SHADOWED",
      type: "u32",
      to: "u64[]",
      meaning: "linear address of 512 u64, SHADOWED_* bits; 0 for direct pages",
    },
    { name: "ROOT_COUNT", type: "u32", meaning: "references as a root" },
    { name: "GENERATION", type: "u32", meaning: "VM.VALID_GEN when it was made" },
    { name: "UNSYNC", type: "u32", meaning: "1: the guest may write the shadowed table" },
    { name: "UNSYNC_CHILDREN", type: "u32", meaning: "number of bits set in UNSYNC_BITMAP" },
    { name: "FLOOD", type: "u32", meaning: "writes to the shadowed table since the last walk" },
    { name: "PARENTS", type: "u32", meaning: "rmap head of the SPTEs that point here" },
    { name: "CHAIN", type: "u32", to: "SP", optional: true, meaning: "next page with a gfn of the same bucket" },
    {
      name: "LOW",
      type: "u32",
      meaning: "more of the name: CR3 bits 11:5 of a PAE root; 31:12 a direct page's alias, GPA bits 51:32",
    },
    { name: "FORBIDDEN", type: "u32", meaning: "1: made where the NX mitigation forbade a huge page" },
    {
      name: "NO_HUGE",
      type: "u32",
      meaning: "stands where a huge page was forbidden: counts up in the order of that; else 0",
    },
    { name: "CURRENT", type: "u32", meaning: "contexts whose current root it is" },
    { name: "GAP", type: "u32", meaning: "1: a pae_root lost a table below it and has to be filled" },
    { name: "TDP", type: "u32", meaning: "not 0: belongs to the TDP MMU; TDP_PAGE_* bits" },
    { name: "SPTEP", type: "u32", to: "u64[]", meaning: "TDP MMU: the entry that leads here, 0 for a root" },
    { name: "LINK", type: "u32", count: 2, of: "LINK", address: true, meaning: "list node (next, previous)" },
    { name: "PDPTES", type: "u64", count: 4, address: true, meaning: "latched PDPTEs of a PAE root" },
    { name: "UNSYNC_BITMAP", type: "u64", count: 8, address: true, meaning: "entries below which a page is unsync" },
  ],
};

/** A block of an rmap; KVM's pte_list_desc. */
export const DESC: RecordLayout = {
  prefix: "DESC",
  className: "Desc",
  title: "Block of an rmap",
  fields: [
    { name: "MORE", type: "u32", to: "DESC", optional: true, meaning: "next block" },
    { name: "COUNT", type: "u32", meaning: "pointers in use" },
    { name: "SPTES", type: "u32", count: 14, to: "u64[]", meaning: "linear addresses of SPTEs" },
  ],
};

/** One paging context of a vCPU; KVM's struct kvm_mmu. */
export const MMU: RecordLayout = {
  prefix: "MMU",
  className: "Mmu",
  title: "Paging context",
  fields: [
    { name: "ROOT_ROLE", type: "u32", meaning: "role of the root, in this project's layout" },
    { name: "ROOT", type: "u32", to: "SP", meaning: "root's SP, 0 for none" },
    { name: "ROOT_PGD", type: "u64", meaning: "guest pgd of the root" },
    {
      name: "SPACE",
      type: "u32",
      to: "SPACE",
      meaning: "pointer to the SPACE record that guest walks use, in KVM's rule set",
    },
    {
      name: "SECOND",
      type: "u32",
      to: "MMU",
      optional: true,
      meaning: "pointer to the context that guest-physical addresses go through, 0 for none",
    },
    { name: "PDPTE_RESERVED", type: "u64", meaning: "bits that a present PDPTE must not have as it is loaded" },
    { name: "FORMAT", type: "u32", meaning: "FORMAT_*: entries of the guest's tables" },
    { name: "GUEST_LEVEL", type: "u32", meaning: "level of the guest's root table, 0 without paging" },
    { name: "HAVE_AD", type: "u32", meaning: "1: the guest's tables have accessed and dirty bits" },
    { name: "FLAGS", type: "u32", meaning: "MMU_* bits" },
    { name: "DUMMY", type: "u32", meaning: "1: the root table lies in no slot; ROOT is 0" },
    { name: "SHADOW_BAD_MT_XWR", type: "u64", meaning: "EPT: bad values of bits 5:0" },
    { name: "PREVIOUS", type: "u32", count: 3, to: "SP", optional: true, meaning: "previous roots' SPs, 0 for none" },
    { name: "PREVIOUS_PGD", type: "u64", count: 3, meaning: "their guest pgds" },
    { name: "SHADOW_RESERVED", type: "u64", count: 10, meaning: "reserved bits of SPTEs, [bit 7][level - 1]" },
  ],
};

/** A vCPU: its contexts, the fault in progress and the last guest walk. */
export const VCPU: RecordLayout = {
  prefix: "VCPU",
  className: "Vcpu",
  title: "vCPU",
  fields: [
    { name: "VM", type: "u32", to: "VM", meaning: "pointer to the VM record" },
    { name: "MMU", type: "u32", to: "MMU", meaning: "pointer to the context that faults go through" },
    { name: "WALK_MMU", type: "u32", to: "MMU", meaning: "pointer to the context that linear addresses go through" },
    { name: "SPACE", type: "u32", meaning: "address space: 0 normal, 1 SMM" },
    { name: "AC", type: "u32", meaning: "1: EFLAGS.AC is set" },
    { name: "PAE", type: "u32", meaning: "1: CR4.PAE is set" },
    { name: "PDPTES_READ", type: "u32", meaning: "1: the PDPTEs were read since the last exit" },
    { name: "MMIO_GVA", type: "u64", meaning: "MMIO cache: page of the linear address, 0 for none" },
    { name: "MMIO_GFN", type: "u64", meaning: "MMIO cache: gfn" },
    { name: "MMIO_GENERATION", type: "u64", meaning: "MMIO cache: memslots generation" },
    { name: "MMIO_ACCESS", type: "u32", meaning: "MMIO cache: access bits" },
    { name: "GW_LEVEL", type: "u32", meaning: "walk: level of the leaf or faulting entry" },
    { name: "GW_MAX_LEVEL", type: "u32", meaning: "walk: level of the first entry in memory" },
    { name: "GW_PTE_ACCESS", type: "u32", meaning: "walk: access bits of the whole walk" },
    { name: "GW_ERROR", type: "u32", meaning: "walk: error code of the fault" },
    { name: "GW_QUALIFICATION", type: "u32", meaning: "walk of EPT: bits 6:0 of a violation's qualification, else 0" },
    { name: "GW_ON_TABLE", type: "u32", meaning: "walk: 1 where L1's second stage is at fault for a table of L2's" },
    { name: "GW_GFN", type: "u64", meaning: "walk: resulting gfn" },
    { name: "GW_GPA", type: "u64", meaning: "walk: resulting address" },
    { name: "GW_CHECKED", type: "u32", meaning: "walk: 1 where it came as far as the permission check" },
    { name: "GW_NESTED", type: "u32", meaning: "walk: 1 where L1's second stage is at fault" },
    { name: "GW_FAULT", type: "u64", meaning: "walk: the address that faulted there" },
    { name: "F_ADDRESS", type: "u64", meaning: "fault: address" },
    { name: "F_GFN", type: "u64", meaning: "fault: gfn" },
    { name: "F_PFN", type: "u64", meaning: "fault: host page << 12" },
    { name: "F_ERROR", type: "u32", meaning: "fault: error code" },
    { name: "F_PREFETCH", type: "u32", meaning: "fault: 1 where no guest access stands behind it" },
    { name: "F_SLOT", type: "u32", to: "MEMSLOT", optional: true, meaning: "fault: MEMSLOT, 0 for none" },
    { name: "F_MAP_WRITABLE", type: "u32", meaning: "fault: 1 where the host page may be written" },
    { name: "F_SEQ", type: "u32", meaning: "fault: VM.INVALIDATE_SEQ before the host page was looked up" },
    { name: "F_MAX_LEVEL", type: "u32", meaning: "fault: largest level that the guest's mapping allows" },
    { name: "F_REQ_LEVEL", type: "u32", meaning: "fault: level that the host page allows" },
    { name: "F_GOAL_LEVEL", type: "u32", meaning: "fault: level that is made" },
    { name: "F_NO_HUGE", type: "u32", meaning: "fault: 1 where a huge page is forbidden" },
    { name: "F_STAGE", type: "u32", meaning: "fault: STAGE_* at which it is resumed" },
    { name: "F_LEVEL", type: "u32", meaning: "fault: shadow walk's level" },
    { name: "F_SPTEP", type: "u32", to: "u64[]", meaning: "fault: shadow walk's entry" },
    { name: "REQ_GFN", type: "u64", meaning: "page wanted: gfn" },
    { name: "REQ_ROLE", type: "u32", meaning: "page wanted: role" },
    { name: "REQ_LOW", type: "u32", meaning: "page wanted: more of the name, as SP.LOW" },
    { name: "REQ_PAGE", type: "u32", to: "SP", meaning: "page found or made" },
    { name: "GW_TABLE_GFN", type: "u64", count: 5, meaning: "walk: gfn of the table, by level - 1" },
    { name: "GW_PTE", type: "u64", count: 5, meaning: "walk: entry" },
    { name: "GW_PTE_GPA", type: "u64", count: 5, meaning: "walk: its address" },
    { name: "GW_PT_ACCESS", type: "u32", count: 5, meaning: "walk: access bits accumulated above" },
    { name: "L2_PTE", type: "u64", count: 5, meaning: "walk of L2's tables: entry, by level - 1" },
    { name: "L2_GPA", type: "u64", count: 5, meaning: "walk of L2's tables: its address, L2's" },
    { name: "L2_GFN", type: "u64", count: 5, meaning: "walk of L2's tables: the page that holds it, L1's" },
    {
      name: "L2_POINTER",
      type: "u32",
      count: 5,
      to: "u8[]",
      meaning: "walk of L2's tables: its linear address, 0: read-only",
    },
  ],
};

export const EVENT: RecordLayout = {
  prefix: "EVENT",
  className: "Event",
  title: "Trace event",
  fields: [
    { name: "TYPE", type: "u32", meaning: "EV_*" },
    { name: "A", type: "u32", meaning: "depends on the type" },
    { name: "B", type: "u32", meaning: "depends on the type" },
    { name: "C", type: "u32", meaning: "depends on the type" },
    { name: "X", type: "u64", meaning: "depends on the type" },
    { name: "Y", type: "u64", meaning: "depends on the type" },
    { name: "Z", type: "u64", meaning: "depends on the type" },
  ],
};

export const SHADOW_RECORDS: readonly RecordLayout[] = [
  VM,
  SLOTSET,
  MEMSLOT,
  LINK,
  FLUSH_RANGE,
  COLLECTED,
  SP,
  DESC,
  MMU,
  VCPU,
  EVENT,
  TDP,
];

/** Words of these records that are made of bits. */
export const ROOT_REQUEST: BitLayout = {
  prefix: "ROOT_REQUEST",
  title: "ROOT_REQUEST of a VM",
  source: "x86-paging",
  fields: [
    { name: "OBSOLETE", low: 0, meaning: "every vCPU has to drop obsolete roots" },
    { name: "GAP", low: 1, meaning: "a current root has a gap" },
  ],
};

export const RMAP: BitLayout = {
  prefix: "RMAP",
  title: "Head of an rmap",
  source: "Linux 6.1 arch/x86/kvm/mmu/mmu.c (pte_list_add)",
  fields: [{ name: "BLOCK", low: 0, meaning: "the other bits are a DESC's address; else they are the only SPTE's" }],
};

export const SHADOWED: BitLayout = {
  prefix: "SHADOWED",
  title: "What SP.SHADOWED has for an entry",
  narrow: true,
  source: "Linux 6.1 arch/x86/kvm/mmu/mmu.c (kvm_mmu_page_set_translation)",
  fields: [
    { name: "ACCESS", low: 0, width: 3, meaning: "ACC_* bits that the guest's entry gave" },
    { name: "GFN", low: 12, width: 52, meaning: "gfn that it maps" },
  ],
};

export const TDP_PAGE: BitLayout = {
  prefix: "TDP_PAGE",
  title: "TDP of a shadow page",
  source: "x86-paging",
  fields: [
    { name: "OWN", low: 0, meaning: "belongs to the TDP MMU" },
    { name: "ZAP_SCHEDULED", low: 1, meaning: "an invalid root whose entries have not been zapped yet" },
  ],
};

export const GENERATION: BitLayout = {
  prefix: "GENERATION",
  title: "Generation of a SLOTSET",
  source: "Linux 6.1 include/linux/kvm_host.h (KVM_MEMSLOT_GEN_UPDATE_IN_PROGRESS)",
  fields: [{ name: "IN_PROGRESS", low: 63, meaning: "an update of the slots is in progress" }],
};

/** SLOTSET.GENERATION while an update is in progress. */
export const GENERATION_IN_PROGRESS = bitOf(GENERATION, "IN_PROGRESS");

/** SP.LOW: more of a page's name. */
export const SP_LOW: BitLayout = {
  prefix: "SP_LOW",
  title: "What names a shadow page besides gfn and role",
  source: "x86-paging",
  fields: [
    { name: "PDPT", low: 0, meaning: "it belongs to a page-directory-pointer table that a guest's CR3 names" },
    { name: "LATCHED", low: 1, meaning: "its PDPTEs, which were latched with CR3, belong to its name" },
    { name: "CR3", low: 5, width: 7, meaning: "bits 11:5 of that CR3" },
    { name: "ALIAS", low: 12, width: 20, meaning: "of a direct page: bits 51:32 of its guest-physical addresses" },
  ],
};

/** EVENT.C of events of a shadow page. */
export const EVENT_PAGE: BitLayout = {
  prefix: "EVENT_PAGE",
  title: "What an event of a shadow page tells of it",
  source: "x86-paging",
  fields: [
    { name: "CREATED", low: 0, meaning: "kvm_mmu_get_page: it was made" },
    { name: "UNSYNC", low: 1, meaning: "it is unsync" },
    { name: "GENERATION", low: 2, width: 30, meaning: "its generation" },
  ],
};

export const SHADOW_CODES = {
  /** Set in the number of pages that were zapped where others than the one asked for were. */
  ZAPPED_OTHERS: 0x8000_0000,
  /** SP_LOW: the page belongs to a page-directory-pointer table that a guest's CR3 names; bits 11:5 are CR3's, */
  LOW_PDPT: flagOf(SP_LOW, "PDPT"),
  /** and its four PDPTEs, which were latched with CR3, belong to its name: the guest may write the table. */
  LOW_LATCHED: flagOf(SP_LOW, "LATCHED"),
  /** What `forRange` does to each rmap: take the leaves away, */
  RANGE_ZAP: 0,
  /** read and reset their accessed state, */
  RANGE_AGE: 1,
  /** only read it, */
  RANGE_TEST_AGE: 2,
  /** take W for the dirty log, */
  RANGE_PROTECT: 3,
  /** or D, where the processor logs, */
  RANGE_CLEAR_DIRTY: 4,
  /** and make large pages possible again. */
  RANGE_COLLAPSE: 5,
  MEMSLOT_LOG: 1,
  MEMSLOT_READONLY: 2,
  MEMSLOT_INVALID: 1 << 16,
  /** The VM's own page (KVM's private memslots): the guest sees it at its plain address only. */
  MEMSLOT_INTERNAL: 1 << 17,
  /** MEMSLOT.MEMTYPE: the slot's pages have an EPT memory type of their own, */
  MEMSLOT_TYPE_SET: 1,
  /** in bits 5:3. */
  MEMSLOT_TYPE_SHIFT: 3,

  HOST_PRESENT: 1,
  HOST_WRITABLE: 2,
  /** Bits 3:2: level of the host's mapping minus 1. */
  HOST_LEVEL_SHIFT: 2,

  FORMAT_NONE: 0,
  FORMAT_32: 1,
  FORMAT_64: 2,
  FORMAT_EPT: 3,

  MMU_WP: 1,
  MMU_SMEP: 4,

  RET_PF_CONTINUE: 0,
  RET_PF_RETRY: 1,
  RET_PF_EMULATE: 2,
  RET_PF_INVALID: 3,
  RET_PF_FIXED: 4,
  RET_PF_SPURIOUS: 5,
  /** The guest gets the fault in GW_ERROR. */
  RET_PF_INJECT: 6,
  /** Write protection of a table caused it (KERNEL_RULE_WRITE_PROTECTED); 7 is the host side's own. */
  RET_PF_WRITE_PROTECTED: 8,
  NEED_HOST_PAGE: 16,
  NEED_PAGE: 17,
  /** The page limit leaves no page free. */
  NO_SPACE: 18,
  /** Nothing has been done: the caches hold less than one fault may take. */
  NEED_STOCK: 19,
  /** Nothing has been done: a linear address above 32 bits, which the guest's paging mode does not have. */
  TOO_WIDE: 20,
  /** Set beside a RET_PF code where the host has freed pages, a request for the roots or events to collect. */
  ATTEND: 32,
  /** Rmap blocks that one fault may take: a leaf's, a parent's for each level, those of eight prefetched leaves. */
  FAULT_DESCS: 14,
  /** The same for pages of the TDP MMU: one for each level. */
  FAULT_TDP_PAGES: 5,

  /** `walkGuest`: an implicit supervisor access (the kernel's PFERR_IMPLICIT_ACCESS); no bit of any error code. */
  WALK_IMPLICIT: 1 << 8,

  STAGE_START: 0,
  STAGE_HOST_PAGE: 1,
  STAGE_TABLE: 2,
  STAGE_DIRECT: 3,

  /** Ranges that FLUSH_RANGES holds. */
  FLUSH_CAPACITY: 16,

  EV_PAGETABLE_WALK: 1,
  EV_PAGING_ELEMENT: 2,
  EV_SET_ACCESSED: 3,
  EV_SET_DIRTY: 4,
  EV_WALKER_ERROR: 5,
  EV_GET_PAGE: 6,
  EV_SYNC_PAGE: 7,
  EV_UNSYNC_PAGE: 8,
  EV_PREPARE_ZAP: 9,
  EV_MARK_MMIO: 10,
  EV_HANDLE_MMIO: 11,
  EV_FAST_PAGE_FAULT: 12,
  EV_ZAP_ALL_FAST: 13,
  EV_CHECK_MMIO: 14,
  EV_SET_SPTE: 15,
  EV_SPTE_REQUESTED: 16,
  EV_TDP_CHANGED: 18,
  EV_SPLIT_HUGE: 19,
} as const;
