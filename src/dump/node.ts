/** Memory dumps in files, for Node. */
import type { Dump } from "./dump.js";
import { FileByteSource } from "./file-byte-source.js";
import { isGzip } from "./gzip.js";
import { inflateFile } from "./inflate-file.js";
import { type OpenDumpOptions, openDump } from "./open.js";
import { SpilledPages } from "./spilled-pages.js";

export { FileByteSource } from "./file-byte-source.js";
export * from "./index.js";

export interface OpenDumpFileOptions extends OpenDumpOptions {
  /** Told of the progress of inflating a gzip file: compressed bytes done, of how many. */
  readonly onInflate?: (done: number, total: number) => void;
}

/**
 * Opens a dump file; a gzip file is inflated once, as a stream. Its non-zero pages are kept: 256 MiB of them in memory,
 * the others in a temporary file.
 * Throws a DumpError before anything is returned if the dump is not whole.
 */
export async function openDumpFile(path: string, options: OpenDumpFileOptions = {}): Promise<Dump> {
  const file = new FileByteSource(path);
  const head = new Uint8Array(2);
  try {
    if (file.read(0, head) < head.length || !isGzip(head)) {
      return openDump(file, { ...options, onClose: () => file.close() });
    }
  } catch (error) {
    file.close();
    throw error;
  }
  const pages = new SpilledPages(path);
  try {
    const store = await inflateFile(file, pages, options);
    return openDump(store, { ...options, compressed: true, onClose: () => pages.close() });
  } catch (error) {
    pages.close();
    throw error;
  } finally {
    file.close();
  }
}
