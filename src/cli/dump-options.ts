/** Options of the commands that open a dump, and what they lead to. */
import { type Command, Option } from "commander";
import type { AddressSpace, PageSource, PagingMode } from "../api.js";
import { type Dump, type DumpRegisters, InflationLimitError, openDumpFile, registersFromDump } from "../dump/node.js";
import { ConfigError, GeneralProtectionError, TableStructureError } from "../errors.js";
import { modeTitle, pagingModeOf } from "../maps/mode.js";
import { DEFAULT_MAX_MAPPINGS, inspectTables, type TableStructureSummary } from "../maps/structure.js";
import type { CliContext } from "./context.js";
import { ENGINE_NAMES, type EngineName } from "./engine.js";
import { CliError } from "./errors.js";
import { startProgress } from "./progress.js";
import { hex, parseHex, parseInteger, parseSize } from "./values.js";

export interface DumpOptions {
  raw?: boolean;
  offset?: bigint;
  cpu?: number;
  cr0?: bigint;
  cr3?: bigint;
  cr4?: bigint;
  efer?: bigint;
  maxphyaddr?: number;
  maxInflated?: number;
  engine: EngineName;
  quiet?: boolean;
  /** Tables that are not in the dump count as empty. */
  partial?: boolean;
}

export function addDumpOptions(command: Command): Command {
  return command
    .option("--raw", "read FILE as raw memory; its first byte is at --offset")
    .addOption(
      new Option("--offset <gpa>", "guest-physical address of a raw file's first byte (0)").argParser(parseHex),
    )
    .option("--cpu <n>", "take the registers of this processor", parseInteger(0, 2 ** 32 - 1))
    .option("--cr0 <hex>", "CR0 instead of the dump's", parseHex)
    .option("--cr3 <hex>", "CR3 instead of the dump's", parseHex)
    .option("--cr4 <hex>", "CR4 instead of the dump's", parseHex)
    .option("--efer <hex>", "EFER instead of the inferred one", parseHex)
    .option("--maxphyaddr <bits>", "MAXPHYADDR, 32 to 52 (52)", parseInteger(32, 52))
    .option(
      "--max-inflated <size>",
      "most bytes that a gzip file may inflate to (4G, of them 1G not zero, or 64 and 16 times its size)",
      parseSize,
    )
    .addOption(new Option("--engine <name>", "what walks the tables").choices(ENGINE_NAMES).default("wasm"))
    .option("-q, --quiet", "do not say what was inferred");
}

/** A dump with an address space over it. */
export interface OpenSpace {
  readonly dump: Dump;
  readonly registers: DumpRegisters;
  readonly mode: PagingMode;
  readonly space: AddressSpace;
}

/** Opens the dump, finds the registers, and makes an address space of them; throws before anything is printed. */
export async function openSpace(
  context: CliContext,
  file: string,
  options: DumpOptions,
  lenient: boolean,
): Promise<OpenSpace> {
  const { raw, offset, maxInflated } = options;
  let progress: ReturnType<typeof startProgress> | undefined;
  let dump: Dump;
  try {
    dump = await openDumpFile(file, {
      ...(raw || offset !== undefined ? { rawOffset: offset ?? 0n } : {}),
      ...(maxInflated === undefined ? {} : { maxInflated }),
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
  try {
    const registers = registersFromDump(dump, { ...options, maxPhysAddr: options.maxphyaddr });
    const engine = await context.engine(options.engine);
    const memory = engine.createMemory({
      source: options.partial ? zeroWhereMissing(dump.pageSource) : dump.pageSource,
    });
    const { cr0, cr3, cr4, efer, maxPhysAddr } = registers;
    const space = engine.createAddressSpace(memory, { cr0, cr3, cr4, efer, maxPhysAddr, lenient });
    const mode = pagingModeOf(registers);
    if (!options.quiet) sayWhatIsInferred(context, registers, mode, lenient);
    return { dump, registers, mode, space };
  } catch (error) {
    dump.close();
    // The engine does not know the file's name.
    if (error instanceof GeneralProtectionError) {
      const hint = lenient ? "" : " (without --strict no bit is reserved)";
      throw new CliError(`${dump.name}: ${error.message}${hint}`);
    }
    if (error instanceof ConfigError) throw new CliError(`${dump.name}: ${error.message}`);
    throw error;
  }
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
  if (!lenient && registers.origin.maxPhysAddr !== "given") {
    said.push(`MAXPHYADDR=${registers.maxPhysAddr} ${registers.origin.maxPhysAddr}`);
  }
  if (said.length > 0) context.note(`${modeTitle(mode)}; ${said.join("; ")}`);
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
  const { dump, registers } = open;
  try {
    const structure = inspectTables(dump.pageSource, registers, {
      ...(options.maxMappings === undefined ? {} : { maxMappings: options.maxMappings }),
      allowMissing: options.partial ?? false,
      allowCycles: options.cyclic === "follow",
    });
    if (!options.quiet && /NXE assumed/.test(registers.origin.efer)) {
      context.note(
        structure.executeDisableSeen
          ? "bit 63 (XD) is in use, so NXE=1 holds"
          : "bit 63 (XD) is set in no present entry, so NXE makes no difference",
      );
    }
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
        ? " (--partial goes on without it)"
        : /at most/.test(error.message)
          ? " (--max-mappings allows more)"
          : "";
    throw new CliError(`${dump.name}: ${error.message}${hint}`);
  }
}
