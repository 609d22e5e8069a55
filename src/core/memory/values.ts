/** Values and strings of guest-physical memory, from its bytes. */
import type { U64 } from "../../api.js";
import { checkInteger } from "../../checks.js";
import { toU32, toU64 } from "../checks/numbers.js";
import { PAGE_BYTES } from "./slot-config.js";
import { type GuestText, textOf } from "./text.js";

/** Longest string, in bytes. */
const MOST_TEXT = 2 ** 20;

/**
 * Little-endian values of 1 to 8 bytes at any guest-physical address. They throw what `read` and `write` throw, and
 * RangeError for a value that does not fit.
 */
export abstract class PhysicalValues {
  abstract read(gpa: U64, length: number): Uint8Array;
  abstract write(gpa: U64, data: Uint8Array): void;

  /** Little-endian, at any alignment. Throws MemoryRangeError outside of the memory. */
  readU8(gpa: U64): number {
    return this.#view(gpa, 1).getUint8(0);
  }

  /** Little-endian, at any alignment. Throws MemoryRangeError outside of the memory. */
  readU16(gpa: U64): number {
    return this.#view(gpa, 2).getUint16(0, true);
  }

  /** Little-endian, at any alignment. Throws MemoryRangeError outside of the memory. */
  readU32(gpa: U64): number {
    return this.#view(gpa, 4).getUint32(0, true);
  }

  /** Little-endian, at any alignment. Throws MemoryRangeError outside of the memory. */
  readU64(gpa: U64): bigint {
    return this.#view(gpa, 8).getBigUint64(0, true);
  }

  /** Little-endian, at any alignment. Throws MemoryRangeError outside of the memory. */
  writeU8(gpa: U64, value: number): void {
    this.write(gpa, Uint8Array.of(checkInteger(value, 0, 0xff, "value", RangeError)));
  }

  /** Little-endian, at any alignment. Throws MemoryRangeError outside of the memory. */
  writeU16(gpa: U64, value: number): void {
    const checked = checkInteger(value, 0, 0xffff, "value", RangeError);
    this.write(gpa, Uint8Array.of(checked, checked >> 8));
  }

  /** Little-endian, at any alignment. Throws MemoryRangeError outside of the memory. */
  writeU32(gpa: U64, value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, toU32(value, "value"), true);
    this.write(gpa, bytes);
  }

  /** Little-endian, at any alignment. Throws MemoryRangeError outside of the memory. */
  writeU64(gpa: U64, value: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, toU64(value, "value"), true);
    this.write(gpa, bytes);
  }

  /**
   * The bytes from `gpa` up to a NUL, at most `maxLength` (at most 2^20). Throws what `read` throws where the memory ends
   * before, RangeError for another length.
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

  #view(gpa: U64, length: number): DataView {
    return new DataView(this.read(gpa, length).buffer);
  }
}
