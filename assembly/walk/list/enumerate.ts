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
import {
  CURSOR_BASE,
  CURSOR_INDEX,
  CURSOR_LEVEL,
  CURSOR_RIGHTS,
  CURSOR_STATUS,
  CURSOR_TABLE,
  LEAF_ENTRY,
  LEAF_LEVEL,
  LEAF_PA,
  LEAF_RIGHTS,
  LEAF_SIZE_OF,
  LEAF_VA,
  SPACE_ADDRESS_MASK,
  SPACE_FEATURES,
  SPACE_KIND,
  SPACE_MEMORY,
  SPACE_MODE,
  SPACE_PDPTES,
  SPACE_ROOT,
  SPACE_ROOT_LEVEL,
  SPACE_WIDTH,
  SPACE_WORK,
} from "../../abi/layout";
import { resolve } from "../../memory/resolve";
import { GROUP, listTable, skipEmpty } from "./enumerate-table";
import { eptRightsOf, isEptLeaf, isEptPresent, isMisconfigured } from "../ept";
import { isLeaf, pageAddress, rightsOf } from "../legacy";
import { signExtend } from "../linear";
import { reservedBits } from "../reserved";
import { failUnread } from "../result";

/** Puts `cursor` at the first entry of the root table. With paging off there is nothing to list. */
export function startEnumeration(space: usize, cursor: usize): void {
  const level = load<u32>(space, SPACE_ROOT_LEVEL);
  store<u32>(cursor, level, CURSOR_LEVEL);
  store<u32>(cursor, STATUS_OK, CURSOR_STATUS);
  enter(cursor, level, load<u64>(space, SPACE_ROOT), 0, 0xf);
}

/**
 * Writes up to `capacity` LEAF records to `output` and returns how many. CURSOR_LEVEL is 0 when all are listed;
 * CURSOR_STATUS says why a call stopped early (a page to read first, or a table outside memory).
 * Entries with reserved bits set map nothing and are passed over.
 */
export function enumerate(space: usize, cursor: usize, output: usize, capacity: u32): u32 {
  const ept = load<u32>(space, SPACE_KIND) == KIND_EPT;
  const wide = !ept && load<u32>(space, SPACE_MODE) != MODE_32BIT;
  let level = load<u32>(cursor, CURSOR_LEVEL);
  let pointer: u32 = 0;
  let count: u32 = 0;
  store<u32>(cursor, STATUS_OK, CURSOR_STATUS);

  while (level != 0) {
    const entries = entriesOf(space, level);
    let index = load<u32>(cursor + (level << 2), CURSOR_INDEX);
    if (index >= entries) {
      level = level == load<u32>(space, SPACE_ROOT_LEVEL) ? 0 : level + 1;
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
          output + count * LEAF_SIZE_OF,
          min<u32>(capacity - count, 512),
        );
        count += listed >> 16;
        store<u32>(cursor + (level << 2), listed & 0xffff, CURSOR_INDEX);
        continue;
      }
      index = skipEmpty(pointer, index);
      if (index == entries) {
        store<u32>(cursor + (level << 2), index, CURSOR_INDEX);
        continue;
      }
    }
    const entry = readEntry(space, pointer, index);
    store<u32>(cursor + (level << 2), index + 1, CURSOR_INDEX);
    if (ept ? !mapsByEpt(space, level, entry) : !mapsByLegacy(space, level, entry)) continue;

    const address = load<u64>(cursor + (level << 3), CURSOR_BASE) + ((<u64>index) << shiftOf(space, level));
    const above = load<u32>(cursor + (level << 2), CURSOR_RIGHTS);
    const rights =
      above & (ept ? eptRightsOf(load<u32>(space, SPACE_FEATURES), entry) : legacyRights(space, level, entry));
    if (ept ? isEptLeaf(space, level, entry) : isLegacyLeaf(space, level, entry)) {
      writeLeaf(space, output + count * LEAF_SIZE_OF, level, address, entry, rights);
      count++;
    } else {
      level--;
      enter(cursor, level, entry & load<u64>(space, SPACE_ADDRESS_MASK), address, rights);
      pointer = 0;
    }
  }
  store<u32>(cursor, level, CURSOR_LEVEL);
  return count;
}

/** The rest of a level-1 table of the legacy formats with 8-byte entries: records << 16 | next index. */
function listLeaves(space: usize, cursor: usize, pointer: u32, index: u32, output: usize, room: u32): u32 {
  const base = load<u64>(cursor + (1 << 3), CURSOR_BASE);
  const signed = load<u32>(space, SPACE_MODE) >= MODE_4LEVEL && load<u32>(space, SPACE_KIND) == KIND_GUEST;
  const va = signed ? signExtend(base, load<u32>(space, SPACE_WIDTH)) : base;
  return listTable(space, pointer, index, output, room, va, load<u32>(cursor + (1 << 2), CURSOR_RIGHTS));
}

function enter(cursor: usize, level: u32, table: u64, base: u64, rights: u32): void {
  store<u64>(cursor + (level << 3), table, CURSOR_TABLE);
  store<u64>(cursor + (level << 3), base, CURSOR_BASE);
  store<u32>(cursor + (level << 2), 0, CURSOR_INDEX);
  store<u32>(cursor + (level << 2), rights, CURSOR_RIGHTS);
}

/** Where the entries of the table at `level` are: latched PDPTEs lie in the space itself. */
function tablePointer(space: usize, cursor: usize, level: u32): u32 {
  if (isPdpt(space, level) && !(load<u32>(space, SPACE_FEATURES) & FEATURE_LIVE_PDPTES)) {
    return <u32>(space + SPACE_PDPTES);
  }
  const table = load<u64>(cursor + (level << 3), CURSOR_TABLE);
  const pointer = resolve(load<u32>(space, SPACE_MEMORY), table);
  if (pointer >= NOT_READ) {
    const address = load<u64>(cursor + (level << 3), CURSOR_BASE);
    const status = failUnread(load<u32>(space, SPACE_WORK), pointer, table, address, 0, level, table);
    store<u32>(cursor, status, CURSOR_STATUS);
  }
  return pointer;
}

// @ts-ignore: decorator
@inline function isPdpt(space: usize, level: u32): bool {
  return level == 3 && load<u32>(space, SPACE_MODE) == MODE_PAE;
}

// @ts-ignore: decorator
@inline function entriesOf(space: usize, level: u32): u32 {
  if (isPdpt(space, level)) return 4;
  return load<u32>(space, SPACE_MODE) == MODE_32BIT ? 1024 : 512;
}

// @ts-ignore: decorator
@inline function shiftOf(space: usize, level: u32): u64 {
  return 12 + <u64>(level - 1) * (load<u32>(space, SPACE_MODE) == MODE_32BIT ? 10 : 9);
}

// @ts-ignore: decorator
@inline function readEntry(space: usize, pointer: u32, index: u32): u64 {
  if (load<u32>(space, SPACE_MODE) == MODE_32BIT) return load<u32>(pointer + (index << 2));
  return load<u64>(pointer + (index << 3));
}

// @ts-ignore: decorator
@inline function mapsByLegacy(space: usize, level: u32, entry: u64): bool {
  return (entry & PTE_P) != 0 && (entry & reservedBits(space, level, entry)) == 0;
}

function mapsByEpt(space: usize, level: u32, entry: u64): bool {
  const features = load<u32>(space, SPACE_FEATURES);
  if (!isEptPresent(features, entry)) return false;
  return !isMisconfigured(space, features, level, isEptLeaf(space, level, entry), entry);
}

/** A PAE PDPTE grants everything and maps no page. */
// @ts-ignore: decorator
@inline function legacyRights(space: usize, level: u32, entry: u64): u32 {
  return isPdpt(space, level) ? 0xf : rightsOf(space, entry);
}

// @ts-ignore: decorator
@inline function isLegacyLeaf(space: usize, level: u32, entry: u64): bool {
  return isPdpt(space, level) ? false : isLeaf(space, level, entry);
}

function writeLeaf(space: usize, leaf: usize, level: u32, address: u64, entry: u64, rights: u32): void {
  const mode = load<u32>(space, SPACE_MODE);
  const offsetMask: u64 = ((<u64>1) << shiftOf(space, level)) - 1;
  const signed = mode >= MODE_4LEVEL && load<u32>(space, SPACE_KIND) == KIND_GUEST;
  store<u64>(leaf, signed ? signExtend(address, load<u32>(space, SPACE_WIDTH)) : address, LEAF_VA);
  store<u64>(leaf, pageAddress(space, level, entry, offsetMask), LEAF_PA);
  store<u64>(leaf, entry, LEAF_ENTRY);
  store<u32>(leaf, rights, LEAF_RIGHTS);
  store<u32>(leaf, level, LEAF_LEVEL);
}
