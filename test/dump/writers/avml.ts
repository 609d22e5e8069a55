/** Writes AVML's compressed format (microsoft/avml, src/image.rs) with snappy's framing format (framing_format.txt). */
import { concat, limeRange } from "../builders.js";

export interface AvmlOptions {
  magic?: number;
  version?: number;
  /** Bytes of a chunk; 65,536 at most. */
  chunk?: number;
  /** Chunks that are stored as they are. */
  stored?: boolean;
}

/** A range: LiME's header with another magic, the snappy stream, its length. */
export function avmlRange(gpa: bigint, bytes: Uint8Array, options: AvmlOptions = {}): Uint8Array {
  const { magic = 0x4c4d5641, version = 2, chunk = 65536, stored = false } = options;
  const parts: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += chunk) {
    const data = bytes.subarray(at, at + chunk);
    parts.push(frame(stored ? 1 : 0, concat(u32(masked(crc32c(data))), stored ? data : literals(data))));
  }
  const stream = concat(frame(0xff, new TextEncoder().encode("sNaPpY")), ...parts);
  const length = new DataView(new ArrayBuffer(8));
  length.setBigUint64(0, BigInt(stream.length), true);
  const header = limeRange(gpa, bytes, { magic, version }).subarray(0, 32);
  return concat(header, stream, new Uint8Array(length.buffer));
}

export function frame(kind: number, data: Uint8Array): Uint8Array {
  return concat(Uint8Array.of(kind, data.length % 256, Math.floor(data.length / 256) % 256, data.length >> 16), data);
}

/** Snappy's raw format: literals of up to 60 bytes, and copies of the byte before, of up to 64. */
function literals(bytes: Uint8Array): Uint8Array {
  const length: number[] = [];
  for (let rest = bytes.length; ; rest = Math.floor(rest / 128)) {
    length.push((rest % 128) + (rest >= 128 ? 128 : 0));
    if (rest < 128) break;
  }
  const out: Uint8Array[] = [Uint8Array.from(length)];
  /** How many bytes from `at` on repeat the one before. */
  const repeats = (at: number) => {
    let count = 0;
    while (at > 0 && count < 64 && at + count < bytes.length && bytes[at + count] === bytes[at - 1]) count++;
    return count;
  };
  for (let at = 0; at < bytes.length; ) {
    const count = repeats(at);
    if (count >= 4) {
      out.push(Uint8Array.of((count - 1) * 4 + 2, 1, 0));
      at += count;
      continue;
    }
    let end = at + 1;
    while (end < bytes.length && end - at < 60 && repeats(end) < 4) end++;
    out.push(Uint8Array.of((end - at - 1) * 4), bytes.subarray(at, end));
    at = end;
  }
  return concat(...out);
}

function u32(value: number): Uint8Array {
  return Uint8Array.of(value % 256, (value >>> 8) % 256, (value >>> 16) % 256, value >>> 24);
}

/** Bit by bit, from the polynomial of RFC 3720, "iSCSI CRC". */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

function masked(crc: number): number {
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}
