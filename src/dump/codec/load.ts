/** Loads the decompressors that a dump needs, and no others. */
import type { CodecName, Codecs, Unpack } from "./codec.js";

const LOADERS: Readonly<Record<CodecName, () => Promise<Unpack>>> = {
  zlib: async () => (await import("./zlib.js")).unpackZlib,
  lzo: async () => (await import("./lzo.js")).unpackLzo,
  snappy: async () => (await import("./snappy.js")).unpackSnappy,
  zstd: async () => (await import("./zstd.js")).zstdUnpacker(),
};

/** Loads these decompressors. */
export async function loadCodecs(names: Iterable<CodecName>): Promise<Codecs> {
  const loaded = await Promise.all([...names].map(async (name) => [name, await LOADERS[name]()] as const));
  return Object.fromEntries(loaded);
}
