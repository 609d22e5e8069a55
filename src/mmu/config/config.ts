/** What a virtual machine, its slots and its nested guests are made of: the types that its users write. */
import type { SpteMasks } from "../../spte/index.js";
import type { KernelConfig } from "./kernel.js";

/** What the host has behind a page: page frame number, whether it may be written, and at which level it is mapped. */
export interface HostPage {
  /** Of this 4 KiB page, within the host's MAXPHYADDR. */
  readonly pfn: bigint;
  readonly writable: boolean;
  /**
   * How large a page of its own tables holds it: 1: 4 KiB, 2: 2 MiB, 3: 1 GiB. All of such a page lies behind the
   * addresses around this one, so that the low bits of frame and host-virtual page number are the same.
   */
  readonly level: number;
}

/** The host's memory management. */
export interface HostMemory {
  /**
   * Finds or makes the page for a guest access; undefined: it has to be fetched first, and the guest is to wait. It may run
   * into the VM's own notifier methods, change slots and run other vCPUs; the vCPU that waits for it throws BusyError.
   */
  pin(hva: bigint, write: boolean): HostPage | undefined;
  /** The page if it is there now, without doing anything for it: meanwhile the VM throws BusyError. */
  peek(hva: bigint): HostPage | undefined;
}

/** What the processor's memory encryption needs: PAE roots are read unencrypted, because CR3 has no encryption bit. */
export interface EncryptionHooks {
  /** The table at this host-physical address must be readable without encryption. */
  decrypt(hostAddress: bigint): void;
  /** The table goes back to ordinary, encrypted use. */
  encrypt(hostAddress: bigint): void;
}

/** GPA bits that are no part of a page's number: aliases of one gfn. */
export interface AliasConfig {
  /**
   * The bits that tell aliases apart, as a mask over guest-physical addresses; 0 for none. Bits 32 to 51, above what
   * PSE-36 reaches and within what the second stage's tables translate; they may lie above MAXPHYADDR and are then
   * not reserved.
   */
  readonly mask: bigint;
  /**
   * Bits of the mask that make their alias execute-only: reads and writes through it are injected. Needs EPT that can
   * grant execution alone. Default 0.
   */
  readonly executeOnly?: bigint;
}

/** The SPTE masks of a VM, of a kernel that it can have; its physical bits are a setting of their own (`hostPhysicalBits`). */
export type VmMasks = Omit<SpteMasks, "physBits" | "xUser" | "mmioStored" | "mmioZero">;

/** What a VM is made of: its processor, its tables and its kernel's rules. */
export interface VirtualMachineConfig extends KernelConfig {
  /** Default: those of the format for the host's physical bits; for EPT with accessed and dirty bits and execute-only. */
  readonly masks?: VmMasks;
  /** How guests' memory is virtualised: shadow paging, nested page tables or extended ones. Default "shadow". */
  readonly paging?: "shadow" | "npt" | "ept";
  /** Direct roots are the TDP MMU's, not the classic direct MMU's. Default false. */
  readonly tdpMmu?: boolean;
  /** Levels of NPT or EPT: `forced` by the host's own paging (0: not), and the processor's most. Default 0 and 4. */
  readonly tdpLevels?: { readonly forced: 0 | 3 | 4 | 5; readonly max: 3 | 4 | 5 };
  /** The processor logs dirty pages (PML); EPT with accessed and dirty bits only. Default false. */
  readonly pageModificationLog?: boolean;
  /** Decides what a switch to and from a nested guest flushes. Default "svm". */
  readonly virtualization?: "svm" | "vmx";
  /** Host MAXPHYADDR less what encryption takes, 32 to 52; at 52 no bit is left for MMIO SPTEs. Default 46. */
  readonly hostPhysicalBits?: number;
  /** MAXPHYADDR of the guest's CPUID. Default the host's. */
  readonly guestPhysicalBits?: number;
  /** The host has 1 GiB pages; with NPT and EPT its guests can then use them too. Default true. */
  readonly hostPage1g?: boolean;
  /** The guest's CPUID has 1 GiB pages. Default true. */
  readonly guestPage1g?: boolean;
  /** The guest's CPUID has 57-bit linear addresses: CR4.LA57 can be set, and INVPCID goes by them. Default true. */
  readonly guestLa57?: boolean;
  /**
   * Hypervisors in the VM see advanced VM-exit information for EPT violations: bits 11:9 of the qualification that a fault came
   * with are handed on to them. Default false, as in Linux 6.1.
   */
  readonly advancedExitInformation?: boolean;
  /** The guest's CPUID is AMD's: bit 8 of upper entries is reserved. Default false. */
  readonly guestAmd?: boolean;
  /**
   * PDPTEs of an L1 hypervisor's PAE NPT: `live`, a shadowed and write-protected table, as the processor reads them in each
   * walk (APM, "Nested Paging"); or `loaded` with the root, as Linux 6.1 does, and missing L1's writes until then. Default "live".
   */
  readonly nestedPdptes?: "live" | "loaded";
  /** Bit 5 of a PAE PDPTE may be set: for processors that set Accessed there. Default false. */
  readonly pdpteAccessed?: boolean;
  /** Largest level of a leaf, 1 to 3. Default 3. */
  readonly maxHugeLevel?: number;
  /** Huge pages are not executable (the NX-huge-page mitigation). Default false. */
  readonly nxHugePages?: boolean;
  /** KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: bit 0 manual protect, bit 1 initially set. Default 0. */
  readonly manualDirtyLog?: number;
  /** Least level of a root: 3, or 4 or 5 for a host whose shadow tables are always that deep. Default 3. */
  readonly minimumRootLevel?: 3 | 4 | 5;
  /** Unused PDPTEs of a pae_root hold a present entry to an empty page instead of 0. Default false. */
  readonly defaultPaePdpte?: boolean;
  /** MMIO SPTEs are made. Default true. */
  readonly mmioCaching?: boolean;
  /** Default: host page = RAM page, everything writable, mapped by pages of 4 KiB. */
  readonly hostMemory?: HostMemory;
  readonly encryption?: EncryptionHooks;
  /** Guest-physical address bits that are attributes. Default none. */
  readonly aliases?: AliasConfig;
  /**
   * TLBs can be flushed by ranges of guest-physical addresses, so that `takeFlushes` lists ranges where that is enough
   * (the kernel's kvm_available_flush_tlb_with_range). Default false: every flush is of everything, as it always is under
   * shadow paging and while a nested guest's tables are shadowed.
   */
  readonly rangedFlush?: boolean;
  /**
   * Records of the event buffer (48 bytes each), which is emptied after each operation; 0 turns events off. A fault makes
   * at most about 50, an operation on a range one or two for each SPTE and page in it, a fast zap of the TDP MMU one for
   * each of the 512 entries of every table; what finds no room is counted as lost. Default 0.
   */
  readonly eventCapacity?: number;
  /**
   * For showing a historical mistake: role bits that a wanted direct root role has and stored pages drop
   * (cr4_pae was one), so that no cached root matches. Default 0.
   */
  readonly staleDirectRoleBits?: number;
}

/** A memslot as KVM_SET_USER_MEMORY_REGION takes it. */
export interface SlotConfig {
  /** 0, or 1 for the SMM address space. Default 0. */
  readonly addressSpace?: number;
  /** Slot number, 0 to 509. */
  readonly id: number;
  /** First guest-physical address, a multiple of 4096. */
  readonly gpa: bigint;
  /** Bytes, a multiple of 4096; 0 deletes the slot. */
  readonly size: number;
  /** Writes are logged. Default false. */
  readonly logDirty?: boolean;
  /** Guest writes are emulated. Default false. */
  readonly readOnly?: boolean;
  /** Host virtual address of its first byte; decides large-page alignment and what the notifier names. Default `ram`. */
  readonly hva?: bigint;
  /** Needed but where a slot is deleted (`size` 0). Linear address of its RAM, a multiple of 4096. It may not lie over what the core keeps, but in what `createRam` gave. */
  readonly ram?: number;
  /**
   * Bytes of RAM that there are, a multiple of 4096; behind them the slot has pages of the host's, but nothing that can be
   * read or written here, and no tables of the guest's. Default: all of `size`.
   */
  readonly ramSize?: number;
  /** The VM's own page (KVM's private memslots), which the guest sees at its plain address only. Default false. */
  readonly internal?: boolean;
  /**
   * EPT memory type of its pages, as memory-type range registers give it where devices read memory: 0 UC, 1 WC, 4 WT,
   * 5 WP, 6 WB. The guest's page-attribute table may refine it. Default: WB, whatever the guest says.
   */
  readonly memoryType?: 0 | 1 | 4 | 5 | 6;
}

/** L1's own second stage for its nested guest. */
export type SecondStage =
  | {
      readonly kind: "npt";
      /** L1's nCR3. */
      readonly ncr3: bigint;
      /** Host registers that L1 saved at VMRUN: they shape its NPT. CR0.WP counts as clear. */
      readonly hostCr4: bigint;
      readonly hostEfer: bigint;
    }
  | {
      readonly kind: "ept";
      readonly eptp: bigint;
      /** Capabilities that L1 sees. */
      readonly executeOnly: boolean;
      /** Largest level of a leaf, 1 to 3. */
      readonly hugePageLevel: number;
      /** EPTP bit 6. */
      readonly accessedDirty: boolean;
      /**
       * Guest PDPTE fields of the VMCS where L1 has written them; VM entry loads them for a PAE guest. Default: those that
       * the last exit saved, before the first one those at the nested guest's CR3.
       */
      readonly pdptes?: readonly [bigint, bigint, bigint, bigint];
    };
