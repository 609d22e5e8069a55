/** What a slot of guest-physical memory may be. */
import type { SlotConfig } from "../../api.js";
import { checkFlag, checkOptions, isArray, type OptionNames, show } from "../../checks.js";
import { ConfigError } from "../../errors.js";
import { toU64 } from "../checks/numbers.js";
import type { LinearMemory } from "../linear/linear-memory.js";

export const PAGE_BYTES = 4096;

/** A slot whose RAM may already lie in the caller's own linear memory. */
export interface CoreSlotConfig extends SlotConfig {
  /**
   * Linear address of RAM that is there already, a multiple of 4096; nothing is copied. It may not lie over what the core
   * keeps in the linear memory. Absent: zeroed RAM is allocated.
   */
  readonly linear?: number;
  /**
   * The slot is a window on what the core keeps, after all: to walk the tables of a virtual machine as a processor does.
   * Walks set accessed and dirty bits there, unless it is read-only; `write` refuses it. Default false.
   */
  readonly window?: boolean;
}

export interface Slot {
  readonly gpa: bigint;
  readonly size: number;
  readonly linear: number;
  readonly readOnly: boolean;
  /** A window on what the core keeps. */
  readonly window: boolean;
  /** The RAM is the memory's own: it goes with the slot. */
  readonly owned: boolean;
}

/** `linear` is undefined where RAM is to be allocated. */
export type CheckedSlot = Omit<Slot, "linear"> & { readonly linear: number | undefined };

const SLOT_OPTIONS: OptionNames<CoreSlotConfig> = {
  gpa: true,
  size: true,
  readOnly: true,
  linear: true,
  window: true,
};
/** First address beyond what an entry can name. */
const END = 1n << 52n;

/** Throws ConfigError for what is no array of slots. */
export function checkSlots(configs: readonly CoreSlotConfig[], linear: LinearMemory): CheckedSlot[] {
  if (!isArray(configs)) throw new ConfigError(`slots is ${show(configs)}, expected an array of slots`);
  return sortSlots(configs.map((config, index) => checkSlot(config, `slot ${index}`, linear)));
}

/** In ascending order of address. Throws ConfigError where two overlap. */
export function sortSlots<S extends { readonly gpa: bigint; readonly size: number }>(slots: S[]): S[] {
  const sorted = slots.sort((a, b) => (a.gpa < b.gpa ? -1 : 1));
  sorted.forEach((slot, index) => {
    const next = sorted[index + 1];
    if (next !== undefined && slot.gpa + BigInt(slot.size) > next.gpa) {
      throw new ConfigError(
        `slots at 0x${slot.gpa.toString(16)} and 0x${next.gpa.toString(16)} overlap, expected disjoint slots`,
      );
    }
  });
  return sorted;
}

/** Throws ConfigError; `what` names the slot until its address is known. */
export function checkSlot(config: CoreSlotConfig, what: string, linear: LinearMemory): CheckedSlot {
  checkOptions(config, SLOT_OPTIONS, what);
  const gpa = toU64(config.gpa, `address of ${what}`, ConfigError);
  const name = `slot at 0x${gpa.toString(16)}`;
  if (gpa % BigInt(PAGE_BYTES) !== 0n) throw new ConfigError(`${name}: expected a multiple of 4096`);
  if (!Number.isSafeInteger(config.size) || config.size <= 0 || config.size % PAGE_BYTES !== 0) {
    throw new ConfigError(`${name}: size is ${show(config.size)}, expected a positive multiple of 4096`);
  }
  if (gpa + BigInt(config.size) > END) {
    throw new ConfigError(`${name}: ends at 0x${(gpa + BigInt(config.size)).toString(16)}, expected at most 2^52`);
  }
  const readOnly = checkFlag(config.readOnly, `${name}: readOnly`) ?? false;
  const window = checkFlag(config.window, `${name}: window`) ?? false;
  if (window && config.linear === undefined) throw new ConfigError(`${name}: window without linear, expected both`);
  if (config.linear !== undefined) {
    const most = linear.memory.buffer.byteLength - config.size;
    if (
      !Number.isInteger(config.linear) ||
      config.linear % PAGE_BYTES !== 0 ||
      config.linear < 0 ||
      config.linear > most
    ) {
      throw new ConfigError(`${name}: linear is ${show(config.linear)}, expected a multiple of 4096 inside the memory`);
    }
    if (!window && linear.keeps(config.linear, config.size)) {
      throw new ConfigError(`${name}: linear is ${config.linear}, where the core keeps its own records and tables`);
    }
  }
  return { gpa, size: config.size, linear: config.linear, readOnly, window, owned: config.linear === undefined };
}
