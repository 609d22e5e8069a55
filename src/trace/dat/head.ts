/** The head of a trace.dat file, versions 6 and 7: what kernel it is of, the formats of its events, and where each processor's are. */
import { CodecError, type Codecs, type Unpack } from "../../dump/codec/codec.js";
import { loadCodecs } from "../../dump/codec/load.js";
import { TraceError } from "../error.js";
import { latin1 } from "../events/cursor.js";
import type { RandomAccess } from "../input/input.js";
import { type EventFormat, parseEventFormat } from "./event-format.js";
import { FileCursor, memoryCursor } from "./file-cursor.js";
import { eraOfFormats, type FormatEra, TELLING } from "./format-era.js";
import { PAGE_HEADER_64, type PageHeader } from "./ring-page.js";

/** The events of one processor. */
export interface CpuData {
  readonly cpu: number;
  readonly offset: number;
  readonly size: number;
  /** Its pages are compressed, in pieces. */
  readonly unpack: Unpack | undefined;
}

export interface DatHead {
  readonly version: number;
  readonly pageSize: number;
  readonly pageHeader: PageHeader;
  readonly formats: ReadonlyMap<number, EventFormat>;
  /** What the formats tell of the kernel. */
  readonly era: FormatEra;
  readonly commands: ReadonlyMap<number, string>;
  readonly cpus: readonly CpuData[];
  /** What uname said of the machine. */
  readonly uname: string | undefined;
  readonly clock: string | undefined;
  /** Nanoseconds to add to every time. */
  readonly offset: bigint;
  /** From a processor's counter to nanoseconds. */
  readonly scale: { readonly multiplier: number; readonly shift: number; readonly offset: bigint } | undefined;
  /** Events that were overwritten or dropped, as the buffers' statistics say. */
  readonly overrun: number;
  /** Text instead of pages, of the latency tracers. */
  readonly text: { readonly offset: number; readonly size: number } | undefined;
}

/** Options of both versions, by number (trace-cmd.dat.v7(5)). */
const OPTION = {
  Done: 0,
  CpuStat: 2,
  Buffer: 3,
  Clock: 4,
  Uname: 5,
  Offset: 7,
  CpuCount: 8,
  Tsc2Nsec: 14,
  HeaderInfo: 16,
  EventFormats: 18,
  CommandLines: 21,
  BufferText: 22,
} as const;

/** Parts of a head of which there are no more in any file. */
const MOST_FORMATS = 2 ** 16;
const MOST_CPUS = 2 ** 13;
const MOST_OPTIONS = 2 ** 16;
const LARGEST_PAGE = 2 ** 20;
const TYPE_LENGTH = 10;
const SECTION_HEADER = 16;
const COMPRESSED = 1;

/** What is found bit by bit. */
class Draft {
  pageHeader: PageHeader = PAGE_HEADER_64;
  readonly formats = new Map<number, EventFormat>();
  /** Texts of the formats that tell of the kernel. */
  readonly texts = new Map<string, string>();
  readonly commands = new Map<number, string>();
  readonly cpus: CpuData[] = [];
  uname: string | undefined;
  clock: string | undefined;
  offset = 0n;
  scale: DatHead["scale"];
  overrun = 0;
  text: DatHead["text"];
  cpuCount = 0;
  /** Of version 6: where further buffers are. */
  readonly instances: number[] = [];
}

/** Reads the head. Throws a TraceError where that is not possible. */
export async function readHead(file: RandomAccess, name: string): Promise<DatHead> {
  const cursor = new FileCursor(file, name);
  await cursor.bytes(TYPE_LENGTH, "the magic bytes");
  const version = Number(await cursor.string("the version"));
  if (version !== 6 && version !== 7) throw cursor.error(`expected version 6 or 7 of trace.dat, found ${version}`);
  const [endian, long] = await cursor.bytes(2, "the byte order");
  if (endian !== 0) throw cursor.error("expected the byte order of x86, found that of another processor");
  if (long !== 4 && long !== 8) throw cursor.error(`expected longs of 4 or 8 bytes, found ${long}`);
  const pageSize = await cursor.u32("the page size");
  if (pageSize < 4096 || pageSize > LARGEST_PAGE)
    throw cursor.error(`expected a page size from 4096 to ${LARGEST_PAGE}, found ${pageSize}`);
  const draft = new Draft();
  if (version === 6) await readVersion6(cursor, file, draft, name);
  else await readVersion7(cursor, file, draft, name);
  return { version, pageSize, ...draft, era: eraOfFormats(draft.texts) };
}

async function readVersion6(cursor: FileCursor, file: RandomAccess, draft: Draft, name: string): Promise<void> {
  await readHeaderInfo(cursor, draft);
  await readFormatList(cursor, draft, await cursor.u32("the number of formats of ftrace"));
  await readSystems(cursor, draft);
  // Symbols and formats of trace_printk: not needed.
  cursor.skip(await cursor.u32("the size of the symbols"));
  cursor.skip(await cursor.u32("the size of the printk formats"));
  readCommands(await cursor.bytes(await cursor.u64("the size of the command lines"), "command lines"), draft);
  const cpus = await cursor.u32("the number of processors");
  if (cpus > MOST_CPUS) throw cursor.error(`expected at most ${MOST_CPUS} processors, found ${cpus}`);
  let type = latin1(await cursor.bytes(TYPE_LENGTH, "the kind of data"), 0, TYPE_LENGTH);
  if (type.startsWith("options")) {
    for (let options = 0; ; options++) {
      const id = await cursor.u16("an option");
      if (id === OPTION.Done) break;
      if (options > MOST_OPTIONS) throw cursor.error(`expected at most ${MOST_OPTIONS} options`);
      const data = await cursor.bytes(await cursor.u32("an option's size"), "an option");
      if (id === OPTION.Buffer)
        draft.instances.push(Number(new DataView(data.buffer, data.byteOffset, data.length).getBigUint64(0, true)));
      else readOption(id, data, draft);
    }
    type = latin1(await cursor.bytes(TYPE_LENGTH, "the kind of data"), 0, TYPE_LENGTH);
  }
  await readCpuTable(cursor, file, type, cpus, draft);
  for (const at of draft.instances) {
    const instance = new FileCursor(file, name, at);
    const kind = latin1(await instance.bytes(TYPE_LENGTH, "the kind of an instance's data"), 0, TYPE_LENGTH);
    await readCpuTable(instance, file, kind, draft.cpuCount === 0 ? cpus : draft.cpuCount, draft);
  }
}

async function readCpuTable(
  cursor: FileCursor,
  file: RandomAccess,
  type: string,
  cpus: number,
  draft: Draft,
): Promise<void> {
  if (type.startsWith("latency")) {
    draft.text = { offset: cursor.at, size: Math.max(0, file.size - cursor.at) };
    return;
  }
  if (!type.startsWith("flyrecord"))
    throw cursor.error(`expected "latency" or "flyrecord", found ${JSON.stringify(type.replace(/\0.*/, ""))}`);
  for (let cpu = 0; cpu < cpus; cpu++) {
    const offset = await cursor.u64("a processor's offset");
    const size = await cursor.u64("a processor's size");
    draft.cpus.push({ cpu, offset, size, unpack: undefined });
  }
}

async function readVersion7(cursor: FileCursor, file: RandomAccess, draft: Draft, name: string): Promise<void> {
  const compression = await cursor.string("the compression's name");
  await cursor.string("the compression's version");
  const unpack = await unpackOf(compression, cursor);
  const sections = new Sections(file, name, unpack);
  let at = await cursor.u64("the offset of the options");
  for (let sets = 0; at !== 0; sets++) {
    if (sets > MOST_OPTIONS) throw cursor.error(`expected at most ${MOST_OPTIONS} sets of options`);
    const options = await sections.open(at);
    at = 0;
    for (let count = 0; count < MOST_OPTIONS; count++) {
      const id = await options.u16("an option");
      const data = Uint8Array.from(await options.bytes(await options.u32("an option's size"), "an option"));
      if (id === OPTION.Done) {
        at = data.length < 8 ? 0 : Number(new DataView(data.buffer).getBigUint64(0, true));
        break;
      }
      if (id === OPTION.Buffer) await readBuffer(memoryCursor(data, name), sections, draft);
      else if (id === OPTION.HeaderInfo) await readHeaderInfo(await sections.at(data), draft);
      else if (id === OPTION.EventFormats) await readSystems(await sections.at(data), draft);
      else if (id === OPTION.CommandLines) {
        const lines = await sections.at(data);
        readCommands(await lines.bytes(await lines.u64("the size of the command lines"), "command lines"), draft);
      } else if (id === OPTION.BufferText) {
        const text = Number(new DataView(data.buffer).getBigUint64(0, true));
        draft.text = { offset: text + SECTION_HEADER, size: await sections.sizeOf(text) };
      } else readOption(id, data, draft);
    }
  }
}

async function unpackOf(compression: string, cursor: FileCursor): Promise<Unpack | undefined> {
  if (compression === "none") return undefined;
  if (compression !== "zstd" && compression !== "zlib") {
    throw cursor.error(
      `expected the compression zstd, zlib or none, found ${JSON.stringify(compression)}: convert it (trace-cmd convert)`,
    );
  }
  const codecs: Codecs = await loadCodecs([compression]);
  return codecs[compression];
}

/** Sections of version 7, unpacked. */
class Sections {
  readonly #file: RandomAccess;
  readonly #name: string;
  readonly #unpack: Unpack | undefined;

  constructor(file: RandomAccess, name: string, unpack: Unpack | undefined) {
    this.#file = file;
    this.#name = name;
    this.#unpack = unpack;
  }

  /** The section that an option's data is the offset of. */
  at(data: Uint8Array): Promise<FileCursor> {
    if (data.length < 8) throw new TraceError(this.#name, "expected the offset of a section in an option");
    return this.open(Number(new DataView(data.buffer, data.byteOffset).getBigUint64(0, true)));
  }

  async open(offset: number): Promise<FileCursor> {
    const { cursor, compressed, size } = await this.#header(offset);
    if (!compressed) return cursor;
    const packedSize = await cursor.u32("a section's compressed size");
    const unpackedSize = await cursor.u32("a section's size");
    if (packedSize > size) throw cursor.error(`expected at most ${size} compressed bytes, found ${packedSize}`);
    return memoryCursor(await unpacked(cursor, packedSize, unpackedSize, this.#codec(cursor)), this.#name);
  }

  /** What unpacks the pages of the buffer whose section that is; undefined where they are as they were. */
  async pagesUnpack(offset: number): Promise<Unpack | undefined> {
    const { cursor, compressed } = await this.#header(offset);
    return compressed ? this.#codec(cursor) : undefined;
  }

  async sizeOf(offset: number): Promise<number> {
    return (await this.#header(offset)).size;
  }

  #codec(cursor: FileCursor): Unpack {
    if (this.#unpack === undefined) throw cursor.error("a section is compressed, in a file that names no compression");
    return this.#unpack;
  }

  async #header(offset: number) {
    const cursor = new FileCursor(this.#file, this.#name, offset);
    await cursor.u16("a section");
    const compressed = (await cursor.u16("a section's flags")) % 2 === COMPRESSED;
    await cursor.u32("a section's description");
    return { cursor, compressed, size: await cursor.u64("a section's size") };
  }
}

/** Unpacks bytes that follow. Throws a TraceError for broken data. */
export async function unpacked(
  cursor: FileCursor,
  packedSize: number,
  size: number,
  unpack: Unpack,
): Promise<Uint8Array> {
  if (size > LARGEST_UNPACKED)
    throw cursor.error(`expected at most ${LARGEST_UNPACKED} bytes in one piece, found ${size}`);
  const packed = await cursor.bytes(packedSize, "compressed data");
  const bytes = new Uint8Array(size);
  try {
    unpack(packed, bytes);
  } catch (error) {
    if (!(error instanceof CodecError)) throw error;
    throw cursor.error(`broken compressed data: ${error.message}`);
  }
  return bytes;
}

const LARGEST_UNPACKED = 2 ** 26;

async function readBuffer(option: FileCursor, sections: Sections, draft: Draft): Promise<void> {
  const section = await option.u64("the offset of a buffer");
  await option.string("the name of a buffer");
  draft.clock ??= await option.string("the clock of a buffer");
  await option.u32("the size of a buffer's pages");
  const cpus = await option.u32("the number of a buffer's processors");
  if (cpus > MOST_CPUS) throw option.error(`expected at most ${MOST_CPUS} processors, found ${cpus}`);
  const unpack = cpus === 0 ? undefined : await sections.pagesUnpack(section);
  for (let i = 0; i < cpus; i++) {
    const cpu = await option.u32("a processor");
    const offset = await option.u64("a processor's offset");
    const size = await option.u64("a processor's size");
    draft.cpus.push({ cpu, offset, size, unpack });
  }
}

async function readHeaderInfo(cursor: FileCursor, draft: Draft): Promise<void> {
  await cursor.string("header_page");
  const page = text(await cursor.bytes(await cursor.u64("the size of header_page"), "header_page"));
  await cursor.string("header_event");
  await cursor.bytes(await cursor.u64("the size of header_event"), "header_event");
  const [, commitOffset, commitSize] = /commit;\s*offset:(\d+);\s*size:(\d+);/.exec(page) ?? [];
  const [, dataOffset] = /data;\s*offset:(\d+);/.exec(page) ?? [];
  if (commitOffset === undefined || dataOffset === undefined) return;
  const header = { commitOffset: Number(commitOffset), commitSize: Number(commitSize), dataOffset: Number(dataOffset) };
  if (header.dataOffset >= 12 && header.dataOffset < 4096 && header.commitOffset <= header.dataOffset - 4)
    draft.pageHeader = header;
}

async function readSystems(cursor: FileCursor, draft: Draft): Promise<void> {
  const systems = await cursor.u32("the number of systems");
  if (systems > MOST_FORMATS) throw cursor.error(`expected at most ${MOST_FORMATS} systems, found ${systems}`);
  for (let i = 0; i < systems; i++) {
    await cursor.string("the name of a system");
    await readFormatList(cursor, draft, await cursor.u32("the number of a system's events"));
  }
}

async function readFormatList(cursor: FileCursor, draft: Draft, count: number): Promise<void> {
  if (count > MOST_FORMATS) throw cursor.error(`expected at most ${MOST_FORMATS} formats, found ${count}`);
  for (let i = 0; i < count; i++) {
    const described = text(await cursor.bytes(await cursor.u64("the size of a format"), "a format"));
    const format = parseEventFormat(described);
    if (format === undefined || draft.formats.size >= MOST_FORMATS) continue;
    draft.formats.set(format.id, format);
    if (TELLING.has(format.name)) draft.texts.set(format.name, described);
  }
}

function readCommands(bytes: Uint8Array, draft: Draft): void {
  for (const line of text(bytes).split("\n")) {
    const match = /^\s*(\d{1,10}) (.*)$/.exec(line);
    if (match !== null && draft.commands.size < MOST_FORMATS) draft.commands.set(Number(match[1]), match[2]!);
  }
}

function readOption(id: number, data: Uint8Array, draft: Draft): void {
  const words = () => text(data).replace(/\0.*$/s, "");
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  if (id === OPTION.Uname) draft.uname = words();
  else if (id === OPTION.Clock) draft.clock = /\[([^\]]*)\]/.exec(words())?.[1] ?? draft.clock;
  else if (id === OPTION.Offset) draft.offset = signedNumber(words()) ?? draft.offset;
  else if (id === OPTION.CpuCount && data.length >= 4) draft.cpuCount = Math.min(MOST_CPUS, view.getUint32(0, true));
  else if (id === OPTION.CpuStat) {
    for (const match of words().matchAll(/^(?:overrun|dropped events): (\d{1,15})$/gm))
      draft.overrun += Number(match[1]);
  } else if (id === OPTION.Tsc2Nsec && data.length >= 16) {
    draft.scale = {
      multiplier: view.getUint32(0, true),
      shift: view.getUint32(4, true),
      offset: view.getBigUint64(8, true),
    };
  }
}

function signedNumber(words: string): bigint | undefined {
  const match = /^\s*(-?)(0x[0-9a-f]{1,16}|\d{1,20})\s*$/i.exec(words);
  return match === null ? undefined : BigInt(match[2]!) * (match[1] === "-" ? -1n : 1n);
}

const decoder = new TextDecoder("latin1");
const text = (bytes: Uint8Array): string => decoder.decode(bytes);
