/**
 * What every state begins with, and how it is sealed: 32 bytes, then the contents.
 *
 *     0  magic          8 bytes, "x86-pgst"
 *     8  format         u32, STATE_FORMAT
 *    12  layout         u32, LAYOUT_IDENTITY of the build: of every bit, record and code that it has
 *    16  kind           u32, STATE_KIND
 *    20  kernel         u32, number of the kernel in KERNELS plus 1, 0 where there is none
 *    24  length         u32, bytes of all
 *    28  checksum       u32, CRC-32 of all bytes but these four
 */
import { KERNELS } from "../../abi/kernel-rules.js";
import { toBytes } from "../../checks.js";
import { LAYOUT_IDENTITY } from "../../core/records/identity.js";
import { StateError } from "../../errors.js";
import { crc32 } from "./checksum.js";
import { StateReader } from "./reader.js";
import type { StateWriter } from "./writer.js";

/** Of what a state has and how: another number with every change of that. */
export const STATE_FORMAT = 1;

export const STATE_KIND = { space: 1, memory: 2, machine: 3 } as const;

const NAMES = ["", "an address space", "a memory", "a virtual machine"] as const;
const MAGIC = /* @__PURE__ */ new TextEncoder().encode("x86-pgst");
const PLACE = { format: 8, layout: 12, kind: 16, kernel: 20, length: 24, checksum: 28 } as const;
const HEADER = 32;
/** Lengths have 32 bits. */
const MOST_BYTES = 2 ** 32 - 1;

/** The state with these contents. Throws StateError where it would be too long. */
export function seal(kind: number, contents: StateWriter, kernel = 0): ArrayBuffer {
  const body = contents.written();
  const length = HEADER + body.length;
  if (length > MOST_BYTES) throw new StateError(`the state has ${length} bytes, expected less than 4 GiB`);
  const bytes = new Uint8Array(length);
  bytes.set(MAGIC);
  bytes.set(body, HEADER);
  const view = new DataView(bytes.buffer);
  view.setUint32(PLACE.format, STATE_FORMAT, true);
  view.setUint32(PLACE.layout, LAYOUT_IDENTITY, true);
  view.setUint32(PLACE.kind, kind, true);
  view.setUint32(PLACE.kernel, kernel, true);
  view.setUint32(PLACE.length, length, true);
  view.setUint32(PLACE.checksum, checksum(bytes), true);
  return bytes.buffer;
}

function checksum(bytes: Uint8Array): number {
  return crc32(bytes.subarray(HEADER), crc32(bytes.subarray(0, PLACE.checksum)));
}

/**
 * The contents of a state. Throws StateError where it is damaged or of another version, layout, kind or kernel, TypeError for
 * what is no buffer. The contents are a copy: whoever has the buffer may change it meanwhile.
 */
export function unseal(kind: number, state: ArrayBufferLike | ArrayBufferView, kernel = 0): StateReader {
  const bytes = toBytes(state, "state").slice();
  const start = MAGIC.every((byte, at) => bytes[at] === byte);
  if (bytes.length < HEADER || !start) throw new StateError(`the ${bytes.length} bytes are no saved state`);
  const view = new DataView(bytes.buffer);
  const word = (at: number) => view.getUint32(at, true);
  const expect = (at: number, expected: number, what: string) => {
    if (word(at) !== expected) throw new StateError(`the state has ${what} ${word(at)}, expected ${expected}`);
  };
  expect(PLACE.format, STATE_FORMAT, "format");
  expect(PLACE.length, bytes.length, "length");
  expect(PLACE.checksum, checksum(bytes), "checksum");
  expect(PLACE.layout, LAYOUT_IDENTITY, "the layout of another build,");
  const found = word(PLACE.kind);
  if (found !== kind) {
    throw new StateError(`the state is of ${NAMES[found] ?? `kind ${found}`}, expected ${NAMES[kind]}`);
  }
  if (word(PLACE.kernel) !== kernel) {
    throw new StateError(`the state is of kernel ${kernelName(word(PLACE.kernel))}, expected ${kernelName(kernel)}`);
  }
  return new StateReader(bytes, HEADER);
}

function kernelName(number: number): string {
  return KERNELS[number - 1] ?? `number ${number}`;
}
