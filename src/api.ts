/**
 * The walking interface that the Wasm core and the reference share.
 * Addresses are bigint; a number is taken where an integer up to 2^53 is enough.
 */

declare global {
  interface SymbolConstructor {
    /** Of `using`, as lib "esnext.disposable" has it: for projects that have that library, and for those that do not. */
    readonly dispose: unique symbol;
  }
}

/** An unsigned 64-bit value: a bigint, or a number that is an integer from 0 to 2^53-1. */
export type U64 = bigint | number;

/** Which rules a walk follows where hardware (the manuals) and KVM's software walk differ. */
export type RuleSet = "architecture" | "kvm-6.1";

/** Contiguous guest-physical RAM. */
export interface SlotConfig {
  /** First guest-physical address, a multiple of 4096. */
  readonly gpa: U64;
  /** Size in bytes, a multiple of 4096. */
  readonly size: number;
  /** Accessed and dirty bits are never written here, nor anything by accesses through a space. Default false. */
  readonly readOnly?: boolean;
}

/** Pages read on demand: a memory dump, say. */
export interface PageSource {
  /**
   * Reads the 4 KiB page at guest frame number `gfn` into `into` (4096 bytes).
   * Returns false where the source has no such page, at once: a promise is refused (PageSourceError).
   */
  readPage(gfn: bigint, into: Uint8Array): boolean;
}

/** Guest-physical memory: RAM slots and, behind them, the pages of a source, which are never written. */
export interface MemoryConfig {
  readonly slots?: readonly SlotConfig[];
  readonly source?: PageSource;
}

/** A guest's physical memory. Accesses outside of it are a MemoryRangeError. */
export interface GuestMemory {
  /**
   * Copies the bytes of a buffer, or of any view of one, to guest-physical address `gpa`; throws MemoryRangeError outside
   * the slots (a ReadOnlyMemoryError where the source has the page, with nothing written), TypeError for data of another kind.
   */
  write(gpa: U64, data: Uint8Array | ArrayBufferView | ArrayBufferLike): void;
  /** Copies `length` bytes from guest-physical address `gpa`; throws MemoryRangeError outside the memory. */
  read(gpa: U64, length: number): Uint8Array;
  /** Little-endian, at any alignment. */
  writeU32(gpa: U64, value: number): void;
  /** Little-endian, at any alignment. */
  readU32(gpa: U64): number;
  /** Little-endian, at any alignment; the low 64 bits of the value. */
  writeU64(gpa: U64, value: bigint): void;
  /** Little-endian, at any alignment. */
  readU64(gpa: U64): bigint;
  /**
   * Gives back what an engine holds for this memory and its spaces; idempotent. Using one of them afterwards throws
   * DisposedError.
   */
  dispose?(): void;
}

/** Processor features that change which bits are reserved. All default to what is named here. */
export interface CpuFeatures {
  /** 1 GiB pages (CPUID 80000001H:EDX.Page1GB). Default true. */
  readonly page1g?: boolean;
  /** PSE-36 (CPUID 01H:EDX.PSE-36). Default true. */
  readonly pse36?: boolean;
  /** Bit 8 of a PML4E and PML5E is reserved, as the APM says of AMD processors. Default false. */
  readonly amdReservedBit8?: boolean;
  /** Linear-address masking (CPUID 07H.1:EAX.LAM): without it CR3 bits 62:61 and CR4.LAM_SUP are reserved. Default true. */
  readonly lam?: boolean;
  /**
   * 57-bit linear addresses (CPUID 07H:ECX.LA57): without them CR4.LA57 is reserved, and INVPCID wants addresses that are
   * canonical with 48 bits, whatever the paging mode. Default true.
   */
  readonly la57?: boolean;
  /** Control-flow enforcement (CPUID 07H: ECX.CET_SS or EDX.CET_IBT): without it CR4.CET is reserved. Default true. */
  readonly cet?: boolean;
  /** Linear-address-space separation (CPUID 07H.1:EAX.LASS): without it CR4.LASS is reserved. Default true. */
  readonly lass?: boolean;
  /** AMD's upper address ignore (CPUID 80000021H:EAX bit 7): without it EFER.UAIE is reserved. Default true. */
  readonly uai?: boolean;
  /**
   * A user-mode access to a supervisor-mode address sets PK in the error code where the address's key denies it in
   * IA32_PKRS, as it does with PKRU for user-mode addresses. The fault itself is the same. Default true; false is what
   * QEMU and Bochs report.
   */
  readonly pkrsOnUserAccess?: boolean;
  /** `effectiveMemoryType` of one stage by AMD's table instead of Intel's; behind NPT it always is. Default false. */
  readonly amdMemoryTypes?: boolean;
}

/** What an access may do to memory and its caches: "CD" and "WC+" are AMD's (APM vol. 2, "Memory Types"). */
export type MemoryTypeName = "UC" | "WC" | "WT" | "WP" | "WB" | "CD" | "WC+";

/** Memory type range registers, as they are read by RDMSR. */
export interface MtrrConfig {
  /** IA32_MTRR_DEF_TYPE: the default type, FE (bit 10), E (bit 11). */
  readonly defType: U64;
  /** The eleven fixed-range registers by address: FIX64K_00000, FIX16K_80000, FIX16K_A0000, FIX4K_C0000 to FIX4K_F8000. */
  readonly fixed?: readonly U64[];
  /** IA32_MTRR_PHYSBASEn and PHYSMASKn; those whose V (bit 11 of the mask) is 0 do not count. */
  readonly variable?: readonly { readonly base: U64; readonly mask: U64 }[];
}

/**
 * A confidential guest: which bit of its entries is none of their address, and which pages it shares with the host.
 * - "sev": the C-bit, 1 in entries of private pages;
 * - "sev-vtom": SEV-SNP with virtual top of memory: entries have no C-bit, whose place is reserved, and data pages are shared
 *   from the guest-physical address `virtualTom` on;
 * - "tdx": the shared bit, 1 in entries of shared pages.
 */
export type MemoryEncryption =
  | { readonly kind: "sev"; readonly cBit: number }
  | { readonly kind: "sev-vtom"; readonly cBit: number; readonly virtualTom: U64 }
  | { readonly kind: "tdx"; readonly sharedBit: number };

/**
 * How registers got where they are: "mov" by MOV to the control registers; "vm-entry" by VM entry or VMRUN, which refuse CR3
 * bits from MAXPHYADDR up in every mode, where MOV outside long mode has only 32 bits (SDM vol. 3, "Checks on Guest Control
 * Registers, Debug Registers, and MSRs").
 */
export type RegisterLoad = "mov" | "vm-entry";

/**
 * Registers and options of a space that translates guest linear addresses. A register may also be a signed integer of 32
 * bits, as emulators hold them.
 */
export interface AddressSpaceConfig {
  readonly cr0: U64;
  readonly cr3: U64;
  readonly cr4: U64;
  readonly efer: U64;
  /** MAXPHYADDR, 32 to 52. Default 52. */
  readonly maxPhysAddr?: number;
  readonly cpu?: CpuFeatures;
  /** Default "architecture". */
  readonly rules?: RuleSet;
  /** Which checks the registers have to pass. Default "mov". */
  readonly loadedBy?: RegisterLoad;
  /**
   * An access that ends in a page fault sets the accessed flag in the entries above the faulting one, as processors may
   * (SDM vol. 3, "Accessed and Dirty Flags"): false sets none. Default false.
   */
  readonly accessedOnFault?: boolean;
  /** PKRU, 32 bits. Default 0. */
  readonly pkru?: number;
  /** IA32_PKRS, 32 bits. Default 0. */
  readonly pkrs?: number;
  /**
   * PAE PDPTEs: "latched" are read when the space is made or its registers are set (native, VMX);
   * "live" are read in each walk and fault there (AMD guests under nested paging). Default "latched".
   */
  readonly pdptes?: "latched" | "live";
  /** With latched PDPTEs: these four values instead of the ones at CR3 (a VMCS has fields for them). */
  readonly pdpteValues?: readonly [bigint, bigint, bigint, bigint];
  /** Memory-encryption bit (C-bit) that is stripped from every guest entry. Default 0n. */
  readonly encryptionMask?: bigint;
  /** The same by name, for confidential guests: results say whether a page is `shared`. Not with a mask. */
  readonly memoryEncryption?: MemoryEncryption;
  /** IA32_PAT, behind NPT the guest's (G_PAT of the VMCB): results have an `effectiveMemoryType`. */
  readonly pat?: U64;
  /** MTRRs; without them memory is as if mapped write-back by them. Behind a second stage they have no effect. */
  readonly mtrrs?: MtrrConfig;
  /** No bit is reserved and XD counts whatever EFER.NXE says: for reading dumps. Default false. */
  readonly lenient?: boolean;
  /**
   * Entries of a software TLB, a power of two from 16 to 65536; 0 is none. Default 0. Not with a second stage. Results
   * of `translateFast`, `translateFast32` and `data` may then be those of earlier tables until they are invalidated, as with a
   * processor's TLB; the other calls read the tables, and all but `walk` fill it. The reference has none.
   */
  readonly tlbEntries?: number;
  /** The EPT or NPT space through which every table access and the final address go. */
  readonly secondStage?: AddressSpace;
  /** What each value rests on, for people (as `registersFromDump` says it); nothing depends on it. */
  readonly origin?: Readonly<Record<string, string>>;
}

/** What holds something until it is disposed of: by `dispose`, or by `using` where a project's tools have it. */
export interface Releasable {
  /** Gives back what it holds. Idempotent. */
  dispose(): void;
  /** The same, for `using`. */
  [Symbol.dispose](): void;
}

/** Options of a space that translates guest-physical addresses by EPT. */
export interface EptConfig {
  /**
   * EPT pointer; bits 5:3 give the walk length (3 or 4), bit 6 enables accessed and dirty flags, bit 7 supervisor
   * shadow-stack control.
   */
  readonly eptp: U64;
  readonly maxPhysAddr?: number;
  /** 1 GiB pages. Default true. */
  readonly page1g?: boolean;
  /** 2 MiB pages. Default true. */
  readonly page2m?: boolean;
  /** Execute-only translations are supported. Default true. */
  readonly executeOnly?: boolean;
  /** Mode-based execute control. Default false. */
  readonly modeBasedExecute?: boolean;
  /**
   * The processor has supervisor shadow-stack control (IA32_VMX_EPT_VPID_CAP bit 23): without it EPTP bit 7 is reserved, as
   * it always is to the rules "kvm-6.1". Default true.
   */
  readonly shadowStackControl?: boolean;
  /**
   * Advanced VM-exit information for EPT violations (IA32_VMX_EPT_VPID_CAP bit 22): bits 11:9 of the qualification say what the
   * guest's own paging allows. Not in the rules "kvm-6.1". Default false.
   */
  readonly advancedExitInformation?: boolean;
  /**
   * The VM-execution control "EPT-violation #VE": faults that are EPT violations say whether they are `convertible`. Default
   * false.
   */
  readonly violationExceptions?: boolean;
  readonly rules?: RuleSet;
}

/** Options of a space that translates guest-physical addresses by NPT, in any of the legacy formats. */
export interface NptConfig {
  /** nCR3. */
  readonly ncr3: U64;
  /** The host's CR0; PG and WP matter. Default 0x80010001. */
  readonly cr0?: U64;
  /** The host's CR4; PAE, PSE and LA57 matter. Default 0x20. */
  readonly cr4?: U64;
  /** The host's EFER; LMA and NXE matter. Default 0xd00. */
  readonly efer?: U64;
  readonly maxPhysAddr?: number;
  readonly cpu?: CpuFeatures;
  readonly encryptionMask?: bigint;
  /** The host's IA32_PAT, for `effectiveMemoryType` of guests that have a `pat`. */
  readonly pat?: U64;
  /** The host's MTRRs, for the same. */
  readonly mtrrs?: MtrrConfig;
  /**
   * Supervisor shadow stack checks (VMCB offset 90h bit 4). Of no effect where the host has no PAE or EFER.NXE=0, and in the
   * rules "kvm-6.1". Default false.
   */
  readonly shadowStackCheck?: boolean;
  /**
   * Guest mode execute trap (GMET, VMCB offset 90h bit 3): U/S=1 in all nested entries forbids supervisor-mode fetches, and U/S
   * forbids nothing else. Of no effect in the rules "kvm-6.1". Default false.
   */
  readonly guestModeExecuteTrap?: boolean;
  readonly rules?: RuleSet;
}

/** Rights of a translation, ANDed over all levels. */
export interface Rights {
  readonly read: boolean;
  readonly write: boolean;
  readonly user: boolean;
  /** Fetches (supervisor-mode ones, with EPT mode-based execute control). */
  readonly execute: boolean;
  /** EPT mode-based execute control: fetches from user-mode addresses. Equals `execute` elsewhere. */
  readonly userExecute: boolean;
}

/** A successful translation. */
export interface Mapped {
  readonly ok: true;
  readonly status: 0;
  /** Physical address: in a two-stage space the final one, after the second stage. */
  readonly pa: bigint;
  /** In a two-stage space the guest-physical address that the first stage gave, else equal to `pa`. */
  readonly gpa: bigint;
  /** Page size in bytes of the (first-stage) leaf: 4096, 2 MiB, 4 MiB, 1 GiB; 4096 with paging off. */
  readonly pageSize: number;
  /** Rights of the (first-stage) walk. */
  readonly rights: Rights;
  /** Protection key of the leaf, 0 where there is none. */
  readonly protectionKey: number;
  /** Leaf's global bit. */
  readonly global: boolean;
  /** EPT: memory type (bits 5:3 of the leaf); other formats: PAT index (PAT<<2 | PCD<<1 | PWT). */
  readonly memoryType: number;
  /** The memory type of the access, where the space has a `pat`; undefined where it is not known (docs/walk.md). */
  readonly effectiveMemoryType?: MemoryTypeName;
  /** With `memoryEncryption`: the access reaches the page as one that is shared with the host. */
  readonly shared?: boolean;
}

/** A failed translation. */
export interface Fault {
  readonly ok: false;
  readonly status: number;
  /** 14 for PageFault, 13 for NonCanonical and SpaceSeparation (12 where the access is by SS), else undefined (a VM exit or no event at all). */
  readonly vector: 13 | 14 | undefined;
  /** Page-fault error code, exit qualification or EXITINFO1; 0n where there is none. */
  readonly errorCode: bigint;
  /** The faulting address: CR2, or the guest-physical address of a second-stage fault. */
  readonly address: bigint;
  /** Which translation faulted. */
  readonly stage: "guest" | "second";
  /** Level of the entry that faulted, 5 to 1; 0 where no entry was read. */
  readonly level: number;
  /** Physical address of the entry that faulted (before the second stage), 0n where no entry was read. */
  readonly entryAddress: bigint;
  /** The entry that faulted, 0n where no entry was read. */
  readonly entry: bigint;
  /**
   * Of EPT violations with `violationExceptions`: the entry's bit 63 (suppress #VE) is 0, so that the processor makes a
   * virtualization exception of the violation where nothing else prevents it (docs/walk.md).
   */
  readonly convertible?: boolean;
}

/** What a translation comes to, told apart by `ok`. */
export type Translation = Mapped | Fault;

/** One entry that a walk read, in order. */
export interface WalkStep {
  /** "guest" for the first stage; "second" for an EPT or NPT entry read on its behalf. */
  readonly stage: "guest" | "second";
  /** 5 to 1; a PAE PDPTE is level 3. */
  readonly level: number;
  /** Physical address of the entry in its own stage's space. */
  readonly address: bigint;
  readonly entry: bigint;
}

/** A translation with every entry that was read for it. */
export interface Walk {
  readonly address: bigint;
  readonly result: Translation;
  readonly steps: readonly WalkStep[];
}

/** One leaf entry found by enumeration. */
export interface Leaf {
  /** First linear (or guest-physical) address, sign-extended in 4- and 5-level paging, as unsigned 64 bits. */
  readonly va: bigint;
  /** First physical address. */
  readonly pa: bigint;
  /** Size in bytes. */
  readonly size: bigint;
  readonly rights: Rights;
  /** The leaf entry itself. */
  readonly entry: bigint;
  /** Level of the leaf, 1 to 3. */
  readonly level: number;
}

/** What a space is made of, registers as they are now. */
export type SpaceConfiguration =
  | { readonly kind: "guest"; readonly config: AddressSpaceConfig }
  | { readonly kind: "ept"; readonly config: EptConfig }
  | { readonly kind: "npt"; readonly config: NptConfig };

/** One set of page tables with the registers that select them. */
export interface AddressSpace {
  /** "none" | "32bit" | "pae" | "4level" | "5level" | "ept4" | "ept5" */
  readonly mode: PagingMode;
  /** What it is made of; of an engine that does not tell, `explain` (x86-paging/explain) knows nothing. */
  readonly configuration?: SpaceConfiguration;
  /**
   * Translates one address. Never throws for a fault. Throws RangeError for what is no 64-bit address, ConfigError for a linear
   * one above 32 bits outside long mode; so do all that take an address.
   */
  translate(address: U64, access?: number): Translation;
  /** The same with every entry that was read. Never sets accessed or dirty bits. */
  walk(address: U64, access?: number): Walk;
  /** Every leaf in ascending order of table index, i.e. of unsigned address. Rejects two-stage spaces (UnsupportedError). */
  leaves(): IterableIterator<Leaf>;
  /**
   * Gives back what an engine holds for this space, not its memory; idempotent. Using it, or a space whose second stage it
   * is, throws DisposedError afterwards.
   */
  dispose?(): void;
}

/** How linear addresses are translated, or guest-physical ones by EPT. */
export type PagingMode = "none" | "32bit" | "pae" | "4level" | "5level" | "ept4" | "ept5";

/** What the Wasm core and the reference both are. */
export interface PagingEngine {
  /** A memory of RAM slots, or over a source of pages. Throws ConfigError. */
  createMemory(config: MemoryConfig): GuestMemory;
  /**
   * Throws GeneralProtectionError where loading the registers would raise #GP, VmEntryError where it would fail at VM
   * entry, and PdpteLoadError, with the fault, where the second stage stops the loading of PAE PDPTEs.
   */
  createAddressSpace(memory: GuestMemory, config: AddressSpaceConfig): AddressSpace;
  /** A space of EPT tables, which translates guest-physical addresses. Throws ConfigError. */
  createEpt(memory: GuestMemory, config: EptConfig): AddressSpace;
  /** A space of nested page tables, which translates guest-physical addresses. Throws ConfigError. */
  createNpt(memory: GuestMemory, config: NptConfig): AddressSpace;
}
