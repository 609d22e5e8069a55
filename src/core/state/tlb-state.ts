/**
 * A software TLB in a state: every entry and line that may still be found, stale ones too, and the names that they are found
 * by. What has lost its name is left out.
 */
import { bitOf, CODES, fieldOf, LINE, TLB_NAME, TLB_TAG, valueIn } from "../../abi/index.js";
import { StateError } from "../../errors.js";
import type { StateReader } from "../../state/format/reader.js";
import type { StateWriter } from "../../state/format/writer.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import { type SpaceRecord, TlbNamesRecord } from "../records/walk.js";
import { MOST_LINES } from "../space/space-tlb.js";

const CONTEXT = Number(bitOf(TLB_NAME, "CONTEXT"));
const NAME_BITS = CONTEXT | Number(bitOf(TLB_NAME, "TAG"));
const MARK_BITS = bitOf(TLB_TAG, "CONTEXT") | bitOf(TLB_TAG, "GLOBAL");
const LINE_VALID = Number(bitOf(LINE, "VALID"));
/** Levels whose pages may be entered in pieces: their bits in TLB_LARGE. */
const LARGE = 0b1100;
const PCIDS = 4096;
/** Words of 8 bytes of an entry, of 4 bytes of a line. */
const ENTRY_WORDS = 2;
const LINE_WORDS = 4;
/** A frame number is a positive i32. */
const MOST_FRAME = 0x7fff_ffff;

interface Line {
  readonly index: number;
  readonly low: number;
  readonly high: number;
  readonly frame: number;
}

interface Entry {
  readonly index: number;
  readonly tag: bigint;
  readonly data: bigint;
}

/** What a state says of a TLB, checked. */
export interface SavedTlb {
  readonly nextContext: number;
  readonly nextTag: number;
  readonly liveTags: number;
  readonly statistics: readonly bigint[];
  readonly global: bigint;
  readonly large: number;
  readonly owners: readonly number[];
  /** By PCID. */
  readonly contexts: readonly (readonly [pcid: number, name: number])[];
  readonly entries: readonly Entry[];
  readonly lines: readonly Line[];
}

/** Writes the TLB that `space` has. */
export function writeTlb(out: StateWriter, linear: LinearMemory, space: SpaceRecord): void {
  const names = new TlbNamesRecord(linear, space.tlbNames);
  out.u32(space.tlbMask + 1);
  for (const value of [names.nextContext, names.nextTag, names.liveTags]) out.u32(value);
  for (const count of [names.fills, names.flushes, names.drops]) out.u64(count);
  out.u64(space.tlbGlobal);
  out.u32(space.tlbLarge);
  for (let tag = 0; tag < CODES.LINE_TAGS; tag++) out.u32(names.owners(tag));
  const contexts: [number, number][] = [];
  for (let pcid = 0; pcid < names.pcids; pcid++) {
    if (names.contexts(pcid) !== 0) contexts.push([pcid, names.contexts(pcid)]);
  }
  out.list(contexts, ([pcid, name]) => {
    out.u32(pcid);
    out.u32(name);
  });
  const live = new Set(contexts.map(([, name]) => BigInt(name & CONTEXT)));
  out.list(liveEntries(linear, space, live), ({ index, tag, data }) => {
    out.u32(index);
    out.u64(tag);
    out.u64(data);
  });
  out.list(liveLines(linear, space, names.liveTags), ({ index, low, high, frame }) => {
    for (const word of [index, low, high, frame]) out.u32(word);
  });
}

/** Entries of a context that has its name, and global ones. */
function liveEntries(linear: LinearMemory, space: SpaceRecord, live: ReadonlySet<bigint>): Entry[] {
  const words = linear.u64;
  const found: Entry[] = [];
  const globalName = space.tlbGlobal & bitOf(TLB_TAG, "CONTEXT");
  for (let index = 0; index <= space.tlbMask; index++) {
    const at = (space.tlb >>> 3) + index * ENTRY_WORDS;
    const [tag, data] = [words[at]!, words[at + 1]!];
    const name = tag & bitOf(TLB_TAG, "CONTEXT");
    if (data !== 0n && tag !== 0n && (live.has(name) || name === globalName)) found.push({ index, tag, data });
  }
  return found;
}

function liveLines(linear: LinearMemory, space: SpaceRecord, liveTags: number): Line[] {
  const words = linear.u32;
  const found: Line[] = [];
  for (let index = 0; index <= space.tlbLineMask; index++) {
    const at = (space.tlbLines >>> 2) + index * LINE_WORDS;
    const low = words[at]!;
    if ((low & LINE_VALID) === 0 || ((liveTags >>> lineTag(low)) & 1) === 0) continue;
    found.push({ index, low, high: words[at + 1]!, frame: words[at + 2]! });
  }
  return found;
}

/** The tag in a line's LOW (lineBits of assembly/walk/tlb/tlb-names.ts). */
function lineTag(low: number): number {
  let tag = 0;
  let shift = 0;
  for (const name of ["TAG_LOW", "TAG_MIDDLE", "TAG_HIGH"]) {
    const field = fieldOf(LINE, name);
    tag |= Number(valueIn(field, BigInt(low))) << shift;
    shift += field.width ?? 1;
  }
  return tag;
}

/** What the state has for a TLB of `entries`. Throws StateError. */
export function readTlb(from: StateReader, entries: number): SavedTlb {
  const lines = Math.min(entries, MOST_LINES);
  const size = from.u32();
  if (size !== entries) throw new StateError(`the state has a software TLB of ${size} entries, expected ${entries}`);
  const nextContext = from.integer(1, CODES.TLB_CONTEXTS, "a next context");
  const nextTag = from.integer(0, CODES.LINE_TAGS, "a next tag");
  const liveTags = from.u32();
  const statistics = [from.u64(), from.u64(), from.u64()];
  const global = from.u64();
  if ((global & ~MARK_BITS) !== 0n)
    throw new StateError(`the state has a mark 0x${global.toString(16)} of global entries`);
  const large = from.u32();
  if ((large & ~LARGE) !== 0) throw new StateError(`the state has levels 0x${large.toString(16)} of large pages`);
  const owners = Array.from({ length: CODES.LINE_TAGS }, () => from.integer(0, CONTEXT, "an owner of lines"));
  const contexts = from.list(8, () => {
    return [from.integer(0, PCIDS - 1, "a PCID"), from.integer(1, NAME_BITS, "a context")] as const;
  });
  for (const [pcid, name] of contexts) {
    if ((name & CONTEXT) === 0) throw new StateError(`the state has no context for PCID ${pcid}`);
  }
  return {
    ...{ nextContext, nextTag, liveTags, statistics, global, large, owners, contexts },
    entries: from.list(20, () => {
      return { index: from.integer(0, entries - 1, "an entry"), tag: from.u64(), data: from.u64() };
    }),
    lines: from.list(16, () => ({
      index: from.integer(0, lines - 1, "a line"),
      low: from.u32(),
      high: from.u32(),
      frame: from.integer(0, MOST_FRAME, "a frame"),
    })),
  };
}

/** Fills the TLB of `space`, whatever was in it; which context is the current one is up to the caller. */
export function fillTlb(linear: LinearMemory, space: SpaceRecord, saved: SavedTlb): void {
  const names = new TlbNamesRecord(linear, space.tlbNames);
  const zero = (from: number, bytes: number) => linear.u8.fill(0, from, from + bytes);
  zero(names.at, TlbNamesRecord.SIZE);
  zero(space.tlb, (space.tlbMask + 1) * ENTRY_WORDS * 8);
  zero(space.tlbLines, (space.tlbLineMask + 1) * LINE_WORDS * 4);
  names.nextContext = saved.nextContext;
  names.nextTag = saved.nextTag;
  names.liveTags = saved.liveTags;
  [names.fills, names.flushes, names.drops] = saved.statistics as [bigint, bigint, bigint];
  space.tlbGlobal = saved.global;
  space.tlbLarge = saved.large;
  saved.owners.forEach((owner, tag) => {
    names.setOwners(tag, owner);
  });
  for (const [pcid, name] of saved.contexts) {
    names.setContexts(pcid, name);
    names.pcids = Math.max(names.pcids, pcid + 1);
  }
  for (const { index, tag, data } of saved.entries)
    linear.u64.set([tag, data], (space.tlb >>> 3) + index * ENTRY_WORDS);
  for (const { index, low, high, frame } of saved.lines) {
    linear.u32.set([low, high, frame], (space.tlbLines >>> 2) + index * LINE_WORDS);
  }
}
