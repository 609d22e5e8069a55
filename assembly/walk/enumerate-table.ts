/**
 * Listing the leaves of one level-1 table with 8-byte legacy entries, two entries a vector. Groups without a present
 * entry are passed over; in the others each entry's record is written, and kept by moving on behind it, so that nothing
 * branches on the pattern of present entries.
 */
import { PTE_P, PTE_RW, PTE_US } from "../abi/bits";
import { RIGHT_EXECUTE } from "../abi/codes";
import {
  LEAF_ENTRY, LEAF_PA, LEAF_RIGHTS, LEAF_SIZE_OF, LEAF_VA, SPACE_ADDRESS_MASK, SPACE_RESERVED, SPACE_XD_MASK,
} from "../abi/layout";

/** Entries of a group: two cache lines. */
// @ts-ignore: decorator
@inline export const GROUP: u32 = 16;

/** The first index from `index` whose group of 16 has a present entry, or 512. Exact only at groups' boundaries. */
// @ts-ignore: decorator
@inline export function skipEmpty(pointer: u32, index: u32): u32 {
  const present = i64x2.splat(1);
  while (index < 512 && (index & (GROUP - 1)) == 0) {
    const at: usize = pointer + (index << 3);
    const any = v128.or(
      v128.or(v128.or(v128.load(at), v128.load(at, 16)), v128.or(v128.load(at, 32), v128.load(at, 48))),
      v128.or(v128.or(v128.load(at, 64), v128.load(at, 80)), v128.or(v128.load(at, 96), v128.load(at, 112))),
    );
    if (v128.any_true(v128.and(any, present))) return index;
    index += GROUP;
  }
  return index;
}

/**
 * Lists entries from `index`, a multiple of GROUP, on, as long as `room` records (at least GROUP) hold a whole group. `va`
 * is the address that entry 0 translates, `above` the rights above the table. Returns records << 16 | the next index.
 */
export function listTable(space: usize, pointer: u32, index: u32, output: usize, room: u32, va: u64, above: u32): u32 {
  const zero = i64x2.splat(0);
  const frames = v128.splat<u64>(load<u64>(space, SPACE_ADDRESS_MASK));
  const checked = v128.splat<u64>(load<u64>(space, SPACE_RESERVED) | PTE_P);
  const present = v128.splat<u64>(PTE_P);
  const xd = v128.splat<u64>(load<u64>(space, SPACE_XD_MASK));
  const execute = v128.splat<u64>(above & RIGHT_EXECUTE);
  const kept = v128.splat<u64>(above & (<u32>PTE_RW | <u32>PTE_US));
  const level1 = v128.splat<u64>(<u64>1 << 32);
  const step = i64x2.splat(0x2000);
  let at = output;
  const last = output + (room - GROUP) * LEAF_SIZE_OF;

  while (at <= last) {
    index = skipEmpty(pointer, index);
    if (index == 512) break;
    let addresses = v128.add<u64>(v128.splat<u64>(va + ((<u64>index) << 12)), i64x2(0, 0x1000));
    const end = pointer + ((index + GROUP) << 3);
    for (let from = pointer + (index << 3); from < end; from += 16) {
      const entries = v128.load(from);
      const good = v128.eq<u64>(v128.and(entries, checked), present);
      const targets = v128.and(entries, frames);
      const runs = v128.and(v128.eq<u64>(v128.and(entries, xd), zero), execute);
      const meta = v128.or(v128.or(v128.and(entries, kept), runs), level1);
      v128.store(at, v128.shuffle<u64>(addresses, targets, 0, 2), LEAF_VA);
      v128.store(at, v128.shuffle<u64>(entries, meta, 0, 2), LEAF_ENTRY);
      at += <u32>i64x2.extract_lane(good, 0) & LEAF_SIZE_OF;
      v128.store(at, v128.shuffle<u64>(addresses, targets, 1, 3), LEAF_VA);
      v128.store(at, v128.shuffle<u64>(entries, meta, 1, 3), LEAF_ENTRY);
      at += <u32>i64x2.extract_lane(good, 1) & LEAF_SIZE_OF;
      addresses = v128.add<u64>(addresses, step);
    }
    index += GROUP;
  }
  assert(LEAF_SIZE_OF == 32 && LEAF_PA == LEAF_VA + 8 && LEAF_RIGHTS == LEAF_ENTRY + 8);
  return (<u32>(at - output) / LEAF_SIZE_OF) << 16 | index;
}
