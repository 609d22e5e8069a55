/** The files that the inspector was given: read by ranges, as much as a page asks for. */
import { type FileHandle, open } from "node:fs/promises";
import { basename } from "node:path";

export interface NamedFile {
  readonly name: string;
  readonly size: number;
  readonly handle: FileHandle;
}

/** Opens the files; closes them all where one cannot be opened, or is no file. */
export async function openNamedFiles(paths: readonly string[]): Promise<NamedFile[]> {
  const files: NamedFile[] = [];
  try {
    for (const path of paths) {
      const handle = await open(path, "r").catch((error) => {
        throw new Error(`${path}: ${(error as Error).message.replace(/^E\w+: /, "")}`);
      });
      const status = await handle.stat();
      files.push({ name: basename(path), size: status.size, handle });
      if (!status.isFile()) throw new Error(`${path}: expected a file`);
    }
  } catch (error) {
    await Promise.all(files.map(({ handle }) => handle.close()));
    throw error;
  }
  return files;
}

/** Bytes that are read at once. */
const PIECE = 2 ** 18;

/** The bytes of a range, in pieces; fewer where the file has become shorter, which is an error to who was promised them. */
export async function* piecesOf(handle: FileHandle, first: number, last: number): AsyncGenerator<Uint8Array> {
  for (let at = first; at <= last; ) {
    const { bytesRead, buffer } = await handle.read(new Uint8Array(Math.min(PIECE, last + 1 - at)), { position: at });
    if (bytesRead === 0) throw new Error("the file has become shorter");
    yield buffer.subarray(0, bytesRead);
    at += bytesRead;
  }
}

/** Bytes from `first` to `last`, both included. */
export interface ByteRange {
  readonly first: number;
  readonly last: number;
}

/**
 * The range that a `Range` header asks for (RFC 9110, "Range"): undefined where there is none or more than one, which is answered
 * with all of it; "unsatisfiable" where nothing of it is in the file.
 */
export function rangeOf(header: string | undefined, size: number): ByteRange | "unsatisfiable" | undefined {
  const [, from = "", to = ""] = /^bytes=(\d*)-(\d*)$/.exec(header ?? "") ?? [];
  if (from === "" && to === "") return undefined;
  if (from === "")
    return Number(to) === 0 || size === 0 ? "unsatisfiable" : { first: Math.max(0, size - Number(to)), last: size - 1 };
  const first = Number(from);
  if (to !== "" && Number(to) < first) return undefined;
  if (first >= size) return "unsatisfiable";
  return { first, last: to === "" ? size - 1 : Math.min(Number(to), size - 1) };
}
