/** What accesses through a space should give, from `translate` and from where memory is; byte by byte. */
import type { AccessFailure, CopyResult, CoreMemory, CoreSpace, RangeFault, RangeRun } from "../../src/core/index.js";
import { Access, type Translation } from "../../src/index.js";
import { isOfSource, isRam, isReadOnly } from "./access-guest.js";

export class AccessModel {
  constructor(
    readonly memory: CoreMemory,
    readonly space: CoreSpace,
    /** Bits of an address. */
    readonly width: number,
  ) {}

  read(address: bigint, length: number, access: number): { result: CopyResult; bytes: number[] } {
    const bytes: number[] = [];
    for (let done = 0; done < length; done++) {
      const found = this.#byte(address, done, access, false);
      if (typeof found !== "bigint") return { result: { ...found, done }, bytes };
      bytes.push(this.memory.readU8(found));
    }
    return { result: { ok: true, done: length }, bytes };
  }

  readString(address: bigint, most: number, access: number) {
    const bytes: number[] = [];
    for (let done = 0; done < most; done++) {
      const found = this.#byte(address, done, access, false);
      if (typeof found !== "bigint") {
        // What is in front of the page that failed.
        return { result: { ...found, done }, bytes, terminated: false };
      }
      const byte = this.memory.readU8(found);
      if (byte === 0) return { result: { ok: true as const, done: done + 1 }, bytes, terminated: true };
      bytes.push(byte);
    }
    return { result: { ok: true as const, done: most }, bytes, terminated: false };
  }

  write(address: bigint, bytes: Uint8Array, access: number): CopyResult {
    const places: bigint[] = [];
    for (let at = 0; at < bytes.length; at++) {
      const found = this.#byte(address, at, access | Access.Write, true);
      if (typeof found !== "bigint") return found;
      places.push(found);
    }
    places.forEach((place, at) => {
      this.memory.writeU8(place, bytes[at]!);
    });
    return { ok: true, done: bytes.length };
  }

  /** One access of a processor: faults come first. */
  readValue(address: bigint, size: number, access: number): AccessFailure | bigint {
    const fault = this.#anyFault(address, size, access);
    if (fault !== undefined) return fault;
    const { result, bytes } = this.read(address, size, access);
    if (!result.ok) return { ...result, done: 0 };
    return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  }

  writeValue(address: bigint, size: number, value: bigint, access: number): CopyResult {
    const fault = this.#anyFault(address, size, access | Access.Write);
    if (fault !== undefined) return fault;
    const bytes = Uint8Array.from({ length: size }, (_, at) => Number((value >> BigInt(8 * at)) & 0xffn));
    return this.write(address, bytes, access);
  }

  /** Page by page of 4 KiB. */
  range(address: bigint, length: bigint, access: number): (RangeRun | RangeFault)[] {
    const runs: (RangeRun | RangeFault)[] = [];
    for (let done = 0n; done < length; ) {
      const at = this.#wrapped(address + done);
      const piece = 4096n - (at & 0xfffn) < length - done ? 4096n - (at & 0xfffn) : length - done;
      const found = this.space.translate(at, access);
      if (!found.ok) return [...runs, { ok: false, address: at, left: length - done, fault: found }];
      const last = runs.at(-1);
      if (last?.ok && last.address + last.length === at && last.pa + last.length === found.pa) {
        runs[runs.length - 1] = { ...last, length: last.length + piece };
      } else runs.push({ ok: true, address: at, pa: found.pa, length: piece });
      done += piece;
    }
    return runs;
  }

  #wrapped(address: bigint): bigint {
    return BigInt.asUintN(this.width, address);
  }

  #anyFault(address: bigint, size: number, access: number): AccessFailure | undefined {
    for (let at = 0; at < size; at++) {
      const place = this.#wrapped(address + BigInt(at));
      const found: Translation = this.space.translate(place, access);
      if (!found.ok) return { ok: false, reason: "fault", done: 0, address: place, fault: found };
    }
    return undefined;
  }

  /** Where byte `at` lies, for one that the access may have. */
  #byte(address: bigint, at: number, access: number, writing: boolean): bigint | AccessFailure {
    const place = this.#wrapped(address + BigInt(at));
    const found = this.space.translate(place, access);
    if (!found.ok) return { ok: false, reason: "fault", done: 0, address: place, fault: found };
    const frame = Number(found.pa >> 12n);
    if (isRam(frame)) return found.pa;
    const readable = isReadOnly(frame) || isOfSource(frame);
    if (readable && !writing) return found.pa;
    return { ok: false, reason: readable ? "read-only" : "unbacked", done: 0, address: place, pa: found.pa };
  }
}
