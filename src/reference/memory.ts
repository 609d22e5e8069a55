/** Guest-physical memory: RAM slots, pages of a source behind them, nothing elsewhere. */
import type { GuestMemory, MemoryConfig, PageSource, SlotConfig, U64 } from "../api.js";
import { checkFlag, checkMethod, checkOptions, isArray, show, toBytes } from "../checks.js";
import { ConfigError, MemoryRangeError, PageSourceError, ReadOnlyMemoryError } from "../errors.js";
import { configU64, hex, toU32, toU64 } from "./values.js";

const PAGE_SIZE = 4096;
/** Guest-physical addresses have at most 52 bits. */
const MEMORY_END = 1n << 52n;

interface Slot {
  /** First address and first address after it. Below 2^52, so exact as numbers. */
  readonly start: number;
  readonly end: number;
  readonly readOnly: boolean;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** What holds an address: a view, and where in it the address lies. */
interface Place {
  readonly view: DataView;
  readonly offset: number;
  readonly writable: boolean;
}

export class PhysicalMemory implements GuestMemory {
  readonly #slots: readonly Slot[];
  readonly #source: PageSource | undefined;
  /** Pages that the source has given, and the frames that it does not have. */
  readonly #pages = new Map<number, DataView | undefined>();

  constructor(config: MemoryConfig) {
    checkOptions(config, { slots: true, source: true }, "the memory's configuration");
    if (config.source !== undefined) checkMethod(config.source, "readPage", "source");
    this.#slots = makeSlots(config.slots ?? []);
    this.#source = config.source;
  }

  /** The entry of 4 or 8 bytes at `address` (aligned), undefined where the memory has nothing. */
  readEntry(address: bigint, bytes: 4 | 8): bigint | undefined {
    const place = this.#find(address);
    if (place === undefined) return undefined;
    return bytes === 8 ? place.view.getBigUint64(place.offset, true) : BigInt(place.view.getUint32(place.offset, true));
  }

  /**
   * Sets bits of the entry at `address`, as the processor does to mark it accessed or dirty.
   * Read-only slots and pages of a source are left alone: they behave as a ROM.
   */
  setEntryBits(address: bigint, bytes: 4 | 8, mask: bigint): void {
    const place = this.#find(address);
    if (place === undefined || !place.writable) return;
    if (bytes === 8) {
      place.view.setBigUint64(place.offset, place.view.getBigUint64(place.offset, true) | mask, true);
    } else {
      place.view.setUint32(place.offset, place.view.getUint32(place.offset, true) | Number(mask), true);
    }
  }

  write(gpa: U64, data: Uint8Array | ArrayBufferView | ArrayBufferLike): void {
    const bytes = toBytes(data);
    const start = toU64(gpa, "gpa");
    const slot = this.#slots.find(
      (candidate) => start >= BigInt(candidate.start) && start + BigInt(bytes.length) <= BigInt(candidate.end),
    );
    if (slot !== undefined) {
      slot.bytes.set(bytes, Number(start) - slot.start);
      return;
    }
    // The range may cross from one slot into the next: check all of it before the first byte changes.
    const places = [...bytes].map((_, index) => this.#writable(start + BigInt(index)));
    places.forEach((place, index) => {
      place.view.setUint8(place.offset, bytes[index]!);
    });
  }

  read(gpa: U64, length: number): Uint8Array {
    if (!Number.isSafeInteger(length) || length < 0) {
      throw new RangeError(`length is ${show(length)}: expected a non-negative integer`);
    }
    const start = toU64(gpa, "gpa");
    const end = start + BigInt(length);
    // Every page must exist before anything is allocated: `length` may be absurd.
    for (let page = start - (start % 4096n); page < end; page += 4096n) {
      if (this.#find(page) === undefined)
        throw new MemoryRangeError(`no memory at ${hex(page > start ? page : start)}`);
    }
    const into = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const place = this.#find(start + BigInt(done))!;
      const take = Math.min(length - done, PAGE_SIZE - Number((start + BigInt(done)) % 4096n));
      into.set(new Uint8Array(place.view.buffer, place.view.byteOffset + place.offset, take), done);
      done += take;
    }
    return into;
  }

  writeU32(gpa: U64, value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, toU32(value, "value"), true);
    this.write(gpa, bytes);
  }

  readU32(gpa: U64): number {
    const bytes = this.read(gpa, 4);
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  writeU64(gpa: U64, value: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, toU64(value, "value"), true);
    this.write(gpa, bytes);
  }

  readU64(gpa: U64): bigint {
    const bytes = this.read(gpa, 8);
    return new DataView(bytes.buffer).getBigUint64(0, true);
  }

  #writable(address: bigint): Place {
    const place = this.#findSlot(address);
    if (place !== undefined) return place;
    if (this.#findPage(address) === undefined) throw new MemoryRangeError(`no memory slot at ${hex(address)}`);
    throw new ReadOnlyMemoryError(`${hex(address)} is a page of the memory's source, which is only read`);
  }

  #find(address: bigint): Place | undefined {
    return this.#findSlot(address) ?? this.#findPage(address);
  }

  #findSlot(address: bigint): Place | undefined {
    if (address >= MEMORY_END) return undefined;
    const at = Number(address);
    for (const slot of this.#slots) {
      if (at >= slot.start && at < slot.end) {
        return { view: slot.view, offset: at - slot.start, writable: !slot.readOnly };
      }
    }
    return undefined;
  }

  #findPage(address: bigint): Place | undefined {
    if (this.#source === undefined || address >= MEMORY_END) return undefined;
    const frame = Number(address >> 12n);
    let page = this.#pages.get(frame);
    if (page === undefined && !this.#pages.has(frame)) {
      const into = new Uint8Array(PAGE_SIZE);
      const present: unknown = this.#source.readPage(BigInt(frame), into);
      if (typeof present !== "boolean") {
        throw new PageSourceError(`readPage(${hex(frame)}n) returned ${show(present)}, expected true or false`);
      }
      if (present) page = new DataView(into.buffer);
      this.#pages.set(frame, page);
    }
    return page === undefined ? undefined : { view: page, offset: Number(address & 0xfffn), writable: false };
  }
}

function makeSlots(configs: readonly SlotConfig[]): Slot[] {
  if (!isArray(configs)) throw new ConfigError(`slots is ${show(configs)}: expected an array`);
  const ranges = configs.map((config: SlotConfig, index) => {
    checkOptions(config, { gpa: true, size: true, readOnly: true }, `slots[${index}]`);
    const gpa = configU64(config.gpa, `slots[${index}].gpa`);
    if (gpa % 4096n !== 0n) throw new ConfigError(`slots[${index}].gpa is ${hex(gpa)}: expected a multiple of 4096`);
    const { size } = config;
    if (!Number.isSafeInteger(size) || size <= 0 || size % PAGE_SIZE !== 0) {
      throw new ConfigError(`slots[${index}].size is ${show(size)}: expected a positive multiple of 4096`);
    }
    if (gpa + BigInt(size) > MEMORY_END) {
      throw new ConfigError(`slots[${index}] ends at ${hex(gpa + BigInt(size))}: expected at most 2^52`);
    }
    return {
      start: Number(gpa),
      end: Number(gpa) + size,
      readOnly: checkFlag(config.readOnly, `slots[${index}].readOnly`) ?? false,
    };
  });
  ranges.sort((a, b) => a.start - b.start);
  ranges.forEach((range, index) => {
    const previous = ranges[index - 1];
    if (previous !== undefined && previous.end > range.start) {
      throw new ConfigError(`slots overlap at ${hex(range.start)}`);
    }
  });
  return ranges.map((range) => {
    const bytes = new Uint8Array(range.end - range.start);
    return { ...range, bytes, view: new DataView(bytes.buffer) };
  });
}
