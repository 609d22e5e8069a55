/** `x86-paging walk`: translates addresses, entry by entry. */
import { type Command, Option } from "commander";
import { Access } from "../../abi/access.js";
import { bitOf } from "../../abi/bits.js";
import { PTE } from "../../abi/entries.js";
import { CR4 } from "../../abi/registers.js";
import { Status } from "../../abi/status.js";
import type { AddressSpace, PagingMode, Walk } from "../../api.js";
import type { Dump } from "../../dump/node.js";
import { explain } from "../../explain/index.js";
import { readAddresses } from "../address-list.js";
import type { CliContext } from "../context.js";
import {
  addDumpOptions,
  type DumpOptions,
  FILE_HELP,
  missingReason,
  openSpace,
  sayLeftOut,
  sayWarnings,
} from "../dump-options.js";
import { CliError, ExitCode } from "../errors.js";
import { addNotPresentOptions, type NotPresentCliOptions, notPresentOptions } from "../not-present-listing.js";
import { hex, hex16, parseHex } from "../values.js";
import { faultReason, isDenied, walkJson, walkLines } from "../walk-text.js";

interface WalkOptions extends DumpOptions, NotPresentCliOptions {
  from?: string;
  format: "text" | "gva2gpa";
  access?: keyof typeof KINDS;
  user?: boolean;
  strict?: boolean;
  partial?: boolean;
  explain?: boolean;
  json?: boolean;
}

export function registerWalk(program: Command, context: CliContext): void {
  const command = program
    .command("walk")
    .description("walk the page tables for each address, entry by entry")
    .argument("<file>", FILE_HELP)
    .argument("[gva...]", "virtual addresses in hexadecimal; - reads them from standard input")
    .option("--from <file>", "read more addresses from the first column of a file (- for standard input)")
    .addOption(
      new Option("--format <format>", "for people, or as QEMU's monitor command gva2gpa prints it")
        .choices(["text", "gva2gpa"])
        .default("text"),
    )
    .addOption(
      new Option("--access <kind>", "check the rights of this access instead of none").choices([
        "read",
        "write",
        "fetch",
        "shadow-stack-read",
        "shadow-stack-write",
      ]),
    )
    .option("--user", "with --access: an access from user mode (CPL 3)")
    .option("--strict", "apply the processor's reserved-bit and NXE rules, which dumps are not read with otherwise")
    .option("--partial", "take an address whose table is not in the dump as not mapped")
    .option(
      "--explain",
      "every check with the entry and register bits that decide it, and why each bit of an error code",
    )
    .option("--json", "one JSON object a line");
  addNotPresentOptions(command, "what an entry that is not present says to this system");
  addDumpOptions(command)
    .addHelpText(
      "after",
      "\nExamples:\n  x86-paging walk vm.elf ffffffff81000000\n  x86-paging walk vm.elf.gz 7ffc68f1f5f8 --access write --user\n" +
        "  x86-paging walk vm.elf ffffffff81000000 --access write --strict --explain\n" +
        "  x86-paging walk vm.elf --from addresses.txt --format gva2gpa\n  x86-paging walk vmcore.1 ffffffff81000000 --part vmcore.2\n  x86-paging walk memory.lime 401000 --cr3 0x1087a000 --json",
    )
    .action((file: string, gvas: string[], options: WalkOptions) => walk(context, file, gvas, options));
}

async function walk(context: CliContext, file: string, gvas: string[], options: WalkOptions): Promise<void> {
  if (options.json && options.format === "gva2gpa") throw new CliError("--json: expected --format text, found gva2gpa");
  if (options.explain && options.format === "gva2gpa")
    throw new CliError("--explain: expected --format text, found gva2gpa");
  if (options.notPresent && options.format === "gva2gpa")
    throw new CliError("--not-present: expected --format text, found gva2gpa");
  const access = accessOf(options);
  const addresses = addressesOf(context, gvas, options.from);
  const open = await openSpace(context, file, options, options.strict !== true);
  const { dump, mode, space, registers } = open;
  try {
    const notPresent = notPresentOptions(dump, mode, options);
    const pse = (registers.cr4 & bitOf(CR4, "PSE")) !== 0n;
    const how = { mode, pse, explain: options.explain === true, ...(notPresent === undefined ? {} : { notPresent }) };
    const lines = (result: Walk, address: bigint): readonly string[] => {
      if (options.format === "gva2gpa") return [gva2gpaLine(address, result)];
      const explained = how.explain || isDenied(result) ? explain(space, address, access) : undefined;
      return options.json ? [walkJson(result, how, explained)] : walkLines(result, how, context.style, explained);
    };
    let walked = 0;
    let mapped = 0;
    sayWarnings(context, dump);
    for await (const address of addresses) {
      const result =
        options.format === "gva2gpa" ? debugWalk(space, address, mode, access) : space.walk(address, access);
      refuseOutside(result, dump, options.partial === true);
      walked++;
      if (result.result.ok) mapped++;
      for (const line of lines(result, address)) {
        const wait = context.out.line(line);
        if (wait !== undefined) await wait;
      }
    }
    if (walked === 0) throw new CliError("expected addresses to walk, found none");
    if (!options.quiet) sayLeftOut(context, open);
    if (mapped === 0) context.exitCode = ExitCode.Negative;
  } finally {
    dump.close();
  }
}

/**
 * The addresses of the arguments and the lists, in this order. What can be checked is, before the dump is opened;
 * lists are read as they are walked, because they may be long.
 */
function addressesOf(context: CliContext, gvas: string[], from: string | undefined): AsyncIterable<bigint> {
  const sources: (bigint | AsyncIterable<bigint>)[] = gvas.map((gva) => {
    if (gva === "-") return readAddresses(context.io, "-");
    try {
      return parseHex(gva);
    } catch {
      throw new CliError(`${gva}: expected a hexadecimal address of at most 64 bits`);
    }
  });
  if (from !== undefined) sources.push(readAddresses(context.io, from));
  if (sources.length === 0) throw new CliError("expected addresses to walk, found none");
  return (async function* () {
    for (const source of sources) {
      if (typeof source === "bigint") yield source;
      else yield* source;
    }
  })();
}

const KINDS = {
  read: Access.Read,
  write: Access.Write,
  fetch: Access.Fetch,
  "shadow-stack-read": Access.ShadowStack,
  "shadow-stack-write": Access.ShadowStack | Access.Write,
} as const;

/** Without --access nothing but presence matters: a supervisor read that SMAP does not restrict. */
function accessOf(options: WalkOptions): number {
  if (options.access === undefined) {
    if (options.user) throw new CliError("--user: expected --access with it");
    return Access.Probe | Access.Ac;
  }
  return Access.Probe | KINDS[options.access] | (options.user ? Access.User : 0);
}

/**
 * QEMU's debug walk (x86_cpu_get_phys_page_attrs_debug) does not look at address bits above 31 with 32-bit and PAE paging.
 * With paging off it takes bits 51:0, all of which a walk of a 32-bit linear address does not have.
 */
function debugWalk(space: AddressSpace, address: bigint, mode: PagingMode, access: number): Walk {
  if (mode === "32bit" || mode === "pae") return space.walk(BigInt.asUintN(32, address), access);
  const walk = space.walk(mode === "none" ? 0n : address, access);
  if (mode !== "none" || !walk.result.ok) return walk;
  const pa = BigInt.asUintN(52, address);
  return { ...walk, result: { ...walk.result, pa, gpa: pa } };
}

/** `%#lx` prints 0 without 0x. */
function gva2gpaLine(address: bigint, { result }: Walk): string {
  const answer = result.ok ? `gpa: ${result.pa === 0n ? "0" : hex(result.pa)}` : "Unmapped";
  return `${hex16(address)} ${answer}`;
}

/** An address whose table is missing is neither mapped nor unmapped: nothing is known about it. */
function refuseOutside(walk: Walk, dump: Dump, partial: boolean): void {
  if (walk.result.ok || walk.result.status !== Status.OutsideMemory || partial) return;
  const last = walk.steps[walk.steps.length - 1];
  const from = last === undefined ? "" : `, which the entry at ${hex(last.address)} points to`;
  const why = last === undefined ? "" : missingReason(dump, last.entry & bitOf(PTE, "ADDRESS"));
  throw new CliError(
    `${dump.name}: ${hex16(walk.address)}: ${faultReason(walk)}${from}${why} (--partial goes on without it)`,
  );
}
