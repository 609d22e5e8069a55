/** `x86-paging search`: where bytes, text or what an expression describes are in memory. */

import type { Command } from "commander";
import type { Leaf } from "../../api.js";
import {
  type BytePattern,
  type Dump,
  expressionPattern,
  hexPattern,
  type MemoryHit,
  MemorySearch,
  type Stretch,
  textPattern,
  type Unsearched,
} from "../../dump/node.js";
import { jsonText } from "../../json-text.js";
import { pageSizeName, rightsLetters } from "../../maps/leaves.js";
import type { CliContext } from "../context.js";
import {
  addDumpOptions,
  addStructureOptions,
  type DumpOptions,
  FILE_HELP,
  inspect,
  openDumpOf,
  openSpace,
  type StructureCliOptions,
  sayWarnings,
} from "../dump-options.js";
import { leavesOfSpaces, partsOfSpaces, placeJson, placeOf, type SpacePart } from "../each-space.js";
import { CliError, ExitCode } from "../errors.js";
import { everySpace } from "../found-spaces.js";
import { addLeafFilters, type LeafFilterOptions, leafFilter } from "../leaf-filter.js";
import { startProgress } from "../progress.js";
import { addressRanges } from "../raw-options.js";
import { hex, hex16, parseInteger, sizeText } from "../values.js";
import { ascending, hits as mappingsOf } from "../wanted-addresses.js";

const PAGE = 4096;
/** Pages between two steps of the bar. */
const STEP = 64;
const MOST_HITS = 1000;
/** Virtual addresses of one hit that are shown. */
const MOST_MAPPINGS = 64;
/** Bytes of a hit that are shown. */
const SHOWN = 16;
/** Pages that are searched through mappings, or this multiple of what the dump holds: aliases would take for ever. */
const MOST_PAGES = 2 ** 18;
const MOST_TIMES = 16;

interface SearchOptions extends DumpOptions, StructureCliOptions, LeafFilterOptions {
  hex?: boolean;
  regex?: boolean;
  utf16?: boolean;
  ignoreCase?: boolean;
  physical?: boolean;
  all?: boolean;
  limit: number;
  json?: boolean;
}

export function registerSearch(program: Command, context: CliContext): void {
  const command = program
    .command("search")
    .description("search memory for text, bytes or a regular expression, by virtual or physical address")
    .argument("<file>", FILE_HELP)
    .argument("<pattern>", "text, as UTF-8 unless an option says otherwise")
    .option("--hex", "PATTERN is hexadecimal digits, ? any of them: '48 8b ?? c3'")
    .option("--regex", "PATTERN is a regular expression of JavaScript; each byte is the character of its number")
    .option("--utf16", "text as UTF-16, as Windows has it")
    .option("-i, --ignore-case", "letters of ASCII in both cases")
    .option("--physical", "all memory of the dump, by physical address")
    .option(
      "--all",
      "every address space of the dump; with --physical, the virtual addresses of each hit in all of them",
    )
    .option("--limit <n>", "stop after so many hits", parseInteger(1, 2 ** 32), MOST_HITS)
    .option("--json", "one JSON object a hit");
  addStructureOptions(addDumpOptions(addLeafFilters(command), true))
    .addHelpText(
      "after",
      "\nPages that follow each other by virtual address are searched as one, wherever they lie. Prints `va gpa bytes text` for each hit, with --all the root of the space in front of it, and `kernel` for what spaces have in common. Hits do not overlap. A match of an expression is cut at 4096 bytes.\n" +
        "\nExamples:\n  x86-paging search vm.elf 'root:x:0'\n  x86-paging search vm.elf --hex '48 8b ?? ?? 0f 05' --range ffffffff80000000-\n  x86-paging search memory.lime.gz --regex 'https?://[!-~]{4,}' --all --user\n  x86-paging search memory.dmp Administrator --utf16 --physical --all",
    )
    .action((file: string, pattern: string, options: SearchOptions) => {
      const compiled = patternOf(pattern, options);
      return options.physical
        ? searchPhysical(context, file, compiled, options)
        : options.all
          ? searchAll(context, file, compiled, options)
          : searchSpace(context, file, compiled, options);
    });
}

function patternOf(pattern: string, { hex: digits, regex, utf16, ignoreCase }: SearchOptions): BytePattern {
  const kinds = [...(digits ? ["--hex"] : []), ...(regex ? ["--regex"] : []), ...(utf16 ? ["--utf16"] : [])];
  if (kinds.length > 1) throw new CliError(`expected one of --hex, --regex and --utf16, found ${kinds.join(", ")}`);
  if (digits && ignoreCase) throw new CliError("--ignore-case: expected text or --regex, found --hex");
  const letters = { ignoreCase: ignoreCase ?? false };
  if (digits) return hexPattern(pattern);
  if (regex) return expressionPattern(pattern, letters);
  return textPattern(pattern, { encoding: utf16 ? "utf-16le" : "utf-8", ...letters });
}

async function searchSpace(
  context: CliContext,
  file: string,
  pattern: BytePattern,
  options: SearchOptions,
): Promise<void> {
  const open = await openSpace(context, file, options, true);
  const { dump, mode, space } = open;
  try {
    if (mode === "none") throw new CliError(`${dump.name}: paging is off (--physical searches by physical address)`);
    const structure = inspect(context, open, options);
    const progress = startProgress(context.io, "searching", structure.leaves);
    const hits = new Hits(context, dump, options);
    try {
      const leaves = counted(space.leaves(), progress.update);
      await hits.search(pattern, stretchesOf(leaves, options), (hit) => hitLine(hit, options, ""));
    } finally {
      progress.stop();
    }
    hits.end("of what is mapped");
  } finally {
    dump.close();
  }
}

async function searchAll(
  context: CliContext,
  file: string,
  pattern: BytePattern,
  options: SearchOptions,
): Promise<void> {
  const dump = await openDumpOf(context, file, options);
  try {
    sayWarnings(context, dump);
    const each = await everySpace(context, dump, options, "searching spaces");
    const hits = new Hits(context, dump, options);
    try {
      for (const part of partsOfSpaces(each)) {
        const show = (hit: MemoryHit) => hitLine(hit, options, `${placeOf(part).padEnd(12)} `, placeJson(part));
        if (!(await hits.search(pattern, stretchesOf(part.leaves, options), show))) break;
      }
    } finally {
      each.stop();
    }
    hits.end("of what is mapped");
  } finally {
    dump.close();
  }
}

async function searchPhysical(
  context: CliContext,
  file: string,
  pattern: BytePattern,
  options: SearchOptions,
): Promise<void> {
  const dump = await openDumpOf(context, file, options);
  try {
    sayWarnings(context, dump);
    const found: MemoryHit[] = [];
    const hits = new Hits(context, dump, options);
    const progress = startProgress(
      context.io,
      "searching",
      Math.ceil(dump.memory.held.bytes / PAGE),
      !context.out.isTerminal,
    );
    try {
      await hits.search(
        pattern,
        clipped(physicalStretches(dump), options),
        (hit) => {
          if (!options.all) return hitLine(hit, options, "");
          found.push(hit);
          return undefined;
        },
        progress.update,
      );
    } finally {
      progress.stop();
    }
    if (options.all && found.length > 0) await showWithMappings(context, dump, found, options);
    const { excluded, cut } = dump.memory.lacking;
    if (addressRanges(options) === undefined) {
      hits.unsearched.excluded = BigInt(excluded.bytes);
      hits.unsearched.cut = BigInt(cut.bytes);
    }
    hits.end("of memory");
  } finally {
    dump.close();
  }
}

/** What is found, up to the limit, and what was not searched. */
class Hits {
  readonly unsearched: Unsearched = { excluded: 0n, cut: 0n, absent: 0n };
  readonly #context: CliContext;
  readonly #dump: Dump;
  readonly #limit: number;
  readonly #mostPages: number;
  #found = 0;
  #pages = 0;
  #stopped = false;

  constructor(context: CliContext, dump: Dump, options: SearchOptions) {
    this.#context = context;
    this.#dump = dump;
    this.#limit = options.limit;
    this.#mostPages = Math.max(MOST_PAGES, (MOST_TIMES * dump.memory.held.bytes) / PAGE);
  }

  /** Searches, and prints the line that `show` makes of each hit. Returns false where the limit is reached. */
  async search(
    pattern: BytePattern,
    stretches: Iterable<Stretch>,
    show: (hit: MemoryHit) => string | undefined,
    update?: (pages: number) => void,
  ): Promise<boolean> {
    const search = new MemorySearch(this.#dump, pattern, stretches);
    for (let finished = false; !finished && !this.#stopped; ) {
      const step = search.step(STEP);
      finished = step.finished;
      for (const hit of step.hits) {
        this.#stopped = this.#found === this.#limit;
        if (this.#stopped) break;
        this.#found++;
        const line = show(hit);
        const wait = line === undefined ? undefined : this.#context.out.line(line);
        if (wait !== undefined) await wait;
      }
      this.#checkPages(search.pages);
      update?.(search.pages);
    }
    this.#pages += search.pages;
    for (const why of ["excluded", "cut", "absent"] as const) this.unsearched[why] += search.unsearched[why];
    return !this.#stopped;
  }

  #checkPages(pages: number): void {
    if (this.#pages + pages <= this.#mostPages) return;
    throw new CliError(
      `${this.#dump.name}: expected at most ${this.#mostPages} mapped pages to search, found more (--range says which)`,
    );
  }

  /** Says what there is to say of the search, which was one `of` something. */
  end(of: string): void {
    const { name } = this.#dump;
    if (this.#stopped) {
      this.#context.note(`${name}: there are more hits: the search stopped after ${this.#limit} (--limit allows more)`);
    }
    const words = { excluded: "left out by the dump's writer", cut: "cut off", absent: "not in the dump" };
    const parts = (["excluded", "cut", "absent"] as const)
      .filter((why) => this.unsearched[why] > 0n)
      .map((why) => `${sizeText(this.unsearched[why])} ${words[why]}`);
    if (parts.length > 0) this.#context.note(`${name}: not searched ${of}: ${parts.join(", ")}`);
    if (this.#found > 0) return;
    this.#context.note(`${name}: nothing was found`);
    this.#context.exitCode = ExitCode.Negative;
  }
}

/** The mappings that the filters let through, cut to the ranges that are asked for. */
function stretchesOf(leaves: Iterable<Leaf>, options: SearchOptions): Iterable<Stretch> {
  const wanted = leafFilter(options);
  return clipped(
    (function* () {
      for (const leaf of leaves) if (wanted(leaf)) yield { address: leaf.va, gpa: leaf.pa, size: leaf.size };
    })(),
    options,
  );
}

function* clipped(stretches: Iterable<Stretch>, options: SearchOptions): Iterable<Stretch> {
  const ranges = addressRanges(options);
  for (const stretch of stretches) {
    if (ranges === undefined) yield stretch;
    for (const { from, to } of ranges ?? []) {
      const end = stretch.address + stretch.size;
      const first = from > stretch.address ? from : stretch.address;
      const last = to < end ? to : end;
      if (first < last) yield { address: first, gpa: stretch.gpa + first - stretch.address, size: last - first };
    }
  }
}

function* physicalStretches(dump: Dump): Iterable<Stretch> {
  for (const { gpa, size } of dump.ranges) yield { address: gpa, gpa, size };
}

function* counted(leaves: Iterable<Leaf>, update: (done: number) => void): Iterable<Leaf> {
  let done = 0;
  for (const leaf of leaves) {
    if (++done % 4096 === 0) update(done);
    yield leaf;
  }
}

/** A hit that was found by its virtual address, or with --physical by the physical one alone. */
function hitLine(hit: MemoryHit, { physical, json }: SearchOptions, place: string, placed: object = {}): string {
  if (json) return jsonText({ ...placed, ...hitJson(hit, physical === true) });
  const where = physical ? hex16(hit.gpa) : `${hex16(hit.address)} ${hex(hit.gpa).padEnd(12)}`;
  return `${place}${where} ${preview(hit)}`;
}

function hitJson({ address, gpa, length, bytes, cut }: MemoryHit, physical: boolean): object {
  return {
    ...(physical ? {} : { va: hex(address) }),
    gpa: hex(gpa),
    length,
    ...(cut ? { cut } : {}),
    bytes: Buffer.from(bytes).toString("hex"),
  };
}

/** The first bytes as digits and as text. */
function preview({ bytes, length, cut }: MemoryHit): string {
  const shown = bytes.subarray(0, SHOWN);
  const digits = Buffer.from(shown)
    .toString("hex")
    .replaceAll(/..(?!$)/g, "$& ");
  const text = [...shown].map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
  const more = length > SHOWN ? ` ... ${length} bytes${cut ? " or more" : ""}` : "";
  return `${digits}  ${text}${more}`;
}

/** Hits of physical memory, each with the virtual addresses that reach it. */
async function showWithMappings(
  context: CliContext,
  dump: Dump,
  found: readonly MemoryHit[],
  options: SearchOptions,
): Promise<void> {
  const wanted = ascending(found.map(({ gpa }) => gpa));
  const mappings = new Map(wanted.map((gpa) => [gpa, { shown: [] as Mapping[], more: 0 }]));
  const passes = leafFilter({ ...options, range: [] });
  const each = await everySpace(context, dump, options, "searching spaces");
  try {
    for (const { leaf, ...part } of leavesOfSpaces(each)) {
      if (!passes(leaf)) continue;
      for (const { gpa, va } of mappingsOf(leaf, wanted)) {
        const known = mappings.get(gpa)!;
        if (known.shown.length < MOST_MAPPINGS) known.shown.push({ ...part, va, leaf });
        else known.more++;
      }
    }
  } finally {
    each.stop();
  }
  for (const hit of found) {
    const { shown, more } = mappings.get(hit.gpa)!;
    const lines = options.json
      ? [jsonText({ ...hitJson(hit, true), mappings: shown.map(mappingJson), moreMappings: more })]
      : [
          hitLine(hit, options, ""),
          ...shown.map(mappingLine),
          ...(more > 0 ? [`  ${more} more mappings of it (find --all shows all)`] : []),
          ...(shown.length === 0 ? ["  mapped by no address space"] : []),
        ];
    for (const line of lines) {
      const wait = context.out.line(line);
      if (wait !== undefined) await wait;
    }
  }
}

interface Mapping extends Pick<SpacePart, "space" | "isKernelPart"> {
  readonly va: bigint;
  readonly leaf: Leaf;
}

function mappingLine({ va, leaf, ...part }: Mapping): string {
  return `  ${placeOf(part).padEnd(12)} ${hex16(va)} ${pageSizeName(leaf.size)} ${rightsLetters(leaf.rights)}`;
}

function mappingJson({ va, leaf: { size, rights }, ...part }: Mapping): object {
  const { user, write, execute } = rights;
  return { ...placeJson(part), va: hex(va), pageSize: Number(size), user, writable: write, executable: execute };
}
