/** What differs between the mappings of two dumps, or of two spaces of one. */

import { type Command, Option } from "commander";
import type { Leaf } from "../api.js";
import { kernelLayout, regionNamer } from "../dump/node.js";
import { jsonText } from "../json-text.js";
import { LEAF_ATTRIBUTES, type LeafAttribute, leafAttribute } from "../maps/attributes.js";
import {
  changesOf,
  type MappedAs,
  type MappingDifference,
  mappingDifferences,
  type SameEntry,
} from "../maps/difference.js";
import { pageSizeName, rightsLetters } from "../maps/leaves.js";
import type { CliContext } from "./context.js";
import {
  addDumpOptions,
  addStructureOptions,
  collected,
  type DumpOptions,
  inspect,
  type OpenSpace,
  openSpace,
  type StructureCliOptions,
} from "./dump-options.js";
import { CliError, ExitCode } from "./errors.js";
import { addLeafFilters, type LeafFilterOptions, leafFilter } from "./leaf-filter.js";
import { attributesOf } from "./maps-text.js";
import type { Half } from "./page-table-isolation.js";
import { startProgress } from "./progress.js";
import { hex, hex16, parseHex, parseInteger, sizeText } from "./values.js";

export interface DumpDifferenceOptions extends DumpOptions, StructureCliOptions, LeafFilterOptions {
  columns?: LeafAttribute[];
  bCr3?: bigint;
  bCpu?: number;
  bHalf?: Half;
  bPart?: string[];
  json?: boolean;
}

/** Options of dumps; those that begin with `b` are of the second one, which otherwise takes what the first does. */
export function addDumpDifferenceOptions(command: Command): Command {
  command
    .option(
      "--columns <names>",
      `of dumps: attributes that are compared too: ${LEAF_ATTRIBUTES.join(", ")}`,
      attributesOf,
    )
    .option("--b-cr3 <hex>", "CR3 of B, where it is not that of A: another space of the same dump", parseHex)
    .option("--b-cpu <n>", "take the registers of this processor for B", parseInteger(0, 2 ** 32 - 1))
    .addOption(new Option("--b-half <which>", "as --half, of B").choices(["kernel", "user"]))
    .option("--b-part <file>", "as --part, of B (may be repeated)", collected);
  return addStructureOptions(addDumpOptions(addLeafFilters(command), true));
}

export async function diffDumps(
  context: CliContext,
  a: string,
  b: string,
  options: DumpDifferenceOptions,
): Promise<void> {
  const open: OpenSpace[] = [];
  try {
    for (const [file, those] of [
      [a, options],
      [b, optionsOfB(options)],
    ] as const) {
      const one = await openSpace(context, file, those, true);
      open.push(one);
      if (one.mode === "none") throw new CliError(`${one.dump.name}: paging is off, nothing is mapped`);
    }
    await compare(context, open[0]!, open[1]!, options);
  } finally {
    for (const { dump } of open) dump.close();
  }
}

function optionsOfB(options: DumpDifferenceOptions): DumpDifferenceOptions {
  const { bCr3, bCpu, bHalf, bPart } = options;
  return {
    ...options,
    ...(bCr3 === undefined ? {} : { cr3: bCr3 }),
    ...(bCpu === undefined ? {} : { cpu: bCpu }),
    ...(bHalf === undefined ? {} : { half: bHalf }),
    ...(bPart === undefined ? {} : { part: bPart }),
  };
}

async function compare(context: CliContext, a: OpenSpace, b: OpenSpace, options: DumpDifferenceOptions): Promise<void> {
  const leaves = inspect(context, a, options).leaves + inspect(context, b, options).leaves;
  const progress = startProgress(context.io, "comparing", leaves);
  const wanted = leafFilter(options);
  const totals = new Totals();
  const writer = options.json ? jsonWriter(a, b, options) : textWriter(context, a, b, options);
  let seen = 0;
  const counted = function* (list: Iterable<Leaf>) {
    for (const leaf of list) {
      if (++seen % 4096 === 0) progress.update(seen);
      yield leaf;
    }
  };
  const write = async (lines: readonly string[]) => {
    for (const line of lines) await context.out.line(line);
  };
  try {
    await write(writer.head);
    const [left, right] = [counted(a.space.leaves()), counted(b.space.leaves())];
    for (const difference of mappingDifferences(left, right, sameEntry(a, b, options))) {
      if (!isWanted(difference, wanted)) continue;
      totals.add(difference);
      await write(writer.lines(difference));
    }
    await write(writer.end(totals));
  } finally {
    progress.stop();
  }
  if (totals.found) context.exitCode = ExitCode.Negative;
}

function sameEntry(a: OpenSpace, b: OpenSpace, { columns = [] }: DumpDifferenceOptions): SameEntry {
  return (one, other) =>
    columns.every((name) => leafAttribute(one, name, a.mode) === leafAttribute(other, name, b.mode));
}

/** Whether either side is among what the filters let through. */
function isWanted({ va, size, a, b }: MappingDifference, wanted: (leaf: Leaf) => boolean): boolean {
  return [a, b].some((side) => side !== undefined && wanted({ ...side.leaf, va, size }));
}

type Kind = "added" | "gone" | "changed";

function kindOf({ a, b }: MappingDifference): Kind {
  return a === undefined ? "added" : b === undefined ? "gone" : "changed";
}

/** Bytes and ranges of each kind. */
class Totals {
  readonly kinds: Record<Kind, { ranges: number; bytes: bigint }> = {
    added: { ranges: 0, bytes: 0n },
    gone: { ranges: 0, bytes: 0n },
    changed: { ranges: 0, bytes: 0n },
  };

  add(difference: MappingDifference): void {
    const kind = this.kinds[kindOf(difference)];
    kind.ranges++;
    kind.bytes += difference.size;
  }

  get found(): boolean {
    return Object.values(this.kinds).some(({ ranges }) => ranges > 0);
  }
}

interface DifferenceWriter {
  readonly head: readonly string[];
  lines(difference: MappingDifference): string[];
  end(totals: Totals): string[];
}

function textWriter(context: CliContext, a: OpenSpace, b: OpenSpace, options: DumpDifferenceOptions): DifferenceWriter {
  const { style } = context;
  const title = ({ dump, registers }: OpenSpace) => `${dump.name}, CR3 ${hex(registers.cr3)} (${registers.origin.cr3})`;
  const names = [a, b].map(({ dump, registers, mode }) => regionNamer(kernelLayout(dump, registers, mode)));
  const line = (sign: string, { va, size }: MappingDifference, { pa, leaf }: MappedAs, what: readonly string[]) => {
    const range = `${hex16(va)} ${hex16(BigInt.asUintN(64, va + size))} ${sizeText(size).padStart(10)}`;
    const mapping = `${pageSizeName(leaf.size).padStart(4)} ${rightsLetters(leaf.rights)} ${hex16(pa)}`;
    const columns = (options.columns ?? []).map((name) => ` ${name}=${leafAttribute(leaf, name, a.mode)}`);
    const rest = what.length > 0 ? ` ${style("dim", what.join(", "))}` : "";
    return `${sign} ${range} ${mapping}${columns.join("")}${rest}`;
  };
  const region = (va: bigint, side: number) => {
    const name = names[side]!(va);
    return name === undefined ? [] : [name];
  };
  const same = sameEntry(a, b, options);
  return {
    head: [`- ${title(a)}`, `+ ${title(b)}`],
    lines(difference) {
      const changes = changesOf(difference, same);
      const what = changes.length === 0 ? [] : [`${changes.join(", ")} changed`];
      return [
        ...(difference.a === undefined
          ? []
          : [line(style("red", "-"), difference, difference.a, region(difference.va, 0))]),
        ...(difference.b === undefined
          ? []
          : [line(style("green", "+"), difference, difference.b, [...region(difference.va, 1), ...what])]),
      ];
    },
    end({ kinds }) {
      const parts = Object.entries(kinds).map(
        ([kind, { ranges, bytes }]) => `${sizeText(bytes)} ${kind} in ${ranges} range${ranges === 1 ? "" : "s"}`,
      );
      return [parts.join(", ")];
    },
  };
}

function jsonWriter(a: OpenSpace, b: OpenSpace, options: DumpDifferenceOptions): DifferenceWriter {
  const same = sameEntry(a, b, options);
  const side = (mapped: MappedAs | undefined) => {
    if (mapped === undefined) return null;
    const { pa, leaf } = mapped;
    const { user, write, execute } = leaf.rights;
    const columns = (options.columns ?? []).map((name) => [name, leafAttribute(leaf, name, a.mode)]);
    const rights = { user, writable: write, executable: execute };
    return { pa: hex(pa), pageSize: Number(leaf.size), ...rights, ...Object.fromEntries(columns) };
  };
  return {
    head: [],
    lines: (difference) => [
      jsonText({
        kind: kindOf(difference),
        va: hex(difference.va),
        size: Number(difference.size),
        changes: changesOf(difference, same),
        a: side(difference.a),
        b: side(difference.b),
      }),
    ],
    end: ({ kinds }) => [
      jsonText(
        Object.fromEntries(
          Object.entries(kinds).map(([kind, { ranges, bytes }]) => [kind, { ranges, bytes: Number(bytes) }]),
        ),
      ),
    ],
  };
}
