/** Writes trace.dat files of versions 6 and 7 from their documentation (trace-cmd.dat.v6(5), trace-cmd.dat.v7(5)). */
import { deflateSync } from "node:zlib";
import type { WrittenEvent } from "./events.js";
import { type EventLayout, formatText, LAYOUTS } from "./formats.js";

const PAGE_SIZE = 4096;
const PAGE_HEADER = 16;
/** ns that 27 bits hold. */
const LONGEST_DELTA = 2n ** 27n;
const CPUS = 2;

class Bytes {
  #parts: Uint8Array[] = [];
  length = 0;

  add(...parts: readonly Uint8Array[]): this {
    for (const part of parts) {
      this.#parts.push(part);
      this.length += part.length;
    }
    return this;
  }

  u8(value: number): this {
    return this.add(Uint8Array.of(value));
  }

  u16(value: number): this {
    return this.#number(2, (view) => view.setUint16(0, value, true));
  }

  u32(value: number): this {
    return this.#number(4, (view) => view.setUint32(0, value, true));
  }

  u64(value: number | bigint): this {
    return this.#number(8, (view) => view.setBigUint64(0, BigInt(value), true));
  }

  text(value: string): this {
    return this.add(new TextEncoder().encode(value));
  }

  string(value: string): this {
    return this.text(`${value}\0`);
  }

  pad(to: number): this {
    return this.add(new Uint8Array(to - this.length));
  }

  #number(size: number, set: (view: DataView) => void): this {
    const bytes = new Uint8Array(size);
    set(new DataView(bytes.buffer));
    return this.add(bytes);
  }

  bytes(): Uint8Array<ArrayBuffer> {
    const all = new Uint8Array(this.length);
    let at = 0;
    for (const part of this.#parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}

const HEADER_PAGE =
  "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n" +
  "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;\n";
const HEADER_EVENT = "# compressed entry header\n\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n";

/** The event's bytes, from common_type on. */
function eventBytes({ fields, pid }: WrittenEvent, layout: EventLayout): Uint8Array {
  const bytes = new Uint8Array(layout.size);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, layout.id, true);
  view.setInt32(4, pid, true);
  for (const { name, offset, size } of layout.fields) {
    const value = BigInt.asUintN(8 * size, fields[name] ?? 0n);
    for (let i = 0; i < size; i++) bytes[offset + i] = Number((value >> BigInt(8 * i)) & 0xffn);
  }
  return bytes;
}

export interface PageOptions {
  /** So many events are said to be lost before the second page of processor 0; -1: an unknown number. */
  readonly lost?: number;
}

/** Pages of the ring buffer. Long pauses are time extends, every eleventh event has its length in a word of its own. */
export function ringPages(events: readonly WrittenEvent[], { lost = 0 }: PageOptions = {}): Uint8Array {
  const pages = new Bytes();
  let page = new Bytes();
  let base = 0n;
  let last = 0n;
  let number = 0;
  const close = () => {
    if (page.length === 0) return;
    const flags = number === 1 && lost !== 0 ? 2 ** 31 + (lost > 0 ? 2 ** 30 : 0) : 0;
    const body = page.bytes();
    const whole = new Bytes()
      .u64(base)
      .u64(body.length + flags)
      .add(body);
    if (flags > 2 ** 31) whole.u64(lost);
    pages.add(whole.pad(PAGE_SIZE).bytes());
    page = new Bytes();
    number++;
  };
  for (const [index, event] of events.entries()) {
    const layout = LAYOUTS.get(event.name);
    if (layout === undefined) throw new Error(`no layout of ${event.name}`);
    const data = eventBytes(event, layout);
    if (PAGE_HEADER + page.length + data.length + 24 > PAGE_SIZE) close();
    if (page.length === 0) {
      base = event.time;
      last = base;
    }
    let delta = event.time - last;
    if (delta >= LONGEST_DELTA || index % 13 === 5) {
      const low = delta % LONGEST_DELTA;
      page.u32(30 + Number(low) * 32).u32(Number(delta / LONGEST_DELTA));
      delta = 0n;
    }
    if (index % 17 === 3) page.u32(29 + 32).u32(4);
    const early = index % 17 === 3 ? 1n : 0n;
    const shown = delta > early ? delta - early : 0n;
    if (index % 11 === 7)
      page
        .u32(Number(shown) * 32)
        .u32(data.length + 4)
        .add(data);
    else page.u32(data.length / 4 + Number(shown) * 32).add(data);
    last = event.time;
  }
  close();
  return pages.bytes();
}

function systems(out: Bytes): Bytes {
  const names = ["kvm", "kvmmmu"];
  out.u32(names.length);
  for (const name of names) {
    const own = [...LAYOUTS.values()].filter(({ system }) => system === name);
    out.string(name).u32(own.length);
    for (const layout of own) {
      const text = formatText(layout);
      out.u64(text.length).text(text);
    }
  }
  return out;
}

function headerInfo(out: Bytes): Bytes {
  out.string("header_page").u64(HEADER_PAGE.length).text(HEADER_PAGE);
  return out.string("header_event").u64(HEADER_EVENT.length).text(HEADER_EVENT);
}

const commandLines = (pid: number): string => `${pid} CPU 0/KVM\n`;
const UNAME = "Linux host 6.1.0-30-amd64 #1 SMP x86_64";

function byCpu(events: readonly WrittenEvent[]): WrittenEvent[][] {
  return Array.from({ length: CPUS }, (_, cpu) => events.filter((event) => event.cpu === cpu));
}

const head = (version: string): Bytes =>
  new Bytes()
    .add(Uint8Array.of(0x17, 0x08, 0x44))
    .text("tracing")
    .string(version)
    .u8(0)
    .u8(8)
    .u32(PAGE_SIZE);

export function datVersion6(events: readonly WrittenEvent[], options: PageOptions = {}): Uint8Array<ArrayBuffer> {
  const out = headerInfo(head("6"));
  out.u32(0);
  systems(out);
  out.u32(5).text("syms\n").u32(0);
  const commands = commandLines(events[0]?.pid ?? 0);
  out.u64(commands.length).text(commands).u32(CPUS);
  out.add(new TextEncoder().encode("options  \0"));
  out
    .u16(5)
    .u32(UNAME.length + 1)
    .string(UNAME)
    .u16(99)
    .u32(3)
    .text("abc")
    .u16(0)
    .text("flyrecord\0");
  const data = byCpu(events).map((own) => ringPages(own, options));
  let at = Math.ceil((out.length + 16 * CPUS) / PAGE_SIZE) * PAGE_SIZE;
  const start = at;
  for (const pages of data) {
    out.u64(at).u64(pages.length);
    at += pages.length;
  }
  return out
    .pad(start)
    .add(...data)
    .bytes();
}

/** Version 7, compressed with zlib or not. */
export function datVersion7(events: readonly WrittenEvent[], packed = false): Uint8Array<ArrayBuffer> {
  const out = head("7")
    .string(packed ? "zlib" : "none")
    .string(packed ? "1.3" : "");
  const optionsAt = out.length;
  const sections = new Bytes();
  const first = optionsAt + 8;
  const section = (id: number, content: Uint8Array, raw = false): number => {
    const at = first + sections.length;
    const compressed = packed && !raw;
    const body = compressed ? new Bytes() : new Bytes().add(content);
    if (compressed) {
      const small = deflateSync(content);
      body.u32(small.length).u32(content.length).add(small);
    }
    sections
      .u16(id)
      .u16(packed ? 1 : 0)
      .u32(0)
      .u64(body.length)
      .add(body.bytes());
    return at;
  };
  const headerAt = section(16, headerInfo(new Bytes()).bytes());
  const formatsAt = section(18, systems(new Bytes()).bytes());
  const commands = commandLines(events[0]?.pid ?? 0);
  const commandsAt = section(21, new Bytes().u64(commands.length).text(commands).bytes());
  // Pages of each processor behind the section's header: as they are, or in pieces of two pages.
  const bufferAt = first + sections.length;
  const table: { offset: number; size: number }[] = [];
  const body = new Bytes();
  for (const own of byCpu(events)) {
    const pages = ringPages(own);
    // As it is, a processor's data begins with a page of the file.
    const end = bufferAt + 16 + body.length;
    if (!packed) body.pad(body.length + ((PAGE_SIZE - (end % PAGE_SIZE)) % PAGE_SIZE));
    const offset = bufferAt + 16 + body.length;
    if (packed) {
      const pieces: Uint8Array[] = [];
      for (let at = 0; at < pages.length; at += 2 * PAGE_SIZE) pieces.push(pages.subarray(at, at + 2 * PAGE_SIZE));
      body.u32(pieces.length);
      for (const piece of pieces) {
        const small = deflateSync(piece);
        body.u32(small.length).u32(piece.length).add(small);
      }
    } else body.add(pages);
    table.push({ offset, size: bufferAt + 16 + body.length - offset });
  }
  section(3, body.bytes(), true);
  const buffer = new Bytes().u64(bufferAt).string("").string("local").u32(PAGE_SIZE).u32(CPUS);
  for (const [cpu, { offset, size }] of table.entries()) buffer.u32(cpu).u64(offset).u64(size);
  const options = new Bytes();
  const option = (id: number, data: Uint8Array) => options.u16(id).u32(data.length).add(data);
  option(16, new Bytes().u64(headerAt).bytes());
  option(18, new Bytes().u64(formatsAt).bytes());
  option(21, new Bytes().u64(commandsAt).bytes());
  option(5, new Bytes().string(UNAME).bytes());
  option(3, buffer.bytes());
  option(0, new Bytes().u64(0).bytes());
  const at = section(0, options.bytes());
  return out.u64(at).add(sections.bytes()).bytes();
}
