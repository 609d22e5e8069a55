/** Reading and writing guest memory by linear address, with every check and a result that says how far it went. */
import { Access } from "../../abi/index.js";
import type { Fault, U64 } from "../../api.js";
import { checkInteger, toBytes } from "../../checks.js";
import { checkAccess } from "../checks/access.js";
import { toU32, toU64 } from "../checks/numbers.js";
import { lastingBytes } from "../linear/lasting.js";
import type { CoreMemory } from "../memory/memory.js";
import { textOf } from "../memory/text.js";
import { Cursor } from "./cursor.js";
import { FastAccess } from "./fast-access.js";
import type {
  AccessFailure,
  CopyResult,
  FaultFailure,
  MemoryFailure,
  ReadResult,
  TextResult,
  ValueResult,
} from "./results.js";
import { faultOrAddress, type Translator } from "./translator.js";

const PAGE_BYTES = 4096;
/** Most bytes of one `read` or `readString`. */
const MOST_BYTES = 2 ** 30;
/** What `read` begins with where it is asked for more: what is not mapped takes no room. */
const FIRST_BYTES = 2 ** 16;

/**
 * The memory of a space, by its linear addresses (guest-physical ones of an EPT or NPT space). `access` is a word of
 * Access flags as for `translate`, for a write one with Write, whether it says so or not; with Probe no accessed or dirty
 * bit is set. What has an address throws RangeError for what is no 64-bit address and for a bad access, ConfigError for a
 * linear address above 32 bits outside long mode, and what the page source throws. After the last address comes 0.
 *
 * A value is one access of a processor: both of its pages are translated before a byte is looked at. What copies bytes
 * goes page by page, and its first byte that fails is the one reported; a write has translated every page before it
 * stores a byte. Pages that were translated before the failing one have their accessed bits, and of a write dirty bits,
 * set.
 */
export class SpaceMemory {
  /** The same for values in two halves and without results that are objects. */
  readonly fast: FastAccess;
  readonly #space: Translator;
  #memory: CoreMemory;

  constructor(space: Translator) {
    this.#space = space;
    this.#memory = space.memory;
    this.fast = new FastAccess(space);
  }

  /** @internal The space has another memory of the same core. */
  moveTo(memory: CoreMemory): void {
    this.#memory = memory;
    this.fast.moveTo(memory);
  }

  /**
   * Reads `length` bytes, at most 2^30. Of a failed read `bytes` are those in front of the byte that failed. Throws
   * RangeError for another length.
   */
  read(address: U64, length: number, access: number = Access.Read): ReadResult {
    checkInteger(length, 0, MOST_BYTES, "length", RangeError);
    let bytes = new Uint8Array(Math.min(length, FIRST_BYTES));
    const result = this.#copy(address, length, access, (end) => {
      if (end > bytes.length) {
        const longer = new Uint8Array(Math.min(length, bytes.length * 2));
        longer.set(bytes);
        bytes = longer;
      }
      return bytes;
    });
    return { ...result, bytes: result.done === bytes.length ? bytes : bytes.slice(0, result.done) };
  }

  /** Fills a buffer, or a view of one; of a failed read the first `done` bytes of it. Throws TypeError for anything else. */
  readInto(
    address: U64,
    into: Uint8Array | ArrayBufferView | ArrayBufferLike,
    access: number = Access.Read,
  ): CopyResult {
    const bytes = toBytes(into, "into");
    return this.#copy(address, bytes.length, access, lastingBytes(bytes, this.#memory.linear));
  }

  /**
   * Reads up to a NUL, at most `maxLength` bytes (at most 2^30); pages behind the NUL are not touched. No NUL in
   * `maxLength` bytes is no failure: `terminated` is false. Throws RangeError for another length.
   */
  readString(address: U64, maxLength: number, access: number = Access.Read): TextResult {
    checkInteger(maxLength, 0, MOST_BYTES, "maxLength", RangeError);
    const cursor = this.#cursor(address, access);
    let bytes = new Uint8Array(0);
    let done = 0;
    while (done < maxLength) {
      const count = Math.min(cursor.bytesInPage, maxLength - done);
      if (done + count > bytes.length) {
        const longer = new Uint8Array(Math.min(maxLength, Math.max(done + count, bytes.length * 2)));
        longer.set(bytes);
        bytes = longer;
      }
      const failure = this.#copyPage(cursor, access, count, () => bytes, done);
      if (failure !== undefined) return { ...failure, ...textOf(bytes.slice(0, done)) };
      const nul = bytes.subarray(done, done + count).indexOf(0);
      if (nul !== -1) return { ok: true, done: done + nul + 1, ...textOf(bytes.slice(0, done + nul + 1)) };
      done += count;
      cursor.advance(count);
    }
    return { ok: true, done, ...textOf(bytes.slice(0, done)) };
  }

  /**
   * Writes the bytes of a buffer, or of a view of one: all of them or none, whatever their number. Throws TypeError for
   * data of another kind.
   */
  write(address: U64, data: Uint8Array | ArrayBufferView | ArrayBufferLike, access: number = Access.Write): CopyResult {
    const bytes = toBytes(data, "data");
    const { length } = bytes;
    const asWrite = writing(access);
    const { linear, watch } = this.#memory;
    const given = lastingBytes(bytes, linear);
    let runs: number[] | AccessFailure;
    let memory: CoreMemory;
    let version: number;
    do {
      memory = this.#memory;
      version = memory.version;
      runs = this.#runsToWrite(this.#cursor(address, asWrite), length, asWrite);
      // The source may have changed slots meanwhile, or given the space another memory.
    } while (memory !== this.#memory || version !== memory.version);
    if (!Array.isArray(runs)) return runs;
    // Nothing calls anybody from here on. Bytes of linear memory may lie where others are written.
    let from = given();
    if (!(from.buffer instanceof ArrayBuffer) || from.buffer === linear.memory.buffer) from = from.slice();
    let start = 0;
    for (let i = 0; i < runs.length; i += 2) {
      linear.u8.set(from.subarray(start, runs[i + 1]!), runs[i]!);
      if (watch.map !== 0) watch.noteRange(runs[i]!, runs[i + 1]! - start);
      start = runs[i + 1]!;
    }
    return { ok: true, done: length };
  }

  /** Translates every page: of each run of RAM its linear address, and how many bytes end with it. */
  #runsToWrite(cursor: Cursor, length: number, access: number): number[] | AccessFailure {
    const { ram } = this.#memory;
    const runs: number[] = [];
    for (let done = 0; done < length; ) {
      const pa = this.#translate(cursor, access, 0);
      if (typeof pa !== "number") return pa;
      if (!ram.find(pa) || ram.writable === 0) return this.#noMemory(cursor, pa, 0, true);
      const at = ram.linear + (pa - ram.base);
      const count = Math.min(cursor.bytesInPage, length - done);
      const last = runs.length - 2;
      const start = last >= 2 ? runs[last - 1]! : 0;
      done += count;
      if (last >= 0 && runs[last]! + (runs[last + 1]! - start) === at) runs[last + 1] = done;
      else runs.push(at, done);
      cursor.advance(count);
    }
    return runs;
  }

  /** Little-endian, across pages too. A fault or a device is a result, not an exception. */
  readU8(address: U64, access: number = Access.Read): ValueResult<number> {
    return this.#value(this.fast.readU8(this.#high(address, access), lowHalf(address), access));
  }

  /** Little-endian, across pages too. A fault or a device is a result, not an exception. */
  readU16(address: U64, access: number = Access.Read): ValueResult<number> {
    return this.#value(this.fast.readU16(this.#high(address, access), lowHalf(address), access));
  }

  /** Little-endian, across pages too. A fault or a device is a result, not an exception. */
  readU32(address: U64, access: number = Access.Read): ValueResult<number> {
    return this.#value(this.fast.readU32(this.#high(address, access), lowHalf(address), access));
  }

  /** Little-endian, across pages too. A fault or a device is a result, not an exception. */
  readU64(address: U64, access: number = Access.Read): ValueResult<bigint> {
    const lower = this.fast.readU64(this.#high(address, access), lowHalf(address), access);
    if (lower < 0) return this.fast.failure!;
    return { ok: true, value: (BigInt(this.fast.upperHalf) << 32n) | BigInt(lower) };
  }

  /** Writes 8 bits, all or nothing. This and the others throw RangeError for a value that does not fit. */
  writeU8(address: U64, value: number, access: number = Access.Write): CopyResult {
    checkInteger(value, 0, 0xff, "value", RangeError);
    const high = this.#high(address, writing(access));
    return this.#written(this.fast.writeU8(high, lowHalf(address), value, access), 1);
  }

  /** Little-endian, across pages too. A fault or a device is a result, not an exception. */
  writeU16(address: U64, value: number, access: number = Access.Write): CopyResult {
    checkInteger(value, 0, 0xffff, "value", RangeError);
    const high = this.#high(address, writing(access));
    return this.#written(this.fast.writeU16(high, lowHalf(address), value, access), 2);
  }

  /** Little-endian, across pages too. A fault or a device is a result, not an exception. */
  writeU32(address: U64, value: number, access: number = Access.Write): CopyResult {
    toU32(value, "value");
    const high = this.#high(address, writing(access));
    return this.#written(this.fast.writeU32(high, lowHalf(address), value, access), 4);
  }

  /** `value` may be a number up to 2^53-1. */
  writeU64(address: U64, value: U64, access: number = Access.Write): CopyResult {
    const whole = toU64(value, "value");
    const high = this.#high(address, writing(access));
    return this.#written(this.fast.writeU64(high, lowHalf(address), highHalf(whole), lowHalf(whole), access), 8);
  }

  /** Checks address and access, before anything is done. */
  #high(address: U64, access: number): number {
    checkAccess(access);
    if (typeof address === "bigint" || !Number.isSafeInteger(address) || address < 0) toU64(address, "address");
    return highHalf(address);
  }

  #value(value: number): ValueResult<number> {
    return value < 0 ? this.fast.failure! : { ok: true, value };
  }

  #written(result: number, bytes: number): CopyResult {
    return result < 0 ? this.fast.failure! : { ok: true, done: bytes };
  }

  #cursor(address: U64, access: number): Cursor {
    const at = toU64(address, "address");
    checkAccess(access);
    return new Cursor(at, this.#space.isNarrow);
  }

  /** Copies page by page; `target` gives an array of at least so many bytes, anew each time. */
  #copy(address: U64, length: number, access: number, target: (end: number) => Uint8Array): CopyResult {
    const cursor = this.#cursor(address, access);
    for (let done = 0; done < length; ) {
      const count = Math.min(cursor.bytesInPage, length - done);
      const failure = this.#copyPage(cursor, access, count, target, done);
      if (failure !== undefined) return failure;
      done += count;
      cursor.advance(count);
    }
    return { ok: true, done: length };
  }

  /** `count` bytes of one page to offset `done` of the target. */
  #copyPage(
    cursor: Cursor,
    access: number,
    count: number,
    target: (end: number) => Uint8Array,
    done: number,
  ): AccessFailure | undefined {
    const pa = this.#translate(cursor, access, done);
    if (typeof pa !== "number") return pa;
    const { ram, linear } = this.#memory;
    if (ram.find(pa)) {
      const from = ram.linear + (pa - ram.base);
      target(done + count).set(linear.u8.subarray(from, from + count), done);
      return undefined;
    }
    const page = this.#memory.sourcePage(pa);
    if (page === undefined) return this.#noMemory(cursor, pa, done, false);
    const offset = pa % PAGE_BYTES;
    target(done + count).set(page.subarray(offset, offset + count), done);
    return undefined;
  }

  #translate(cursor: Cursor, access: number, done: number): number | FaultFailure {
    const pa = this.#space.translateFast(cursor.high, cursor.low, access);
    if (pa >= 0) return pa;
    const found: number | Fault = faultOrAddress(this.#space, cursor.high, cursor.low, access);
    if (typeof found === "number") return found;
    return { ok: false, reason: "fault", done, address: cursor.address, fault: found };
  }

  #noMemory(cursor: Cursor, pa: number, done: number, writing: boolean): MemoryFailure {
    const { address } = cursor;
    const readOnly = writing && (this.#memory.ram.find(pa) || this.#memory.sourcePage(pa) !== undefined);
    const reason = readOnly ? "read-only" : "unbacked";
    return { ok: false, reason, done, address, pa: BigInt(this.#memory.busAddress(pa)) };
  }
}

/** The access as one with Write, checked before and after. */
function writing(access: number): number {
  return checkAccess(checkAccess(access) | Access.Write);
}

function highHalf(value: U64): number {
  return typeof value === "number" ? Math.floor(value / 2 ** 32) : Number(value >> 32n);
}

function lowHalf(value: U64): number {
  return typeof value === "number" ? value >>> 0 : Number(value & 0xffff_ffffn);
}
