/** Inflates a file that is compressed as a whole into a store, wherever its bytes come from. */
import { DumpError, InflationLimitError } from "../bytes/errors.js";
import type { SparseStore } from "../bytes/sparse-store.js";
import { CodecError } from "../codec/codec.js";
import { checkFirstBytes, FIRST_BYTES } from "../formats/formats.js";
import { type InflationLimits, MAGIC_SIZE, type Packing, packingOf, UNPACK_COMMAND } from "./packing.js";

/**
 * Decompresses a stream. Throws a CodecError for broken data, and ends where the input does: `ended` is told whether data
 * is missing there.
 */
export type Inflate = (
  input: AsyncIterable<Uint8Array>,
  ended: (truncated: boolean) => void,
) => AsyncIterable<Uint8Array>;

export interface Inflation {
  readonly name: string;
  readonly packing: Packing;
  readonly input: AsyncIterable<Uint8Array>;
  readonly inflate: Inflate;
  readonly store: SparseStore;
  /** What the file says that it inflates to. */
  readonly declared: number | undefined;
  /** It is not looked at whether the content is a dump. */
  readonly raw: boolean;
  /** Asked between pieces. */
  readonly signal: AbortSignal | undefined;
}

/**
 * Fills the store, and returns what is to be said of it: where the data breaks off, the store has what was before.
 * Throws a DumpError for broken data, for what is no dump by its first bytes, and for one that is beyond the limits.
 */
export async function inflateInto({
  name,
  packing,
  input,
  inflate,
  store,
  declared,
  raw,
  signal,
}: Inflation): Promise<string[]> {
  let decided = raw;
  let truncated = false;
  try {
    for await (const chunk of inflate(input, (is) => {
      truncated = is;
    })) {
      signal?.throwIfAborted();
      store.append(chunk);
      if (!decided && store.size >= FIRST_BYTES) {
        checkContent(store, packing);
        decided = true;
      }
    }
  } catch (error) {
    if (!(error instanceof CodecError)) throw error;
    const upTo = `after 0x${store.size.toString(16)} inflated bytes`;
    throw new DumpError(name, undefined, `broken ${packing} data ${upTo}: ${error.message}`);
  }
  store.finish();
  if (!decided) checkPacking(store, packing);
  if (!truncated) {
    if (declared === undefined || declared === store.size || packing !== "xz") return [];
    const found = `expected ${declared} bytes of ${packing} data, found ${store.size}`;
    throw new DumpError(name, undefined, `${found} (several streams? unpack it first: ${UNPACK_COMMAND[packing]})`);
  }
  if (store.size === 0) throw new DumpError(name, undefined, `expected more ${packing} data, but the file breaks off`);
  return [`the ${packing} data breaks off: only the first 0x${store.size.toString(16)} bytes of the dump are there`];
}

/** Throws a DumpError where what was unpacked is no dump by its first bytes. */
function checkContent(store: SparseStore, packing: Packing): void {
  checkPacking(store, packing);
  checkFirstBytes(store);
}

function checkPacking(store: SparseStore, packing: Packing): void {
  const head = new Uint8Array(MAGIC_SIZE);
  const inner = packingOf(head.subarray(0, store.read(0, head)));
  if (inner === undefined) return;
  throw new DumpError(store.name, 0, `expected a dump, found ${inner} inside ${packing}`);
}

/** Throws an InflationLimitError where a file says that it inflates to more than it may. */
export function checkDeclaredSize(
  name: string,
  packing: Packing,
  declared: number | undefined,
  limits: InflationLimits,
): void {
  if (declared === undefined || declared <= limits.limit) return;
  const limit = `expected at most ${limits.limit} bytes of inflated data, found ${declared}`;
  throw new InflationLimitError(name, undefined, `${limit}: unpack it first (${UNPACK_COMMAND[packing]})`);
}
