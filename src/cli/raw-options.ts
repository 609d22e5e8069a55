/** Options that say that a file is raw memory, and which memory. */
import { InvalidArgumentError } from "commander";
import { PC_MACHINES, type PcHole, type PcMachine, type RawOptions, type RawRange } from "../dump/node.js";
import { CliError } from "./errors.js";
import type { CliIo } from "./io.js";
import { linesOf } from "./lines.js";
import { openText } from "./text-file.js";
import { hex, parseHex, parseSize } from "./values.js";

/** Addresses from `from` up to, not including, `to`. */
export interface AddressRange {
  readonly from: bigint;
  readonly to: bigint;
}

export interface RawCliOptions {
  raw?: boolean;
  offset?: bigint;
  /** What is read as raw memory; of commands that list or search addresses, which of them also. */
  range?: (RawRange | AddressRange)[];
  map?: string;
  pcHole?: PcHole;
}

const PAGE = 4096n;
/** Number of addresses: an open end. */
const ADDRESSES = 1n << 64n;
/** More ranges in a file are refused, as the reader does. */
const MOST_RANGES = 2 ** 20;

type Ranges = NonNullable<RawCliOptions["range"]>;

/** For commander: one more range of a raw file. */
export function parseRange(text: string, previous: Ranges | undefined): Ranges {
  return [...(previous ?? []), rangeOf(text)];
}

/** For commander: one more range of a raw file, or of addresses. */
export function parseAnyRange(text: string, previous: Ranges | undefined): Ranges {
  return [...(previous ?? []), /[:@]/.test(text) ? rangeOf(text) : addressesOf(text)];
}

/** The ranges of addresses that --range asks for; undefined where it asks for none. */
export function addressRanges({ range }: RawCliOptions): readonly AddressRange[] | undefined {
  const found = range?.filter((one): one is AddressRange => "from" in one);
  return found?.length ? found : undefined;
}

function addressesOf(text: string): AddressRange {
  const [, first, last] = /^([^-]+)-([^-]*)$/.exec(text) ?? [];
  if (first === undefined) throw new InvalidArgumentError("expected START-END or GPA:SIZE@OFFSET.");
  const from = parseHex(first);
  const to = last === "" ? ADDRESSES : parseHex(last!);
  if (from >= to) throw new InvalidArgumentError("expected END to be greater than START.");
  return { from, to };
}

/** For commander: a machine, or where the hole begins. */
export function parsePcHole(text: string): PcHole {
  if (PC_MACHINES.includes(text as PcMachine)) return text as PcMachine;
  try {
    return parseHex(text);
  } catch {
    throw new InvalidArgumentError(`expected ${PC_MACHINES.join(", ")} or a hexadecimal address.`);
  }
}

/** What the options say of raw memory, with the ranges of --map: nothing where they do not. Throws a CliError where they do not fit together. */
export function rawOptions(options: RawCliOptions, mapped: readonly RawRange[] = []): RawOptions {
  const { raw, offset, map, pcHole } = options;
  const range = rawRangesIn(options);
  const given = [
    ...(offset === undefined ? [] : ["--offset"]),
    ...(range === undefined && map === undefined ? [] : [range === undefined ? "--map" : "--range"]),
    ...(pcHole === undefined ? [] : ["--pc-hole"]),
  ];
  if (given.length > 1)
    throw new CliError(`expected one of --offset, --range and --pc-hole, found ${given.join(", ")}`);
  if (pcHole !== undefined) {
    if (typeof pcHole === "bigint") requirePages("--pc-hole", pcHole);
    return { pcHole };
  }
  if (range !== undefined || map !== undefined) {
    return { rawRanges: [...(range ?? []), ...mapped] };
  }
  if (offset !== undefined) requirePages("--offset", offset);
  return raw || offset !== undefined ? { rawOffset: offset ?? 0n } : {};
}

function rawRangesIn({ range }: RawCliOptions): readonly RawRange[] | undefined {
  const found = range?.filter((one): one is RawRange => "offset" in one);
  return found?.length ? found : undefined;
}

function requirePages(option: string, value: bigint): void {
  if (value % PAGE === 0n) return;
  throw new CliError(`${option}: expected a multiple of 0x1000 (pages), found ${hex(value)}`);
}

/** The ranges of --map. Throws a CliError that names the line where one is none. */
export async function rangesOfFile(io: CliIo, path: string): Promise<RawRange[]> {
  const input = path === "-" ? io.stdin : openText(path).chunks;
  const name = path === "-" ? "standard input" : path;
  const ranges: RawRange[] = [];
  let number = 0;
  for await (const line of linesOf(input, name)) {
    number++;
    const text = line.replace(/#.*/, "").trim();
    if (text === "") continue;
    if (ranges.length === MOST_RANGES)
      throw new CliError(`${name}: expected at most ${MOST_RANGES} ranges, found more`);
    try {
      ranges.push(rangeOf(text));
    } catch (error) {
      if (!(error instanceof InvalidArgumentError)) throw error;
      throw new CliError(`${name}: line ${number}: ${error.message.replace(/\.$/, "")}, found ${text.slice(0, 60)}`);
    }
  }
  if (ranges.length === 0) throw new CliError(`${name}: expected ranges, found none`);
  return ranges;
}

function rangeOf(text: string): RawRange {
  const [, gpaText, sizeText, offsetText] = /^([^:@]+):([^:@]+)@([^:@]+)$/.exec(text) ?? [];
  if (gpaText === undefined) throw new InvalidArgumentError("expected GPA:SIZE@OFFSET.");
  const gpa = parseHex(gpaText);
  const size = /^0x/i.test(sizeText!) ? parseHex(sizeText!) : BigInt(parseSize(sizeText!));
  const offset = parseHex(offsetText!);
  if (gpa % PAGE !== 0n || size % PAGE !== 0n || size === 0n) {
    throw new InvalidArgumentError("expected GPA and SIZE to be multiples of 4096 (SIZE is decimal without 0x).");
  }
  return { gpa, size, offset };
}
