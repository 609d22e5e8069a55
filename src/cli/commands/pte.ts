/** `x86-paging pte`: decodes paging-structure entries. */
import { type Command, Option } from "commander";
import { decodeEntry, type EntryMode, levelsOf } from "../../maps/entry.js";
import { pageSizeName } from "../../maps/leaves.js";
import type { CliContext } from "../context.js";
import { CliError } from "../errors.js";
import { hex, hex16, parseHexList, parseInteger } from "../values.js";

const MODES: Readonly<Record<string, EntryMode>> = {
  "32bit": "32bit",
  pae: "pae",
  "4level": "4level",
  "5level": "5level",
  ept: "ept5",
};

interface PteOptions {
  mode: string;
  level: number;
  maxphyaddr: number;
  pse: boolean;
  json?: boolean;
}

export function registerPte(program: Command, context: CliContext): void {
  program
    .command("pte")
    .description("decode paging-structure entries")
    .argument("<word...>", "entries in hexadecimal", parseHexList)
    .addOption(new Option("--mode <mode>", "paging mode").choices(Object.keys(MODES)).default("4level"))
    .option("--level <n>", "level of the entry: 1 for a PTE, 2 for a PDE, ...", parseInteger(1, 5), 1)
    .option("--maxphyaddr <bits>", "MAXPHYADDR, 32 to 52", parseInteger(32, 52), 52)
    .option("--no-pse", "32bit: CR4.PSE is clear")
    .option("--json", "one JSON object an entry")
    .addHelpText(
      "after",
      "\nExamples:\n  x86-paging pte 80000001f164867\n  x86-paging pte 0x1e7 --mode 32bit --level 2\n  x86-paging pte 3 --mode ept --json",
    )
    .action(async (words: bigint[], options: PteOptions) => {
      const mode = MODES[options.mode]!;
      if (options.level > levelsOf(mode)) {
        throw new CliError(`--level: expected 1 to ${levelsOf(mode)} in mode ${options.mode}, found ${options.level}`);
      }
      for (const word of words) {
        if (mode === "32bit" && word >= 1n << 32n) {
          throw new CliError(`${hex(word)}: expected an entry of 32 bits in mode 32bit`);
        }
      }
      for (const [index, word] of words.entries()) {
        if (index > 0 && !options.json) context.out.line("");
        print(context, word, mode, options);
      }
    });
}

function print(context: CliContext, word: bigint, mode: EntryMode, options: PteOptions): void {
  const { out, style } = context;
  const entry = decodeEntry(mode, options.level, word, options.pse);
  const beyond = (entry.address ?? 0n) >> BigInt(options.maxphyaddr);
  if (options.json) {
    out.line(
      JSON.stringify({
        entry: hex(word),
        mode: options.mode,
        level: options.level,
        name: entry.name,
        kind: entry.kind,
        address: entry.address === undefined ? null : hex(entry.address),
        pageSize: entry.pageSize === undefined ? null : Number(entry.pageSize),
        addressBeyondMaxPhysAddr: beyond !== 0n,
        fields: entry.fields.map((field) => ({ ...field, value: hex(field.value) })),
      }),
    );
    return;
  }
  const target =
    entry.kind === "not present"
      ? word === 0n
        ? "not present"
        : "not present (the other bits are the system's own)"
      : entry.kind === "table"
        ? `table at ${hex(entry.address!)}`
        : `${pageSizeName(entry.pageSize!)} page at ${hex(entry.address!)}`;
  out.line(`${style("bold", hex16(word))}  ${entry.name}, ${options.mode}: ${target}`);
  for (const field of entry.fields) {
    const value = field.value === 1n ? "" : ` = ${hex(field.value)}`;
    out.line(`  ${style("cyan", field.name.padEnd(12))} ${field.meaning}${value}`);
  }
  if (beyond !== 0n) out.line(`  ${style("red", "reserved".padEnd(12))} address bits at or above MAXPHYADDR are set`);
}
