/**
 * Values of 1 to 8 bytes by linear address, without an object or a bigint where they succeed: for emulators' inner loops.
 * Each is one access of a processor: every page is translated, for a write with its accessed and dirty bits set, before a
 * byte is read or written, so that a fault leaves nothing behind and comes before whatever the other page holds.
 */
import { Access } from "../../abi/index.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import type { CoreMemory } from "../memory/memory.js";
import type { PageWatch } from "../memory/page-watch.js";
import type { Ram } from "../memory/ram.js";
import { bareFault } from "./fault-number.js";
import type { AccessFailure } from "./results.js";
import { faultOrAddress, joined, type Translator } from "./translator.js";

const PAGE_BYTES = 4096;
/**
 * What the fast accesses give where an address was translated but no memory is there for the access: a device's, perhaps.
 * No fault of `translateFast` is as low.
 */
export const NO_MEMORY = -0x8000_0000;

/**
 * An address is two halves of 32 bits, `access` a word of Access flags; neither is checked. A result below 0 is
 * NO_MEMORY, or the fault as `translateFast` gives it, for `decodeFault`: of the page that the access reaches into, if
 * that one faults.
 */
export class FastAccess {
  /** Bits 63:32 of what `readU64` read last. */
  upperHalf = 0;
  /** Of the access that failed last: number of its bytes in front of the first that failed, 0 to 7. */
  failedOffset = 0;
  /** After NO_MEMORY: the physical address of that byte as the bus gets it. */
  failedPa = 0;
  readonly #space: Translator;
  #memory: CoreMemory;
  readonly #linear: LinearMemory;
  #ram: Ram;
  readonly #watch: PageWatch;
  /** The bytes of an access that is not all in one page of RAM. */
  readonly #scratch = new DataView(new ArrayBuffer(8));
  /** The access that failed last, and what it gave; 0 where none has. */
  #failedResult = 0;
  #failedHigh = 0;
  #failedLow = 0;
  #failedAccess = 0;
  #readOnly = false;

  constructor(space: Translator) {
    this.#space = space;
    this.#memory = space.memory;
    this.#linear = space.memory.linear;
    this.#ram = space.memory.ram;
    this.#watch = space.memory.watch;
  }

  /** @internal The space has another memory of the same core. */
  moveTo(memory: CoreMemory): void {
    this.#memory = memory;
    this.#ram = memory.ram;
  }

  /** 0 to 2^8-1, or what is below 0. */
  readU8(high: number, low: number, access: number): number {
    const pa = this.#space.translateFast(high, low, access);
    const ram = this.#ram;
    const at = pa - ram.base;
    if (at >= 0 && at < ram.bytes) return this.#linear.view.getUint8(ram.linear + at);
    return this.#readElsewhere(high, low, access, pa, 1);
  }

  /** 0 to 2^16-1, or what is below 0. */
  readU16(high: number, low: number, access: number): number {
    const pa = this.#space.translateFast(high, low, access);
    const ram = this.#ram;
    const at = pa - ram.base;
    if (at >= 0 && at < ram.bytes && (low & 0xfff) <= 0xffe) return this.#linear.view.getUint16(ram.linear + at, true);
    return this.#readElsewhere(high, low, access, pa, 2);
  }

  /** 0 to 2^32-1, or what is below 0. */
  readU32(high: number, low: number, access: number): number {
    const pa = this.#space.translateFast(high, low, access);
    const ram = this.#ram;
    const at = pa - ram.base;
    if (at >= 0 && at < ram.bytes && (low & 0xfff) <= 0xffc) {
      // Not readWord: V8 has room for so many calls in a loop.
      const place = ram.linear + at;
      if (place << ALIGNED_SHIFT === 0) return this.#linear.u32[place >>> 2]!;
      return this.#linear.view.getUint32(place, true);
    }
    return this.#readElsewhere(high, low, access, pa, 4);
  }

  /** Bits 31:0, 0 to 2^32-1, with bits 63:32 in `upperHalf`; or what is below 0, `upperHalf` left as it was. */
  readU64(high: number, low: number, access: number): number {
    const pa = this.#space.translateFast(high, low, access);
    const ram = this.#ram;
    const at = pa - ram.base;
    if (at >= 0 && at < ram.bytes && (low & 0xfff) <= 0xff8) {
      this.upperHalf = readWord(this.#linear, ram.linear + at + 4);
      return readWord(this.#linear, ram.linear + at);
    }
    return this.#readElsewhere(high, low, access, pa, 8);
  }

  /** Writes bits 7:0 of `value`; `access` is one with Write, whether it says so or not. Returns 0, or what is below 0. */
  writeU8(high: number, low: number, value: number, access: number): number {
    const pa = this.#space.translateFast(high, low, access | Access.Write);
    const ram = this.#ram;
    const at = pa - ram.base;
    if (at >= 0 && at < ram.writable) {
      this.#linear.view.setUint8(ram.linear + at, value);
      if (this.#watch.map !== 0) this.#watch.note(ram.linear + at);
      return 0;
    }
    return this.#writeElsewhere(high, low, value, 0, access, pa, 1);
  }

  /** The same for bits 15:0. */
  writeU16(high: number, low: number, value: number, access: number): number {
    const pa = this.#space.translateFast(high, low, access | Access.Write);
    const ram = this.#ram;
    const at = pa - ram.base;
    if (at >= 0 && at < ram.writable && (low & 0xfff) <= 0xffe) {
      this.#linear.view.setUint16(ram.linear + at, value, true);
      if (this.#watch.map !== 0) this.#watch.note(ram.linear + at);
      return 0;
    }
    return this.#writeElsewhere(high, low, value, 0, access, pa, 2);
  }

  /** The same for bits 31:0. */
  writeU32(high: number, low: number, value: number, access: number): number {
    const pa = this.#space.translateFast(high, low, access | Access.Write);
    const ram = this.#ram;
    const at = pa - ram.base;
    if (at >= 0 && at < ram.writable && (low & 0xfff) <= 0xffc) {
      writeWord(this.#linear, ram.linear + at, value);
      if (this.#watch.map !== 0) this.#watch.note(ram.linear + at);
      return 0;
    }
    return this.#writeElsewhere(high, low, value, 0, access, pa, 4);
  }

  /** The same for two halves of 32 bits. */
  writeU64(high: number, low: number, upper: number, lower: number, access: number): number {
    const pa = this.#space.translateFast(high, low, access | Access.Write);
    const ram = this.#ram;
    const at = pa - ram.base;
    if (at >= 0 && at < ram.writable && (low & 0xfff) <= 0xff8) {
      writeWord(this.#linear, ram.linear + at, lower);
      writeWord(this.#linear, ram.linear + at + 4, upper);
      if (this.#watch.map !== 0) this.#watch.note(ram.linear + at);
      return 0;
    }
    return this.#writeElsewhere(high, low, lower, upper, access, pa, 8);
  }

  /**
   * The last failure with all its details, undefined where no access has failed. A fault's are found by walking again: ask
   * before tables or registers change.
   */
  get failure(): AccessFailure | undefined {
    if (this.#failedResult === 0) return undefined;
    const access = this.#failedAccess;
    const address = this.#addressOf(this.#failedHigh, this.#failedLow, this.failedOffset);
    if (this.#failedResult === NO_MEMORY) {
      const reason = this.#readOnly ? "read-only" : "unbacked";
      return { ok: false, reason, done: 0, address, pa: BigInt(this.failedPa) };
    }
    const result = this.#failedResult;
    const found = faultOrAddress(this.#space, Number(address >> 32n), Number(address & 0xffff_ffffn), access);
    return {
      ok: false,
      reason: "fault",
      done: 0,
      address,
      fault: typeof found === "number" ? bareFault(result, address) : found,
    };
  }

  /** An access whose first byte is at `pa` and that is not all in one page of the slot at hand. */
  #readElsewhere(high: number, low: number, access: number, pa: number, size: number): number {
    const first = Math.min(size, PAGE_BYTES - (low & 0xfff));
    if (pa < 0) return this.#fail(high, low, access, pa, 0);
    const next = first < size ? this.#translateNext(high, low, access) : 0;
    if (next < 0) return this.#fail(high, low, access, next, first);
    // A source may come back here meanwhile.
    const bytes = this.#memory.hasSource ? new DataView(new ArrayBuffer(8)) : this.#scratch;
    if (!this.#gather(bytes, 0, pa, first)) return this.#failMemory(high, low, access, pa, 0, false);
    if (first < size && !this.#gather(bytes, first, next, size - first)) {
      return this.#failMemory(high, low, access, next, first, false);
    }
    if (size === 1) return bytes.getUint8(0);
    if (size === 2) return bytes.getUint16(0, true);
    if (size === 8) this.upperHalf = bytes.getUint32(4, true);
    return bytes.getUint32(0, true);
  }

  #writeElsewhere(
    high: number,
    low: number,
    lower: number,
    upper: number,
    access: number,
    pa: number,
    size: number,
  ): number {
    const write = access | Access.Write;
    const first = Math.min(size, PAGE_BYTES - (low & 0xfff));
    if (pa < 0) return this.#fail(high, low, write, pa, 0);
    const next = first < size ? this.#translateNext(high, low, write) : 0;
    if (next < 0) return this.#fail(high, low, write, next, first);
    const at = this.#writableAt(pa);
    if (at < 0) return this.#failMemory(high, low, write, pa, 0, true);
    const nextAt = first < size ? this.#writableAt(next) : 0;
    if (nextAt < 0) return this.#failMemory(high, low, write, next, first, true);
    this.#scratch.setUint32(0, lower, true);
    this.#scratch.setUint32(4, upper, true);
    const { u8 } = this.#linear;
    for (let i = 0; i < first; i++) u8[at + i] = this.#scratch.getUint8(i);
    for (let i = first; i < size; i++) u8[nextAt + i - first] = this.#scratch.getUint8(i);
    if (this.#watch.map !== 0) {
      this.#watch.note(at);
      if (first < size) this.#watch.note(nextAt);
    }
    return 0;
  }

  /** The page behind that of `high:low`. */
  #translateNext(high: number, low: number, access: number): number {
    const next = ((low | 0xfff) + 1) >>> 0;
    const carried = next !== 0 ? high : this.#space.isNarrow ? 0 : (high + 1) >>> 0;
    return this.#space.translateFast(carried, next, access);
  }

  /** Copies `count` bytes of one page to offset `to`; false where there are none. */
  #gather(bytes: DataView, to: number, pa: number, count: number): boolean {
    const ram = this.#ram;
    if (ram.find(pa)) {
      const from = ram.linear + (pa - ram.base);
      const { u8 } = this.#linear;
      for (let i = 0; i < count; i++) bytes.setUint8(to + i, u8[from + i]!);
      return true;
    }
    const page = this.#memory.sourcePage(pa);
    if (page === undefined) return false;
    for (let i = 0; i < count; i++) bytes.setUint8(to + i, page[(pa % PAGE_BYTES) + i]!);
    return true;
  }

  /** Linear address of RAM that may be written, or -1. */
  #writableAt(pa: number): number {
    const ram = this.#ram;
    return ram.find(pa) && ram.writable !== 0 ? ram.linear + (pa - ram.base) : -1;
  }

  #failMemory(high: number, low: number, access: number, pa: number, offset: number, writing: boolean): number {
    // The source may be asked, and may come back here: what failed is noted afterwards.
    const readOnly = writing && (this.#ram.find(pa) || this.#memory.sourcePage(pa) !== undefined);
    this.#readOnly = readOnly;
    this.failedPa = this.#memory.busAddress(pa);
    return this.#fail(high, low, access, NO_MEMORY, offset);
  }

  #fail(high: number, low: number, access: number, result: number, offset: number): number {
    this.#failedHigh = high;
    this.#failedLow = low;
    this.#failedAccess = access;
    this.#failedResult = result;
    this.failedOffset = offset;
    return result;
  }

  /** `offset` bytes behind `high:low`. */
  #addressOf(high: number, low: number, offset: number): bigint {
    return BigInt.asUintN(this.#space.isNarrow ? 32 : 64, joined(high, low) + BigInt(offset));
  }
}

/** Shifted left by this, the low two bits of an address are all that is left. */
const ALIGNED_SHIFT = 30;

/** 32 bits at linear address `at`: aligned ones without the view, which takes longer. */
function readWord(linear: LinearMemory, at: number): number {
  return at << ALIGNED_SHIFT === 0 ? linear.u32[at >>> 2]! : linear.view.getUint32(at, true);
}

function writeWord(linear: LinearMemory, at: number, value: number): void {
  if (at << ALIGNED_SHIFT === 0) linear.u32[at >>> 2] = value;
  else linear.view.setUint32(at, value, true);
}
