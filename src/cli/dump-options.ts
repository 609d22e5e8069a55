/** Options of the commands that open a dump, and what they lead to. */
import { type Command, Option } from "commander";
import type { AddressSpace, PageSource, PagingMode } from "../api.js";
import {
  type Dump,
  type DumpRegisters,
  type FoundVmcoreinfo,
  InflationLimitError,
  openDumpFile,
  type RegisterOverrides,
  registersFromDump,
  UnknownRootError,
  VmcoreinfoScan,
} from "../dump/node.js";
import { ConfigError, GeneralProtectionError, TableStructureError } from "../errors.js";
import { modeTitle, pagingModeOf } from "../maps/mode.js";
import { DEFAULT_MAX_MAPPINGS, inspectTables, type TableStructureSummary } from "../maps/structure.js";
import type { CliContext } from "./context.js";
import { ENGINE_NAMES, type EngineName } from "./engine.js";
import { CliError } from "./errors.js";
import { type Half, isolationNote, withHalf } from "./page-table-isolation.js";
import { startProgress } from "./progress.js";
import { parseAnyRange, parsePcHole, parseRange, type RawCliOptions, rangesOfFile, rawOptions } from "./raw-options.js";
import { hex, parseHex, parseInteger, parseSize } from "./values.js";

/** What says which file is the dump, and how it is read. */
export interface FileOptions extends RawCliOptions {
  part?: string[];
  maxInflated?: number;
  zeroExcluded?: boolean;
}

export interface DumpOptions extends FileOptions {
  cpu?: number;
  cr0?: bigint;
  cr3?: bigint;
  cr4?: bigint;
  efer?: bigint;
  maxphyaddr?: number;
  encryptionMask?: bigint;
  half?: Half;
  engine: EngineName;
  quiet?: boolean;
  /** Tables that are not in the dump count as empty. */
  partial?: boolean;
}

/** As the help of each command names them. */
export const FILE_HELP =
  "ELF core, kdump, LiME, AVML, Xen, VMware, Microsoft or raw dump; gzip, xz and zstd are accepted";

/** `addresses`: --range also takes ranges of addresses. */
export function addFileOptions(command: Command, addresses = false): Command {
  return command
    .option("--raw", "read FILE as raw memory; its first byte is at --offset")
    .addOption(
      new Option("--offset <gpa>", "guest-physical address of a raw file's first byte (0)").argParser(parseHex),
    )
    .option(
      addresses ? "--range <start-end|gpa:size@offset>" : "--range <gpa:size@offset>",
      `${addresses ? "only addresses from START up to END (hexadecimal; no END: all from START on); GPA:SIZE@OFFSET: " : ""}` +
        "read FILE as raw memory: SIZE bytes (K, M, G) at OFFSET of it belong at GPA; may be repeated",
      addresses ? parseAnyRange : parseRange,
    )
    .option("--map <file>", "the same, one GPA:SIZE@OFFSET a line; # begins a comment")
    .addOption(
      new Option(
        "--pc-hole <start>",
        "read FILE as all RAM of a PC: what does not fit below START goes on at 4 GiB. An address, or the rule of " +
          "QEMU's machine pc (c0000000 from 3.5 GiB on) or q35 (80000000 from 2.75 GiB on), or of vmware (c0000000)",
      ).argParser(parsePcHole),
    )
    .option(
      "--part <file>",
      "another file of a split kdump (may be repeated), or the other of VMware's .vmem and .vmss or .vmsn",
      collected,
    )
    .option("--zero-excluded", "the dump's writer left out zero pages only (where the dump does not say it)")
    .option(
      "--max-inflated <size>",
      "most bytes that a compressed file may inflate to (4G, of them 1G not zero, or 64 and 16 times its size)",
      parseSize,
    );
}

/** For commander: one more of several values. */
export function collected(value: string, previous: string[] | undefined): string[] {
  return [...(previous ?? []), value];
}

export function addRegisterOptions(command: Command): Command {
  return command
    .option("--cpu <n>", "take the registers of this processor", parseInteger(0, 2 ** 32 - 1))
    .option("--cr0 <hex>", "CR0 instead of the dump's", parseHex)
    .option("--cr3 <hex>", "CR3 instead of the dump's", parseHex)
    .addOption(
      new Option("--half <which>", "of two roots under page-table isolation, that of the kernel or of users").choices([
        "kernel",
        "user",
      ]),
    )
    .option("--cr4 <hex>", "CR4 instead of the dump's", parseHex)
    .option("--efer <hex>", "EFER instead of the inferred one", parseHex)
    .option("--maxphyaddr <bits>", "MAXPHYADDR, 32 to 52 (52)", parseInteger(32, 52))
    .option("--encryption-mask <hex>", "the bit of entries that says that a page is encrypted (AMD's C-bit)", parseHex);
}

export function addDumpOptions(command: Command, addresses = false): Command {
  return addRegisterOptions(addFileOptions(command, addresses))
    .addOption(new Option("--engine <name>", "what walks the tables").choices(ENGINE_NAMES).default("wasm"))
    .option("-q, --quiet", "do not say what was inferred");
}

/** Opens the file that the options name; a CliError says which option helps. */
export async function openDumpOf(context: CliContext, file: string, options: FileOptions): Promise<Dump> {
  const { part, maxInflated, zeroExcluded } = options;
  // What does not fit together is refused before a map is read.
  rawOptions(options);
  const raw = rawOptions(options, options.map === undefined ? [] : await rangesOfFile(context.io, options.map));
  let progress: ReturnType<typeof startProgress> | undefined;
  try {
    return await openDumpFile(file, {
      ...raw,
      ...(part === undefined ? {} : { parts: part }),
      ...(maxInflated === undefined ? {} : { maxInflated }),
      ...(zeroExcluded === undefined ? {} : { zeroExcluded }),
      onInflate: (done, total) => {
        // Small files are inflated before a bar could be drawn.
        if (total > 2 ** 24) progress ??= startProgress(context.io, "inflating", total);
        progress?.update(done);
      },
    });
  } catch (error) {
    if (!(error instanceof InflationLimitError)) throw error;
    throw new CliError(`${error.message} (--max-inflated allows more)`);
  } finally {
    progress?.stop();
  }
}

/** Pages that are looked at between two steps of the bar. */
const SCAN_STEP = 4096;

/**
 * The registers that the options and the dump give. Where nothing says where the tables are, RAM is searched for
 * VMCOREINFO. Throws a CliError that names the option that helps where that is not there either.
 */
export function registersOf(context: CliContext, dump: Dump, options: DumpOptions | RegisterFlags): DumpRegisters {
  const registers = wholeRegisters(context, dump, options);
  return options.half === undefined ? registers : withHalf(registers, pagingModeOf(registers), options.half);
}

function wholeRegisters(context: CliContext, dump: Dump, options: RegisterFlags): DumpRegisters {
  const overrides: RegisterOverrides = { ...options, maxPhysAddr: options.maxphyaddr };
  try {
    return registersFromDump(dump, overrides);
  } catch (error) {
    if (!(error instanceof UnknownRootError)) throw error;
    const vmcoreinfo = findVmcoreinfo(context, dump);
    if (vmcoreinfo !== undefined) return registersFromDump(dump, { ...overrides, vmcoreinfo });
    throw new CliError(`${error.message} (--cr3), and memory has no VMCOREINFO`);
  }
}

export type RegisterFlags = Pick<
  DumpOptions,
  "cpu" | "cr0" | "cr3" | "cr4" | "efer" | "half" | "maxphyaddr" | "encryptionMask"
>;

/** Searches memory for VMCOREINFO, with a bar. */
export function findVmcoreinfo(context: CliContext, dump: Dump): FoundVmcoreinfo | undefined {
  const scan = new VmcoreinfoScan(dump);
  const progress = startProgress(context.io, "searching for VMCOREINFO", scan.total);
  try {
    for (;;) {
      const { found, finished } = scan.step(SCAN_STEP);
      if (finished) return found;
      progress.update(scan.done);
    }
  } finally {
    progress.stop();
  }
}

/** A dump with an address space over it. */
export interface OpenSpace {
  readonly dump: Dump;
  readonly registers: DumpRegisters;
  readonly mode: PagingMode;
  readonly space: AddressSpace;
  /** What the walks read. */
  readonly tables: PageSource;
  /** Tables that the dump's writer left out, and that were read as zero: their frames. */
  readonly leftOut: ReadonlySet<bigint>;
}

/** Opens the dump, finds the registers, and makes an address space of them; throws before anything is printed. */
export async function openSpace(
  context: CliContext,
  file: string,
  options: DumpOptions,
  lenient: boolean,
): Promise<OpenSpace> {
  const dump = await openDumpOf(context, file, options);
  try {
    return await spaceOver(context, dump, options, lenient);
  } catch (error) {
    dump.close();
    throw error;
  }
}

/** Makes an address space over an open dump. */
export async function spaceOver(
  context: CliContext,
  dump: Dump,
  options: DumpOptions,
  lenient: boolean,
): Promise<OpenSpace> {
  try {
    const registers = registersOf(context, dump, options);
    const engine = await context.engine(options.engine);
    const { source: tables, leftOut } = counted(dump);
    const memory = engine.createMemory({ source: options.partial ? zeroWhereMissing(tables) : tables });
    const { cr0, cr3, cr4, efer, maxPhysAddr, encryptionMask } = registers;
    const space = engine.createAddressSpace(memory, { cr0, cr3, cr4, efer, maxPhysAddr, encryptionMask, lenient });
    const mode = pagingModeOf(registers);
    if (!options.quiet) {
      sayWhatIsInferred(context, registers, mode, lenient);
      const isolation = isolationNote(dump, registers, mode);
      if (isolation !== undefined) context.note(isolation);
    }
    return { dump, registers, mode, space, tables, leftOut };
  } catch (error) {
    // The engine does not know the file's name.
    if (error instanceof GeneralProtectionError) {
      const hint = lenient ? "" : " (without --strict no bit is reserved)";
      throw new CliError(`${dump.name}: ${error.message}${hint}`);
    }
    if (error instanceof ConfigError) throw new CliError(`${dump.name}: ${error.message}`);
    throw error;
  }
}

/** The dump's tables, and which of them are zero because the writer left them out. */
function counted(dump: Dump): { readonly source: PageSource; readonly leftOut: ReadonlySet<bigint> } {
  const leftOut = new Set<bigint>();
  if (dump.tableSource === dump.pageSource) return { source: dump.tableSource, leftOut };
  const source: PageSource = {
    readPage(gfn, into) {
      if (dump.pageSource.readPage(gfn, into)) return true;
      if (!dump.tableSource.readPage(gfn, into)) return false;
      leftOut.add(gfn);
      return true;
    },
  };
  return { source, leftOut };
}

/** Pages that a dump does not have, as zeros: a missing table then maps nothing. */
function zeroWhereMissing(source: PageSource): PageSource {
  return {
    readPage(gfn, into) {
      if (!source.readPage(gfn, into)) into.fill(0);
      return true;
    },
  };
}

function sayWhatIsInferred(context: CliContext, registers: DumpRegisters, mode: PagingMode, lenient: boolean): void {
  const said: string[] = [];
  for (const name of ["cr0", "cr3", "cr4", "efer"] as const) {
    const origin = registers.origin[name];
    if (/^(inferred|assumed)/.test(origin)) said.push(`${name.toUpperCase()}=${hex(registers[name])} ${origin}`);
  }
  if (registers.encryptionMask !== 0n && registers.origin.encryptionMask !== "given") {
    said.push(`encryption mask ${hex(registers.encryptionMask)} ${registers.origin.encryptionMask}`);
  }
  if (!lenient && registers.origin.maxPhysAddr !== "given") {
    said.push(`MAXPHYADDR=${registers.maxPhysAddr} ${registers.origin.maxPhysAddr}`);
  }
  if (said.length > 0) context.note(`${modeTitle(mode)}; ${said.join("; ")}`);
}

/** Says what is wrong with the dump or missing from it, where something is to be printed of it. */
export function sayWarnings(context: CliContext, dump: Dump): void {
  for (const warning of dump.warnings) context.note(`warning: ${dump.name}: ${warning}`);
  if (dump.tablesOnly) context.note(`${dump.name}: page tables and notes alone: what they map is not in it`);
}

/** Says which tables were read as zero because the dump's writer left them out. */
export function sayLeftOut(context: CliContext, { dump, leftOut }: OpenSpace): void {
  if (leftOut.size === 0) return;
  const one = leftOut.size === 1;
  context.note(
    `${dump.name}: ${leftOut.size} table${one ? " was" : "s were"} left out by the dump's writer, which leaves out ` +
      `zero pages and no other tables: ${one ? "it maps" : "they map"} nothing`,
  );
}

export interface StructureCliOptions {
  quiet?: boolean;
  maxMappings?: number;
  partial?: boolean;
  cyclic: "refuse" | "follow";
}

export function addStructureOptions(command: Command): Command {
  return command
    .option(
      "--max-mappings <n>",
      `refuse tables that describe more mappings than this (${DEFAULT_MAX_MAPPINGS}, fewer where most are aliases)`,
      parseInteger(1, Number.MAX_SAFE_INTEGER),
    )
    .option("--partial", "go on where tables are not in the dump, and say how many are missing")
    .addOption(
      new Option("--cyclic <what>", "what to do about a table that contains itself")
        .choices(["refuse", "follow"])
        .default("refuse"),
    );
}

/** Looks at all tables before anything is printed; throws a CliError that names the file where something is wrong. */
export function inspect(context: CliContext, open: OpenSpace, options: StructureCliOptions): TableStructureSummary {
  const { dump, registers, tables } = open;
  try {
    const structure = inspectTables(tables, registers, {
      ...(options.maxMappings === undefined ? {} : { maxMappings: options.maxMappings }),
      allowMissing: options.partial ?? false,
      allowCycles: options.cyclic === "follow",
    });
    sayWarnings(context, dump);
    if (!options.quiet && /NXE assumed/.test(registers.origin.efer)) {
      context.note(
        structure.executeDisableSeen
          ? "bit 63 (XD) is in use, so NXE=1 holds"
          : "bit 63 (XD) is set in no present entry, so NXE makes no difference",
      );
    }
    if (!options.quiet) sayLeftOut(context, open);
    if (structure.missingTables > 0) {
      const one = structure.missingTables === 1;
      context.note(
        `${dump.name}: partial: ${structure.missingTables} table${one ? " is" : "s are"} not in the dump; ` +
          `${one ? "its" : "their"} mappings are left out`,
      );
    }
    return structure;
  } catch (error) {
    if (!(error instanceof TableStructureError)) throw error;
    const hint = /contains itself/.test(error.message)
      ? " (--cyclic follow allows it)"
      : /not in the dump/.test(error.message)
        ? `${whyMissing(dump, error.message)} (--partial goes on without it)`
        : /at most/.test(error.message)
          ? " (--max-mappings allows more)"
          : "";
    throw new CliError(`${dump.name}: ${error.message}${hint}`);
  }
}

/** Why the table that a message is about is not there, where the dump says it. */
export function whyMissing(dump: Dump, message: string): string {
  const table = /table at 0x([0-9a-f]+)/.exec(message)?.[1];
  if (table === undefined) return "";
  return missingReason(dump, BigInt(`0x${table}`));
}

export function missingReason(dump: Dump, gpa: bigint): string {
  const presence = dump.presence(gpa & ~0xfffn, 4096n);
  if (presence === "excluded") return "; the dump's writer left that page out";
  return presence === "cut" ? "; the file breaks off, or a part of it is missing" : "";
}
