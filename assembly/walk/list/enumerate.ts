/** Listing every mapping of an address space, in ascending order of table index, in as many calls as the caller likes. */
import { PTE_P } from "../../abi/bits";
import {
  FEATURE_LIVE_PDPTES,
  KIND_EPT,
  KIND_GUEST,
  MODE_32BIT,
  MODE_4LEVEL,
  MODE_PAE,
  NOT_READ,
  STATUS_OK,
} from "../../abi/codes";
import { Cursor, Leaf, Space } from "../../abi/records";
import { resolve } from "../../memory/resolve";
import { eptRightsOf, isEptLeaf, isEptPresent, isMisconfigured } from "../ept";
import { isLeaf, pageAddress, rightsOf } from "../legacy";
import { signExtend } from "../linear";
import { reservedBits } from "../reserved";
import { failUnread } from "../result";
import { GROUP, listTable, skipEmpty } from "./enumerate-table";

/** Puts `cursor` at the first entry of the root table. With paging off there is nothing to list. */
export function startEnumeration(space: Space, cursor: Cursor): void {
  const level = space.rootLevel;
  cursor.level = level;
  cursor.status = STATUS_OK;
  enter(cursor, level, space.root, 0, 0xf);
}

/**
 * Writes up to `capacity` LEAF records to `output` and returns how many. `cursor.level` is 0 when all are listed;
 * `cursor.status` says why a call stopped early (a page to read first, or a table outside memory).
 * Entries with reserved bits set map nothing and are passed over.
 */
export function enumerate(space: Space, cursor: Cursor, output: usize, capacity: u32): u32 {
  const ept = space.kind == KIND_EPT;
  const wide = !ept && space.mode != MODE_32BIT;
  let level = cursor.level;
  let pointer: u32 = 0;
  let count: u32 = 0;
  cursor.status = STATUS_OK;

  while (level != 0) {
    const entries = entriesOf(space, level);
    let index = cursor.index(level);
    if (index >= entries) {
      level = level == space.rootLevel ? 0 : level + 1;
      pointer = 0;
      continue;
    }
    if (pointer == 0) {
      pointer = tablePointer(space, cursor, level);
      if (pointer >= NOT_READ) break;
    }
    if (count == capacity) break;
    if (wide && (index & (GROUP - 1)) == 0 && !isPdpt(space, level)) {
      if (level == 1 && capacity - count >= GROUP) {
        const listed = listLeaves(
          space,
          cursor,
          pointer,
          index,
          output + count * Leaf.SIZE,
          min<u32>(capacity - count, 512),
        );
        count += listed >> 16;
        cursor.setIndex(level, listed & 0xffff);
        continue;
      }
      index = skipEmpty(pointer, index);
      if (index == entries) {
        cursor.setIndex(level, index);
        continue;
      }
    }
    const entry = readEntry(space, pointer, index);
    cursor.setIndex(level, index + 1);
    if (ept ? !mapsByEpt(space, level, entry) : !mapsByLegacy(space, level, entry)) continue;

    const address = cursor.base(level) + ((<u64>index) << shiftOf(space, level));
    const above = cursor.rights(level);
    const rights = above & (ept ? eptRightsOf(space.features, entry) : legacyRights(space, level, entry));
    if (ept ? isEptLeaf(space, level, entry) : isLegacyLeaf(space, level, entry)) {
      writeLeaf(space, changetype<Leaf>(output + count * Leaf.SIZE), level, address, entry, rights);
      count++;
    } else {
      level--;
      enter(cursor, level, entry & space.addressMask, address, rights);
      pointer = 0;
    }
  }
  cursor.level = level;
  return count;
}

/** The rest of a level-1 table of the legacy formats with 8-byte entries: records << 16 | next index. */
function listLeaves(space: Space, cursor: Cursor, pointer: u32, index: u32, output: usize, room: u32): u32 {
  const base = cursor.base(1);
  const signed = space.mode >= MODE_4LEVEL && space.kind == KIND_GUEST;
  const va = signed ? signExtend(base, space.width) : base;
  return listTable(space, pointer, index, output, room, va, cursor.rights(1));
}

function enter(cursor: Cursor, level: u32, table: u64, base: u64, rights: u32): void {
  cursor.setTable(level, table);
  cursor.setBase(level, base);
  cursor.setIndex(level, 0);
  cursor.setRights(level, rights);
}

/** Where the entries of the table at `level` are: latched PDPTEs lie in the space itself. */
function tablePointer(space: Space, cursor: Cursor, level: u32): u32 {
  if (isPdpt(space, level) && !(space.features & FEATURE_LIVE_PDPTES)) {
    return <u32>space.pdptesAddress;
  }
  const table = cursor.table(level);
  const pointer = resolve(space.memory, table);
  if (pointer >= NOT_READ) {
    const address = cursor.base(level);
    const status = failUnread(space.work, pointer, table, address, 0, level, table);
    cursor.status = status;
  }
  return pointer;
}

// @ts-ignore: decorator
@inline function isPdpt(space: Space, level: u32): bool {
  return level == 3 && space.mode == MODE_PAE;
}

// @ts-ignore: decorator
@inline function entriesOf(space: Space, level: u32): u32 {
  if (isPdpt(space, level)) return 4;
  return space.mode == MODE_32BIT ? 1024 : 512;
}

// @ts-ignore: decorator
@inline function shiftOf(space: Space, level: u32): u64 {
  return 12 + <u64>(level - 1) * (space.mode == MODE_32BIT ? 10 : 9);
}

// @ts-ignore: decorator
@inline function readEntry(space: Space, pointer: u32, index: u32): u64 {
  if (space.mode == MODE_32BIT) return load<u32>(pointer + (index << 2));
  return load<u64>(pointer + (index << 3));
}

// @ts-ignore: decorator
@inline function mapsByLegacy(space: Space, level: u32, entry: u64): bool {
  return (entry & PTE_P) != 0 && (entry & reservedBits(space, level, entry)) == 0;
}

function mapsByEpt(space: Space, level: u32, entry: u64): bool {
  const features = space.features;
  if (!isEptPresent(features, entry)) return false;
  return !isMisconfigured(space, features, level, isEptLeaf(space, level, entry), entry);
}

/** A PAE PDPTE grants everything and maps no page. */
// @ts-ignore: decorator
@inline function legacyRights(space: Space, level: u32, entry: u64): u32 {
  return isPdpt(space, level) ? 0xf : rightsOf(space, entry);
}

// @ts-ignore: decorator
@inline function isLegacyLeaf(space: Space, level: u32, entry: u64): bool {
  return isPdpt(space, level) ? false : isLeaf(space, level, entry);
}

function writeLeaf(space: Space, leaf: Leaf, level: u32, address: u64, entry: u64, rights: u32): void {
  const mode = space.mode;
  const offsetMask: u64 = ((<u64>1) << shiftOf(space, level)) - 1;
  const signed = mode >= MODE_4LEVEL && space.kind == KIND_GUEST;
  leaf.va = signed ? signExtend(address, space.width) : address;
  leaf.pa = pageAddress(space, level, entry, offsetMask);
  leaf.entry = entry;
  leaf.rights = rights;
  leaf.level = level;
}
