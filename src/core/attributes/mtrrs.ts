/** Memory types by physical address (SDM vol. 3, "Memory Type Range Registers (MTRRs)"). */
import { bitOf, fieldOf, maskOf, valueIn } from "../../abi/bits.js";
import {
  FIXED_MTRRS,
  FIXED_MTRRS_END,
  MTRR_DEF_TYPE,
  MTRR_PHYS_BASE,
  MTRR_PHYS_MASK,
  PAT,
  TYPE_NUMBERS,
} from "../../abi/memory-types.js";
import type { MtrrConfig, U64 } from "../../api.js";
import { checkOptions, isArray, type OptionNames, show } from "../../checks.js";
import { ConfigError } from "../../errors.js";
import { toU64 } from "../checks/numbers.js";

const NAMES: OptionNames<MtrrConfig> = { defType: true, fixed: true, variable: true };
const RANGE: OptionNames<NonNullable<MtrrConfig["variable"]>[number]> = { base: true, mask: true };
const { UC, WT, WB } = TYPE_NUMBERS;
const MTRR_TYPES: readonly number[] = Object.values(TYPE_NUMBERS).filter((type) => type !== TYPE_NUMBERS["UC-"]);
/** What IA32_PAT can hold. */
export const PAT_TYPES: readonly number[] = Object.values(TYPE_NUMBERS);

export class Mtrrs {
  readonly #enabled: boolean;
  readonly #fixed: readonly (readonly number[])[] | undefined;
  readonly #ranges: readonly { readonly base: bigint; readonly mask: bigint; readonly type: number }[];
  readonly #default: number;

  /** Throws ConfigError for types that WRMSR refuses, and for fixed ranges that are enabled but not given. */
  constructor(config: MtrrConfig) {
    checkOptions(config, NAMES, "mtrrs");
    const defType = toU64(config.defType, "mtrrs.defType", ConfigError);
    this.#enabled = (defType & bitOf(MTRR_DEF_TYPE, "E")) !== 0n;
    this.#default = typeIn(defType, "mtrrs.defType");
    const fixed = listOf(config.fixed, "mtrrs.fixed").map((value, index) => {
      return eightTypes(value as U64, `mtrrs.fixed[${index}]`, MTRR_TYPES);
    });
    const hasFixed = (defType & bitOf(MTRR_DEF_TYPE, "FE")) !== 0n;
    if ((hasFixed || fixed.length > 0) && fixed.length !== FIXED_MTRRS.length) {
      throw new ConfigError(`mtrrs.fixed has ${fixed.length} registers, expected ${FIXED_MTRRS.length}`);
    }
    this.#fixed = hasFixed ? fixed : undefined;
    this.#ranges = listOf(config.variable, "mtrrs.variable").flatMap((range, index) => {
      const what = `mtrrs.variable[${index}]`;
      checkOptions(range as { base: U64; mask: U64 }, RANGE, what);
      const { base, mask } = range as { base: U64; mask: U64 };
      const [low, bits] = [toU64(base, `${what}.base`, ConfigError), toU64(mask, `${what}.mask`, ConfigError)];
      if ((bits & bitOf(MTRR_PHYS_MASK, "V")) === 0n) return [];
      const kept = bits & bitOf(MTRR_PHYS_MASK, "MASK");
      return [{ base: low & kept, mask: kept, type: typeIn(low, `${what}.base`) }];
    });
  }

  /** The type at `address`; undefined where ranges overlap in a way that the processor leaves open ("MTRR Precedences"). */
  typeAt(address: bigint): number | undefined {
    if (!this.#enabled) return UC;
    if (this.#fixed !== undefined && address < FIXED_MTRRS_END) return fixedType(this.#fixed, Number(address));
    let found: number | undefined;
    for (const { base, mask, type } of this.#ranges) {
      if ((address & mask) !== base) continue;
      if (type === UC) return UC;
      if (found === undefined || found === type) found = type;
      else found = isWrite(found) && isWrite(type) ? WT : Number.NaN;
    }
    if (found === undefined) return this.#default;
    return Number.isNaN(found) ? undefined : found;
  }
}

/** Write-through and write-back: where they meet it is the former. */
function isWrite(type: number): boolean {
  return type === WT || type === WB;
}

function fixedType(registers: readonly (readonly number[])[], address: number): number {
  const index = FIXED_MTRRS.filter(({ from }) => from <= address).length - 1;
  const { from, unit } = FIXED_MTRRS[index]!;
  return registers[index]![Math.floor((address - from) / unit)]!;
}

function typeIn(value: bigint, what: string): number {
  return checkType(Number(valueIn(fieldOf(MTRR_PHYS_BASE, "TYPE"), value)), what, MTRR_TYPES);
}

/** The types in the eight bytes of a register. Throws ConfigError for those that it cannot have. */
export function eightTypes(value: U64, what: string, types: readonly number[]): number[] {
  const word = toU64(value, what, ConfigError);
  return PAT.fields.map((field) => checkType(Number((word & maskOf(field)) >> BigInt(field.low)), what, types));
}

function checkType(type: number, what: string, types: readonly number[]): number {
  if (types.includes(type)) return type;
  throw new ConfigError(`${what} has memory type ${type}, expected ${types.join(", ")}`);
}

function listOf(value: unknown, what: string): readonly unknown[] {
  if (value === undefined) return [];
  if (isArray(value)) return value;
  throw new ConfigError(`${what} is ${show(value)}, expected an array`);
}
