/**
 * What a processor asked of its MMU while a guest booted: a stream of accesses, page-table edits, register writes and
 * invalidations, recorded by an emulator that ran it (README.md), in a file of columns.
 */
import { gunzipSync, gzipSync } from "node:zlib";
import { Access } from "../../src/abi/index.js";

export const OP = { access: 0, edit: 1, cr3: 2, invlpg: 3, invpcid: 4, registers: 5, fault: 6 } as const;

/** By operation; what an operation has no use for is 0. */
export interface BootStream {
  readonly count: number;
  readonly op: Uint8Array;
  /** Access flags of accesses and of faults; the type of INVPCID. */
  readonly access: Uint8Array;
  /** Halves of the linear address, that of its page: accesses, faults, INVLPG, INVPCID. */
  readonly high: Uint32Array;
  readonly low: Uint32Array;
  /** CR3 as it is written, bit 63 included; the entry of an edit; PCID of INVPCID; CR0 with CR4 in bits 63:32; error code. */
  readonly value: BigUint64Array;
  /** Guest-physical address of an edited entry; EFER. */
  readonly place: Uint32Array;
  /** A hash of the frames that accesses led to, after each 65,536 operations and at the end. */
  readonly hashes: Uint32Array;
}

const MAGIC = "X86BOOT1";
/** Pages that a column names by how recently they came. */
const RECENT = 64;
const OTHER = 255;
/** Flags that an access may have, by the bit of its code. */
const FLAGS = [Access.Write, Access.User, Access.Fetch, Access.Ac];
const CODES = 16;
export const HASHED = 65536;

/** FNV-1a over 32-bit words. */
export function hashFrame(hash: number, frame: number): number {
  return Math.imul(hash ^ frame, 0x01000193);
}
export const FIRST_HASH = 0x811c9dc5 | 0;

function codeOf(access: number): number {
  return FLAGS.reduce((code, flag, bit) => code | (access & flag ? 1 << bit : 0), 0);
}

function accessOf(code: number): number {
  return FLAGS.reduce((access, flag, bit) => access | (code & (1 << bit) ? flag : 0), 0);
}

/** Bytes that grow. */
class Column {
  #bytes: Uint8Array = new Uint8Array(1024);
  #length = 0;
  #at = 0;

  static of(bytes: Uint8Array): Column {
    const column = new Column();
    column.#bytes = bytes;
    column.#length = bytes.length;
    return column;
  }

  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  put(byte: number): void {
    if (this.#length === this.#bytes.length) {
      const longer = new Uint8Array(this.#length * 2);
      longer.set(this.#bytes);
      this.#bytes = longer;
    }
    this.#bytes[this.#length++] = byte;
  }

  /** An integer below 2^53 of either sign. */
  putSigned(value: number): void {
    let rest = value < 0 ? -value * 2 - 1 : value * 2;
    for (; rest >= 128; rest = Math.floor(rest / 128)) this.put((rest % 128) + 128);
    this.put(rest);
  }

  putU64(value: bigint): void {
    for (let byte = 0n; byte < 8n; byte++) this.put(Number((value >> (byte * 8n)) & 0xffn));
  }

  take(): number {
    if (this.#at === this.#length) throw new RangeError("the boot stream is cut short");
    return this.#bytes[this.#at++]!;
  }

  takeSigned(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.take();
      value += (byte % 128) * scale;
      if (byte < 128) return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
    }
  }

  takeU64(): bigint {
    let value = 0n;
    for (let byte = 0n; byte < 8n; byte++) value |= BigInt(this.take()) << (byte * 8n);
    return value;
  }
}

/** Numbers of pages: those that came lately by their place among these, others by their distance. */
class Pages {
  readonly #recent: number[] = [];
  #last = 0;

  put(column: Column, page: number): void {
    const place = this.#recent.indexOf(page);
    if (place !== -1) column.put(place);
    else {
      column.put(OTHER);
      column.putSigned(page - this.#last);
    }
    this.#use(page, place);
  }

  take(column: Column): number {
    const place = column.take();
    const page = place === OTHER ? this.#last + column.takeSigned() : this.#recent[place]!;
    this.#use(page, place === OTHER ? -1 : place);
    return page;
  }

  #use(page: number, place: number): void {
    if (place !== -1) this.#recent.splice(place, 1);
    this.#recent.unshift(page);
    this.#recent.length = Math.min(this.#recent.length, RECENT);
    this.#last = page;
  }
}

/** What pages of fetches, of data accesses and of invalidations have in common is among themselves. */
const classOf = (op: number, access: number) =>
  op >= OP.invlpg && op !== OP.fault ? 2 : access & Access.Fetch ? 0 : 1;

/** The file of a stream. */
export function packStream(stream: BootStream): Uint8Array {
  const [ops, pages, values, places] = [new Column(), new Column(), new Column(), new Column()];
  const known = [new Pages(), new Pages(), new Pages()];
  let place = 0;
  for (let i = 0; i < stream.count; i++) {
    const [op, access] = [stream.op[i]!, stream.access[i]!];
    ops.put(op === OP.access || op === OP.fault ? op * CODES + codeOf(access) : op * CODES + access);
    if (op === OP.access || op === OP.fault || op === OP.invlpg || op === OP.invpcid) {
      known[classOf(op, access)]!.put(pages, stream.high[i]! * 2 ** 20 + Math.floor(stream.low[i]! / 4096));
    }
    if (op !== OP.access && op !== OP.invlpg) values.putU64(stream.value[i]!);
    if (op === OP.edit || op === OP.registers) {
      places.putSigned(stream.place[i]! - place);
      place = stream.place[i]!;
    }
  }
  const columns = [ops, pages, values, places].map(({ bytes }) => bytes);
  columns.push(new Uint8Array(stream.hashes.buffer));
  const head = new DataView(new ArrayBuffer(8 + 4 * (columns.length + 1)));
  for (let i = 0; i < 8; i++) head.setUint8(i, MAGIC.charCodeAt(i));
  head.setUint32(8, stream.count, true);
  columns.forEach((column, i) => {
    head.setUint32(12 + 4 * i, column.length, true);
  });
  return gzipSync(Buffer.concat([new Uint8Array(head.buffer), ...columns]), { level: 9 });
}

/** Throws RangeError for what is no such file. */
export function unpackStream(file: Uint8Array): BootStream {
  const bytes = new Uint8Array(gunzipSync(file));
  const head = new DataView(bytes.buffer);
  if (String.fromCharCode(...bytes.subarray(0, 8)) !== MAGIC) throw new RangeError("this is no boot stream");
  const count = head.getUint32(8, true);
  let at = 12 + 4 * 5;
  const columns = Array.from({ length: 5 }, (_, i) => {
    const length = head.getUint32(12 + 4 * i, true);
    at += length;
    return bytes.slice(at - length, at);
  });
  const [ops, pages, values, places] = columns.map((column) => Column.of(column)) as [Column, Column, Column, Column];
  const stream = emptyStream(count, new Uint32Array(columns[4]!.buffer));
  const known = [new Pages(), new Pages(), new Pages()];
  let place = 0;
  for (let i = 0; i < count; i++) {
    const code = ops.take();
    const op = Math.floor(code / CODES);
    const access = op === OP.access || op === OP.fault ? accessOf(code % CODES) : code % CODES;
    stream.op[i] = op;
    stream.access[i] = access;
    if (op === OP.access || op === OP.fault || op === OP.invlpg || op === OP.invpcid) {
      const page = known[classOf(op, access)]!.take(pages);
      stream.high[i] = Math.floor(page / 2 ** 20);
      stream.low[i] = (page % 2 ** 20) * 4096;
    }
    if (op !== OP.access && op !== OP.invlpg) stream.value[i] = values.takeU64();
    if (op === OP.edit || op === OP.registers) {
      place += places.takeSigned();
      stream.place[i] = place;
    }
  }
  return stream;
}

export function emptyStream(count: number, hashes: Uint32Array): BootStream {
  return {
    count,
    op: new Uint8Array(count),
    access: new Uint8Array(count),
    high: new Uint32Array(count),
    low: new Uint32Array(count),
    value: new BigUint64Array(count),
    place: new Uint32Array(count),
    hashes,
  };
}
