/**
 * VMware's state files (.vmss of suspended machines, .vmsn of snapshots): groups of named values. The layout is that of
 * crash's vmware_vmss.h, which is by VMware, and of volatility's VMware layer.
 */
import { type ByteSource, holdsBytes, readExactly, readFully } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";

/** struct cptdumpheader: id, version, number of groups. */
const HEADER = { id: 0, groups: 8, bytes: 12 } as const;
/** struct cptgroupdesc: a name of 64 bytes, position, size. */
const GROUP = { name: 64, position: 64, bytes: 80 } as const;
/** Of the first one blocks have sizes of 32 bits, of the others of 64. */
const OLD_MAGIC = 0xbed0bed0;
const MAGICS = [OLD_MAGIC, 0xbed2bed2, 0xbed3bed3, 0xbad1bad1, 0xbad2bad2];

/** The first byte of a tag: size of the value, and how many indices it has. */
const VALUE_SIZES = 64;
const INDEX_COUNTS = 4;
/** Sizes that stand for a block, whose size follows. */
const BLOCK = 63;
const COMPRESSED_BLOCK = 62;

const MOST_GROUPS = 1024;
/** Of a group; VMware's have some thousands. */
const MOST_TAGS = 2 ** 18;
/** Values of blocks are kept up to this length. */
const KEPT = 256;
const WINDOW = 2 ** 16;

/** A named value. */
export interface Tag {
  readonly name: string;
  readonly indices: readonly number[];
  /** Where the value is in the file. */
  readonly offset: number;
  readonly size: number;
  readonly block: boolean;
  readonly compressed: boolean;
  /** The value, of blocks their first KEPT bytes. */
  readonly value: DataView;
}

export interface Group {
  readonly tags: readonly Tag[];
  /** False where the file ends before the group does. */
  readonly complete: boolean;
}

export function isVmss(head: Uint8Array): boolean {
  return head.length >= 4 && MAGICS.includes(new DataView(head.buffer, head.byteOffset).getUint32(HEADER.id, true));
}

/** Reads the groups of these names; one that is not there has no tags. Throws a DumpError for what is no state file. */
export function readGroups<Name extends string>(source: ByteSource, names: readonly Name[]): Record<Name, Group> {
  const header = readExactly(source, 0, HEADER.bytes, "the header of a VMware state file");
  const count = header.getUint32(HEADER.groups, true);
  if (count > MOST_GROUPS) {
    throw new DumpError(source.name, HEADER.groups, `expected at most ${MOST_GROUPS} groups, found ${count}`);
  }
  const table = readExactly(source, HEADER.bytes, count * GROUP.bytes, "the groups of a VMware state file");
  const old = header.getUint32(HEADER.id, true) === OLD_MAGIC;
  const groups = Object.fromEntries(names.map((name) => [name, { tags: [], complete: true }])) as unknown as Record<
    Name,
    Group
  >;
  for (let i = 0; i < count; i++) {
    const name = names.find((one) => isName(table, i * GROUP.bytes, one));
    if (name === undefined) continue;
    groups[name] = readTags(new Window(source), u64(table, i * GROUP.bytes + GROUP.position), old);
  }
  return groups;
}

function readTags(window: Window, position: number, old: boolean): Group {
  const tags: Tag[] = [];
  const sizeWidth = old ? 4 : 8;
  let at = position;
  for (;;) {
    const head = window.bytes(at, 2);
    if (head === undefined) return { tags, complete: false };
    const kind = head.getUint8(0);
    const nameSize = head.getUint8(1);
    if (kind === 0 && nameSize === 0) return { tags, complete: true };
    if (tags.length === MOST_TAGS) {
      throw new DumpError(window.source.name, at, `expected at most ${MOST_TAGS} values of a group, found more`);
    }
    const valueSize = kind % VALUE_SIZES;
    const indexCount = Math.floor(kind / VALUE_SIZES) % INDEX_COUNTS;
    const block = valueSize === BLOCK || valueSize === COMPRESSED_BLOCK;
    const fixed = window.bytes(at + 2, nameSize + indexCount * 4 + (block ? 2 * sizeWidth + 2 : 0));
    if (fixed === undefined) return { tags, complete: false };
    const name = text(fixed, nameSize);
    const indices = Array.from({ length: indexCount }, (_, i) => fixed.getUint32(nameSize + i * 4, true));
    const sizesAt = nameSize + indexCount * 4;
    let offset = at + 2 + fixed.byteLength;
    let size = valueSize;
    if (block) {
      // The size in the file, that in memory, and how much padding follows.
      size = old ? fixed.getUint32(sizesAt, true) : u64(fixed, sizesAt);
      offset += fixed.getUint16(sizesAt + 2 * sizeWidth, true);
    }
    const value = window.bytes(offset, Math.min(size, KEPT));
    if (value === undefined) return { tags, complete: false };
    tags.push({ name, indices, offset, size, block, compressed: valueSize === COMPRESSED_BLOCK, value });
    at = offset + size;
  }
}

/** Reads a file forwards in larger pieces. */
class Window {
  readonly source: ByteSource;
  #start = 0;
  #piece = new Uint8Array(0);

  constructor(source: ByteSource) {
    this.source = source;
  }

  /** Undefined where the file ends before. */
  bytes(at: number, length: number): DataView | undefined {
    if (!holdsBytes(this.source, at, length)) return undefined;
    if (at < this.#start || at + length > this.#start + this.#piece.length) {
      const piece = new Uint8Array(Math.max(length, Math.min(WINDOW, this.source.size - at)));
      readFully(this.source, at, piece, "values of a VMware state file");
      this.#start = at;
      this.#piece = piece;
    }
    return new DataView(this.#piece.buffer, at - this.#start, length);
  }
}

function isName(view: DataView, at: number, name: string): boolean {
  return text(new DataView(view.buffer, view.byteOffset + at, GROUP.name), GROUP.name) === name;
}

/** Characters up to a NUL. */
function text(view: DataView, length: number): string {
  let result = "";
  for (let i = 0; i < length; i++) {
    const code = view.getUint8(i);
    if (code === 0) break;
    result += String.fromCharCode(code);
  }
  return result;
}

function u64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
}
