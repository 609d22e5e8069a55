/** Traces in files, for Node. */
import { FileByteSource } from "../dump/bytes/file-byte-source.js";
import type { RandomAccess } from "./input/input.js";

/** An open file, to be analysed and closed. */
export interface OpenTraceFile extends RandomAccess {
  close(): void;
}

/** Opens a regular file. Throws a DumpError for what cannot be opened, and for anything else; reading throws one, too. */
export function openTraceFile(path: string): OpenTraceFile {
  const file = new FileByteSource(path);
  return {
    size: file.size,
    async read(offset, length) {
      const bytes = new Uint8Array(Math.max(0, Math.min(length, file.size - offset)));
      return bytes.subarray(0, file.read(offset, bytes));
    },
    close: () => file.close(),
  };
}
