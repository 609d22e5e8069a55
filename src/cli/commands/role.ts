/** `x86-paging role`: decodes, encodes and converts role words. */

import { type Command, InvalidArgumentError } from "commander";
import { fieldOf } from "../../abi/bits.js";
import { ConfigError } from "../../errors.js";
import { jsonText } from "../../json-text.js";
import {
  accessText,
  convertRole,
  type DecodedWord,
  decodeRole,
  encodeWord,
  hexRole,
  layoutOfKernel,
  type RoleLayout,
  type RoleWords,
  roleLayouts,
  roleTraceText,
  splitRole,
} from "../../role/index.js";
import type { CliContext } from "../context.js";
import { hex, parseHex, parseHexList } from "../values.js";

interface RoleOptions {
  kernel?: string;
  all?: boolean;
  json?: boolean;
  from?: string;
  to?: string;
}

const DEFAULT_KERNEL = "6.1";
const KERNEL_HELP = `kernel whose layout the word has: project, mainline or a release from 5.0 (default: ${DEFAULT_KERNEL})`;
const LAYOUT_LIST = roleLayouts()
  .map((layout) => `  ${layout.era.padEnd(8)} ${layout.kernels}`)
  .join("\n");

/** The `role` command. Bad words and fields are errors of type CommanderError or ConfigError: one line, exit code 2. */
export function registerRole(program: Command, context: CliContext): void {
  const command = program
    .command("role")
    .description("decode, encode and convert role words of KVM's shadow pages and vCPUs")
    .argument(
      "[word...]",
      "page roles (32 bits) or CPU roles (64 bits: extended role above the page role), in hexadecimal",
      parseHexList,
    )
    .option("--kernel <name>", KERNEL_HELP)
    .option("--all", "print fields that are zero, too")
    .option("--json", "one JSON object a word")
    .addHelpText(
      "after",
      `\nLayouts:\n${LAYOUT_LIST}\n` +
        "\nExamples:\n  x86-paging role 0x8100003704\n  x86-paging role 3713 --kernel 5.15 --json\n" +
        "  x86-paging role encode level=4 access=wux efer_nx=1 cr0_wp=1\n" +
        "  x86-paging role convert 0x3704 --from 6.1 --to project",
    )
    .action((words: bigint[], _options: unknown, self: Command) => {
      if (words.length === 0)
        throw new ConfigError("role: expected a word, or encode or convert (--help shows the usage)");
      const options = self.opts<RoleOptions>();
      const layout = layoutOfKernel(options.kernel ?? DEFAULT_KERNEL);
      for (const [index, word] of words.entries()) {
        if (index > 0 && !options.json) context.out.line("");
        printRole(context, layout, splitRole(word), options);
      }
    });
  command
    .command("encode")
    .description("the word of fields with given values; the others are 0")
    .argument("<field=value...>", "values in decimal or 0x hexadecimal; access also as letters", parseFields)
    .option("--kernel <name>", KERNEL_HELP)
    .option("--json", "print a JSON object")
    .action((fields: ReadonlyMap<string, string>, _options: unknown, self: Command) => {
      const options = self.optsWithGlobals<RoleOptions>();
      const layout = layoutOfKernel(options.kernel ?? DEFAULT_KERNEL);
      const role = encodeFields(layout, fields);
      if (options.json) printRole(context, layout, role, options);
      else context.out.line(hexRole(role));
    });
  command
    .command("convert")
    .description("the same role in another kernel's layout, with a report of what that cannot hold")
    .argument("<word>", "page role or CPU role in hexadecimal", parseHex)
    .option("--from <kernel>", `kernel of the word (default: ${DEFAULT_KERNEL})`)
    .requiredOption("--to <kernel>", "kernel of the result")
    .option("--json", "print a JSON object")
    .action((word: bigint, _options: unknown, self: Command) =>
      convert(context, splitRole(word), self.optsWithGlobals()),
    );
}

function printRole(context: CliContext, layout: RoleLayout, role: RoleWords, options: RoleOptions): void {
  const { base, ext } = decodeRole(layout, role);
  if (options.json) {
    const half = (word: number, decoded: DecodedWord) => ({
      word: hex(word),
      fields: decoded.fields,
      unknown: hex(decoded.unknown),
    });
    const extended = ext && { ext: half(role.ext!, ext) };
    context.out.line(jsonText({ word: hexRole(role), layout: layout.era, base: half(role.base, base), ...extended }));
    return;
  }
  context.out.line(`${hexRole(role)}  ${ext ? "CPU role" : "page role"}, ${layout.kernels}`);
  const access = layout.base.fields.find((field) => field.name === "access");
  const traceable = access?.width === 3 && "has_4_byte_gpte" in base.fields && "efer_nx" in base.fields;
  if (traceable) context.out.line(`  ${roleTraceText(role.base)}`);
  printFields(context, layout, layout.base, base, options);
  if (ext) {
    context.out.line(`  extended role ${hex(role.ext!)}`);
    printFields(context, layout, layout.ext, ext, options);
  }
}

function printFields(
  context: CliContext,
  layout: RoleLayout,
  half: RoleLayout["base"],
  decoded: DecodedWord,
  { all }: RoleOptions,
): void {
  for (const [name, value] of Object.entries(decoded.fields)) {
    if (value === 0 && !all) continue;
    const shown = name === "access" ? accessText(layout, value) : String(value);
    context.out.line(`  ${name.padEnd(16)} ${shown.padStart(4)}  ${fieldOf(half, name).meaning}`);
  }
  if (decoded.unknown !== 0)
    context.out.line(`  ${"unknown".padEnd(16)} ${hex(decoded.unknown)}  bits that this layout has no field for`);
}

function parseFields(text: string, previous: ReadonlyMap<string, string> | undefined): Map<string, string> {
  const match = /^([a-z0-9_]+)=(.+)$/.exec(text);
  if (match === null) throw new InvalidArgumentError("expected field=value.");
  const fields = new Map(previous);
  if (fields.has(match[1]!)) throw new InvalidArgumentError(`${match[1]} is given twice.`);
  return fields.set(match[1]!, match[2]!);
}

function encodeFields(layout: RoleLayout, given: ReadonlyMap<string, string>): RoleWords {
  const base: Record<string, number> = {};
  const ext: Record<string, number> = {};
  for (const [name, text] of given) {
    const inExt = layout.ext.fields.some((field) => field.name === name);
    (inExt ? ext : base)[name] = fieldValue(layout, name, text);
  }
  const role = { base: encodeWord(layout.base, base) };
  return Object.keys(ext).length === 0 ? role : { ...role, ext: encodeWord(layout.ext, ext) };
}

function fieldValue(layout: RoleLayout, name: string, text: string): number {
  if (/^(0x[0-9a-f]+|\d+)$/i.test(text)) return Number(text);
  if (name === "access" && /^[rwux-]+$/.test(text)) {
    const wanted = [...text]
      .filter((letter) => letter !== "-")
      .sort()
      .join("");
    for (let access = 0; access < 16; access++) {
      const letters = [...(accessText(layout, access) ?? "")]
        .filter((letter) => letter !== "-")
        .sort()
        .join("");
      if (letters === wanted) return access;
    }
  }
  throw new ConfigError(`${name}=${text}: expected a decimal or 0x hexadecimal number`);
}

function convert(context: CliContext, role: RoleWords, options: RoleOptions): void {
  const from = layoutOfKernel(options.from ?? options.kernel ?? DEFAULT_KERNEL);
  const to = layoutOfKernel(options.to!);
  const { role: converted, lost, assumed, unknown } = convertRole(role, from, to);
  const dropped = hexRole(unknown);
  if (options.json) {
    const report = { lost, assumed, unknown: dropped };
    context.out.line(
      jsonText({ from: from.era, to: to.era, word: hexRole(role), converted: hexRole(converted), ...report }),
    );
    return;
  }
  context.out.line(hexRole(converted));
  for (const { field, value } of lost) context.out.line(`  lost     ${field}=${value}`);
  for (const field of assumed) context.out.line(`  assumed  ${field}=0, ${from.kernels} does not say`);
  if (dropped !== "0x0") context.out.line(`  unknown  ${dropped}: bits that the word's layout has no field for`);
}
