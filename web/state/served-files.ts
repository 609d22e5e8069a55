/** The files that the page was opened for: `x86-paging inspect FILE` writes them into its head. */
import { isPackedRecording } from "x86-paging/recording";
import { blobOf, type ServedName } from "../engine/served-file.js";

/** What each is for, once `sortServedFiles` has looked at them. */
let dumps: readonly ServedName[] = [];
let replayed: ServedName | undefined;

/** Parts of one dump. */
export const servedDump = (): readonly ServedName[] => dumps;
/** A recording or a trace. */
export const servedRecording = (): ServedName | undefined => replayed;

/** Bytes by which a file is told, and of a compressed one those that give as many. */
const BEGINNING = 256;
const PACKED_BEGINNING = 2 ** 16;
/** What tracing/trace, trace-cmd report and perf script begin with. */
const TRACE =
  /^# tracer:|^(?:version = \d|cpus=\d)|^\s*\S.{0,40}-\d+\s+\[\d+\]|^\s*\S.{0,40}\s\d+(?:\/\d+)?\s+\[\d+\]\s/;
/** trace.dat begins with it (trace-cmd.dat(5)). */
const DAT = [0x17, 0x08, 0x44];
const GZIP = [0x1f, 0x8b];

const beginsWith = (bytes: Uint8Array, magic: readonly number[]) => magic.every((byte, index) => bytes[index] === byte);

/** Looks which view the files are for: one recording or trace, or else a dump in all its parts. */
export async function sortServedFiles(): Promise<void> {
  const files = namedFiles();
  const [only] = files;
  if (files.length === 1 && only !== undefined && (await isReplayed(only))) replayed = only;
  else dumps = files;
}

async function isReplayed(file: ServedName): Promise<boolean> {
  try {
    const bytes = await beginningOf(file);
    return isPackedRecording(bytes) || beginsWith(bytes, DAT) || TRACE.test(new TextDecoder().decode(bytes));
  } catch {
    // Whoever opens it says what is wrong with it.
    return false;
  }
}

async function beginningOf(file: ServedName): Promise<Uint8Array> {
  const bytes = new Uint8Array(await blobOf(file).slice(0, PACKED_BEGINNING).arrayBuffer());
  if (!beginsWith(bytes, GZIP)) return bytes.subarray(0, BEGINNING);
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")).getReader();
  const { value } = await reader.read();
  // The rest is cut off, and not wanted.
  reader.cancel().catch(() => {});
  return (value ?? new Uint8Array()).subarray(0, BEGINNING);
}

/** Their addresses are whole, since workers have another base. */
function namedFiles(): readonly ServedName[] {
  const content = document.querySelector<HTMLMetaElement>('meta[name="served-files"]')?.content;
  if (content === undefined) return [];
  const files = JSON.parse(content) as readonly ServedName[];
  return files.map((file) => ({ ...file, url: new URL(file.url, document.baseURI).href }));
}
