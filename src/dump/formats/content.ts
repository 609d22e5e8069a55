/** What a reader of one format finds out about a dump. */
import type { DumpMemory } from "../memory/dump-memory.js";

/** What a dump's content is, by its own signature; "raw" has none. */
export type DumpFormat = "elf" | "kdump" | "lime" | "avml" | "xen" | "vmware" | "microsoft" | "raw";

/** The machine that a header names. QEMU writes x86_64 in an ELF header if and only if the first processor was in long mode. */
export type DumpMachine = "x86_64" | "i386";

/** Registers of one processor, from a note. */
export interface DumpCpu {
  /** Position among the notes of its kind, which is the processor's number in QEMU and VirtualBox. */
  readonly index: number;
  /** What has them: "note QEMU", "note VBCPU". */
  readonly origin: string;
  readonly cr0: bigint;
  readonly cr2: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  /** Undefined where the note does not have it. */
  readonly efer: bigint | undefined;
  /** Undefined where it is not there, as the next two. */
  readonly rip: bigint | undefined;
  readonly rflags: bigint | undefined;
  /** Current privilege level: the RPL of CS. */
  readonly cpl: number | undefined;
}

/** Something worth telling about a dump. */
export interface DumpFact {
  readonly label: string;
  readonly value: string;
}

/** Whether the processors were in long mode, and what says so. */
export interface LongMode {
  readonly active: boolean;
  readonly reason: string;
}

/** CR3 that a header has, without the other registers of a processor. */
export interface DumpRoot {
  readonly cr3: bigint;
  readonly origin: string;
  /** Whether paging of 32 bits has the entries of PAE, where the header says it. */
  readonly pae?: { readonly enabled: boolean; readonly origin: string };
}

/** A dump as its format has it. */
export interface DumpContent {
  readonly format: DumpFormat;
  /** Undefined where the format does not say (LiME, raw). */
  readonly machine: DumpMachine | undefined;
  /** Undefined where nothing in the file says it. */
  readonly longMode: LongMode | undefined;
  readonly memory: DumpMemory;
  /**
   * A page table that was left out is a page of zeros: the writer leaves out zero pages, and besides them only pages
   * that are no tables in use (page cache, user data, free memory). False where nothing says that.
   */
  readonly excludedTablesAreZero: boolean;
  readonly cpus: readonly DumpCpu[];
  /** The root that a header names; where it is left out, none does. */
  readonly root?: DumpRoot;
  readonly prstatusCount: number;
  readonly vmcoreinfo: string | undefined;
  /** Of a file that has notes: they themselves, one after the other, to be written to another file. */
  readonly copyNotes?: () => Uint8Array;
  /** The file has page tables and notes alone, as `reduceDump` makes them: what they map is not there. */
  readonly tablesOnly?: boolean;
  readonly facts: readonly DumpFact[];
  /** What is wrong with the file, or missing: each a sentence. */
  readonly warnings: readonly string[];
}

/** The content of a format that has memory and nothing else. */
export function memoryOnly(
  format: DumpFormat,
  memory: DumpMemory,
  facts: readonly DumpFact[],
  warnings: readonly string[],
): DumpContent {
  return {
    format,
    machine: undefined,
    longMode: undefined,
    memory,
    excludedTablesAreZero: false,
    cpus: [],
    prstatusCount: 0,
    vmcoreinfo: undefined,
    facts,
    warnings,
  };
}
