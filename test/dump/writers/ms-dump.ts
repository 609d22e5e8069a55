/** Writes Microsoft's crash dumps, by the offsets that the SDK's DUMP_HEADER32 and DUMP_HEADER64 have. */
import { concat } from "../builders.js";

export interface MsOptions {
  bits?: 32 | 64;
  type?: number;
  cr3?: bigint;
  pae?: boolean;
  machine?: number;
  /** First page and number of pages; undefined leaves the header's filling. */
  runs?: readonly (readonly [first: bigint, pages: bigint])[] | undefined;
  /** How many runs the header says that there are. */
  declaredRuns?: number;
  /** Of a bitmap dump: frames in ascending order, and how many bits there are. */
  frames?: readonly number[];
  bitmapBits?: number;
  signature?: string;
  present?: number;
  /** Pages begin so many bytes behind the bitmap. */
  gap?: number;
  pages: Uint8Array;
}

const ascii = (text: string) => new TextEncoder().encode(text);

function header({ bits = 64, type = 1, cr3 = 0n, pae = false, machine, runs, declaredRuns }: MsOptions): Uint8Array {
  const wide = bits === 64;
  const bytes = new Uint8Array(wide ? 0x2000 : 0x1000);
  // Windows fills the header with its signature.
  for (let at = 0; at < bytes.length; at += 4) bytes.set(ascii("PAGE"), at);
  bytes.set(ascii(wide ? "DU64" : "DUMP"), 4);
  const view = new DataView(bytes.buffer);
  const put = (wideAt: number, narrowAt: number, value: bigint) => {
    if (wide) view.setBigUint64(wideAt, value, true);
    else view.setUint32(narrowAt, Number(value), true);
  };
  put(0x10, 0x10, cr3);
  view.setUint32(wide ? 0x30 : 0x20, machine ?? (wide ? 0x8664 : 0x14c), true);
  view.setUint32(wide ? 0x34 : 0x24, 2, true);
  view.setUint32(wide ? 0x38 : 0x28, 0xd1, true);
  if (!wide) bytes[0x5c] = pae ? 1 : 0;
  view.setUint32(wide ? 0xf98 : 0xf88, type, true);
  if (runs !== undefined) {
    view.setUint32(wide ? 0x88 : 0x64, declaredRuns ?? runs.length, true);
    put(
      0x90,
      0x68,
      runs.reduce((sum, [, pages]) => sum + pages, 0n),
    );
    runs.forEach(([first, pages], i) => {
      put(0x98 + i * 16, 0x6c + i * 8, first);
      put(0xa0 + i * 16, 0x70 + i * 8, pages);
    });
  }
  return bytes;
}

function bitmap(options: MsOptions, at: number): Uint8Array {
  const { frames = [], bitmapBits = Math.max(...frames, 0) + 1, signature = "SDMPDUMP", gap = 0 } = options;
  const map = new Uint8Array(Math.ceil(bitmapBits / 8));
  for (const frame of frames) map[frame >> 3]! |= 1 << (frame % 8);
  const head = new Uint8Array(0x38).fill(0x50);
  head.set(ascii(signature));
  const view = new DataView(head.buffer);
  view.setBigUint64(0x20, BigInt(at + 0x38 + map.length + gap), true);
  view.setBigUint64(0x28, BigInt(options.present ?? frames.length), true);
  view.setBigUint64(0x30, BigInt(bitmapBits), true);
  return concat(head, map, new Uint8Array(gap).fill(0x99));
}

export function msDump(options: MsOptions): Uint8Array {
  const head = header(options);
  if (options.type !== 5 && options.type !== 6) return concat(head, options.pages);
  return concat(head, bitmap(options, head.length), options.pages);
}
