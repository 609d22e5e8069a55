/**
 * How the software TLB names what it holds. Each PCID's context has a number, which is in the tags of its entries, and while
 * it runs a tag in its lines. A flush takes the name away: nothing is looked through, and what has the old name is never
 * found again. When the numbers or the tags run out, everything goes and they begin anew.
 */
import {
  LINE_TAG_HIGH,
  LINE_TAG_LOW,
  LINE_TAG_MIDDLE,
  LINE_VALID,
  TLB_NAME_CONTEXT,
  TLB_NAME_TAG,
  TLB_NAME_TAG_SHIFT,
  TLB_TAG_GLOBAL,
} from "../../abi/bits";
import { LINE_TAGS, TLB_CONTEXTS } from "../../abi/codes";
import { Space, TlbEntry, TlbLine, TlbNames } from "../../abi/records";

/** A tag in the bits of a line's LOW that no access and no page has. */
// @ts-ignore: decorator
@inline export function lineBits(tag: u32): u32 {
  const low = (tag << 3) & LINE_TAG_LOW;
  const middle = (tag << 4) & LINE_TAG_MIDDLE;
  return low | middle | ((tag << 7) & LINE_TAG_HIGH) | LINE_VALID;
}

/**
 * LINE bits of the current context, kept beside the lines. The host looks there after register writes and invalidations, and
 * after nothing else: an access never changes them.
 */
// @ts-ignore: decorator
@inline export function currentLineBits(space: Space): u32 {
  return changetype<TlbLine>(space.tlbLines).tag;
}

// @ts-ignore: decorator
@inline function setTag(space: Space, tag: u32): void {
  changetype<TlbLine>(space.tlbLines).tag = lineBits(tag);
}

/** Whether lines of the tag that a name has may be found. */
// @ts-ignore: decorator
@inline function isOwner(names: TlbNames, name: u32): bool {
  return names.owners((name & TLB_NAME_TAG) >> TLB_NAME_TAG_SHIFT) == (name & TLB_NAME_CONTEXT);
}

/** The tag of a PCID's lines; LINE_TAGS where it has none. */
export function tagOf(space: Space, pcid: u32): u32 {
  const names = space.tlbNames;
  const name = names.contexts(pcid);
  return name != 0 && isOwner(names, name) ? (name & TLB_NAME_TAG) >> TLB_NAME_TAG_SHIFT : LINE_TAGS;
}

/** Number of a PCID's context; 0 where it has none. */
// @ts-ignore: decorator
@inline export function contextOf(space: Space, pcid: u32): u64 {
  return space.tlbNames.contexts(pcid) & TLB_NAME_CONTEXT;
}

/** The context of `space.pcid` is the current one; it gets the names that it has not. */
export function enterContext(space: Space): void {
  const names = space.tlbNames;
  const pcid = space.pcid;
  let name = names.contexts(pcid);
  if (name == 0) {
    name = takeContext(space);
    names.pcids = max<u32>(names.pcids, pcid + 1);
    names.setContexts(pcid, name);
  }
  space.tlbContext = name & TLB_NAME_CONTEXT;
  if (isOwner(names, name)) setTag(space, (name & TLB_NAME_TAG) >> TLB_NAME_TAG_SHIFT);
  else enterLines(space);
}

/** The current context has no lines yet. */
function enterLines(space: Space): void {
  const names = space.tlbNames;
  let tag = names.nextTag;
  if (tag == LINE_TAGS) {
    fillLines(space);
    disownLines(names);
    tag = 0;
  }
  names.nextTag = tag + 1;
  ownLines(space, tag);
}

function fillLines(space: Space): void {
  memory.fill(space.tlbLines, 0, (space.tlbLineMask + 1) * TlbLine.SIZE);
}

/** Drops every line, whatever its tag; the current context keeps its own. */
export function clearLines(space: Space): void {
  const bits = currentLineBits(space);
  fillLines(space);
  changetype<TlbLine>(space.tlbLines).tag = bits;
}

/** The lines of a tag are the current context's. */
function ownLines(space: Space, tag: u32): void {
  const names = space.tlbNames;
  names.liveTags |= (<u32>1) << tag;
  const context = <u32>space.tlbContext;
  names.setOwners(tag, context);
  names.setContexts(space.pcid, context | (tag << TLB_NAME_TAG_SHIFT));
  setTag(space, tag);
}

/** A number for a context, or for global entries. */
function takeContext(space: Space): u32 {
  const names = space.tlbNames;
  const context = names.nextContext;
  names.nextContext = context + 1;
  if (context < TLB_CONTEXTS) return context;
  memory.fill(space.tlb, 0, (<usize>space.tlbMask + 1) * TlbEntry.SIZE);
  forget(space);
  names.nextContext = 2;
  return 1;
}

/** No entry and no line has a name any more, but for the numbers that are still to be given. */
function forget(space: Space): void {
  const names = space.tlbNames;
  memory.fill(names.contextsAddress, 0, names.pcids << 2);
  names.pcids = 0;
  disownLines(names);
  space.tlbGlobal = 0;
  space.tlbLarge = 0;
}

function disownLines(names: TlbNames): void {
  if (names.liveTags == 0) return;
  names.liveTags = 0;
  memory.fill(names.ownersAddress, 0, LINE_TAGS << 2);
}

/** The mark of global entries, which from now on there are. */
export function globalMark(space: Space): u64 {
  let mark = space.tlbGlobal;
  if (mark == 0) {
    const tag = tagOf(space, space.pcid);
    const number = takeContext(space);
    // The numbers may have begun anew, and the current context's with them: what had its tag is gone, and it keeps that.
    if (contextOf(space, space.pcid) == 0) renew(space, tag);
    mark = TLB_TAG_GLOBAL | (<u64>number);
    space.tlbGlobal = mark;
  }
  return mark;
}

/** The current context has lost its number in an access. */
function renew(space: Space, tag: u32): void {
  const names = space.tlbNames;
  fillLines(space);
  names.pcids = space.pcid + 1;
  space.tlbContext = takeContext(space);
  names.nextTag = tag + 1;
  ownLines(space, tag);
}

/** What a PCID's context holds is not found any more. */
export function renameContext(space: Space, pcid: u32): void {
  const names = space.tlbNames;
  names.flushes++;
  const name = names.contexts(pcid);
  if (name == 0) return;
  if (isOwner(names, name)) disown(names, (name & TLB_NAME_TAG) >> TLB_NAME_TAG_SHIFT);
  names.setContexts(pcid, 0);
  if (pcid == space.pcid) enterContext(space);
}

// @ts-ignore: decorator
@inline function disown(names: TlbNames, tag: u32): void {
  names.setOwners(tag, 0);
  names.liveTags &= ~((<u32>1) << tag);
}

/** What all contexts hold is not found any more, and with `global` no global entry. */
export function renameAll(space: Space, global: bool): void {
  space.tlbNames.flushes++;
  const kept = space.tlbGlobal;
  const large = space.tlbLarge;
  forget(space);
  if (!global) {
    space.tlbGlobal = kept;
    space.tlbLarge = large;
  }
  enterContext(space);
}

/** No line is found any more: what accesses may do has changed. */
export function renameLines(space: Space): void {
  disownLines(space.tlbNames);
  enterLines(space);
}
