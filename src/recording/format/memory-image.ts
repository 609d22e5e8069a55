/** The guest memory of a recording: an index of pages and their bytes. */
import { RecordingError } from "./error.js";
import { JsonField } from "./json-field.js";
import { MAX_MEMORY } from "./maxima.js";

export const PAGE_SIZE = 4096;

/** The non-zero 4 KiB pages of a slot, by gpa. */
export class MemoryImage {
  constructor(readonly pages: ReadonlyMap<bigint, Uint8Array>) {}

  /** The 4096 bytes at page-aligned `gpa`; all zero where the image has no page. */
  page(gpa: bigint): Uint8Array {
    return this.pages.get(gpa) ?? new Uint8Array(PAGE_SIZE);
  }
}

/**
 * Reads an image: `index` is the JSON text of an array of page-aligned gpas, `bytesFile` has the pages in that order;
 * `readBytes` reads at most as many bytes of it as it is told. Throws RecordingError where they do not fit.
 */
export function readMemoryImage(
  indexFile: string,
  index: string,
  bytesFile: string,
  readBytes: (file: string, limit: number) => Uint8Array,
): MemoryImage {
  let parsed: unknown;
  try {
    parsed = JSON.parse(index);
  } catch (error) {
    throw new RecordingError(indexFile, "", `not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  const gpas = new JsonField(indexFile, parsed).array();
  if (gpas.length * PAGE_SIZE > MAX_MEMORY) {
    throw new RecordingError(indexFile, "", `expected at most ${MAX_MEMORY / PAGE_SIZE} pages, found ${gpas.length}`);
  }
  const bytes = readBytes(bytesFile, gpas.length * PAGE_SIZE);
  if (bytes.length !== gpas.length * PAGE_SIZE) {
    throw new RecordingError(
      bytesFile,
      "",
      `expected ${gpas.length} pages of ${PAGE_SIZE} bytes as the index says, found ${bytes.length} bytes`,
    );
  }
  const pages = new Map<bigint, Uint8Array>();
  gpas.forEach((field, position) => {
    const gpa = field.u64();
    if (gpa % BigInt(PAGE_SIZE) !== 0n) field.fail("a page-aligned address");
    if (pages.has(gpa)) field.fail("an address that is not listed twice");
    pages.set(gpa, bytes.subarray(position * PAGE_SIZE, (position + 1) * PAGE_SIZE));
  });
  return new MemoryImage(pages);
}
