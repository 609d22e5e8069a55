/** What a memory dump is once it is open, whatever its format. */
import type { PageSource } from "../api.js";
import type { MemoryRange } from "./extents.js";

export type DumpFormat = "elf" | "lime" | "raw";

/** The machine that an ELF header names. QEMU writes x86_64 if and only if the first processor was in long mode. */
export type DumpMachine = "x86_64" | "i386";

/** Registers of one processor, from a note. */
export interface DumpCpu {
  /** Position among the notes of its kind, which is the processor's number in QEMU. */
  readonly index: number;
  readonly cr0: bigint;
  readonly cr2: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly rip: bigint;
  readonly rflags: bigint;
  /** Current privilege level: the RPL of CS. */
  readonly cpl: number;
}

/** Something worth telling about a dump. */
export interface DumpFact {
  readonly label: string;
  readonly value: string;
}

/** An open memory dump: random-access guest-physical memory plus what its notes say. */
export interface Dump {
  /** The file's name. */
  readonly name: string;
  readonly format: DumpFormat;
  /** The file was gzip-compressed. */
  readonly compressed: boolean;
  /** Undefined where the format does not say (LiME, raw). */
  readonly machine: DumpMachine | undefined;
  /** Processors whose control registers are known, i.e. QEMU notes. */
  readonly cpus: readonly DumpCpu[];
  /** Number of CORE (prstatus) notes: processors whose general registers are known. */
  readonly prstatusCount: number;
  /** The text of the VMCOREINFO note, if there is one. */
  readonly vmcoreinfo: string | undefined;
  /** What the dump holds, ascending, without overlaps. */
  readonly ranges: readonly MemoryRange[];
  readonly facts: readonly DumpFact[];
  /** The memory, page by page; pages are read from the file when they are asked for. */
  readonly pageSource: PageSource;
  /** True if the dump holds at least one byte of [gpa, gpa + size). */
  touches(gpa: bigint, size: bigint): boolean;
  /** Releases the file. Pages cannot be read afterwards. */
  close(): void;
}
