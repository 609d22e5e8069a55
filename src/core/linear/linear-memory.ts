/** The linear memory: its views, refreshed in one place, and the allocator of the part that belongs to the core. */
import { checkInteger, checkOptions } from "../../checks.js";
import { ConfigError, OutOfMemoryError } from "../../errors.js";
import type { WasmMemory } from "../../platform.js";

const PAGE = 65536;
/** Every allocation is a multiple of this, so that 8-byte fields are aligned for atomic access. */
const GRAIN = 16;
/** Memory grows by this share of its size more than is needed, */
const SPARE_SHARE = 16;
/** but by no more than this many pages (32 MiB). */
const MOST_SPARE = 512;
/** The first bytes stay unused, so that no record has address 0. */
const FIRST = 64;

const HINT = "dispose() of memories, spaces, buffers and virtual machines that are done gives back what they hold";

/** Part of a caller's memory that the core may use, in bytes: both multiples of 16. */
export interface Region {
  readonly base: number;
  readonly size: number;
}

/** Bytes from `start` up to, not including, `end`. */
interface Range {
  start: number;
  end: number;
}

/** Where something lay, in bytes. */
export interface Place {
  readonly address: number;
  readonly size: number;
}

/** Views and allocation over one WebAssembly.Memory. */
export class LinearMemory {
  #buffer: ArrayBufferLike;
  readonly #shared: boolean;
  #u8: Uint8Array;
  #u16: Uint16Array;
  #u32: Uint32Array;
  #u64: BigUint64Array;
  #view: DataView;
  /** Free ranges in ascending order, never adjacent. */
  readonly #gaps: Range[];
  /** What is the core's: the region, or the memory that it began with and what it grew by itself. */
  readonly #own: Range[];
  /** Parts of that which callers may use as RAM. */
  readonly #lent: Range[] = [];
  readonly #growable: boolean;
  /** Everything from here on is as growing made it, zero: nothing was ever allocated there. */
  #untouched: number;
  /** Where allocations of these sizes go, if that is free. */
  #places: Place[] = [];

  constructor(
    readonly memory: WasmMemory,
    region?: Region,
  ) {
    const length = memory.buffer.byteLength;
    const { base, size } = region === undefined ? { base: 0, size: length } : checkRegion(region, length);
    this.#own = [{ start: base, end: base + size }];
    this.#growable = region === undefined;
    this.#untouched = length;
    const start = Math.max(base, FIRST);
    this.#gaps = [{ start, end: Math.max(start, base + size) }];
    if (region !== undefined) claim(memory, { start: base, end: base + size });
    this.#buffer = memory.buffer;
    this.#shared = !(memory.buffer instanceof ArrayBuffer);
    this.#u8 = new Uint8Array(this.#buffer);
    this.#u16 = new Uint16Array(this.#buffer);
    this.#u32 = new Uint32Array(this.#buffer);
    this.#u64 = new BigUint64Array(this.#buffer);
    this.#view = new DataView(this.#buffer);
  }

  get u8(): Uint8Array {
    this.#refresh();
    return this.#u8;
  }

  get u16(): Uint16Array {
    this.#refresh();
    return this.#u16;
  }

  get u32(): Uint32Array {
    this.#refresh();
    return this.#u32;
  }

  get u64(): BigUint64Array {
    this.#refresh();
    return this.#u64;
  }

  /** For values at addresses that need not be aligned. */
  get view(): DataView {
    this.#refresh();
    return this.#view;
  }

  /**
   * Growing detaches every view, whoever grew the memory: they have no length then. Views of a shared memory stay as they
   * are, too short. (`memory.buffer` alone would tell, but asking for it takes longer than most of what follows.)
   */
  #refresh(): void {
    if (!this.#shared && this.#u32.length !== 0) return;
    if (this.#buffer === this.memory.buffer) return;
    this.#buffer = this.memory.buffer;
    this.#u8 = new Uint8Array(this.#buffer);
    this.#u16 = new Uint16Array(this.#buffer);
    this.#u32 = new Uint32Array(this.#buffer);
    this.#u64 = new BigUint64Array(this.#buffer);
    this.#view = new DataView(this.#buffer);
  }

  /**
   * Allocates `size` zeroed bytes at a multiple of `alignment` (a power of two, at least 16).
   * Throws OutOfMemoryError, with nothing changed, where neither a gap nor growth can hold them.
   */
  allocate(size: number, alignment = GRAIN): number {
    const bytes = rounded(size);
    let address = this.#takePlace(bytes, alignment) ?? this.#take(bytes, alignment);
    if (address === undefined) {
      this.#grow(bytes + alignment);
      address = this.#take(bytes, alignment);
    }
    if (address === undefined) throw new OutOfMemoryError(`${bytes} bytes of linear memory are not free; ${HINT}`);
    // Filling what is zero would take a page of real memory for each that is never used.
    const end = address + bytes;
    if (address < this.#untouched) this.u8.fill(0, address, Math.min(end, this.#untouched));
    this.#untouched = Math.max(this.#untouched, end);
    return address;
  }

  /** While `build` runs, what it allocates goes to the first of these places that has its size and is free. */
  atPlaces<T>(places: readonly Place[], build: () => T): T {
    const outer = this.#places;
    this.#places = [...places];
    try {
      return build();
    } finally {
      this.#places = outer;
    }
  }

  #takePlace(bytes: number, alignment: number): number | undefined {
    const index = this.#places.findIndex(({ size }) => rounded(size) === bytes);
    const [place] = index === -1 ? [] : this.#places.splice(index, 1);
    if (place === undefined) return undefined;
    const { address } = place;
    if (address % alignment !== 0) return undefined;
    const missing = address + bytes - this.memory.buffer.byteLength;
    if (missing > 0 && this.#growable) this.#growBy(Math.ceil(missing / PAGE));
    const at = this.#gaps.findIndex((gap) => gap.start <= address && gap.end >= address + bytes);
    if (at === -1) return undefined;
    this.#split(at, address, bytes);
    return address;
  }

  /** Gives back what `allocate(size)` returned. */
  free(address: number, size: number): void {
    const end = address + rounded(size);
    let index = this.#gaps.findIndex((gap) => gap.start >= end);
    if (index === -1) index = this.#gaps.length;
    const before = this.#gaps[index - 1];
    const after = this.#gaps[index];
    const joinsBefore = before !== undefined && before.end === address;
    const joinsAfter = after !== undefined && after.start === end;
    if (joinsBefore && joinsAfter) {
      before.end = after.end;
      this.#gaps.splice(index, 1);
    } else if (joinsBefore) before.end = end;
    else if (joinsAfter) after.start = address;
    else this.#gaps.splice(index, 0, { start: address, end });
  }

  /** The same for RAM that a caller may use as it likes, also in slots of other memories. */
  lend(size: number, alignment: number): number {
    const address = this.allocate(size, alignment);
    this.#lent.push({ start: address, end: address + size });
    return address;
  }

  /** Gives back what `lend(size)` returned. */
  takeBack(address: number, size: number): void {
    const at = this.#lent.findIndex((one) => one.start === address);
    if (at !== -1) this.#lent.splice(at, 1);
    this.free(address, size);
  }

  /** Whether the core keeps records, tables or other RAM in these bytes, or may put some there. */
  keeps(address: number, size: number): boolean {
    const end = address + size;
    if (this.#lent.some((one) => address >= one.start && end <= one.end)) return false;
    return this.#own.some((one) => address < one.end && end > one.start);
  }

  /** Bytes that are free without growing. */
  get freeBytes(): number {
    return this.#gaps.reduce((sum, gap) => sum + gap.end - gap.start, 0);
  }

  #take(bytes: number, alignment: number): number | undefined {
    for (let index = 0; index < this.#gaps.length; index++) {
      const gap = this.#gaps[index]!;
      const address = Math.ceil(gap.start / alignment) * alignment;
      if (address + bytes > gap.end) continue;
      this.#split(index, address, bytes);
      return address;
    }
    return undefined;
  }

  /** Takes `bytes` at `address` out of a gap. */
  #split(index: number, address: number, bytes: number): void {
    const gap = this.#gaps[index]!;
    const kept = [];
    if (address > gap.start) kept.push({ start: gap.start, end: address });
    if (gap.end > address + bytes) kept.push({ start: address + bytes, end: gap.end });
    this.#gaps.splice(index, 1, ...kept);
  }

  /** Growing detaches every view and takes long where the memory is large, so there is some to spare afterwards. */
  #grow(bytes: number): void {
    if (!this.#growable) return;
    const least = Math.ceil(bytes / PAGE);
    const length = this.memory.buffer.byteLength;
    const spare = Math.min(Math.ceil(length / SPARE_SHARE / PAGE), MOST_SPARE);
    if (!this.#growBy(least + spare) && !this.#growBy(least)) {
      throw new OutOfMemoryError(`linear memory of ${length} bytes cannot grow by ${least * PAGE} bytes; ${HINT}`);
    }
  }

  /** Only what this very call added is the core's: whoever else grew the memory keeps what that added. */
  #growBy(pages: number): boolean {
    let start: number;
    try {
      start = this.memory.grow(pages) * PAGE;
    } catch {
      return false;
    }
    const last = this.#own[this.#own.length - 1]!;
    if (last.end === start) last.end += pages * PAGE;
    else this.#own.push({ start, end: start + pages * PAGE });
    this.free(start, pages * PAGE);
    return true;
  }
}

/** What an allocation of `size` takes. */
function rounded(size: number): number {
  return Math.ceil(Math.max(size, 1) / GRAIN) * GRAIN;
}

function checkRegion(region: Region, length: number): Region {
  checkOptions(region, { base: true, size: true }, "region");
  checkInteger(region.base, 0, length, "region.base");
  checkInteger(region.size, 0, length, "region.size");
  if (region.base % GRAIN !== 0 || region.size % GRAIN !== 0) {
    throw new ConfigError(`region ${region.base}+${region.size}: expected multiples of ${GRAIN}`);
  }
  if (region.base + region.size <= length) return region;
  throw new ConfigError(`region ${region.base}+${region.size} lies outside the memory of ${length} bytes`);
}

/** Regions that cores have, by the memory that they are part of. */
const CLAIMS = new WeakMap<WebAssembly.Memory, Range[]>();

/** Throws ConfigError where another core has some of these bytes. */
function claim(memory: WebAssembly.Memory, range: Range): void {
  const claims = CLAIMS.get(memory) ?? [];
  const other = claims.find((one) => range.start < one.end && range.end > one.start);
  if (other !== undefined) {
    throw new ConfigError(
      `region ${range.start}+${range.end - range.start} overlaps ${other.start}+${other.end - other.start}, which another core has: dispose() of that one first`,
    );
  }
  claims.push(range);
  CLAIMS.set(memory, claims);
}

/** The bytes from `base` on are no core's any more. */
export function unclaim(memory: WasmMemory, base: number): void {
  const claims = CLAIMS.get(memory) ?? [];
  const at = claims.findIndex((one) => one.start === base);
  if (at !== -1) claims.splice(at, 1);
}
