/** Memory dumps in files, for Node. */

import type { ByteSource } from "./bytes/byte-source.js";
import { CodecsNeededError } from "./bytes/errors.js";
import { FileByteSource } from "./bytes/file-byte-source.js";
import { SpilledPages } from "./bytes/spilled-pages.js";
import type { CodecName } from "./codec/codec.js";
import { loadCodecs } from "./codec/load.js";
import type { Dump } from "./dump.js";
import { isRaw } from "./formats/raw.js";
import { type OpenDumpOptions, type OpenSourceOptions, openDump } from "./open.js";
import { inflateFile } from "./packed/inflate-file.js";
import { MAGIC_SIZE, packingOf } from "./packed/packing.js";
import { vmwareSibling } from "./vmware-sibling.js";

export { FileByteSource } from "./bytes/file-byte-source.js";
export * from "./index.js";
export { type WriteDumpOptions, writeDumpFile } from "./write-file.js";

export interface OpenDumpFileOptions extends OpenDumpOptions {
  /** Told of the progress of inflating a compressed file: compressed bytes done, of how many. */
  readonly onInflate?: (done: number, total: number) => void;
  /**
   * The other files of a split dump (`makedumpfile --split`), in any order, or of VMware's two (.vmem, and .vmss or .vmsn) the
   * other one. Of the latter it is looked for beside the file, by its name, where this is left out.
   */
  readonly parts?: readonly string[];
}

/**
 * Opens a dump file; a file that is compressed as a whole (gzip, xz, zstd) is inflated once, as a stream. Its non-zero
 * pages are kept: 256 MiB of them in memory, the others in a temporary file.
 * Throws a DumpError before anything is returned if the dump cannot be read; `warnings` says what is missing from it.
 */
export async function openDumpFile(path: string, options: OpenDumpFileOptions = {}): Promise<Dump> {
  const open: { close(): void }[] = [];
  const close = () => {
    for (const one of open.splice(0)) one.close();
  };
  const opened = (one: string) => {
    const file = new FileByteSource(one);
    open.push(file);
    return file;
  };
  try {
    (options.signal as AbortSignal | undefined)?.throwIfAborted();
    const file = opened(path);
    const beside = options.parts === undefined && !isRaw(options) ? vmwareSibling(path, file) : undefined;
    const parts = (options.parts ?? (beside === undefined ? [] : [beside])).map(opened);
    const head = new Uint8Array(MAGIC_SIZE);
    const packing = packingOf(head.subarray(0, file.read(0, head)));
    if (packing === undefined) return await openWithCodecs(file, { ...options, parts, onClose: close });
    const pages = new SpilledPages(path);
    open.push(pages);
    const { store, warnings } = await inflateFile(file, packing, pages, options);
    open.splice(open.indexOf(file), 1);
    file.close();
    return await openWithCodecs(store, { ...options, parts, compressed: true, warnings, onClose: close });
  } catch (error) {
    close();
    throw error;
  }
}

/** Opens a dump, loading the decompressors that its pages need. */
async function openWithCodecs(source: ByteSource, options: OpenSourceOptions): Promise<Dump> {
  try {
    return openDump(source, options);
  } catch (error) {
    if (!(error instanceof CodecsNeededError)) throw error;
    return openDump(source, { ...options, codecs: await loadCodecs(error.codecs as CodecName[]) });
  }
}
