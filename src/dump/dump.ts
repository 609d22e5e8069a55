/** What a memory dump is once it is open, whatever its format. */
import type { PageSource } from "../api.js";
import type { DumpCpu, DumpFact, DumpFormat, DumpMachine, DumpRoot, LongMode } from "./formats/content.js";
import type { DumpMemory } from "./memory/dump-memory.js";
import type { MemoryRange, Presence } from "./memory/presence.js";

/** An open memory dump: random-access guest-physical memory plus what its notes say. */
export interface Dump {
  /** The file's name. */
  readonly name: string;
  readonly format: DumpFormat;
  /** The file was compressed as a whole (gzip, xz, zstd). */
  readonly compressed: boolean;
  /** Undefined where the format does not say (LiME, raw). */
  readonly machine: DumpMachine | undefined;
  /** Whether the processors were in long mode, where the file says so. */
  readonly longMode: LongMode | undefined;
  /** Processors whose control registers are known, by notes of QEMU or VirtualBox, or as Xen and VMware have them. */
  readonly cpus: readonly DumpCpu[];
  /** CR3 that the header has (Microsoft's). */
  readonly root?: DumpRoot;
  /** Number of CORE (prstatus) notes: processors whose general registers are known. */
  readonly prstatusCount: number;
  /** The text of the VMCOREINFO note, if there is one. */
  readonly vmcoreinfo: string | undefined;
  /** Of a file that has ELF notes: they themselves, one after the other. */
  readonly copyNotes?: () => Uint8Array;
  /** The file has page tables and notes alone, as `reduceDump` makes them: what they map is not there. */
  readonly tablesOnly?: boolean;
  /** Page tables that the writer left out are all zero: it left out no others (see `tableSource`). */
  readonly excludedTablesAreZero: boolean;
  /** What the dump holds, ascending, without overlaps. */
  readonly ranges: readonly MemoryRange[];
  readonly facts: readonly DumpFact[];
  /** What is wrong with the file or missing from it (it breaks off, parts were not given): each a sentence. */
  readonly warnings: readonly string[];
  /** What is held and what is lacking, and why. */
  readonly memory: DumpMemory;
  /**
   * The memory, page by page; pages are read from the file when they are asked for. A page that the writer left out is
   * not there, because what was in it is unknown.
   */
  readonly pageSource: PageSource;
  /**
   * The memory as page tables are to be read from it: as `pageSource`, but a page that was left out is all zero where
   * the writer leaves out no other tables (makedumpfile's filters: zero pages, page cache, user pages, free pages).
   */
  readonly tableSource: PageSource;
  /** What the dump knows of [gpa, gpa + size): `held` where it has at least one byte of it. */
  presence(gpa: bigint, size: bigint): Presence;
  /** True if the dump holds at least one byte of [gpa, gpa + size). */
  touches(gpa: bigint, size: bigint): boolean;
  /** Releases the file. Pages cannot be read afterwards. */
  close(): void;
}
