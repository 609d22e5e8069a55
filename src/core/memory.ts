/** Guest-physical memory in linear memory: RAM slots, or a sparse read-only memory whose pages are read on demand. */
import { CODES, MEMORY, PAGE, SLOT } from "../abi/index.js";
import type { GuestMemory, PageSource, SlotConfig, U64 } from "../api.js";
import { ConfigError, MemoryRangeError, UnsupportedError } from "../errors.js";
import type { CoreExports } from "./exports.js";
import type { LinearMemory } from "./linear-memory.js";
import { toU32, toU64 } from "./numbers.js";
import { RecordType } from "./record.js";

const PAGE_BYTES = 4096;
const memoryRecord = new RecordType(MEMORY);
const slotRecord = new RecordType(SLOT);
const pageRecord = new RecordType(PAGE);

/** A slot whose RAM may already lie in the caller's own linear memory. */
export interface CoreSlotConfig extends SlotConfig {
  /** Linear address of RAM that is there already; nothing is copied. Absent: zeroed RAM is allocated. */
  readonly linear?: number;
}

export interface CoreMemoryConfig {
  readonly slots?: readonly CoreSlotConfig[];
  readonly source?: PageSource;
  /** Most pages of `source` that are kept at once, at least 64. Default 16384 (64 MiB). */
  readonly cachedPages?: number;
}

interface Slot {
  readonly gpa: bigint;
  readonly size: number;
  readonly linear: number;
  readonly owned: boolean;
  readonly readOnly: boolean;
}

/** What RAM and sparse memories have in common: a MEMORY record that the core walks through. */
export abstract class CoreMemory implements GuestMemory {
  /** Linear address of the MEMORY record. */
  readonly pointer: number;
  #disposed = false;

  protected constructor(
    protected readonly exports: CoreExports,
    readonly linear: LinearMemory,
    pointer: number,
  ) {
    this.pointer = pointer;
  }

  abstract write(gpa: U64, bytes: Uint8Array): void;
  abstract read(gpa: U64, length: number): Uint8Array;
  protected abstract release(): void;

  /**
   * Reads the page that a walk found missing. Only a sparse memory has such pages.
   * Throws what the source throws.
   */
  supply(_gfn: bigint): void {
    throw new UnsupportedError("this memory has no source of pages");
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
    const bytes = this.read(gpa, 4);
    return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  }

  readU64(gpa: U64): bigint {
    const bytes = this.read(gpa, 8);
    return new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  }

  /** Frees what the memory holds; address spaces over it must not be used any more. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.release();
    this.linear.free(this.pointer, memoryRecord.size);
  }
}

/** RAM in slots. */
export class RamMemory extends CoreMemory {
  readonly #slots: Slot[];
  readonly #slotTable: number;

  /** Throws ConfigError for misaligned or overlapping slots, OutOfMemoryError where RAM cannot be allocated. */
  constructor(exports: CoreExports, linear: LinearMemory, configs: readonly CoreSlotConfig[]) {
    const checked = checkSlots(configs, linear);
    const taken: [address: number, size: number][] = [];
    const take = (size: number, alignment?: number) => {
      const address = linear.allocate(size, alignment);
      taken.push([address, size]);
      return address;
    };
    try {
      const pointer = take(memoryRecord.size);
      const slots = checked.map((slot) => ({
        ...slot,
        owned: slot.linear === undefined,
        linear: slot.linear ?? take(slot.size, PAGE_BYTES),
      }));
      // One record more than there are slots: an empty slot to start with where there is none.
      const slotTable = take(slotRecord.size * (slots.length + 1));
      super(exports, linear, pointer);
      this.#slots = slots;
      this.#slotTable = slotTable;
    } catch (error) {
      for (const [address, size] of taken) linear.free(address, size);
      throw error;
    }
    this.#slots.forEach((slot, index) => {
      const record = this.#slotTable + index * slotRecord.size;
      slotRecord.set64(linear, record, "BASE", slot.gpa);
      slotRecord.set64(linear, record, "SIZE", BigInt(slot.size));
      slotRecord.set32(linear, record, "LINEAR", slot.linear);
      slotRecord.set32(linear, record, "READ_ONLY", slot.readOnly ? 1 : 0);
    });
    memoryRecord.set32(linear, this.pointer, "SLOTS", this.#slotTable);
    memoryRecord.set32(linear, this.pointer, "SLOT_COUNT", this.#slots.length);
    memoryRecord.set32(linear, this.pointer, "LAST_SLOT", this.#slotTable);
  }

  /** Copies `bytes` to `gpa`. Throws MemoryRangeError, with nothing written, where a byte lies outside the slots. */
  write(gpa: U64, bytes: Uint8Array): void {
    const pieces = this.#pieces(gpa, bytes.length);
    let at = 0;
    for (const [address, length] of pieces) {
      this.linear.u8.set(bytes.subarray(at, at + length), address);
      at += length;
    }
  }

  read(gpa: U64, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    let at = 0;
    for (const [address, size] of this.#pieces(gpa, length)) {
      bytes.set(this.linear.u8.subarray(address, address + size), at);
      at += size;
    }
    return bytes;
  }

  protected release(): void {
    for (const slot of this.#slots) if (slot.owned) this.linear.free(slot.linear, slot.size);
    this.linear.free(this.#slotTable, slotRecord.size * (this.#slots.length + 1));
  }

  /** Linear ranges of a guest-physical range; adjoining slots are crossed. */
  #pieces(gpa: U64, length: number): [address: number, length: number][] {
    let at = toU64(gpa, "guest-physical address");
    let left = length;
    const pieces: [number, number][] = [];
    while (left > 0) {
      const slot = this.#slots.find((one) => at >= one.gpa && at < one.gpa + BigInt(one.size));
      if (slot === undefined) {
        throw new MemoryRangeError(`guest-physical address 0x${at.toString(16)} lies in no slot`);
      }
      const offset = Number(at - slot.gpa);
      const size = Math.min(left, slot.size - offset);
      pieces.push([slot.linear + offset, size]);
      at += BigInt(size);
      left -= size;
    }
    return pieces;
  }
}

type CheckedSlot = Omit<Slot, "linear" | "owned"> & { linear: number | undefined };

function checkSlots(configs: readonly CoreSlotConfig[], linear: LinearMemory): CheckedSlot[] {
  const slots = configs.map((config) => {
    const gpa = toU64(config.gpa, "slot address");
    const name = `slot at 0x${gpa.toString(16)}`;
    if (gpa % BigInt(PAGE_BYTES) !== 0n || gpa >> 52n !== 0n) {
      throw new ConfigError(`${name}: expected a multiple of 4096 below 2^52`);
    }
    if (!Number.isSafeInteger(config.size) || config.size <= 0 || config.size % PAGE_BYTES !== 0) {
      throw new ConfigError(`${name}: size is ${config.size}, expected a positive multiple of 4096`);
    }
    if (config.linear !== undefined) {
      const inside = config.linear >= 0 && config.linear + config.size <= linear.memory.buffer.byteLength;
      if (!Number.isInteger(config.linear) || config.linear % PAGE_BYTES !== 0 || !inside) {
        throw new ConfigError(`${name}: linear is ${config.linear}, expected a multiple of 4096 inside the memory`);
      }
    }
    return { gpa, size: config.size, linear: config.linear, readOnly: config.readOnly ?? false };
  });
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

/** Pages of a source, read when a walk first needs them. Never written, so accessed and dirty bits stay. */
export class SparseMemory extends CoreMemory {
  readonly #source: PageSource;
  readonly #limit: number;
  /** Pages of the pool in the order in which they were allocated, reused from the start after a flush. */
  readonly #pool: number[] = [];
  #used = 0;
  #entries = 0;
  #table: number;
  #capacity = 256;

  constructor(exports: CoreExports, linear: LinearMemory, source: PageSource, cachedPages = 16384) {
    if (!Number.isInteger(cachedPages) || cachedPages < 64) {
      throw new ConfigError(`cachedPages is ${cachedPages}, expected an integer of at least 64`);
    }
    const pointer = linear.allocate(memoryRecord.size + slotRecord.size);
    super(exports, linear, pointer);
    this.#source = source;
    this.#limit = cachedPages;
    try {
      this.#table = linear.allocate(this.#capacity * pageRecord.size);
    } catch (error) {
      linear.free(pointer, memoryRecord.size + slotRecord.size);
      throw error;
    }
    // The slot behind the record is empty: `resolve` always falls through to the page table.
    memoryRecord.set32(linear, pointer, "LAST_SLOT", pointer + memoryRecord.size);
    memoryRecord.set32(linear, pointer, "SPARSE", 1);
    this.#publishTable();
  }

  override supply(gfn: bigint): void {
    const page = new Uint8Array(PAGE_BYTES);
    const present = this.#source.readPage(gfn, page);
    if (this.#used === this.#limit || this.#entries >= this.#limit * 4) this.#flush();
    if ((this.#entries + 1) * 2 > this.#capacity) this.#rehash(this.#capacity * 2);
    let address: number = CODES.NO_MEMORY;
    if (present) {
      address = this.#pool[this.#used] ?? this.#allocatePage();
      this.#used++;
      this.linear.u8.set(page, address);
    }
    this.exports.insertPage(this.pointer, gfn, address);
    this.#entries++;
  }

  write(_gpa: U64, _bytes: Uint8Array): void {
    throw new UnsupportedError("a memory that is read from a source cannot be written");
  }

  read(gpa: U64, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    const page = new Uint8Array(PAGE_BYTES);
    let at = toU64(gpa, "guest-physical address");
    for (let done = 0; done < length; ) {
      const offset = Number(at % BigInt(PAGE_BYTES));
      const size = Math.min(length - done, PAGE_BYTES - offset);
      if (!this.#source.readPage(at / BigInt(PAGE_BYTES), page)) {
        throw new MemoryRangeError(`guest-physical address 0x${at.toString(16)} is not in the source`);
      }
      bytes.set(page.subarray(offset, offset + size), done);
      done += size;
      at += BigInt(size);
    }
    return bytes;
  }

  protected release(): void {
    for (const address of this.#pool) this.linear.free(address, PAGE_BYTES);
    this.linear.free(this.#table, this.#capacity * pageRecord.size);
    this.linear.free(this.pointer + memoryRecord.size, slotRecord.size);
  }

  #allocatePage(): number {
    const address = this.linear.allocate(PAGE_BYTES, PAGE_BYTES);
    this.#pool.push(address);
    return address;
  }

  /** Forgets every page; walks hold no pointers between calls. */
  #flush(): void {
    this.linear.u8.fill(0, this.#table, this.#table + this.#capacity * pageRecord.size);
    this.#used = 0;
    this.#entries = 0;
  }

  #rehash(capacity: number): void {
    const table = this.linear.allocate(capacity * pageRecord.size);
    const [oldTable, oldCapacity] = [this.#table, this.#capacity];
    this.#table = table;
    this.#capacity = capacity;
    this.#publishTable();
    for (let index = 0; index < oldCapacity; index++) {
      const record = oldTable + index * pageRecord.size;
      const key = pageRecord.get64(this.linear, record, "KEY");
      if (key === 0n) continue;
      this.exports.insertPage(this.pointer, key - 1n, pageRecord.get32(this.linear, record, "LINEAR"));
    }
    this.linear.free(oldTable, oldCapacity * pageRecord.size);
  }

  #publishTable(): void {
    memoryRecord.set32(this.linear, this.pointer, "PAGES", this.#table);
    memoryRecord.set32(this.linear, this.pointer, "PAGE_MASK", this.#capacity - 1);
  }
}
