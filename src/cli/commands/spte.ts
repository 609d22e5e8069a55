/** `x86-paging spte`: decodes shadow page-table entries. */

import { type Command, Option } from "commander";
import { ConfigError } from "../../errors.js";
import { jsonText } from "../../json-text.js";
import {
  brokenInvariants,
  type DecodedSpte,
  decodeSpte,
  eptMasks,
  legacyMasks,
  type SpteFormat,
  type SpteLayout,
  type SpteMasks,
  spteEras,
  spteKindText,
  spteLayoutOfKernel,
  spteRightsText,
  withMmioMark,
} from "../../spte/index.js";
import type { CliContext } from "../context.js";
import { hex, parseHex, parseHexList, parseInteger } from "../values.js";

interface SpteOptions {
  kernel: string;
  format: SpteFormat;
  level?: number;
  pdpte?: boolean;
  maxphyaddr: number;
  l1tf?: number;
  ad: boolean;
  execOnly: boolean;
  tdx?: boolean;
  encryption?: bigint;
  mmioMask?: bigint;
  mmioValue?: bigint;
  nonpresentMask?: bigint;
  json?: boolean;
}

/** An L1 data cache with so many address bits gets no L1TF guard, whatever the kernel. */
const NO_GUARD = 52;
const LAYOUT_LIST = spteEras()
  .map(({ layout }) => `  ${layout.era.padEnd(8)} ${layout.kernels}`)
  .join("\n");

/** The `spte` command. Bad words and options are errors of type CommanderError or ConfigError: one line, exit code 2. */
export function registerSpte(program: Command, context: CliContext): void {
  program
    .command("spte")
    .description("decode shadow page-table entries of KVM")
    .argument("<word...>", "entries in hexadecimal", parseHexList)
    .addOption(
      new Option("--format <format>", "what the tables are: shadow paging, NPT or EPT")
        .choices(["shadow", "npt", "ept"])
        .makeOptionMandatory(),
    )
    .option("--kernel <name>", "kernel that made the entries: mainline or a release from 4.19", "6.1")
    .option("--level <n>", "level of the table that holds the entry, 1 to 5", parseInteger(1, 5))
    .option("--pdpte", "the entry is one of a PAE root's four")
    .option("--maxphyaddr <bits>", "the host's MAXPHYADDR, 32 to 52", parseInteger(32, 52), 46)
    .option("--l1tf <bits>", "the host has the L1TF bug; address bits of its L1 data cache", parseInteger(36, 46))
    .option("--no-ad", "ept: the tables have no accessed and dirty bits")
    .option("--no-exec-only", "ept: the processor does not support execute-only entries")
    .option("--tdx", "ept: the VM is a TDX guest (Linux 6.16 and later)")
    .option("--encryption <mask>", "memory-encryption bits", parseHex)
    .option("--mmio-mask <mask>", "shadow_mmio_mask, if not the format's own", parseHex)
    .option("--mmio-value <value>", "shadow_mmio_value; 0: MMIO is not cached", parseHex)
    .option("--nonpresent-mask <mask>", "shadow_nonpresent_or_rsvd_mask, instead of --l1tf", parseHex)
    .option("--json", "one JSON object an entry")
    .addHelpText(
      "after",
      `\nLayouts:\n${LAYOUT_LIST}\n` +
        "\nExamples:\n  x86-paging spte 0x8ab3827 --format shadow\n  x86-paging spte 0600000000200bf7 --format ept\n" +
        "  x86-paging spte 0xf880000036 --format ept --l1tf 40 --maxphyaddr 40\n" +
        "  x86-paging spte 0x80000000000005a0 --format ept --kernel 6.12\n" +
        "  x86-paging spte 0x29cbc67 --format shadow --kernel 5.4\n" +
        "  x86-paging spte 0x80a0000000200bf7 --format ept --kernel 7.2 --json",
    )
    .action((words: bigint[], options: SpteOptions) => {
      const layout = spteLayoutOfKernel(options.kernel);
      const masks = masksOf(options, layout);
      const decodeOptions = {
        kernel: options.kernel,
        format: options.format,
        masks,
        ...(options.level !== undefined && { level: options.level }),
        ...(options.pdpte && { pdpte: true }),
      };
      for (const [index, word] of words.entries()) {
        if (index > 0 && !options.json) context.out.line("");
        print(context, decodeSpte(word, decodeOptions), { masks, layout }, options);
      }
    });
}

function masksOf(options: SpteOptions, layout: SpteLayout): SpteMasks {
  const { maxphyaddr: physBits, encryption, mmioMask, mmioValue, nonpresentMask } = options;
  const l1tf = nonpresentMask === undefined ? options.l1tf : NO_GUARD;
  const common = {
    layout,
    physBits,
    ...(l1tf !== undefined && { l1tfCacheBits: l1tf }),
    ...(encryption !== undefined && { encryption: { mask: encryption, value: encryption } }),
  };
  if (options.tdx && options.format !== "ept") throw new ConfigError("--tdx: expected --format ept");
  const masks =
    options.format === "ept"
      ? eptMasks({ ...common, accessedDirty: options.ad, executeOnly: options.execOnly, tdx: options.tdx === true })
      : legacyMasks(common);
  const guard =
    nonpresentMask === undefined
      ? {}
      : { nonpresentOrRsvd: nonpresentMask, lowerGfn: masks.lowerGfn & (lowestBit(nonpresentMask) - 1n) };
  const guarded = { ...masks, ...guard };
  if (mmioMask === undefined && mmioValue === undefined) return guarded;
  // Where software bits alone tell MMIO entries, the kernel has a value and no mask.
  const mask = mmioMask ?? (layout.mmioMark.alone ? mmioValue! : masks.mmio);
  return withMmioMark(guarded, mask, mmioValue ?? mask, layout);
}

/** The lowest set bit; 2^64 for 0, so that nothing lies above it. */
function lowestBit(mask: bigint): bigint {
  return mask === 0n ? 1n << 64n : mask & -mask;
}

function print(
  context: CliContext,
  decoded: DecodedSpte,
  { masks, layout }: { masks: SpteMasks; layout: SpteLayout },
  options: SpteOptions,
): void {
  const { word, kind, address, rights, mmio, fields, unknown } = decoded;
  // Without the level, small leaves are checked as 4 KiB ones; no invariant of theirs depends on the size.
  const level = options.level ?? (kind === "non-leaf" ? 2 : 1);
  const broken = brokenInvariants(word, { masks, level, layout });
  if (options.json) {
    context.out.line(
      jsonText({
        word: hex(word),
        layout: layout.era,
        format: options.format,
        kind,
        address: address === undefined ? null : hex(address),
        rights: rights ?? null,
        mmio: mmio ? { gfn: hex(mmio.gfn), access: mmio.access, generation: mmio.generation } : null,
        fields: fields.map((field) => ({ ...field, value: hex(field.value) })),
        unknown: hex(unknown),
        brokenInvariants: broken,
      }),
    );
    return;
  }
  context.out.line(`${word.toString(16).padStart(16, "0")}  ${options.format}: ${spteKindText(decoded, layout)}`);
  if (mmio) {
    context.out.line(
      `  gfn ${hex(mmio.gfn)} (gpa ${hex(mmio.gfn << 12n)}), access ${mmio.access}, generation ${mmio.generation}`,
    );
  }
  if (rights) context.out.line(`  address ${hex(address!)}, rights ${spteRightsText(rights, options.format)}`);
  for (const field of fields) {
    if (mmio) continue;
    const value = field.value === 1n ? "" : ` = ${hex(field.value)}`;
    context.out.line(`  ${field.name.padEnd(14)} ${field.meaning}${value}`);
  }
  if (unknown !== 0n) context.out.line(`  ${"unknown".padEnd(14)} ${hex(unknown)}: bits that mean nothing here`);
  for (const text of broken) context.out.line(`  ${"broken".padEnd(14)} ${text}`);
}
