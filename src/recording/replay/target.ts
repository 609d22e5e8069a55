/**
 * What a replay drives: a virtual machine's MMU, seen from the outside. The replayer plays the guest, the
 * hardware, the userspace VMM and the host kernel's memory management; the target plays KVM.
 *
 * Terms: gva, gpa, hva and hpa are guest-virtual, guest-physical, host-virtual and host-physical addresses;
 * gfn and pfn the page frame numbers of a gpa and an hpa. All 64-bit values are bigint.
 */

import type { Kernel, KernelRuleName } from "../../abi/kernel-rules.js";
import type { MmuEvent } from "../format/events.js";
import type {
  ControlRegisters,
  FaultInput,
  FaultOutcome,
  GuestWalkOutcome,
  HostPage,
  MmuState,
  NestedEntry,
  PreFaultOutcome,
  RecordedMasks,
  ReplayHost,
  SlotInput,
} from "../format/state.js";

/** The VM that a target has to make. */
export interface ReplayVmConfig {
  /** Whose rules the VM has, and rules that differ from that kernel's. */
  readonly kernel: Kernel;
  readonly kernelRules?: Partial<Readonly<Record<KernelRuleName, boolean>>>;
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

/** The MMU under replay. */
export interface ReplayTarget {
  /** Kinds of events that this target emits; the comparator lists the others as not compared. */
  readonly emits: ReadonlySet<string>;

  // Memory and slots
  /** Copies bytes to host-virtual memory. No MMU action: what hardware and the VMM do behind KVM's back. */
  writeHost(hva: bigint, bytes: Uint8Array): void;
  /** Memory of the VM by host-virtual address. */
  readHost(hva: bigint, length: number): Uint8Array;
  /** Adds, changes, moves or deletes a memory slot. */
  setSlot(slot: SlotInput): void;

  // vCPUs
  /** Makes a vCPU with these registers. */
  createVcpu(id: number, registers: ControlRegisters): void;
  /** Before each guest entry (vcpu_enter_guest): serves obsolete-root, load, sync and flush requests, loads a root. */
  enterGuest(vcpu: number): void;
  /** RFLAGS that permission checks of this vCPU see from here on; only AC (bit 18) matters. */
  setRflags(vcpu: number, rflags: bigint): void;
  /** A register that the guest changed without an exit (CR3 under NPT and EPT, CR0.WP where it is guest-owned). */
  setGuestRegisters(vcpu: number, registers: Partial<ControlRegisters>): void;

  // What the guest makes KVM do
  /** A page fault or EPT violation as the processor reports it. */
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
  /** MOV to CR3. */
  writeCr3(vcpu: number, value: bigint): void;
  /** MOV to CR4. */
  writeCr4(vcpu: number, value: bigint): void;
  /** WRMSR to IA32_EFER. */
  writeEfer(vcpu: number, value: bigint): void;
  /** INVLPG. */
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
  /** RSM, with the registers that it restores. */
  leaveSmm(vcpu: number, registers: ControlRegisters): void;

  // What the userspace VMM does
  /** KVM_SET_SREGS. */
  setSregs(vcpu: number, registers: ControlRegisters): void;
  /** Gfns relative to the slot's base, ascending. */
  getDirtyLog(addressSpace: number, slot: number): bigint[];
  /** Clears `count` pages from `first` (relative to the slot) whose bit in `bitmap` is set. */
  clearDirtyLog(addressSpace: number, slot: number, first: number, count: number, bitmap: "ones"): void;
  /** KVM_SET_NR_MMU_PAGES. */
  setMmuPages(count: number): void;
  /** KVM_X86_QUIRK_SLOT_ZAP_ALL is disabled. */
  zapSlotsAlone(): void;
  /** KVM_PRE_FAULT_MEMORY. */
  preFault(vcpu: number, gpa: bigint, size: bigint): PreFaultOutcome;

  // What the host kernel does (mmu notifier); hva ranges are half-open and page-aligned
  /** The host unmaps the host-virtual range [start, end). */
  unmapRange(start: bigint, end: bigint): void;
  /** change_pte; `pfn` is what the host maps there now. Called inside an unmapRange of the same page. */
  changePte(hva: bigint, page: HostPage | undefined): void;
  /** Whether a page of the range was accessed; clears what says so. */
  age(start: bigint, end: bigint): boolean;
  /** Whether a page of the range was accessed. */
  testAge(start: bigint, end: bigint): boolean;

  /**
   * What hardware did to an SPTE between two exits: sets accessed or dirty bits in the entry of the page at `hpa`.
   * The recorded snapshot is where the replayer learns it from, after it has compared the step.
   */
  setHardwareBits(hpa: bigint, index: number, bits: bigint): void;

  /** The MMU's state as a recording has it. */
  state(vcpu: number): MmuState;
}

/** Makes a target. Events reach `sink` in order, whenever they happen; without one nobody wants them. */
export type ReplayTargetFactory = (
  config: ReplayVmConfig,
  host: ReplayHost,
  sink: ((event: MmuEvent) => void) | undefined,
) => ReplayTarget;
