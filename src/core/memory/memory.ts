/** Guest-physical memory in linear memory: RAM slots, and pages that a source supplies on demand. */
import type { GuestMemory, PageSource, Releasable, U64 } from "../../api.js";
import { checkFlag, checkInteger, checkMethod, checkOptions, toBytes } from "../../checks.js";
import { ConfigError, DisposedError, MemoryRangeError, ReadOnlyMemoryError } from "../../errors.js";
import { toU64 } from "../checks/numbers.js";
import { lastingBytes } from "../linear/lasting.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import { MemoryRecord } from "../records/walk.js";
import type { CoreExports } from "../wasm/exports.js";
import { maskAddress, maskFrame, maskSlots } from "./a20.js";
import { mergeSlots } from "./merge-slots.js";
import { PageCache } from "./page-cache.js";
import type { PageWatch } from "./page-watch.js";
import { Ram } from "./ram.js";
import {
  type CheckedSlot,
  type CoreSlotConfig,
  checkSlot,
  checkSlots,
  PAGE_BYTES,
  type Slot,
  sortSlots,
} from "./slot-config.js";
import { SlotTable } from "./slot-table.js";
import { PhysicalValues } from "./values.js";

/** 32 MiB. */
const DEFAULT_CACHED_PAGES = 8192;

/** RAM slots, or a source of pages. */
export interface CoreMemoryConfig {
  readonly slots?: readonly CoreSlotConfig[];
  readonly source?: PageSource;
  /** Most pages of `source` that are kept at once, at least 64. Default 8192 (32 MiB). */
  readonly cachedPages?: number;
  /**
   * Address line 20: false holds it low as a PC's gate does (A20M#), so that bit 20 is masked of every physical address
   * of walks and of accesses through a space; MiB 2n + 1 shows what MiB 2n holds. `read` and `write` of the memory itself
   * show RAM as it is. Default true.
   */
  readonly a20?: boolean;
}

/** What cannot go on without a memory: spaces. */
export interface Dependent {
  dispose(): void;
  /** Slots, or what pages of the source hold, are others now. */
  memoryChanged(): void;
}

/** RAM slots and, behind them, the pages of a source: a MEMORY record that the core walks through. */
export class CoreMemory extends PhysicalValues implements GuestMemory, Releasable {
  /** Linear address of the MEMORY record. */
  readonly pointer: number;
  /** @internal Where RAM lies for the processor: `a20` is applied. */
  readonly ram = new Ram();
  readonly #record: MemoryRecord;
  #slots: readonly Slot[] = [];
  #table: SlotTable | undefined;
  /** Changes of slots so far. */
  #version = 0;
  readonly #cache: PageCache | undefined;
  readonly #dependents = new Set<Dependent>();
  #a20: boolean;
  #disposed = false;

  /** Throws ConfigError for misaligned or overlapping slots, OutOfMemoryError where they do not fit. */
  constructor(
    exports: CoreExports,
    readonly linear: LinearMemory,
    config: CoreMemoryConfig,
    /** @internal Pages of linear memory whose writes are noted. */
    readonly watch: PageWatch,
  ) {
    super();
    checkOptions(config, { slots: true, source: true, cachedPages: true, a20: true }, "the memory's configuration");
    this.#a20 = checkFlag(config.a20, "a20") ?? true;
    if (config.source !== undefined) checkMethod(config.source, "readPage", "source");
    const checked = checkSlots(config.slots ?? [], linear);
    this.pointer = linear.allocate(MemoryRecord.SIZE);
    this.#record = new MemoryRecord(linear, this.pointer);
    try {
      if (config.source !== undefined) {
        const pages = config.cachedPages ?? DEFAULT_CACHED_PAGES;
        const frames = (gfn: bigint) => (this.#a20 ? gfn : maskFrame(gfn));
        this.#cache = new PageCache(exports, linear, this.pointer, config.source, pages, frames);
      }
      this.#replace(checked);
    } catch (error) {
      this.#cache?.dispose();
      linear.free(this.pointer, MemoryRecord.SIZE);
      throw error;
    }
  }

  /** The slots, in ascending order of address; `linear` is where a slot's RAM lies. */
  get slots(): readonly Required<CoreSlotConfig>[] {
    return this.#slots.map(({ gpa, size, linear, readOnly, window }) => ({ gpa, size, linear, readOnly, window }));
  }

  /** Whether address line 20 works. */
  get a20(): boolean {
    return this.#a20;
  }

  /**
   * Opens (true) or closes the gate of address line 20: spaces over this memory see it at once. Throws ConfigError for no
   * boolean.
   */
  set a20(enabled: boolean) {
    this.requireLive();
    const before = this.#a20;
    this.#a20 = checkFlag(enabled, "a20") ?? true;
    if (this.#a20 === before) return;
    try {
      this.#replace(this.#slots);
    } catch (error) {
      this.#a20 = before;
      throw error;
    }
    this.#cache?.forget();
  }

  /** @internal What a saved state is made of (src/core/state). */
  parts(): { readonly slots: readonly Slot[]; readonly cachedPages: number | undefined } {
    this.requireLive();
    return { slots: this.#slots, cachedPages: this.#cache?.limit };
  }

  /**
   * @internal Has the slots and the gate that were saved, and nothing of the source any more. RAM of its own stays where a slot
   * of that size begins at the same address. Throws OutOfMemoryError with nothing changed.
   */
  adopt(wanted: readonly CheckedSlot[], a20: boolean): void {
    this.requireLive();
    const before = this.#a20;
    this.#a20 = a20;
    try {
      this.#replace(wanted.map((slot) => this.#keeping(slot)));
    } catch (error) {
      this.#a20 = before;
      throw error;
    }
    this.#cache?.forget();
  }

  /** The slot with the RAM that one of now has, if they are alike. */
  #keeping(slot: CheckedSlot): CheckedSlot {
    if (!slot.owned) return slot;
    const own = this.#slots.find((one) => one.owned && one.gpa === slot.gpa && one.size === slot.size);
    return own === undefined ? slot : { ...slot, linear: own.linear };
  }

  /** @internal Changes of slots so far: what `ram` said before one is no longer true. */
  get version(): number {
    return this.#version;
  }

  /**
   * Adds a slot, which spaces over this memory see at once. Throws ConfigError for a slot that cannot be or that overlaps
   * another, OutOfMemoryError where it does not fit; nothing has changed then.
   */
  addSlot(config: CoreSlotConfig): void {
    this.requireLive();
    this.#replace([...this.#slots, checkSlot(config, "the slot", this.linear)]);
  }

  /** Removes the slot at `gpa`, and RAM that was allocated for it. Throws ConfigError where no slot begins there. */
  removeSlot(gpa: U64): void {
    const slot = this.#slotAt(gpa);
    this.#replace(this.#slots.filter((one) => one !== slot));
  }

  /**
   * Moves, resizes or protects the slot at `gpa`, or puts other RAM behind it: what is not named stays. RAM that was
   * allocated for the slot keeps its bytes, and gets zeros where it grows. Throws as `addSlot` and `removeSlot`, with nothing
   * changed.
   */
  changeSlot(gpa: U64, changes: Partial<CoreSlotConfig>): void {
    const slot = this.#slotAt(gpa);
    checkOptions(
      changes,
      { gpa: true, size: true, readOnly: true, linear: true, window: true },
      "the change of a slot",
    );
    const { owned, ...now } = slot;
    const { linear: place = owned ? undefined : now.linear, ...others } = { ...now, linear: undefined, ...changes };
    const wanted = checkSlot({ ...others, ...(place !== undefined && { linear: place }) }, "the slot", this.linear);
    const keeps = wanted.owned && wanted.size === slot.size;
    this.#replace(
      this.#slots.map((one) => (one !== slot ? one : keeps ? { ...wanted, linear: slot.linear } : wanted)),
      slot,
    );
  }

  /** Throws ConfigError where no slot begins. */
  #slotAt(gpa: U64): Slot {
    this.requireLive();
    const at = toU64(gpa, "address of the slot", ConfigError);
    const slot = this.#slots.find((one) => one.gpa === at);
    if (slot === undefined) throw new ConfigError(`no slot begins at 0x${at.toString(16)}`);
    return slot;
  }

  /** Takes other slots; of `resized` the bytes are kept. Throws ConfigError and OutOfMemoryError with nothing changed. */
  #replace(wanted: readonly CheckedSlot[], resized?: Slot): void {
    const fresh: Slot[] = [];
    let table: SlotTable;
    let slots: Slot[];
    let seen: Slot[];
    try {
      slots = sortSlots([...wanted]).map((slot) => {
        if (slot.linear !== undefined) return { ...slot, linear: slot.linear };
        const made = { ...slot, linear: this.linear.allocate(slot.size, PAGE_BYTES) };
        fresh.push(made);
        return made;
      });
      seen = mergeSlots(this.#a20 ? slots : maskSlots(slots));
      table = new SlotTable(this.linear, seen);
    } catch (error) {
      for (const { linear, size } of fresh) this.linear.free(linear, size);
      throw error;
    }
    const [grown] = fresh;
    if (resized?.owned && grown !== undefined) {
      const bytes = Math.min(resized.size, grown.size);
      this.linear.u8.copyWithin(grown.linear, resized.linear, resized.linear + bytes);
      this.watch.move(resized.linear, grown.linear, bytes);
    }
    const old = { slots: this.#slots, table: this.#table };
    this.#slots = slots;
    this.#table = table;
    this.#version++;
    table.publish(this.#record);
    this.ram.replace(seen);
    old.table?.dispose();
    for (const { owned, linear, size } of old.slots) {
      if (owned && !slots.some((slot) => slot.linear === linear)) this.#free(linear, size);
    }
    this.#tellDependents();
  }

  /**
   * The source holds something else at frame `gfn` now (a live target's page): it is read again when it is needed, and the
   * software TLBs of spaces over this memory are empty. Throws RangeError for what is no frame number.
   */
  invalidatePage(gfn: U64): void {
    this.requireLive();
    this.#cache?.invalidate(toU64(gfn, "frame number"));
    this.#tellDependents();
  }

  /** RAM of the memory's own. */
  #free(linear: number, size: number): void {
    this.watch.unwatch(linear, size);
    this.linear.free(linear, size);
  }

  /**
   * Notes from now on which of the pages that a range touches are written: by walks that set accessed and dirty flags, by
   * `data` of a space, by `write` and its like. What else writes RAM, an emulator's own code for one, is not seen. It is the
   * RAM that is watched, through whichever memory of this core it is written, until `unwatchWrites` or the RAM goes. Throws
   * MemoryRangeError where a byte lies in no slot, RangeError for a bad length, OutOfMemoryError where the notes do not fit
   * (a byte for each 4 KiB of linear memory); nothing has changed then.
   */
  watchWrites(gpa: U64, length: number): void {
    for (const { linear, length: bytes } of this.#watchable(gpa, length)) this.watch.watch(linear, bytes);
  }

  /** Ends that. Throws MemoryRangeError and RangeError as `watchWrites`. */
  unwatchWrites(gpa: U64, length: number): void {
    for (const { linear, length: bytes } of this.#watchable(gpa, length)) this.watch.unwatch(linear, bytes);
  }

  /**
   * Frame numbers of the watched pages of this memory that were written since they were last taken, in ascending order. They
   * stay watched. `Core.writtenPages` says for less whether there are any.
   */
  takeWritten(): bigint[] {
    this.requireLive();
    const frames: bigint[] = [];
    for (const { gpa, linear, size } of this.#slots) {
      if (this.watch.written === 0) break;
      for (const page of this.watch.take(linear, size)) frames.push((gpa >> 12n) + BigInt(page));
    }
    return frames;
  }

  #watchable(gpa: U64, length: number): Piece[] {
    checkInteger(length, 0, Number.MAX_SAFE_INTEGER, "length", RangeError);
    return this.#pieces(gpa, length, false);
  }

  #tellDependents(): void {
    for (const dependent of this.#dependents) dependent.memoryChanged();
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

  /** @internal A space is done with the memory. */
  detach(dependent: Dependent): void {
    this.#dependents.delete(dependent);
  }

  /** Throws DisposedError after `dispose`. */
  requireLive(): void {
    if (this.#disposed) throw new DisposedError("the memory was disposed of");
  }

  /**
   * Copies `data` to `gpa`: the bytes of a buffer, or of any view of one. Throws MemoryRangeError, with nothing written,
   * where a byte lies outside the slots or in one that shows the core's own memory, ReadOnlyMemoryError where it is the
   * source's; TypeError for data of another kind.
   */
  write(gpa: U64, data: Uint8Array | ArrayBufferView | ArrayBufferLike): void {
    const bytes = toBytes(data);
    let at = 0;
    for (const piece of this.#pieces(gpa, bytes.length, false)) {
      this.linear.u8.set(bytes.subarray(at, at + piece.length), piece.linear);
      if (this.watch.map !== 0) this.watch.noteRange(piece.linear, piece.length);
      at += piece.length;
    }
  }

  /**
   * Copies `length` bytes from `gpa`. Throws MemoryRangeError where a byte lies neither in a slot nor in the source,
   * RangeError for a bad length.
   */
  read(gpa: U64, length: number): Uint8Array {
    checkInteger(length, 0, Number.MAX_SAFE_INTEGER, "length", RangeError);
    const pieces = this.#piecesToRead(gpa, length);
    const bytes = new Uint8Array(length);
    this.#copy(pieces, bytes);
    return bytes;
  }

  /**
   * Fills a buffer, or a view of one, from `gpa`. Throws what `read` throws, with nothing copied; TypeError for anything
   * else.
   */
  readInto(gpa: U64, into: Uint8Array | ArrayBufferView | ArrayBufferLike): void {
    const bytes = toBytes(into, "into");
    const target = lastingBytes(bytes, this.linear);
    const pieces = this.#piecesToRead(gpa, bytes.length);
    this.#copy(pieces, target());
  }

  /** @internal Whether addresses outside the slots may have something to read: finding out calls the source then. */
  get hasSource(): boolean {
    return this.#cache !== undefined;
  }

  /** @internal What the bus gets for physical address `pa`, an integer below 2^53. */
  busAddress(pa: number): number {
    return this.#a20 ? pa : maskAddress(pa);
  }

  /**
   * @internal The bytes of the source's page that holds `pa`, which no slot does; undefined where it has none. Throws
   * what the source throws, DisposedError where it disposed of this memory.
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
    this.#table?.dispose();
    for (const { owned, linear, size } of this.#slots) if (owned) this.#free(linear, size);
    this.linear.free(this.pointer, MemoryRecord.SIZE);
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** The pieces of a range as it is after the source was asked, which may have done anything. */
  #piecesToRead(gpa: U64, length: number): Piece[] {
    while (true) {
      const version = this.#version;
      const pieces = this.#pieces(gpa, length, true);
      this.requireLive();
      if (version === this.#version) return pieces;
    }
  }

  #copy(pieces: readonly Piece[], into: Uint8Array): void {
    let at = 0;
    for (const piece of pieces) {
      into.set(piece.page ?? this.linear.u8.subarray(piece.linear, piece.linear + piece.length), at);
      at += piece.length;
    }
  }

  /** Where the bytes of a guest-physical range are, page by page at most; every one is found before this returns. */
  #pieces(gpa: U64, length: number, reading: boolean): Piece[] {
    this.requireLive();
    let at = toU64(gpa, "guest-physical address");
    let left = length;
    const pieces: Piece[] = [];
    while (left > 0) {
      const piece = this.#slotPiece(at, left, reading) ?? (reading ? this.#sourcePiece(at, left) : undefined);
      if (piece === undefined) throw this.#refusal(at, reading);
      pieces.push(piece);
      at += BigInt(piece.length);
      left -= piece.length;
    }
    return pieces;
  }

  /** Why there is nothing to read, or nothing that may be written. */
  #refusal(at: bigint, reading: boolean): MemoryRangeError {
    const place = `guest-physical address 0x${at.toString(16)}`;
    if (reading || this.#sourcePiece(at, 1) === undefined)
      return new MemoryRangeError(`${place} is not backed by memory`);
    return new ReadOnlyMemoryError(`${place} is a page of the memory's source, which is only read`);
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
