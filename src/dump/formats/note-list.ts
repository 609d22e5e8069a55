/** ELF notes one after the other: name, type, description. */
import { type ByteSource, readExactly } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";

/** Sizes of name and description, and the type. */
const HEADER_SIZE = 12;

export interface Note {
  /** The notes among which it is. */
  readonly view: DataView;
  /** Where it begins among them, and the first byte behind it. */
  readonly start: number;
  readonly end: number;
  readonly type: number;
  readonly descAt: number;
  readonly descSize: number;
  /** True if it has this name, with NULs behind it or not. */
  named(name: string): boolean;
  /** The error for what is wrong with it. */
  broken(problem: string): DumpError;
}

/** The notes of these bytes. Throws a DumpError where they are cut off or malformed; zeros behind the last one are none. */
export function* notesIn(source: ByteSource, offset: number, size: number): Iterable<Note> {
  const view = readExactly(source, offset, size, "the notes");
  let at = 0;
  while (at < size) {
    const start = at;
    const broken = (problem: string) => new DumpError(source.name, offset + start, `broken note: ${problem}`);
    if (size - at < HEADER_SIZE) {
      if (isZero(view, at, size)) return;
      throw broken(`expected a note header (${HEADER_SIZE} bytes), found ${size - at} bytes`);
    }
    const nameSize = view.getUint32(at, true);
    const descSize = view.getUint32(at + 4, true);
    const nameAt = at + HEADER_SIZE;
    const descAt = nameAt + align4(nameSize);
    if (descAt + descSize > size) {
      const sizes = `a name of ${nameSize} and a description of ${descSize} bytes`;
      throw broken(`${sizes} do not fit into ${size - at} bytes`);
    }
    const named = (name: string) => isName(view, nameAt, nameSize, name);
    const end = Math.min(size, descAt + align4(descSize));
    yield { view, start, end, type: view.getUint32(at + 8, true), descAt, descSize, named, broken };
    at = descAt + align4(descSize);
  }
}

function align4(size: number): number {
  return Math.ceil(size / 4) * 4;
}

function isZero(view: DataView, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (view.getUint8(i) !== 0) return false;
  return true;
}

/** True if the bytes are `name` and NULs behind it. */
function isName(view: DataView, offset: number, length: number, name: string): boolean {
  if (length < name.length) return false;
  for (let i = 0; i < name.length; i++) if (view.getUint8(offset + i) !== name.charCodeAt(i)) return false;
  return isZero(view, offset + name.length, offset + length);
}
