/** `x86-paging spte`: decodes shadow page-table entries. */
import { type Command, Option } from "commander";
import { hasRule, KERNELS, type Kernel } from "../../abi/kernel-rules.js";
import {
  brokenInvariants,
  type DecodedSpte,
  decodeSpte,
  eptMasks,
  legacyMasks,
  type SpteFormat,
  type SpteMasks,
  withMmioMark,
} from "../../spte/index.js";
import type { CliContext } from "../context.js";
import { hex, parseHex, parseHexList, parseInteger } from "../values.js";

interface SpteOptions {
  kernel: Kernel;
  format: SpteFormat;
  level?: number;
  pdpte?: boolean;
  maxphyaddr: number;
  l1tf?: number;
  ad: boolean;
  execOnly: boolean;
  encryption?: bigint;
  mmioMask?: bigint;
  mmioValue?: bigint;
  nonpresentMask?: bigint;
  json?: boolean;
}

/** The `spte` command. Bad words and options are errors of type CommanderError or ConfigError: one line, exit code 2. */
export function registerSpte(program: Command, context: CliContext): void {
  program
    .command("spte")
    .description("decode shadow page-table entries of KVM (Linux 6.1 or 6.12)")
    .argument("<word...>", "entries in hexadecimal", parseHexList)
    .addOption(
      new Option("--format <format>", "what the tables are: shadow paging, NPT or EPT")
        .choices(["shadow", "npt", "ept"])
        .makeOptionMandatory(),
    )
    .addOption(new Option("--kernel <name>", "kernel that made the entries").choices([...KERNELS]).default("6.1"))
    .option("--level <n>", "level of the table that holds the entry, 1 to 5", parseInteger(1, 5))
    .option("--pdpte", "the entry is one of a PAE root's four")
    .option("--maxphyaddr <bits>", "the host's MAXPHYADDR, 32 to 52", parseInteger(32, 52), 46)
    .option("--l1tf <bits>", "the host has the L1TF bug; address bits of its L1 data cache", parseInteger(36, 46))
    .option("--no-ad", "ept: the tables have no accessed and dirty bits")
    .option("--no-exec-only", "ept: the processor does not support execute-only entries")
    .option("--encryption <mask>", "memory-encryption bits", parseHex)
    .option("--mmio-mask <mask>", "shadow_mmio_mask, if not the format's own", parseHex)
    .option("--mmio-value <value>", "shadow_mmio_value; 0: MMIO is not cached", parseHex)
    .option("--nonpresent-mask <mask>", "shadow_nonpresent_or_rsvd_mask, instead of --l1tf", parseHex)
    .option("--json", "one JSON object an entry")
    .addHelpText(
      "after",
      "\nExamples:\n  x86-paging spte 0x8ab3827 --format shadow\n  x86-paging spte 0600000000200bf7 --format ept\n" +
        "  x86-paging spte 0xf880000036 --format ept --l1tf 40 --maxphyaddr 40\n" +
        "  x86-paging spte 0x80000000000005a0 --format ept --kernel 6.12",
    )
    .action((words: bigint[], options: SpteOptions) => {
      const masks = masksOf(options);
      const decodeOptions = {
        kernel: options.kernel,
        format: options.format,
        masks,
        ...(options.level !== undefined && { level: options.level }),
        ...(options.pdpte && { pdpte: true }),
      };
      for (const [index, word] of words.entries()) {
        if (index > 0 && !options.json) context.out.line("");
        print(context, decodeSpte(word, decodeOptions), masks, options);
      }
    });
}

function masksOf(options: SpteOptions): SpteMasks {
  const { maxphyaddr: physBits, l1tf, encryption, mmioMask, mmioValue, nonpresentMask } = options;
  const common = {
    physBits,
    ...(l1tf !== undefined && { l1tfCacheBits: l1tf }),
    ...(encryption !== undefined && { encryption: { mask: encryption, value: encryption } }),
  };
  const suppressVe = hasRule(options.kernel, "empty-bit-63");
  const masks =
    options.format === "ept"
      ? eptMasks({ ...common, accessedDirty: options.ad, executeOnly: options.execOnly, suppressVe })
      : legacyMasks(common);
  const guard =
    nonpresentMask === undefined
      ? {}
      : { nonpresentOrRsvd: nonpresentMask, lowerGfn: masks.lowerGfn & (lowestBit(nonpresentMask) - 1n) };
  const guarded = { ...masks, ...guard };
  if (mmioMask === undefined && mmioValue === undefined) return guarded;
  return withMmioMark(guarded, mmioMask ?? masks.mmio, mmioValue ?? mmioMask ?? masks.mmioValue);
}

/** The lowest set bit; 2^64 for 0, so that nothing lies above it. */
function lowestBit(mask: bigint): bigint {
  return mask === 0n ? 1n << 64n : mask & -mask;
}

const KINDS: Readonly<Record<DecodedSpte["kind"], string>> = {
  none: "empty: not present",
  mmio: "MMIO",
  removed: "removed, or frozen: a change of a TDP entry is under way",
  "access-tracked": "leaf, rights taken away until the next access",
  leaf: "leaf",
  "non-leaf": "leads to a table",
  pdpte: "PAE page-directory-pointer-table entry",
  "special-root": "entry of a special root table (pae_root, pml4_root, pml5_root)",
  "not-present": "not present, and nothing that KVM stores",
};

function print(context: CliContext, decoded: DecodedSpte, masks: SpteMasks, options: SpteOptions): void {
  const { word, kind, address, rights, mmio, fields, unknown } = decoded;
  // Without the level, small leaves are checked as 4 KiB ones; no invariant of theirs depends on the size.
  const level = options.level ?? (kind === "non-leaf" ? 2 : 1);
  const broken = brokenInvariants(word, { masks, level });
  if (options.json) {
    context.out.line(
      JSON.stringify({
        word: hex(word),
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
  context.out.line(`${word.toString(16).padStart(16, "0")}  ${options.format}: ${KINDS[kind]}`);
  if (mmio) {
    context.out.line(
      `  gfn ${hex(mmio.gfn)} (gpa ${hex(mmio.gfn << 12n)}), access ${mmio.access}, generation ${mmio.generation}`,
    );
  }
  if (rights) context.out.line(`  address ${hex(address!)}, rights ${rightsText(decoded, options.format)}`);
  for (const field of fields) {
    if (mmio) continue;
    const value = field.value === 1n ? "" : ` = ${hex(field.value)}`;
    context.out.line(`  ${field.name.padEnd(14)} ${field.meaning}${value}`);
  }
  if (unknown !== 0n) context.out.line(`  ${"unknown".padEnd(14)} ${hex(unknown)}: bits that mean nothing here`);
  for (const text of broken) context.out.line(`  ${"broken".padEnd(14)} ${text}`);
}

function rightsText({ rights }: DecodedSpte, format: SpteFormat): string {
  const { read, write, execute, user } = rights!;
  const letters = `${read ? "r" : "-"}${write ? "w" : "-"}${execute ? "x" : "-"}`;
  return format === "ept" ? letters : `${letters} ${user ? "user" : "supervisor"}`;
}
