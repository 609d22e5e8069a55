/** A recording in memory: what reader.ts makes of a folder. Field names that are the kernel's are explained in docs/replay.md. */

import type { Kernel } from "../../abi/kernel-rules.js";
import type { RecordedEvent } from "./events.js";
import type { MemoryImage } from "./memory-image.js";
import type { ControlRegisters, MmuContextState, RecordedMasks, SlotInput } from "./state.js";

/** The guest's paging mode: long mode with 4 or 5 levels, PAE, 32-bit without and with PSE, no paging. */
export type GuestMode = "lm4" | "lm5" | "pae" | "32" | "32pse" | "nopg";

/** A CPUID bit that the VMM changed before it gave the table to the guest. */
export interface CpuidEdit {
  readonly fn: number;
  /** 0 EAX, 1 EBX, 2 ECX, 3 EDX. */
  readonly register: number;
  readonly clear: number;
  readonly set: number;
}

/** How the VM was configured. */
export interface RecordingConfig {
  /** The recorded kernel. */
  readonly kernel: Kernel;
  /** An SPTE that stands for nothing: pages leave such entries out. */
  readonly emptySpte: bigint;
  readonly scenario: string;
  /** Configuration of the host, `npt0` or `ept-tdp1-nx` say. */
  readonly cfg: string;
  readonly npt: boolean;
  readonly ept: boolean;
  readonly eptAccessedDirty: boolean;
  readonly pml: boolean;
  readonly tdpMmu: boolean;
  readonly nested: boolean;
  readonly hostLa57: boolean;
  readonly hostMaxPhysAddr: number;
  readonly guestMaxPhysAddr: number;
  readonly guestMode: GuestMode;
  readonly rootGpa: bigint;
  /** Base of the kernel's direct map: hva of a kernel address minus it is the hpa. */
  readonly pageOffset: bigint;
  readonly masks: RecordedMasks;
  readonly init: ControlRegisters;
  readonly manualDirtyLog: number;
  /** Host memory on larger pages: the rest is on 4 KiB ones. */
  readonly backing: readonly { readonly hva: bigint; readonly size: bigint; readonly pageSize: bigint }[];
  /** The recorded kernel treats bit 5 of a PAE PDPTE as not reserved (`kvm_pdpte_bit5_patch`). */
  readonly pdpteAccessedAllowed: boolean;
  /** True where the processor is an Intel one. */
  readonly intel: boolean;
}

/** `count` consecutive gfns that map consecutive pfns. */
export interface PfnRun {
  readonly gfn: bigint;
  readonly pfn: bigint;
  readonly count: number;
}

/** A word of guest memory that a step changed. */
export interface MemoryChange {
  readonly gpa: bigint;
  readonly before: bigint;
  readonly after: bigint;
}

/** What the VMM asked for in a step. */
export type VmmInput =
  | { readonly kind: "slot"; readonly slot: SlotInput }
  | { readonly kind: "getDirtyLog"; readonly slot: number }
  | { readonly kind: "clearDirtyLog"; readonly slot: number; readonly first: number; readonly count: number }
  | { readonly kind: "smi" }
  | { readonly kind: "setMmuPages"; readonly count: number }
  | { readonly kind: "setSregs"; readonly registers: ControlRegisters }
  /** KVM_X86_QUIRK_SLOT_ZAP_ALL is disabled. */
  | { readonly kind: "zapSlotsAlone" }
  | { readonly kind: "preFault"; readonly gpa: bigint; readonly size: bigint };

/** What the VMM, or L1, was told. */
export type StepAnswer =
  | { readonly kind: "dirtyLog"; readonly slot: number; readonly gfns: readonly bigint[] }
  | { readonly kind: "status"; readonly rc: number }
  /** What was left, and the error number (0: none) where nothing was done. */
  | { readonly kind: "preFault"; readonly gpa: bigint; readonly size: bigint; readonly errno: number }
  | { readonly kind: "nestedExit"; readonly rip: bigint; readonly fields: Readonly<Record<string, bigint>> };

interface StepBase {
  readonly n: number;
  readonly op: string;
  readonly inputs: readonly VmmInput[];
  readonly answers: readonly StepAnswer[];
  readonly events: readonly RecordedEvent[];
  /** Host mappings that were read again after this step. */
  readonly pfnMaps: readonly (readonly PfnRun[])[];
  /** Gfns that the host maps read-only after the step; undefined: no change was noted. */
  readonly hostReadOnly: readonly { readonly gfn: bigint; readonly level: number }[] | undefined;
  readonly snapshot: Snapshot;
}

/** What L1 asked for where the step runs L2. */
export interface NestedStep {
  readonly op: string;
  readonly address: bigint;
  readonly rip: bigint;
  readonly ncr3: bigint | undefined;
  readonly cr3: bigint | undefined;
  readonly cr0: bigint | undefined;
  readonly eptp: bigint | undefined;
}

/** A step in which a vCPU ran. */
export interface GuestStep extends StepBase {
  readonly kind: "guest";
  readonly vcpu: number;
  readonly cpl: number;
  readonly gva: bigint;
  readonly value: bigint;
  readonly size: number | undefined;
  readonly rflags: bigint;
  readonly pre: ControlRegisters;
  readonly post: ControlRegisters;
  readonly result: "ok" | "exception" | "internal-error" | "shutdown";
  /** The exception that the guest saw. */
  readonly exception: { readonly vector: number; readonly errorCode: number; readonly cr2: bigint } | undefined;
  readonly memoryChanges: readonly MemoryChange[];
  /** Gpas of the MMIO exits, in order. */
  readonly mmio: readonly bigint[];
  readonly nested: NestedStep | undefined;
  /** INVEPT type. */
  readonly invept: number | undefined;
}

/** A step in which the VM monitor did something. */
export interface VmmStep extends StepBase {
  readonly kind: "vmm";
}

/** One step of a scenario. */
export type Step = GuestStep | VmmStep;

/** A root page outside the hash (mmu->pae_root, pml4_root, pml5_root). */
export interface SpecialRoot {
  readonly hpa: bigint;
  readonly entries: ReadonlyMap<number, bigint>;
}

/** An MMU context as it was after a step. */
export interface RecordedContext extends MmuContextState {
  readonly paeRoot: SpecialRoot | undefined;
  readonly pml4Root: SpecialRoot | undefined;
  readonly pml5Root: SpecialRoot | undefined;
}

/** A shadow page as it was after a step. */
export interface RecordedPage {
  readonly hpa: bigint;
  readonly role: number;
  readonly gfn: bigint;
  readonly rootCount: number;
  readonly unsync: boolean;
  readonly unsyncChildren: number;
  readonly validGen: number;
  readonly writeFlooding: number;
  readonly nxHugePageDisallowed: boolean;
  readonly tdp: boolean;
  readonly entries: ReadonlyMap<number, bigint>;
  /** Absent for direct pages. */
  readonly shadowed: ReadonlyMap<number, bigint> | undefined;
}

/** The state after a step. */
export interface Snapshot {
  readonly vcpu: number;
  readonly active: "root_mmu" | "guest_mmu";
  readonly walking: "root_mmu" | "nested_mmu";
  readonly registers: ControlRegisters;
  readonly hflags: bigint;
  readonly usedPages: number;
  readonly validGen: number;
  readonly mmio: { readonly gva: bigint; readonly gfn: bigint; readonly access: number; readonly gen: bigint };
  readonly rootMmu: RecordedContext;
  readonly guestMmu: RecordedContext | undefined;
  readonly nestedMmu: RecordedContext | undefined;
  readonly pages: readonly RecordedPage[];
  /** Pages that shadow guest tables, and pages of the TDP MMU but its roots; undefined where the recorder did not look. */
  readonly indirectPages: number | undefined;
  readonly tdpPages: number | undefined;
}

/** One scenario on one configuration, with all that was recorded. */
export interface Recording {
  /** Folder, as it was given. */
  readonly path: string;
  readonly config: RecordingConfig;
  readonly cpuidEdits: readonly CpuidEdit[];
  readonly slots: readonly SlotInput[];
  readonly pfnMap: readonly PfnRun[];
  readonly setupEvents: readonly RecordedEvent[];
  readonly steps: readonly Step[];
  /** Events of kinds that this reader does not know, by kind: they are in no step. */
  readonly unknownEvents: ReadonlyMap<string, number>;
  readonly memoryBefore: MemoryImage;
  readonly memoryAfter: MemoryImage;
}
