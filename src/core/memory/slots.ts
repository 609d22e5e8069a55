/** The slots of a memory as callers give them, checked, and as an address bus without line 20 shows them. */
import type { SlotConfig } from "../../api.js";
import { checkFlag, checkOptions, type OptionNames } from "../../checks.js";
import { ConfigError } from "../../errors.js";
import { toU64 } from "../checks/numbers.js";
import type { LinearMemory } from "../linear/linear-memory.js";

const PAGE_BYTES = 4096;
/** Address line 20, and the bytes that an address bus without it repeats. */
const A20 = 1n << 20n;

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
}

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

/** The slots in ascending order. Throws ConfigError for one that is misaligned or overlaps another. */
export function checkSlots(configs: readonly CoreSlotConfig[], linear: LinearMemory): CheckedSlot[] {
  if (!Array.isArray(configs)) throw new ConfigError("slots is no array, expected an array of slots");
  const slots = configs.map((config, index) => checkSlot(config, index, linear));
  slots.sort((a, b) => (a.gpa < b.gpa ? -1 : 1));
  slots.forEach((slot, index) => {
    const next = slots[index + 1];
    if (next !== undefined && slot.gpa + BigInt(slot.size) > next.gpa) {
      throw new ConfigError(
        `slots at 0x${slot.gpa.toString(16)} and 0x${next.gpa.toString(16)} overlap, expected disjoint slots`,
      );
    }
  });
  return slots;
}

function checkSlot(config: CoreSlotConfig, index: number, linear: LinearMemory): CheckedSlot {
  checkOptions(config, SLOT_OPTIONS, `slot ${index}`);
  const gpa = toU64(config.gpa, `address of slot ${index}`, ConfigError);
  const name = `slot at 0x${gpa.toString(16)}`;
  if (gpa % BigInt(PAGE_BYTES) !== 0n) throw new ConfigError(`${name}: expected a multiple of 4096`);
  if (!Number.isSafeInteger(config.size) || config.size <= 0 || config.size % PAGE_BYTES !== 0) {
    throw new ConfigError(`${name}: size is ${config.size}, expected a positive multiple of 4096`);
  }
  if (gpa + BigInt(config.size) > END) {
    throw new ConfigError(`${name}: ends at 0x${(gpa + BigInt(config.size)).toString(16)}, expected at most 2^52`);
  }
  const readOnly = checkFlag(config.readOnly, `${name}: readOnly`) ?? false;
  const window = checkFlag(config.window, `${name}: window`) ?? false;
  if (window && config.linear === undefined) throw new ConfigError(`${name}: window without linear, expected both`);
  if (config.linear !== undefined) {
    const inside = config.linear >= 0 && config.linear + config.size <= linear.memory.buffer.byteLength;
    if (!Number.isInteger(config.linear) || config.linear % PAGE_BYTES !== 0 || !inside) {
      throw new ConfigError(`${name}: linear is ${config.linear}, expected a multiple of 4096 inside the memory`);
    }
    if (!window && linear.keeps(config.linear, config.size)) {
      throw new ConfigError(`${name}: linear is ${config.linear}, where the core keeps its own records and tables`);
    }
  }
  return { gpa, size: config.size, linear: config.linear, readOnly, window };
}

/**
 * What a bus without address line 20 shows of `slots`: each even MiB of them a second time, in the odd MiB above it. What lies
 * in odd MiBs is out of reach.
 */
export function withoutA20(slots: readonly Slot[]): Slot[] {
  const pieces: Slot[] = [];
  for (const slot of slots) {
    const end = slot.gpa + BigInt(slot.size);
    for (let at = slot.gpa; at < end; ) {
      const boundary = (at / A20 + 1n) * A20;
      const next = boundary < end ? boundary : end;
      if ((at & A20) === 0n) {
        const piece = { ...slot, gpa: at, size: Number(next - at), linear: slot.linear + Number(at - slot.gpa) };
        pieces.push(piece, { ...piece, gpa: at | A20 });
      }
      at = next;
    }
  }
  return pieces.sort((a, b) => (a.gpa < b.gpa ? -1 : 1));
}
