/** Opens a trace: a file, which is read where it is wanted, or a pipe that stands for one. */
import { statSync } from "node:fs";
import type { TraceInput } from "../trace/index.js";
import { openTraceFile } from "../trace/node.js";
import { openText } from "./text-file.js";

export interface TraceFile {
  readonly input: TraceInput;
  /** Length in bytes; 0 where that is not known. */
  readonly size: number;
  close(): void;
}

/** Opens what is at `path`. Throws a CliError or a DumpError for what cannot be read. */
export function traceFile(path: string): TraceFile {
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) {
    const { chunks, size } = openText(path);
    return { input: chunks, size, close: () => {} };
  }
  const file = openTraceFile(path);
  return { input: file, size: file.size, close: () => file.close() };
}
