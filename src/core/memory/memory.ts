/** Guest-physical memory in linear memory: RAM slots, and pages that a source supplies on demand. */
import type { GuestMemory, PageSource, SlotConfig, U64 } from "../../api.js";
import {
  checkFlag,
  checkInteger,
  checkMethod,
  checkOptions,
  isArray,
  type OptionNames,
  show,
  toBytes,
} from "../../checks.js";
import { ConfigError, DisposedError, MemoryRangeError } from "../../errors.js";
import { toU32, toU64 } from "../checks/numbers.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import { MemoryRecord, SlotRecord } from "../records/walk.js";
import type { CoreExports } from "../wasm/exports.js";
import { PageCache } from "./page-cache.js";

const PAGE_BYTES = 4096;
/** 32 MiB. */
const DEFAULT_CACHED_PAGES = 8192;

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

export interface CoreMemoryConfig {
  readonly slots?: readonly CoreSlotConfig[];
  readonly source?: PageSource;
  /** Most pages of `source` that are kept at once, at least 64. Default 8192 (32 MiB). */
  readonly cachedPages?: number;
}

interface Slot {
  readonly gpa: bigint;
  readonly size: number;
  readonly linear: number;
  readonly readOnly: boolean;
  /** A window on what the core keeps. */
  readonly window: boolean;
}

/** What cannot go on without a memory: spaces and virtual machines. */
export interface Dependent {
  dispose(): void;
}

/** RAM slots and, behind them, the pages of a source: a MEMORY record that the core walks through. */
export class CoreMemory implements GuestMemory {
  /** Linear address of the MEMORY record. */
  readonly pointer: number;
  readonly #slots: Slot[];
  readonly #slotTable: number;
  readonly #cache: PageCache | undefined;
  /** What the memory holds, to be freed with it. */
  readonly #owned: [address: number, size: number][] = [];
  readonly #dependents = new Set<Dependent>();
  #disposed = false;

  /** Throws ConfigError for misaligned or overlapping slots, OutOfMemoryError where they do not fit. */
  constructor(
    exports: CoreExports,
    readonly linear: LinearMemory,
    config: CoreMemoryConfig,
  ) {
    checkOptions(config, { slots: true, source: true, cachedPages: true }, "the memory's configuration");
    if (config.source !== undefined) checkMethod(config.source, "readPage", "source");
    const checked = checkSlots(config.slots ?? [], linear);
    try {
      this.pointer = this.#allocate(MemoryRecord.SIZE);
      this.#slots = checked.map((slot) => ({
        ...slot,
        linear: slot.linear ?? this.#allocate(slot.size, PAGE_BYTES),
      }));
      // One record more than there are slots: an empty slot to start with where there is none.
      this.#slotTable = this.#allocate(SlotRecord.SIZE * (checked.length + 1));
      if (config.source !== undefined) {
        const pages = config.cachedPages ?? DEFAULT_CACHED_PAGES;
        this.#cache = new PageCache(exports, linear, this.pointer, config.source, pages);
      }
    } catch (error) {
      for (const [address, size] of this.#owned) linear.free(address, size);
      throw error;
    }
    this.#publish();
  }

  /**
   * Reads the page that a walk found missing. Throws what the source throws.
   */
  supply(gfn: bigint): void {
    this.#cache?.supply(gfn);
  }

  /** `dependent` is disposed of with this memory, unless it is detached before. */
  attach(dependent: Dependent): void {
    this.requireLive();
    this.#dependents.add(dependent);
  }

  detach(dependent: Dependent): void {
    this.#dependents.delete(dependent);
  }

  /** Throws DisposedError after `dispose`. */
  requireLive(): void {
    if (this.#disposed) throw new DisposedError("the memory was disposed of");
  }

  /**
   * Copies `data` to `gpa`: the bytes of a buffer, or of any view of one. Throws MemoryRangeError, with nothing written,
   * where a byte lies outside the slots or in one that shows the core's own memory; TypeError for data of another kind.
   */
  write(gpa: U64, data: Uint8Array | ArrayBufferView | ArrayBufferLike): void {
    const bytes = toBytes(data);
    let at = 0;
    for (const piece of this.#pieces(gpa, bytes.length, false)) {
      this.linear.u8.set(bytes.subarray(at, at + piece.length), piece.linear);
      at += piece.length;
    }
  }

  /**
   * Copies `length` bytes from `gpa`. Throws MemoryRangeError where a byte lies neither in a slot nor in the source,
   * RangeError for a bad length.
   */
  read(gpa: U64, length: number): Uint8Array {
    checkInteger(length, 0, Number.MAX_SAFE_INTEGER, "length", RangeError);
    const pieces = this.#pieces(gpa, length, true);
    // Asking the source may have done anything.
    this.requireLive();
    const bytes = new Uint8Array(length);
    let at = 0;
    for (const piece of pieces) {
      const from = piece.page ?? this.linear.u8.subarray(piece.linear, piece.linear + piece.length);
      bytes.set(from, at);
      at += piece.length;
    }
    return bytes;
  }

  writeU32(gpa: U64, value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, toU32(value, "value"), true);
    this.write(gpa, bytes);
  }

  writeU64(gpa: U64, value: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, toU64(value, "value"), true);
    this.write(gpa, bytes);
  }

  readU32(gpa: U64): number {
    return new DataView(this.read(gpa, 4).buffer).getUint32(0, true);
  }

  readU64(gpa: U64): bigint {
    return new DataView(this.read(gpa, 8).buffer).getBigUint64(0, true);
  }

  /** Frees what the memory holds, and disposes of the address spaces over it. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const dependent of this.#dependents) dependent.dispose();
    this.#cache?.dispose();
    for (const [address, size] of this.#owned) this.linear.free(address, size);
  }

  #allocate(size: number, alignment?: number): number {
    const address = this.linear.allocate(size, alignment);
    this.#owned.push([address, size]);
    return address;
  }

  #publish(): void {
    this.#slots.forEach((slot, index) => {
      const record = new SlotRecord(this.linear, this.#slotTable + index * SlotRecord.SIZE);
      record.base = slot.gpa;
      record.size = BigInt(slot.size);
      record.linear = slot.linear;
      record.readOnly = slot.readOnly ? 1 : 0;
    });
    const record = new MemoryRecord(this.linear, this.pointer);
    record.slots = this.#slotTable;
    record.slotCount = this.#slots.length;
    record.lastSlot = this.#slotTable;
  }

  /** Where the bytes of a guest-physical range are, page by page at most; every one is found before this returns. */
  #pieces(gpa: U64, length: number, reading: boolean): Piece[] {
    this.requireLive();
    let at = toU64(gpa, "guest-physical address");
    let left = length;
    const pieces: Piece[] = [];
    while (left > 0) {
      const piece = this.#slotPiece(at, left, reading) ?? (reading ? this.#sourcePiece(at, left) : undefined);
      if (piece === undefined) {
        throw new MemoryRangeError(`guest-physical address 0x${at.toString(16)} is not backed by memory`);
      }
      pieces.push(piece);
      at += BigInt(piece.length);
      left -= piece.length;
    }
    return pieces;
  }

  #slotPiece(at: bigint, most: number, reading: boolean): Piece | undefined {
    const slot = this.#slots.find((one) => at >= one.gpa && at < one.gpa + BigInt(one.size));
    if (slot === undefined || (slot.window && !reading)) return undefined;
    const offset = Number(at - slot.gpa);
    return { linear: slot.linear + offset, length: Math.min(most, slot.size - offset), page: undefined };
  }

  #sourcePiece(at: bigint, most: number): Piece | undefined {
    const page = new Uint8Array(PAGE_BYTES);
    if (!this.#cache?.read(at >> 12n, page)) return undefined;
    const offset = Number(at & 0xfffn);
    const length = Math.min(most, PAGE_BYTES - offset);
    return { linear: 0, length, page: page.subarray(offset, offset + length) };
  }
}

/** Consecutive bytes: in linear memory, or a copy from the source. */
interface Piece {
  readonly linear: number;
  readonly length: number;
  readonly page: Uint8Array | undefined;
}

type CheckedSlot = Omit<Slot, "linear"> & { readonly linear: number | undefined };

const SLOT_OPTIONS: OptionNames<CoreSlotConfig> = {
  gpa: true,
  size: true,
  readOnly: true,
  linear: true,
  window: true,
};
/** First address beyond what an entry can name. */
const END = 1n << 52n;

function checkSlots(configs: readonly CoreSlotConfig[], linear: LinearMemory): CheckedSlot[] {
  if (!isArray(configs)) throw new ConfigError(`slots is ${show(configs)}, expected an array of slots`);
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
  return { gpa, size: config.size, linear: config.linear, readOnly, window };
}
