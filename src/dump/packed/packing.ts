/** How a whole file is compressed, by its first bytes, and how large it may become. */

export type Packing = "gzip" | "xz" | "zstd";

const MAGICS: Readonly<Record<Packing, readonly number[]>> = {
  // RFC 1952, "Member header and trailer".
  gzip: [0x1f, 0x8b],
  // The .xz file format, "Stream Header".
  xz: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00],
  // RFC 8878, "Zstandard Frames".
  zstd: [0x28, 0xb5, 0x2f, 0xfd],
};

/** What unpacks such a file, for messages. */
export const UNPACK_COMMAND: Readonly<Record<Packing, string>> = { gzip: "gzip -d", xz: "xz -d", zstd: "zstd -d" };

/** Bytes at the front of a file that `packingOf` wants to see. */
export const MAGIC_SIZE = 6;

/** Undefined where the file is not compressed as a whole. */
export function packingOf(head: Uint8Array): Packing | undefined {
  const names = Object.keys(MAGICS) as Packing[];
  return names.find((name) => MAGICS[name].every((byte, index) => head[index] === byte));
}

/** What a compressed file may inflate to: bytes in all, and bytes of 4 KiB pages that are not all zero. */
export interface InflationLimits {
  readonly limit: number;
  readonly keptLimit: number;
}

/** So much is inflated in seconds, and may be a thousand times the file's size where it is mostly zeros. */
const LEAST: InflationLimits = { limit: 2 ** 32, keptLimit: 2 ** 30 };
/** Pages in use shrink to a third or so, dumps with free memory to a tenth: these multiples are no dump's. */
const RATIO: InflationLimits = { limit: 64, keptLimit: 16 };

/** The limits for a compressed file of so many bytes: the caller's, or those that no dump of that size needs. */
export function inflationLimits(compressedSize: number, maxInflated: number | undefined): InflationLimits {
  if (maxInflated !== undefined) return { limit: maxInflated, keptLimit: maxInflated };
  return {
    limit: Math.max(LEAST.limit, RATIO.limit * compressedSize),
    keptLimit: Math.max(LEAST.keptLimit, RATIO.keptLimit * compressedSize),
  };
}
