/**
 * What a replay drives: a virtual machine's MMU, seen from the outside. The replayer plays the guest, the
 * hardware, the userspace VMM and the host kernel's memory management; the target plays KVM.
 *
 * Terms: gva, gpa, hva and hpa are guest-virtual, guest-physical, host-virtual and host-physical addresses;
 * gfn and pfn the page frame numbers of a gpa and an hpa. All 64-bit values are bigint.
 */

import type { MmuEvent } from "../format/events.js";

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

export interface ReplayVmConfig {
  /** How the VM's memory is virtualised: shadow paging, nested page tables (AMD) or extended ones (Intel). */
  readonly paging: "shadow" | "npt" | "ept";
  readonly vendor: "amd" | "intel";
  /** Direct roots are served by the TDP MMU instead of the classic direct MMU. */
  readonly tdpMmu: boolean;
  /** EPT accessed and dirty flags. False for npt and shadow, which always have them. */
  readonly eptAccessedDirty: boolean;
  /** Page-modification logging is on (EPT with A/D only). */
  readonly pml: boolean;
  /** The NX-huge-page mitigation (kvm.nx_huge_pages) is on. */
  readonly nxHugePages: boolean;
  /** VMX or SVM is offered to the guest. */
  readonly nested: boolean;
  readonly host: { readonly la57: boolean; readonly maxPhysAddr: number };
  readonly guest: {
    readonly maxPhysAddr: number;
    /** CPUID 80000001H:EDX.Page1GB as the guest sees it. */
    readonly page1g: boolean;
    readonly nx: boolean;
  };
  readonly masks: RecordedMasks;
  /** Bit 5 of a PAE PDPTE is not reserved for the guest: the emulated processor sets Accessed there. */
  readonly pdpteAccessedAllowed: boolean;
  /** KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: bit 0 manual protect, bit 1 initially set. */
  readonly manualDirtyLog: number;
  /**
   * Host-virtual ranges, merged and ascending, that hold every slot the recording will ever set. Guest memory
   * lives here: two slots (a moved one, or one per address space) that name the same hva share their bytes.
   */
  readonly hostRanges: readonly { readonly hva: bigint; readonly size: bigint }[];
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
}

/** RET_PF_* of the handler, and what it did to the guest where it did something. */
export type FaultOutcome =
  | { readonly result: "fixed" | "spurious" | "retry" | "emulate" | "mmio" }
  | {
      readonly result: "inject";
      readonly errorCode: number;
      readonly address: bigint;
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
  /** Non-zero SPTEs by index. */
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
}

/** The MMU under replay. */
export interface ReplayTarget {
  /** Kinds of events that this target emits; the comparator lists the others as not compared. */
  readonly emits: ReadonlySet<string>;

  // Memory and slots
  /** Copies bytes to host-virtual memory. No MMU action: what hardware and the VMM do behind KVM's back. */
  writeHost(hva: bigint, bytes: Uint8Array): void;
  readHost(hva: bigint, length: number): Uint8Array;
  setSlot(slot: SlotInput): void;

  // vCPUs
  createVcpu(id: number, registers: ControlRegisters): void;
  /** Before each guest entry (vcpu_enter_guest): serves obsolete-root, load, sync and flush requests, loads a root. */
  enterGuest(vcpu: number): void;
  /** RFLAGS that permission checks of this vCPU see from here on; only AC (bit 18) matters. */
  setRflags(vcpu: number, rflags: bigint): void;
  /** A register that the guest changed without an exit (CR3 under NPT and EPT, CR0.WP where it is guest-owned). */
  setGuestRegisters(vcpu: number, registers: Partial<ControlRegisters>): void;

  // What the guest makes KVM do
  pageFault(vcpu: number, fault: FaultInput): FaultOutcome;
  /** A walk of instruction emulation or event delivery, `errorCode` being the access as a PFERR word. */
  guestWalk(vcpu: number, address: bigint, errorCode: number): GuestWalkOutcome;
  /** kvm_inject_emulated_page_fault for a guestWalk that failed: drops a stale SPTE of that address. */
  injectEmulatedFault(vcpu: number, fault: Extract<GuestWalkOutcome, { readonly ok: false }>): void;
  /** A write that KVM emulates: memory first, dirty log, then the shadow pages of that gfn (kvm_mmu_pte_write). */
  emulatedWrite(vcpu: number, gpa: bigint, bytes: Uint8Array): void;
  /** A page that KVM wrote on its own or that page-modification logging reported (mark_page_dirty). */
  markDirty(vcpu: number, gfn: bigint): void;
  /** MOV to CR or WRMSR EFER that exits, in the semantics of kvm_set_cr0/3/4 and set_efer. */
  writeCr0(vcpu: number, value: bigint): void;
  writeCr3(vcpu: number, value: bigint): void;
  writeCr4(vcpu: number, value: bigint): void;
  writeEfer(vcpu: number, value: bigint): void;
  invlpg(vcpu: number, gva: bigint): void;
  /** INVPCID that exits; `type` 0 to 3 as in the SDM. */
  invpcid(vcpu: number, type: number, pcid: number, gva: bigint): void;
  /** INVEPT that exits: single context of `eptp`, or all contexts. */
  invept(vcpu: number, eptp: bigint | "all"): void;
  /** VMPTRLD of another VMCS: the guest_mmu's roots go (nested_release_vmcs12). */
  releaseGuestMmu(vcpu: number): void;
  /** VMRUN, VMLAUNCH or VMRESUME up to the entry of L2. */
  enterNested(vcpu: number, entry: NestedEntry): void;
  /** A VM exit that L1 sees; `registers` are L1's. */
  exitNested(vcpu: number, registers: ControlRegisters): void;
  /** System-management mode: enter_smm, and RSM with the saved registers. */
  enterSmm(vcpu: number): void;
  leaveSmm(vcpu: number, registers: ControlRegisters): void;

  // What the userspace VMM does
  setSregs(vcpu: number, registers: ControlRegisters): void;
  /** Gfns relative to the slot's base, ascending. */
  getDirtyLog(addressSpace: number, slot: number): bigint[];
  /** Clears `count` pages from `first` (relative to the slot) whose bit in `bitmap` is set. */
  clearDirtyLog(addressSpace: number, slot: number, first: number, count: number, bitmap: "ones"): void;
  setMmuPages(count: number): void;

  // What the host kernel does (mmu notifier); hva ranges are half-open and page-aligned
  unmapRange(start: bigint, end: bigint): void;
  /** change_pte; `pfn` is what the host maps there now. Called inside an unmapRange of the same page. */
  changePte(hva: bigint, page: HostPage | undefined): void;
  age(start: bigint, end: bigint): boolean;
  testAge(start: bigint, end: bigint): boolean;

  /**
   * What hardware did to an SPTE between two exits: sets accessed or dirty bits in the entry of the page at `hpa`.
   * The recorded snapshot is where the replayer learns it from, after it has compared the step.
   */
  setHardwareBits(hpa: bigint, index: number, bits: bigint): void;

  state(vcpu: number): MmuState;
}

/** Makes a target. Events reach `sink` in order, whenever they happen; without one nobody wants them. */
export type ReplayTargetFactory = (
  config: ReplayVmConfig,
  host: ReplayHost,
  sink: ((event: MmuEvent) => void) | undefined,
) => ReplayTarget;
