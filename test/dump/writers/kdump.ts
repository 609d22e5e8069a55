/**
 * Writes kdump-compressed dumps, from the C structures of diskdump_mod.h (makedumpfile): struct disk_dump_header, struct
 * kdump_sub_header and struct page_desc, as gcc lays them out on i386 and on x86-64.
 */
import { deflateSync } from "node:zlib";
import { concat } from "../builders.js";

const PAGE = 4096;

/** page_desc.flags, and the bit of disk_dump_header.status. */
export const FLAGS = { none: 0, zlib: 0x1, lzo: 0x2, snappy: 0x4, zstd: 0x20 } as const;
export type Compression = keyof typeof FLAGS;
export const INCOMPLETE = 0x8;

export interface KdumpOptions {
  /** The pages that are in the file, by frame. */
  pages: ReadonlyMap<number, Uint8Array>;
  /** Frames that there were besides them. */
  excluded?: readonly number[];
  /** max_mapnr; default: behind the last frame. */
  frames?: number;
  bits?: 32 | 64;
  version?: number;
  level?: number;
  machine?: string;
  /** The kernel's release. */
  release?: string;
  compression?: Compression;
  compress?: (page: Uint8Array) => Uint8Array;
  notes?: Uint8Array;
  vmcoreinfo?: string;
  /** Frames of this part, of a dump with all `pages`. */
  split?: readonly [start: number, end: number];
  /** Added to `status`. */
  status?: number;
  /** Pages that have a descriptor of zeros, from the end: the writer stopped. */
  unwritten?: number;
  /** Without the bitmap of frames that there were. */
  oneBitmap?: boolean;
}

/** Fields of 32 or 64 bits, one after the other with C's alignment. */
class Struct {
  readonly #bytes = new Uint8Array(PAGE);
  readonly #view = new DataView(this.#bytes.buffer);
  at = 0;

  constructor(readonly bits: 32 | 64) {}

  text(value: string, size: number): this {
    this.#bytes.set(new TextEncoder().encode(value), this.at);
    this.at += size;
    return this;
  }

  u32(value: number): this {
    this.#align(4);
    this.#view.setUint32(this.at, value, true);
    this.at += 4;
    return this;
  }

  /** off_t and unsigned long long, which i386 aligns to four bytes. */
  u64(value: number): this {
    this.#align(this.bits / 8);
    this.#view.setBigUint64(this.at, BigInt(value), true);
    this.at += 8;
    return this;
  }

  /** unsigned long. */
  long(value: number): this {
    return this.bits === 64 ? this.u64(value) : this.u32(value);
  }

  block(): Uint8Array {
    return this.#bytes;
  }

  #align(size: number): void {
    this.at = Math.ceil(this.at / size) * size;
  }
}

const pad = (bytes: Uint8Array) => concat(bytes, new Uint8Array((PAGE - (bytes.length % PAGE)) % PAGE));

function bitmap(frames: Iterable<number>, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (const frame of frames) bytes[Math.floor(frame / 8)]! |= 1 << (frame % 8);
  return bytes;
}

export function kdump(options: KdumpOptions): Uint8Array {
  const { bits = 64, version = 6, level = 0, compression = "zlib", split, excluded = [] } = options;
  const pages = [...options.pages].sort(([a], [b]) => a - b);
  const inFile = pages.map(([frame]) => frame);
  const frames = options.frames ?? Math.max(...inFile, ...excluded) + 1;
  const bitmapSize = Math.ceil(frames / 8 / PAGE) * PAGE;
  const bitmaps = [bitmap(inFile, bitmapSize)];
  if (!options.oneBitmap) bitmaps.unshift(bitmap([...inFile, ...excluded], bitmapSize));

  // The sub-header's block, then the notes and VMCOREINFO behind it.
  const vmcoreinfo = new TextEncoder().encode(options.vmcoreinfo ?? "");
  const notes = options.notes ?? new Uint8Array(0);
  const notesAt = 2 * PAGE;
  const vmcoreinfoAt = notesAt + notes.length;
  const extra = pad(concat(notes, vmcoreinfo));
  const subBlocks = 1 + extra.length / PAGE;
  const [start, end] = split ?? [0, 0];
  const sub = new Struct(bits).long(0).u32(level);
  if (version >= 2)
    sub
      .u32(split ? 1 : 0)
      .long(start)
      .long(end);
  if (version >= 3) sub.u64(vmcoreinfo.length ? vmcoreinfoAt : 0).long(vmcoreinfo.length);
  if (version >= 4) sub.u64(notes.length ? notesAt : 0).long(notes.length);
  if (version >= 5) sub.u64(0).long(0);
  if (version >= 6) sub.u64(start).u64(end).u64(frames);

  const bitmapBlocks = (bitmaps.length * bitmapSize) / PAGE;
  const machine = options.machine ?? (bits === 64 ? "x86_64" : "i686");
  const header = new Struct(bits)
    .text("KDUMP   ", 8)
    .u32(version)
    .text("Linux", 65)
    .text("host", 65)
    .text(options.release ?? "6.1.0-test", 65)
    .text("#1 SMP", 65)
    .text(machine, 65)
    .text("(none)", 65)
    .long(0)
    .long(0)
    .u32(FLAGS[compression] | (options.status ?? 0))
    .u32(PAGE)
    .u32(subBlocks)
    .u32(bitmapBlocks)
    .u32(version >= 6 ? Math.min(frames, 2 ** 32 - 1) : frames)
    .u32(pages.length)
    .u32(0)
    .u32(0)
    .u32(0)
    .u32(1);

  const own = pages.filter(([frame]) => !split || (frame >= start && frame < end));
  const descriptorsAt = PAGE * (1 + subBlocks + bitmapBlocks);
  const descriptors = new DataView(new ArrayBuffer(own.length * 24));
  const compress = options.compress ?? COMPRESS[compression];
  const data: Uint8Array[] = [];
  let at = descriptorsAt + descriptors.byteLength;
  own.forEach(([, page], index) => {
    if (index >= own.length - (options.unwritten ?? 0)) return;
    const packed = compress(page);
    const smaller = packed.length < PAGE;
    const bytes = smaller ? packed : page;
    descriptors.setBigUint64(index * 24, BigInt(at), true);
    descriptors.setUint32(index * 24 + 8, bytes.length, true);
    descriptors.setUint32(index * 24 + 12, smaller ? FLAGS[compression] : 0, true);
    data.push(bytes);
    at += bytes.length;
  });
  return concat(header.block(), sub.block(), extra, ...bitmaps, new Uint8Array(descriptors.buffer), ...data);
}

/** How each compression is made here; the reference libraries' own output is in test/fixtures/kdump. */
const COMPRESS: Readonly<Record<Compression, (page: Uint8Array) => Uint8Array>> = {
  none: (page) => page,
  zlib: (page) => deflateSync(page, { level: 1 }),
  lzo: lzoOfRuns,
  snappy: snappyOfRuns,
  zstd: (page) => (isRun(page) ? zstdRun(page) : page),
};

const isRun = (page: Uint8Array) => page.every((byte) => byte === page[0]);

/** LZO1X: the page's first byte four times, then a copy of it over the rest, where it is all the same. */
function lzoOfRuns(page: Uint8Array): Uint8Array {
  if (!isRun(page)) return page;
  // 18 + n: n + 1 literals at the start; 32 and zero bytes: a copy of 33 bytes and more; 17, 0, 0: the end.
  const length = page.length - 4 - 33;
  const zeros = new Uint8Array(Math.floor((length - 1) / 255));
  const rest = length - zeros.length * 255;
  return concat(Uint8Array.of(21), page.subarray(0, 4), Uint8Array.of(32), zeros, Uint8Array.of(rest, 0, 0, 17, 0, 0));
}

/** Snappy: the length, one literal, and copies of up to 64 bytes. */
function snappyOfRuns(page: Uint8Array): Uint8Array {
  if (!isRun(page)) return page;
  const parts = [0x80, 0x20, 0, page[0]!];
  for (let left = page.length - 1; left > 0; left -= 64) parts.push((Math.min(left, 64) - 1) * 4 + 2, 1, 0);
  return Uint8Array.from(parts);
}

/** zstd: a frame of a single segment of 4,096 bytes with one block of a repeated byte. */
function zstdRun(page: Uint8Array): Uint8Array {
  const block = page.length * 8 + 1 * 2 + 1;
  return Uint8Array.of(
    0x28,
    0xb5,
    0x2f,
    0xfd,
    0x60,
    0x00,
    0x0f,
    block % 256,
    Math.floor(block / 256) % 256,
    0,
    page[0]!,
  );
}
