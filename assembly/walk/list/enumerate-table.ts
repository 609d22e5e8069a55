/**
 * Listing the leaves of one level-1 table with 8-byte legacy entries, two entries a vector. Groups without a present
 * entry are passed over. Groups that go on like the one before, as in contiguous mappings, are checked as a whole. In the
 * others each entry's record is written, and kept by moving on behind it, so that nothing branches on the pattern of
 * present entries.
 */
import { PTE_P, PTE_RW, PTE_US } from "../../abi/bits";
import { RIGHT_EXECUTE } from "../../abi/codes";
import { Leaf, Space } from "../../abi/records";

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
export function listTable(space: Space, pointer: u32, index: u32, output: usize, room: u32, va: u64, above: u32): u32 {
  const frames = v128.splat<u64>(space.addressMask);
  const checked = v128.splat<u64>(space.reserved(0) | PTE_P);
  const xd = v128.splat<u64>(space.xdMask);
  const execute = v128.splat<u64>(above & RIGHT_EXECUTE);
  const kept = v128.splat<u64>(above & ((<u32>PTE_RW) | (<u32>PTE_US)));
  const rights = v128.splat<u64>(space.xdMask | PTE_RW | PTE_US);
  const first = v128.add<u64>(v128.splat<u64>(va), i64x2(0, 0x1000));
  let at = output;
  const last = output + (room - GROUP) * Leaf.SIZE;

  while (at <= last) {
    index = skipEmpty(pointer, index);
    if (index == 512) break;
    const from: usize = pointer + (index << 3);
    const model = v128.load(from);
    const addresses = v128.add<u64>(first, v128.splat<u64>((<u64>index) << 12));
    const good = v128.eq<u64>(v128.and(model, checked), v128.splat<u64>(PTE_P));
    const left = min<u32>(<u32>(last - at) / (GROUP * Leaf.SIZE) + 1, (512 - index) / GROUP);
    let groups: u32 = 0;
    if (v128.all_true<u64>(good)) {
      groups = listUniform(
        from,
        at,
        left,
        addresses,
        frames,
        v128.or(checked, rights),
        model,
        metaOf(model, xd, execute, kept),
      );
    }
    if (groups != 0) {
      at += groups * (GROUP * Leaf.SIZE);
      index += groups * GROUP;
    } else {
      at = listGroup(from, at, addresses, frames, checked, xd, execute, kept);
      index += GROUP;
    }
  }
  assert(
    Leaf.SIZE == 32 &&
      offsetof<Leaf>("pa") == offsetof<Leaf>("va") + 8 &&
      offsetof<Leaf>("rights") == offsetof<Leaf>("entry") + 8,
  );
  return ((<u32>(at - output) / Leaf.SIZE) << 16) | index;
}

/**
 * Lists up to `room` groups whose entries are like the two of `model` in the bits of `same`: all present, none with
 * reserved bits, the even and the odd ones with the same rights each, so that they share `meta`. Returns how many.
 */
function listUniform(
  begin: usize,
  output: usize,
  room: u32,
  first: v128,
  frames: v128,
  same: v128,
  model: v128,
  meta: v128,
): u32 {
  const step = i64x2.splat(0x2000);
  let addresses = first;
  let at = output;
  let from = begin;
  for (let done: u32 = 0; done < room; done++) {
    const e0 = v128.load(from);
    const e1 = v128.load(from, 16);
    const e2 = v128.load(from, 32);
    const e3 = v128.load(from, 48);
    const e4 = v128.load(from, 64);
    const e5 = v128.load(from, 80);
    const e6 = v128.load(from, 96);
    const e7 = v128.load(from, 112);
    const any = v128.or(v128.or(v128.or(e0, e1), v128.or(e2, e3)), v128.or(v128.or(e4, e5), v128.or(e6, e7)));
    const all = v128.and(v128.and(v128.and(e0, e1), v128.and(e2, e3)), v128.and(v128.and(e4, e5), v128.and(e6, e7)));
    if (v128.any_true(v128.and(v128.or(v128.xor(any, model), v128.xor(all, model)), same))) return done;
    const end = from + (GROUP << 3);
    while (from < end) {
      storeTwo(at, v128.load(from), addresses, frames, meta);
      addresses = v128.add<u64>(addresses, step);
      storeTwo(at + 2 * Leaf.SIZE, v128.load(from, 16), addresses, frames, meta);
      addresses = v128.add<u64>(addresses, step);
      storeTwo(at + 4 * Leaf.SIZE, v128.load(from, 32), addresses, frames, meta);
      addresses = v128.add<u64>(addresses, step);
      storeTwo(at + 6 * Leaf.SIZE, v128.load(from, 48), addresses, frames, meta);
      addresses = v128.add<u64>(addresses, step);
      at += 8 * Leaf.SIZE;
      from += 64;
    }
  }
  return room;
}

/** The rights and the level of two entries, as a record has them. */
// @ts-ignore: decorator
@inline function metaOf(entries: v128, xd: v128, execute: v128, kept: v128): v128 {
  const runs = v128.and(v128.eq<u64>(v128.and(entries, xd), i64x2.splat(0)), execute);
  return v128.or(v128.or(v128.and(entries, kept), runs), v128.splat<u64>((<u64>1) << 32));
}

/** Two records that follow each other. */
// @ts-ignore: decorator
@inline function storeTwo(at: usize, entries: v128, addresses: v128, frames: v128, meta: v128): void {
  const targets = v128.and(entries, frames);
  v128.store(at, v128.shuffle<u64>(addresses, targets, 0, 2), offsetof<Leaf>("va"));
  v128.store(at, v128.shuffle<u64>(entries, meta, 0, 2), offsetof<Leaf>("entry"));
  const next = at + Leaf.SIZE;
  v128.store(next, v128.shuffle<u64>(addresses, targets, 1, 3), offsetof<Leaf>("va"));
  v128.store(next, v128.shuffle<u64>(entries, meta, 1, 3), offsetof<Leaf>("entry"));
}

/** A group in which entries differ: each entry's record is written, and kept by moving on behind it. Returns the next place. */
function listGroup(
  begin: usize,
  output: usize,
  first: v128,
  frames: v128,
  checked: v128,
  xd: v128,
  execute: v128,
  kept: v128,
): usize {
  const present = v128.splat<u64>(PTE_P);
  const step = i64x2.splat(0x2000);
  const end = begin + (GROUP << 3);
  let addresses = first;
  let at = output;
  for (let from = begin; from < end; from += 16) {
    const entries = v128.load(from);
    const good = v128.eq<u64>(v128.and(entries, checked), present);
    const targets = v128.and(entries, frames);
    const meta = metaOf(entries, xd, execute, kept);
    v128.store(at, v128.shuffle<u64>(addresses, targets, 0, 2), offsetof<Leaf>("va"));
    v128.store(at, v128.shuffle<u64>(entries, meta, 0, 2), offsetof<Leaf>("entry"));
    at += (<u32>i64x2.extract_lane(good, 0)) & Leaf.SIZE;
    v128.store(at, v128.shuffle<u64>(addresses, targets, 1, 3), offsetof<Leaf>("va"));
    v128.store(at, v128.shuffle<u64>(entries, meta, 1, 3), offsetof<Leaf>("entry"));
    at += (<u32>i64x2.extract_lane(good, 1)) & Leaf.SIZE;
    addresses = v128.add<u64>(addresses, step);
  }
  return at;
}
