/** The memory type that the MTRRs give a physical address (SDM vol. 3, "Memory Type Range Registers (MTRRs)"). */
import { bitOf, fieldOf, valueIn } from "../abi/bits.js";
import {
  FIXED_MTRRS,
  FIXED_MTRRS_END,
  MTRR_DEF_TYPE,
  MTRR_PHYS_BASE,
  MTRR_PHYS_MASK,
  TYPE_NUMBERS,
} from "../abi/memory-types.js";
import type { MtrrConfig, U64 } from "../api.js";
import { checkOptions, isArray, show } from "../checks.js";
import { ConfigError } from "../errors.js";
import { configU64 } from "./values.js";

/** Types that an MTRR can have. */
export type MtrrType = "UC" | "WC" | "WT" | "WP" | "WB";
const TYPES: readonly MtrrType[] = ["UC", "WC", "WT", "WP", "WB"];

/** The type of every address; undefined where overlapping ranges leave it open. */
export type MtrrMap = (address: bigint) => MtrrType | undefined;

/** A memory with no MTRRs: as if they said write-back. */
export const NO_MTRRS: MtrrMap = () => "WB";

/** Throws a ConfigError for values that WRMSR refuses, and for fixed ranges that are enabled but not given. */
export function readMtrrs(config: MtrrConfig): MtrrMap {
  checkOptions(config, { defType: true, fixed: true, variable: true }, "mtrrs");
  const defType = configU64(config.defType, "mtrrs.defType");
  const otherwise = typeNumbered(defType & bitOf(MTRR_DEF_TYPE, "TYPE"), "mtrrs.defType");
  const fixed = readFixed(config.fixed, (defType & bitOf(MTRR_DEF_TYPE, "FE")) !== 0n);
  const ranges = readRanges(config.variable);
  if ((defType & bitOf(MTRR_DEF_TYPE, "E")) === 0n) return () => "UC";
  return (address) => {
    const first = fixed?.find(({ from, end }) => from <= address && address < end);
    if (first !== undefined) return first.type;
    const types = new Set(ranges.filter(({ holds }) => holds(address)).map(({ type }) => type));
    return types.size === 0 ? otherwise : preferred(types);
  };
}

/** SDM vol. 3, "MTRR Precedences": uncacheable wins, then write-through over write-back; the rest is undefined. */
function preferred(types: ReadonlySet<MtrrType>): MtrrType | undefined {
  const [only] = types;
  if (types.size === 1) return only;
  if (types.has("UC")) return "UC";
  return types.size === 2 && types.has("WT") && types.has("WB") ? "WT" : undefined;
}

interface FixedRange {
  readonly from: bigint;
  readonly end: bigint;
  readonly type: MtrrType;
}

function readFixed(values: readonly U64[] | undefined, enabled: boolean): readonly FixedRange[] | undefined {
  const registers = readArray(values, "mtrrs.fixed") as readonly U64[];
  if (registers.length !== FIXED_MTRRS.length && (enabled || registers.length > 0)) {
    throw new ConfigError(`mtrrs.fixed has ${registers.length} registers, expected ${FIXED_MTRRS.length}`);
  }
  const ranges = registers.flatMap((value, number) => {
    const { from, unit } = FIXED_MTRRS[number]!;
    const what = `mtrrs.fixed[${number}]`;
    return bytesOf(configU64(value, what)).map((type, index) => {
      const start = BigInt(from + index * unit);
      return { from: start, end: start + BigInt(unit), type: typeNumbered(type, what) };
    });
  });
  if (!enabled) return undefined;
  if (ranges.at(-1)?.end !== BigInt(FIXED_MTRRS_END)) throw new Error("the fixed ranges are the first MiB");
  return ranges;
}

function readRanges(ranges: MtrrConfig["variable"]) {
  return readArray(ranges, "mtrrs.variable").flatMap((given, index) => {
    const what = `mtrrs.variable[${index}]`;
    const range = given as NonNullable<MtrrConfig["variable"]>[number];
    checkOptions(range, { base: true, mask: true }, what);
    const base = configU64(range.base, `${what}.base`);
    const mask = configU64(range.mask, `${what}.mask`);
    if ((mask & bitOf(MTRR_PHYS_MASK, "V")) === 0n) return [];
    const type = typeNumbered(base & bitOf(MTRR_PHYS_BASE, "TYPE"), `${what}.base`);
    const field = fieldOf(MTRR_PHYS_MASK, "MASK");
    const pages = valueIn(field, mask);
    const first = valueIn(field, base);
    return [{ type, holds: (address: bigint) => (valueIn(field, address) & pages) === (first & pages) }];
  });
}

function readArray(value: unknown, what: string): readonly unknown[] {
  if (value === undefined) return [];
  if (!isArray(value)) throw new ConfigError(`${what} is ${show(value)}: expected an array`);
  return value;
}

/** The eight bytes of a register, lowest first. */
export function bytesOf(value: bigint): bigint[] {
  return [0, 1, 2, 3, 4, 5, 6, 7].map((index) => BigInt.asUintN(8, value >> BigInt(8 * index)));
}

function typeNumbered(number: bigint, what: string): MtrrType {
  const type = TYPES.find((one) => BigInt(TYPE_NUMBERS[one]) === number);
  if (type === undefined) throw new ConfigError(`${what} has memory type ${number}: there is no such type`);
  return type;
}
