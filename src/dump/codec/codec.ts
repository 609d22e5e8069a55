/** What a decompressor of pages is. */

export type CodecName = "zlib" | "lzo" | "snappy" | "zstd";

/**
 * Decompresses a page: fills `into` exactly from all of `packed`.
 * Throws a CodecError where the data is broken, or is that of more or fewer bytes; `into` is of no use then.
 */
export type Unpack = (packed: Uint8Array, into: Uint8Array) => void;

/** Decompressors that are there. */
export type Codecs = Readonly<Partial<Record<CodecName, Unpack>>>;

/** Compressed data is broken. The message is a part of a sentence: what was expected, or found. */
export class CodecError extends Error {
  override name = "CodecError";
}
