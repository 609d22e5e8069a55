/**
 * The common case for a block of addresses at once: levels whose table all of them share are walked once, then the
 * remaining upper levels lane by lane, then the leaf entries in a pass that does nothing but load them, so that cache
 * misses overlap as far as the machine allows; the checks and results come last, two lanes a vector. Nothing branches on
 * the data: a lane that is not the common case leaves NOT_FAST as its result.
 */
import { ACCESS_IMPLICIT, BATCH_FAULT, PTE_P, PTE_PS } from "../../abi/bits";
import { MODE_32BIT, MODE_4LEVEL, MODE_PAE, STATUS_PAGE_FAULT } from "../../abi/codes";
import { Plan, Space, Work } from "../../abi/records";
import { guestCode } from "../access";
import { planFor } from "../plan";
import { reportedCode } from "./exact";
import { indexOf } from "./fast";

/** Every lane has its physical address. */
// @ts-ignore: decorator
@inline export const BLOCK_DONE: u32 = 0;
/** Some lanes have NOT_FAST. */
// @ts-ignore: decorator
@inline export const BLOCK_FAILED: u32 = 1;
/** Nothing was done. */
// @ts-ignore: decorator
@inline export const BLOCK_REFUSED: u32 = 2;

/** `lanes` addresses, an even number of at most BLOCK_LANES, in any legacy mode. Returns a BLOCK_* code. */
export function walkBlock(space: Space, input: usize, output: usize, lanes: u32, access: u32): u32 {
  const plan = planFor(space, access);
  if (access & ACCESS_IMPLICIT || plan.block != 0) return BLOCK_REFUSED;
  const size = space.tablesSize;
  if (size == 0) return BLOCK_REFUSED;
  const mode = space.fast;
  const linear = space.tablesLinear;
  const base = space.tablesBase;
  // `offset` is that of the table to go on with, from the start of its slot.
  let offset = space.root - base;
  if (mode == MODE_32BIT) {
    if (offset >= size) return BLOCK_REFUSED;
    findLeaves32(space, plan, linear + <u32>offset, input, lanes);
    gatherLeaves32(lanesOf(space), output, lanes);
    return finishLanes(space, plan, input, output, lanes, access, 1);
  }
  const first = load<u64>(input);
  const different = differences(input, lanes);
  const addressMask = space.addressMask;
  const need = plan.needTable;
  const check = plan.checkTable;
  let level: u32 = mode == MODE_PAE ? 2 : mode == MODE_4LEVEL ? 4 : 5;
  let table: u32 = 0;
  if (mode == MODE_PAE) {
    const pdpte = space.pdptes((<u32>first) >> 30);
    offset = (pdpte & addressMask) - base;
    if (different >> 30 != 0) {
      level = 3;
      table = <u32>space.pdptesAddress;
    } else if (!(pdpte & PTE_P)) return BLOCK_REFUSED;
  }

  // The levels whose table all addresses share.
  while (table == 0 && level > 1) {
    const shift: u64 = 3 + 9 * <u64>level;
    if (different >> shift != 0) break;
    offset += indexOf(first, shift);
    if (offset >= size) return BLOCK_REFUSED;
    const entry = load<u64>(linear + <u32>offset);
    if (level == 2 && (entry & PTE_PS) != 0) {
      fill(output, lanes, entry);
      return finishLanes(space, plan, input, output, lanes, access, 2);
    }
    if ((entry ^ need) & check) return BLOCK_REFUSED;
    offset = (entry & addressMask) - base;
    level--;
  }
  if (level == 5) return BLOCK_REFUSED;
  if (table == 0) {
    if (offset >= size) return BLOCK_REFUSED;
    table = linear + <u32>offset;
  }
  if (level == 1) {
    gatherFrom(table, input, output, lanes, 12);
    return finishLanes(space, plan, input, output, lanes, access, 1);
  }
  // Of PAE across PDPTEs only 4 KiB pages.
  const leafLevel = mode == MODE_PAE && level == 3 ? 1 : leafLevelOf(space, table, level, first);
  if (leafLevel == level) gatherFrom(table, input, output, lanes, 3 + 9 * <u64>leafLevel);
  else {
    findLeaves(space, plan, table, input, lanes, level, leafLevel);
    gatherLeaves(lanesOf(space), output, lanes);
  }
  return finishLanes(space, plan, input, output, lanes, access, leafLevel);
}

/**
 * The level at which the walk of `address` ends, from the table of `level` on: what is expected of the other lanes too.
 * Others leave NOT_FAST as their result.
 */
function leafLevelOf(space: Space, table: u32, level: u32, address: u64): u32 {
  const addressMask = space.addressMask;
  const base = space.tablesBase;
  const size = space.tablesSize;
  const linear = space.tablesLinear;
  const large = space.largeLevels;
  let at = table;
  for (; level > 1; level--) {
    const entry = load<u64>(at + <u32>indexOf(address, 3 + 9 * <u64>level));
    if ((entry & PTE_PS) != 0 && ((large >> level) & 1) != 0) return level;
    const offset = (entry & addressMask) - base;
    if (offset >= size) return 1;
    at = linear + <u32>offset;
  }
  return 1;
}

/** Scratch for a block: one u32 a lane. */
// @ts-ignore: decorator
@inline export function lanesOf(space: Space): usize {
  return space.work.lanesAddress;
}

/** The bits in which any address differs from the first. */
function differences(input: usize, lanes: u32): u64 {
  const first = v128.splat<u64>(load<u64>(input));
  let all = i64x2.splat(0);
  const end = input + (lanes << 3);
  for (let at = input; at < end; at += 16) all = v128.or(all, v128.xor(v128.load(at), first));
  return v128.extract_lane<u64>(all, 0) | v128.extract_lane<u64>(all, 1);
}

function fill(output: usize, lanes: u32, entry: u64): void {
  const both = v128.splat<u64>(entry);
  for (let at = output; at < output + (lanes << 3); at += 16) v128.store(at, both);
}

/** All lanes in one table, whose index begins at bit `shift`. */
function gatherFrom(table: u32, input: usize, output: usize, lanes: u32, shift: u64): void {
  for (let at: usize = 0; at < lanes << 3; at += 16) {
    store<u64>(output + at, load<u64>(table + <u32>indexOf(load<u64>(input + at), shift)));
    store<u64>(output + at, load<u64>(table + <u32>indexOf(load<u64>(input + at, 8), shift)), 8);
  }
}

/**
 * Writes where each lane's entry at `leafLevel` lies to `work.lanes`, from the table at `level` above: at `work.nothing` for a
 * lane that failed already.
 */
function findLeaves(space: Space, plan: Plan, table: u32, input: usize, lanes: u32, level: u32, leafLevel: u32): void {
  const pointers = lanesOf(space);
  const nothing = nothingOf(space);
  const addressMask = space.addressMask;
  const base = space.tablesBase;
  const window = space.tablesWindow;
  const linear = space.tablesLinear;
  const need = plan.needTable;
  const check = plan.checkTable;
  const shift: u64 = 9 * <u64>leafLevel;
  const end = pointers + (lanes << 2);
  let from = input;
  // A loop for each number of levels between: one for all is slower by a third.
  if (level - leafLevel == 1) {
    for (let to = pointers; to < end; to += 4, from += 8) {
      const address = load<u64>(from) >> shift;
      const entry = load<u64>(table + ((<u32>(address >> 9)) & 0xff8));
      const offset = (entry & addressMask) - base;
      const wrong = ((entry ^ need) & check) | (offset & ~window);
      store<u32>(to, select(linear + <u32>offset + ((<u32>address) & 0xff8), nothing, wrong == 0));
    }
  } else if (level - leafLevel == 2) {
    // Of latched PDPTEs only P is left to be checked: reserved bits were when they were loaded, and they grant everything.
    const pae = table == <u32>space.pdptesAddress;
    const checkTop = pae ? PTE_P : check;
    const indexTop: u32 = pae ? 0x18 : 0xff8;
    for (let to = pointers; to < end; to += 4, from += 8) {
      const address = load<u64>(from) >> shift;
      const entry3 = load<u64>(table + ((<u32>(address >> 18)) & indexTop));
      const offset2 = (entry3 & addressMask) - base;
      const entry2 = load<u64>(linear + <u32>(offset2 & window) + ((<u32>(address >> 9)) & 0xff8));
      const offset1 = (entry2 & addressMask) - base;
      const wrong = ((entry3 ^ need) & checkTop) | ((entry2 ^ need) & check) | ((offset2 | offset1) & ~window);
      store<u32>(to, select(linear + <u32>offset1 + ((<u32>address) & 0xff8), nothing, wrong == 0));
    }
  } else {
    for (let to = pointers; to < end; to += 4, from += 8) {
      const address = load<u64>(from) >> shift;
      const entry4 = load<u64>(table + ((<u32>(address >> 27)) & 0xff8));
      const offset3 = (entry4 & addressMask) - base;
      const entry3 = load<u64>(linear + <u32>(offset3 & window) + ((<u32>(address >> 18)) & 0xff8));
      const offset2 = (entry3 & addressMask) - base;
      const entry2 = load<u64>(linear + <u32>(offset2 & window) + ((<u32>(address >> 9)) & 0xff8));
      const offset1 = (entry2 & addressMask) - base;
      const wrong =
        (((entry4 ^ need) | (entry3 ^ need) | (entry2 ^ need)) & check) | ((offset3 | offset2 | offset1) & ~window);
      store<u32>(to, select(linear + <u32>offset1 + ((<u32>address) & 0xff8), nothing, wrong == 0));
    }
  }
}

/** The same in 32-bit paging. */
function findLeaves32(space: Space, plan: Plan, table: u32, input: usize, lanes: u32): void {
  const pointers = lanesOf(space);
  const nothing = nothingOf(space);
  const addressMask = space.addressMask;
  const base = space.tablesBase;
  const window = space.tablesWindow;
  const linear = space.tablesLinear;
  const need = plan.needTable;
  const check = plan.checkTable;
  for (let i: u32 = 0; i < lanes; i++) {
    const address = load<u32>(input + (i << 3));
    const entry: u64 = load<u32>(table + ((address >>> 20) & 0xffc));
    const offset = (entry & addressMask) - base;
    const wrong = ((entry ^ need) & check) | (offset & ~window);
    store<u32>(pointers + (i << 2), select(linear + <u32>offset + ((address >>> 10) & 0xffc), nothing, wrong == 0));
  }
}

/** What a lane that failed reads: present but not accessed, which no plan takes. */
// @ts-ignore: decorator
@inline function nothingOf(space: Space): u32 {
  const work = space.work;
  work.nothing = PTE_P;
  return <u32>(changetype<usize>(work) + offsetof<Work>("nothing"));
}

/** Nothing but the loads. */
function gatherLeaves(pointers: usize, output: usize, lanes: u32): void {
  let to = output;
  const end = pointers + (lanes << 2);
  for (let at = pointers; at < end; at += 8) {
    store<u64>(to, load<u64>(load<u32>(at)));
    store<u64>(to, load<u64>(load<u32>(at, 4)), 8);
    to += 16;
  }
}

/** The same in 32-bit paging. */
function gatherLeaves32(pointers: usize, output: usize, lanes: u32): void {
  const end = pointers + (lanes << 2);
  for (let at = pointers, to = output; at < end; at += 4, to += 8) store<u64>(to, load<u32>(load<u32>(at)));
}

/** What is checked of a leaf of `level`. */
// @ts-ignore: decorator
@inline function checkOf(plan: Plan, level: u32): u64 {
  return load<u64>(changetype<usize>(plan) + ((level - 1) << 3), offsetof<Plan>("checkPage"));
}

/**
 * Turns the leaf entries of `level` in `output` into physical addresses, into the fault where an entry is not present, or
 * into NOT_FAST where a check fails.
 */
function finishLanes(space: Space, plan: Plan, input: usize, output: usize, lanes: u32, access: u32, level: u32): u32 {
  const work = space.work;
  const large: u64 = level > 1 ? PTE_PS : 0;
  const offsets = ((<u64>1) << (3 + 9 * <u64>level)) - 1;
  const fault = BATCH_FAULT | (STATUS_PAGE_FAULT << 16) | reportedCode(space, guestCode(access));
  // Through memory: V8 would compute vectors that do not come from there anew in every turn of the loop.
  work.blockNeed = plan.needLeaf | large;
  work.blockCheck = checkOf(plan, level) | large;
  work.blockOffset = offsets;
  work.blockFrame = space.addressMask & ~offsets;
  work.blockFault = fault;
  work.blockPresent = PTE_P;
  // With a software TLB absent lanes are left to be done singly, to drop the page there: nothing is 2 under the mask.
  work.blockAbsence = space.tlb != 0 ? 2 : 0;
  const masks = changetype<usize>(work);
  const half = v128.load_splat<u64>(changetype<usize>(space), offsetof<Space>("half"));
  const high = v128.load_splat<u64>(changetype<usize>(space), offsetof<Space>("high"));
  const needs = v128.load_splat<u64>(masks, offsetof<Work>("blockNeed"));
  const checks = v128.load_splat<u64>(masks, offsetof<Work>("blockCheck"));
  const offsetMask = v128.load_splat<u64>(masks, offsetof<Work>("blockOffset"));
  const pageMask = v128.load_splat<u64>(masks, offsetof<Work>("blockFrame"));
  const faults = v128.load_splat<u64>(masks, offsetof<Work>("blockFault"));
  const present = v128.load_splat<u64>(masks, offsetof<Work>("blockPresent"));
  const absence = v128.load_splat<u64>(masks, offsetof<Work>("blockAbsence"));
  const zero = i64x2.splat(0);
  let anyFailed = zero;
  const end = output + (lanes << 3);
  for (let from = input, at = output; at < end; at += 16, from += 16) {
    const address = v128.load(from);
    const leaf = v128.load(at);
    const wild = v128.and(v128.add<u64>(address, half), high);
    const absent = v128.eq<u64>(v128.or(v128.and(leaf, present), wild), absence);
    const failed = v128.ne<u64>(v128.or(v128.and(v128.xor(leaf, needs), checks), wild), zero);
    const result = v128.or(v128.and(leaf, pageMask), v128.and(address, offsetMask));
    v128.store(at, v128.bitselect(faults, v128.or(result, failed), absent));
    anyFailed = v128.or(anyFailed, v128.andnot(failed, absent));
  }
  return v128.any_true(anyFailed) ? BLOCK_FAILED : BLOCK_DONE;
}
