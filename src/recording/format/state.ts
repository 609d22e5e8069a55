/** State of an MMU, of its host and its guest, as recordings have it and as a target of a replay gives it. */

/** KVM's per-VM SPTE masks, by the kernel's names without the prefix `shadow_` (mmu/spte.c). */
export interface RecordedMasks {
  readonly hostWritable: bigint;
  readonly mmuWritable: bigint;
  readonly nx: bigint;
  readonly x: bigint;
  readonly user: bigint;
  readonly accessed: bigint;
  readonly dirty: bigint;
  readonly mmioValue: bigint;
  readonly mmioMask: bigint;
  readonly mmioAccess: bigint;
  readonly present: bigint;
  readonly memtype: bigint;
  readonly meValue: bigint;
  readonly me: bigint;
  readonly accTrack: bigint;
  readonly nonpresentOrRsvd: bigint;
  readonly nonpresentOrRsvdLowerGfn: bigint;
  /** Highest level of a huge page: 1 none, 2 2 MiB, 3 1 GiB. */
  readonly maxHugePageLevel: number;
  readonly maxTdpLevel: number;
  readonly tdpRootLevel: number;
  readonly tdpEnabled: boolean;
  readonly physBits: number;
  readonly mmioCaching: boolean;
}

/** Control registers of a vCPU. */
export interface ControlRegisters {
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
}

/** A memslot as KVM_SET_USER_MEMORY_REGION takes it; size 0 deletes, a new gpa moves, other flags change it. */
export interface SlotInput {
  /** 0, or 1 for the SMM address space. */
  readonly addressSpace: number;
  readonly id: number;
  /** 1 dirty log, 2 read-only. */
  readonly flags: number;
  readonly gpa: bigint;
  readonly size: bigint;
  readonly hva: bigint;
}

/** A page fault or #NPF or EPT violation as KVM's common code gets it (kvm_mmu_page_fault). */
export interface FaultInput {
  /** gva under shadow paging, gpa under NPT and EPT. */
  readonly address: bigint;
  /** PFERR word: bits 4:0 as in the architecture, 32 final address, 33 guest table. */
  readonly errorCode: bigint;
  /** EPT only: the raw exit qualification (a nested EPT violation reflects parts of it). */
  readonly exitQualification?: bigint;
  /** The exit interrupted the delivery of an event (kvm_event_needs_reinjection): see kvm_handle_page_fault. */
  readonly eventDelivery: boolean;
  /** Where the guest's instruction is. */
  readonly rip?: bigint;
}

/** RET_PF_* of the handler, and what it did to the guest where it did something. */
export type FaultOutcome =
  | { readonly result: "fixed" | "spurious" | "retry" | "emulate" | "mmio"; readonly writeProtected?: true }
  | {
      readonly result: "inject";
      readonly errorCode: number;
      readonly address: bigint;
      /** What L1 sees of its exit: an EPT violation's qualification, EXITINFO1; undefined where there is none. */
      readonly exitInfo?: bigint;
    };

/** A guest walk that KVM itself makes (gva_to_gpa of the walking MMU). */
export type GuestWalkOutcome =
  | { readonly ok: true; readonly gpa: bigint }
  | {
      readonly ok: false;
      readonly errorCode: number;
      readonly address: bigint;
      /** L1's second stage is at fault, at this guest-physical address of L2. */
      readonly nested?: boolean;
    };

/** How L2 is entered. */
export interface NestedEntry {
  /** L1's own second stage for L2: none means that L2's tables are shadowed directly. */
  readonly secondStage:
    | { readonly kind: "none" }
    | {
        readonly kind: "npt";
        readonly ncr3: bigint;
        /** L1's host registers that shape its NPT (kvm_init_shadow_npt_mmu). */
        readonly hostCr0: bigint;
        readonly hostCr4: bigint;
        readonly hostEfer: bigint;
      }
    | {
        readonly kind: "ept";
        readonly eptp: bigint;
        readonly executeOnly: boolean;
        readonly hugePageLevel: number;
        readonly accessedDirty: boolean;
      };
  /** L2's registers. */
  readonly registers: ControlRegisters;
}

/** The host's answer to a pin of one page (hva_to_pfn). */
export interface HostPage {
  readonly pfn: bigint;
  readonly writable: boolean;
}

/**
 * The host as the target sees it. The replayer implements it from the recording. A call may re-enter the target
 * through its notifier methods: a look-up that makes the host change its mapping runs into its own notifier, and
 * the fault must then end in retry (is_page_fault_stale).
 */
export interface ReplayHost {
  /**
   * Faults a page in for a guest access (__gfn_to_pfn_memslot). `write` is whether the access writes. A
   * page that is read-only in the host comes back with writable false, unless `write` makes the host copy it.
   * Never called for a gfn without a slot.
   */
  pin(hva: bigint, write: boolean): HostPage | undefined;
  /** As pin, but only if present and writable now (gfn_to_page_many_atomic, as prefetch does): else undefined. */
  pinAtomic(hva: bigint): bigint | undefined;
  /** Size at which the host maps hva now: 1, 2 or 3 (host_pfn_mapping_level). */
  mappingLevel(hva: bigint): number;
  /**
   * A page fault is injected into the guest that runs (mmu->inject_page_fault). Where L1 intercepts it, the
   * replayer calls `exitNested` from here, as the kernel's vendor code does, before the handler returns.
   */
  injectPageFault(vcpu: number, fault: { readonly errorCode: number; readonly address: bigint }): void;
}

/** What KVM_PRE_FAULT_MEMORY left, and the error number (0: none) where it did nothing. */
export interface PreFaultOutcome {
  readonly gpa: bigint;
  readonly size: bigint;
  readonly errno: number;
}

/** One shadow page, in the order of the VM's list of active pages. */
export interface ShadowPageState {
  /** Host-physical address of the table: names the page among those of one snapshot. */
  readonly hpa: bigint;
  /** Role word in the layout of Linux 6.1 (bits of this project's own roots stripped, see fullRole). */
  readonly role: number;
  /** Role word in this project's layout: with level_promoted, pae_root and guest level. */
  readonly fullRole: number;
  readonly gfn: bigint;
  /** Shadows the PDPTEs of a PAE guest. */
  readonly pdpt?: boolean;
  readonly rootCount: number;
  readonly unsync: boolean;
  readonly unsyncChildren: number;
  readonly validGen: number;
  readonly writeFlooding: number;
  readonly nxHugePageDisallowed: boolean;
  /** A page of the TDP MMU. */
  readonly tdp: boolean;
  /** SPTEs that stand for something, by index. */
  readonly entries: ReadonlyMap<number, bigint>;
  /** Per index: shadowed gfn << 12 | access; empty for direct pages. Only indices with a leaf matter. */
  readonly shadowed: ReadonlyMap<number, bigint>;
}

/** One of a vCPU's MMU contexts. Absent roots are `INVALID_PAGE` (all ones), as in the kernel. */
export interface MmuContextState {
  readonly rootPgd: bigint;
  readonly rootHpa: bigint;
  readonly previousRoots: readonly { readonly pgd: bigint; readonly hpa: bigint }[];
  /** Page role | extended role << 32, layout of Linux 6.1. */
  readonly cpuRole: bigint;
  /** Layout of Linux 6.1. */
  readonly rootRole: number;
  /** permissions[16]. */
  readonly permissions: readonly number[];
  readonly pkruMask: number;
  /** Reserved-bit masks [bit 7][level - 1] for guest entries and for SPTEs. */
  readonly guestReserved: readonly bigint[];
  readonly shadowZero: readonly bigint[];
  readonly pdptrs: readonly bigint[];
}

/** What a recording has of the MMU after a step. */
export interface MmuState {
  readonly rootMmu: MmuContextState;
  readonly guestMmu?: MmuContextState;
  readonly nestedMmu?: MmuContextState;
  /** Which context is loaded, and which one walks the guest's own tables. */
  readonly active: "root_mmu" | "guest_mmu";
  readonly walking: "root_mmu" | "nested_mmu";
  /** n_used_mmu_pages. */
  readonly usedPages: number;
  /** mmu_valid_gen. */
  readonly validGen: number;
  /** The vCPU's last MMIO access: mmio_gva, mmio_gfn, mmio_access, mmio_gen. */
  readonly mmio: { readonly gva: bigint; readonly gfn: bigint; readonly access: number; readonly gen: bigint };
  readonly pages: readonly ShadowPageState[];
  /** An SPTE that stands for nothing. */
  readonly emptySpte: bigint;
  /** Pages that shadow guest tables. */
  readonly indirectPages: number;
  /** Pages of the TDP MMU, roots apart. */
  readonly tdpPages: number;
}
