/** `x86-paging pte`: decodes paging-structure entries. */

import { type Command, Option } from "commander";
import { type EntryFeatures, type EntryFormat, entryBits, entryLayout, levelsOf } from "../../abi/entry-format.js";
import { type DecodedEntry, decodeEntry } from "../../decode/entry.js";
import { wordField } from "../../decode/fields.js";
import { jsonText } from "../../json-text.js";
import { pageSizeName } from "../../maps/leaves.js";
import type { CliContext } from "../context.js";
import { CliError } from "../errors.js";
import { fieldJson, fieldLine, problemLine } from "../field-text.js";
import { hex, hex16, parseHex, parseHexList, parseInteger } from "../values.js";

const MODES: Readonly<Record<string, EntryFormat>> = {
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
  pse36: boolean;
  nx: boolean;
  "1g": boolean;
  keys: boolean;
  amd?: boolean;
  mbec?: boolean;
  encryptionMask?: bigint;
  all?: boolean;
  json?: boolean;
}

export function registerPte(program: Command, context: CliContext): void {
  program
    .command("pte")
    .description("decode paging-structure entries")
    .argument("<word...>", "entries in hexadecimal", parseHexList)
    .addOption(new Option("--mode <mode>", "paging mode").choices(Object.keys(MODES)).default("4level"))
    .option("--level <n>", "level of the entry: 1 for a PTE, 2 for a PDE, ...", parseInteger(1, 5), 1)
    .option(
      "--maxphyaddr <bits>",
      "MAXPHYADDR, 32 to 52: address bits from there on are reserved",
      parseInteger(32, 52),
      52,
    )
    .option("--no-pse", "32bit: CR4.PSE is clear, PS is ignored")
    .option("--no-pse36", "32bit: no PSE-36, bits 20:13 of a 4 MiB page's entry are reserved")
    .option("--no-nx", "EFER.NXE is clear, bit 63 is reserved")
    .option("--no-1g", "no 1 GiB pages, PS of a PDPTE is reserved")
    .option("--no-keys", "no protection keys (CR4.PKE and CR4.PKS clear), bits 62:59 are ignored")
    .option("--amd", "bit 8 of a PML4E or PML5E is reserved")
    .option("--mbec", "ept: mode-based execute control, bit 10 alone makes an entry present")
    .option("--encryption-mask <hex>", "bit that says that memory is encrypted, no part of the address", parseHex)
    .option("--all", "every field, those that are zero or ignored too")
    .option("--json", "one JSON object an entry")
    .addHelpText(
      "after",
      "\nA bit that the processor ignores is named IGNORED, one that must be 0 RESERVED. Without options the processor has all" +
        "\nthat the format knows.\n" +
        "\nExamples:\n  x86-paging pte 80000001f164867\n  x86-paging pte 0x1e7 --mode 32bit --level 2\n" +
        "  x86-paging pte 80000000002011e3 --level 2 --maxphyaddr 46\n  x86-paging pte 3 --mode ept --json",
    )
    .action(async (words: bigint[], options: PteOptions) => {
      const format = MODES[options.mode]!;
      if (options.level > levelsOf(format)) {
        throw new CliError(
          `--level: expected 1 to ${levelsOf(format)} in mode ${options.mode}, found ${options.level}`,
        );
      }
      for (const word of words) {
        if (word >> BigInt(entryBits(format)) !== 0n) {
          throw new CliError(`${hex(word)}: expected an entry of ${entryBits(format)} bits in mode ${options.mode}`);
        }
      }
      for (const [index, word] of words.entries()) {
        if (index > 0 && !options.json) context.out.line("");
        print(context, word, format, options);
      }
    });
}

function featuresOf(options: PteOptions): EntryFeatures {
  return {
    maxPhysAddr: options.maxphyaddr,
    pse: options.pse,
    pse36: options.pse36,
    nxe: options.nx,
    page1g: options["1g"],
    keys: options.keys,
    amdReservedBit8: options.amd ?? false,
    modeBasedExecute: options.mbec ?? false,
    encryption: options.encryptionMask ?? 0n,
  };
}

function print(context: CliContext, word: bigint, format: EntryFormat, options: PteOptions): void {
  const { out, style } = context;
  const features = featuresOf(options);
  const entry = decodeEntry(format, options.level, word, features);
  const fields = options.all
    ? entryLayout(format, options.level, entry.kind, features).fields.map((field) => wordField(field, word))
    : entry.fields;
  if (options.json) {
    out.line(
      jsonText({
        entry: hex(word),
        mode: options.mode,
        level: options.level,
        name: entry.name,
        kind: entry.kind,
        address: entry.address === undefined ? null : hex(entry.address),
        pageSize: entry.pageSize === undefined ? null : Number(entry.pageSize),
        fields: fields.map(fieldJson),
        problems: entry.problems,
      }),
    );
    return;
  }
  const digits = entryBits(format) === 32 ? word.toString(16).padStart(8, "0") : hex16(word);
  out.line(`${style("bold", digits)}  ${entry.name}, ${options.mode}: ${target(entry, word)}`);
  for (const field of fields) out.line(fieldLine(field, style));
  for (const problem of entry.problems) out.line(problemLine(problem, style));
}

function target(entry: DecodedEntry, word: bigint): string {
  if (entry.kind === "not present")
    return word === 0n ? "not present" : "not present (the other bits are the system's own)";
  const refused = entry.problems.length > 0 ? ", refused" : "";
  if (entry.kind === "table") return `table at ${hex(entry.address!)}${refused}`;
  return `${pageSizeName(entry.pageSize!)} page at ${hex(entry.address!)}${refused}`;
}
