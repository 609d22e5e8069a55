/** Guest-physical memory in linear memory: RAM slots, and pages that a source supplies on demand. */
import type { GuestMemory, PageSource, U64 } from "../../api.js";
import { checkFlag, checkInteger, checkMethod, checkOptions, toBytes } from "../../checks.js";
import { DisposedError, MemoryRangeError } from "../../errors.js";
import { toU32, toU64 } from "../checks/numbers.js";
import { lastingBytes } from "../linear/lasting.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import { MemoryRecord, SlotRecord } from "../records/walk.js";
import type { CoreExports } from "../wasm/exports.js";
import { PageCache } from "./page-cache.js";
import { Ram } from "./ram.js";
import { type CoreSlotConfig, checkSlots, type Slot, withoutA20 } from "./slots.js";
import { type GuestText, textOf } from "./text.js";

const PAGE_BYTES = 4096;
const A20 = 2 ** 20;
/** Of a frame number. */
const A20_FRAMES = BigInt(A20 / PAGE_BYTES);
/** 32 MiB. */
const DEFAULT_CACHED_PAGES = 8192;
/** Longest string, in bytes. */
const MOST_TEXT = 2 ** 20;

export interface CoreMemoryConfig {
  readonly slots?: readonly CoreSlotConfig[];
  readonly source?: PageSource;
  /** Most pages of `source` that are kept at once, at least 64. Default 8192 (32 MiB). */
  readonly cachedPages?: number;
  /**
   * Address line 20: false masks bit 20 of every physical address of walks and of accesses through a space, as a PC's gate
   * does where A20M# is asserted: MiB 2n + 1 shows what MiB 2n holds. `read` and `write` of the memory itself are not masked.
   * Default true.
   */
  readonly a20?: boolean;
}

/** What cannot go on without a memory: spaces and virtual machines. */
export interface Dependent {
  dispose(): void;
}

/** RAM slots and, behind them, the pages of a source: a MEMORY record that the core walks through. */
export class CoreMemory implements GuestMemory {
  /** Linear address of the MEMORY record. */
  readonly pointer: number;
  /** Where RAM lies for the processor, `a20` applied. */
  readonly ram: Ram;
  readonly #slots: Slot[];
  readonly #a20: boolean;
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
    checkOptions(config, { slots: true, source: true, cachedPages: true, a20: true }, "the memory's configuration");
    this.#a20 = checkFlag(config.a20, "a20") ?? true;
    if (config.source !== undefined) checkMethod(config.source, "readPage", "source");
    const checked = checkSlots(config.slots ?? [], linear);
    try {
      this.pointer = this.#allocate(MemoryRecord.SIZE);
      this.#slots = checked.map((slot) => ({
        ...slot,
        linear: slot.linear ?? this.#allocate(slot.size, PAGE_BYTES),
      }));
      const mapped = this.#a20 ? this.#slots : withoutA20(this.#slots);
      this.ram = new Ram(mapped);
      this.#publish(mapped);
      if (config.source !== undefined) {
        const pages = config.cachedPages ?? DEFAULT_CACHED_PAGES;
        const frames = this.#a20 ? (gfn: bigint) => gfn : (gfn: bigint) => gfn & ~A20_FRAMES;
        this.#cache = new PageCache(exports, linear, this.pointer, config.source, pages, frames);
      }
    } catch (error) {
      for (const [address, size] of this.#owned) linear.free(address, size);
      throw error;
    }
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
    this.#copy(pieces, bytes);
    return bytes;
  }

  /** Fills `into` from `gpa`; throws what `read` throws, with nothing copied. */
  readInto(gpa: U64, into: Uint8Array | ArrayBufferView | ArrayBufferLike): void {
    const bytes = toBytes(into, "into");
    const target = lastingBytes(bytes, this.linear);
    const pieces = this.#pieces(gpa, bytes.length, true);
    this.requireLive();
    this.#copy(pieces, target());
  }

  /**
   * Copies the bytes from `gpa` up to a NUL, at most `maxLength`. Throws MemoryRangeError where the memory ends before,
   * RangeError for a bad length.
   */
  readString(gpa: U64, maxLength: number): GuestText {
    checkInteger(maxLength, 0, MOST_TEXT, "maxLength", RangeError);
    const first = toU64(gpa, "guest-physical address");
    let bytes = new Uint8Array(0);
    while (bytes.length < maxLength) {
      const at = first + BigInt(bytes.length);
      const page = this.read(at, Math.min(PAGE_BYTES - Number(at & 0xfffn), maxLength - bytes.length));
      const longer = new Uint8Array(bytes.length + page.length);
      longer.set(bytes);
      longer.set(page, bytes.length);
      bytes = longer;
      if (page.includes(0)) break;
    }
    return textOf(bytes);
  }

  /** 8 bits; this and the others throw what `read` and `write` throw, RangeError for a value that does not fit. */
  readU8(gpa: U64): number {
    return this.#view(gpa, 1).getUint8(0);
  }

  readU16(gpa: U64): number {
    return this.#view(gpa, 2).getUint16(0, true);
  }

  readU32(gpa: U64): number {
    return this.#view(gpa, 4).getUint32(0, true);
  }

  readU64(gpa: U64): bigint {
    return this.#view(gpa, 8).getBigUint64(0, true);
  }

  writeU8(gpa: U64, value: number): void {
    this.write(gpa, Uint8Array.of(checkInteger(value, 0, 0xff, "value", RangeError)));
  }

  writeU16(gpa: U64, value: number): void {
    const checked = checkInteger(value, 0, 0xffff, "value", RangeError);
    this.write(gpa, Uint8Array.of(checked, checked >> 8));
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

  /** Whether addresses outside the slots may have something to read: then finding out may call the source. */
  get hasSource(): boolean {
    return this.#cache !== undefined;
  }

  /** What the bus gets for physical address `pa`, an integer below 2^53: without bit 20 where `a20` is false. */
  busAddress(pa: number): number {
    return this.#a20 || Math.floor(pa / A20) % 2 === 0 ? pa : pa - A20;
  }

  /**
   * The bytes of the source's page that holds `pa`, which no slot does; undefined where it has none. Throws what the source
   * throws, DisposedError where it disposed of this memory.
   */
  sourcePage(pa: number): Uint8Array | undefined {
    if (this.#cache === undefined) return undefined;
    const page = new Uint8Array(PAGE_BYTES);
    const present = this.#cache.read(BigInt(Math.floor(this.busAddress(pa) / PAGE_BYTES)), page);
    this.requireLive();
    return present ? page : undefined;
  }

  /** Frees what the memory holds, and disposes of the address spaces over it. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const dependent of this.#dependents) dependent.dispose();
    this.#cache?.dispose();
    for (const [address, size] of this.#owned) this.linear.free(address, size);
  }

  #view(gpa: U64, length: number): DataView {
    return new DataView(this.read(gpa, length).buffer);
  }

  #copy(pieces: readonly Piece[], into: Uint8Array): void {
    let at = 0;
    for (const piece of pieces) {
      into.set(piece.page ?? this.linear.u8.subarray(piece.linear, piece.linear + piece.length), at);
      at += piece.length;
    }
  }

  #allocate(size: number, alignment?: number): number {
    const address = this.linear.allocate(size, alignment);
    this.#owned.push([address, size]);
    return address;
  }

  /** Writes the table of slots, in which there is one record more: an empty slot to start with where there is none. */
  #publish(slots: readonly Slot[]): void {
    const table = this.#allocate(SlotRecord.SIZE * (slots.length + 1));
    slots.forEach((slot, index) => {
      const record = new SlotRecord(this.linear, table + index * SlotRecord.SIZE);
      record.base = slot.gpa;
      record.size = BigInt(slot.size);
      record.linear = slot.linear;
      record.readOnly = slot.readOnly ? 1 : 0;
    });
    const record = new MemoryRecord(this.linear, this.pointer);
    record.slots = table;
    record.slotCount = slots.length;
    record.lastSlot = table;
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
