/**
 * The common case for a block of addresses at once: levels whose table all of them share are walked once, then the
 * remaining upper levels lane by lane, then the leaf entries in a pass that does nothing but load them, so that cache
 * misses overlap as far as the machine allows; the checks and results come last, two lanes a vector. Nothing branches on
 * the data: a lane that is not the common case leaves NOT_FAST as its result.
 */
import { ACCESS_IMPLICIT, PTE_P, PTE_PS } from "../abi/bits";
import { MODE_4LEVEL, MODE_PAE } from "../abi/codes";
import {
  PLAN_BLOCK, PLAN_CHECK_LARGE2, PLAN_CHECK_PAGE, PLAN_CHECK_TABLE, PLAN_NEED_LEAF, PLAN_NEED_TABLE,
  SPACE_ADDRESS_MASK, SPACE_FAST, SPACE_HALF, SPACE_HIGH, SPACE_PDPTES, SPACE_ROOT, SPACE_TABLES_BASE,
  SPACE_TABLES_LINEAR, SPACE_TABLES_SIZE, SPACE_TABLES_WINDOW, SPACE_WORK, WORK_LANES, WORK_NOTHING,
} from "../abi/layout";
import { indexOf, planFor } from "./fast";

/** Every lane has its physical address. */
// @ts-ignore: decorator
@inline export const BLOCK_DONE: u32 = 0;
/** Some lanes have NOT_FAST. */
// @ts-ignore: decorator
@inline export const BLOCK_FAILED: u32 = 1;
/** Nothing was done. */
// @ts-ignore: decorator
@inline export const BLOCK_REFUSED: u32 = 2;

/** `lanes` addresses, an even number of at most BLOCK_LANES, in PAE, 4- or 5-level paging. Returns a BLOCK_* code. */
export function walkBlock(space: usize, input: usize, output: usize, lanes: u32, access: u32): u32 {
  const plan = planFor(space, access);
  if (access & ACCESS_IMPLICIT || load<u64>(plan, PLAN_BLOCK) != 0) return BLOCK_REFUSED;
  const size = load<u64>(space, SPACE_TABLES_SIZE);
  if (size == 0) return BLOCK_REFUSED;
  const first = load<u64>(input);
  const different = differences(input, lanes);
  const mode = load<u32>(space, SPACE_FAST);
  const addressMask = load<u64>(space, SPACE_ADDRESS_MASK);
  const need = load<u64>(plan, PLAN_NEED_TABLE);
  const check = load<u64>(plan, PLAN_CHECK_TABLE);
  const base = load<u64>(space, SPACE_TABLES_BASE);
  const linear = load<u32>(space, SPACE_TABLES_LINEAR);

  // The shared levels. `offset` is that of the table to go on with, from the start of its slot.
  let level: u32 = mode == MODE_PAE ? 2 : mode == MODE_4LEVEL ? 4 : 5;
  let offset = load<u64>(space, SPACE_ROOT) - base;
  if (mode == MODE_PAE) {
    if (different >> 30 != 0) return BLOCK_REFUSED;
    const pdpte = load<u64>(space + ((<u32>first >> 30) << 3), SPACE_PDPTES);
    if (!(pdpte & PTE_P)) return BLOCK_REFUSED;
    offset = (pdpte & addressMask) - base;
  }
  while (level > 1) {
    const shift: u64 = 3 + 9 * <u64>level;
    if (different >> shift != 0) break;
    offset += indexOf(first, shift);
    if (offset >= size) return BLOCK_REFUSED;
    const entry = load<u64>(linear + <u32>offset);
    if (level == 2 && (entry & PTE_PS) != 0) {
      fill(output, lanes, entry);
      return finishLanes(space, plan, input, output, lanes, load<u64>(plan, PLAN_CHECK_LARGE2), 0x1fffff);
    }
    if ((entry ^ need) & check) return BLOCK_REFUSED;
    offset = (entry & addressMask) - base;
    level--;
  }
  if (level == 5) return BLOCK_REFUSED;
  if (offset >= size) return BLOCK_REFUSED;

  const table = linear + <u32>offset;
  if (level == 1) loadLeaves(table, input, output, lanes);
  else {
    if (level == 2) findLeaves2(space, plan, table, input, lanes);
    else if (level == 3) findLeaves3(space, plan, table, input, lanes);
    else findLeaves4(space, plan, table, input, lanes);
    gatherLeaves(lanesOf(space), output, lanes);
  }
  return finishLanes(space, plan, input, output, lanes, load<u64>(plan, PLAN_CHECK_PAGE), 0xfff);
}

/** Scratch for a block: one u32 a lane. */
// @ts-ignore: decorator
@inline export function lanesOf(space: usize): usize {
  const work: usize = load<u32>(space, SPACE_WORK);
  return work + WORK_LANES;
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

/** All lanes in one level-1 table. */
function loadLeaves(table: u32, input: usize, output: usize, lanes: u32): void {
  for (let at: usize = 0; at < lanes << 3; at += 16) {
    store<u64>(output + at, load<u64>(table + <u32>indexOf(load<u64>(input + at), 12)));
    store<u64>(output + at, load<u64>(table + <u32>indexOf(load<u64>(input + at, 8), 12)), 8);
  }
}

/** Writes where each lane's leaf entry lies to WORK_LANES: at WORK_NOTHING for a lane that failed already. */
function findLeaves2(space: usize, plan: usize, table: u32, input: usize, lanes: u32): void {
  const pointers = lanesOf(space);
  const nothing = <u32>(pointers - WORK_LANES + WORK_NOTHING);
  const addressMask = load<u64>(space, SPACE_ADDRESS_MASK);
  const base = load<u64>(space, SPACE_TABLES_BASE);
  const window = load<u64>(space, SPACE_TABLES_WINDOW);
  const linear = load<u32>(space, SPACE_TABLES_LINEAR);
  const need = load<u64>(plan, PLAN_NEED_TABLE);
  const check = load<u64>(plan, PLAN_CHECK_TABLE);
  for (let i: u32 = 0; i < lanes; i++) {
    const address = load<u64>(input + (i << 3));
    const entry2 = load<u64>(table + <u32>indexOf(address, 21));
    const offset1 = (entry2 & addressMask) - base;
    const wrong = ((entry2 ^ need) & check) | (offset1 & ~window);
    store<u32>(pointers + (i << 2), select(linear + <u32>offset1 + <u32>indexOf(address, 12), nothing, wrong == 0));
  }
}

function findLeaves3(space: usize, plan: usize, table: u32, input: usize, lanes: u32): void {
  const pointers = lanesOf(space);
  const nothing = <u32>(pointers - WORK_LANES + WORK_NOTHING);
  const addressMask = load<u64>(space, SPACE_ADDRESS_MASK);
  const base = load<u64>(space, SPACE_TABLES_BASE);
  const window = load<u64>(space, SPACE_TABLES_WINDOW);
  const linear = load<u32>(space, SPACE_TABLES_LINEAR);
  const need = load<u64>(plan, PLAN_NEED_TABLE);
  const check = load<u64>(plan, PLAN_CHECK_TABLE);
  for (let i: u32 = 0; i < lanes; i++) {
    const address = load<u64>(input + (i << 3));
    const entry3 = load<u64>(table + <u32>indexOf(address, 30));
    const offset2 = (entry3 & addressMask) - base;
    const entry2 = load<u64>(linear + <u32>(offset2 & window) + <u32>indexOf(address, 21));
    const offset1 = (entry2 & addressMask) - base;
    const wrong = (((entry3 ^ need) | (entry2 ^ need)) & check) | ((offset2 | offset1) & ~window);
    store<u32>(pointers + (i << 2), select(linear + <u32>offset1 + <u32>indexOf(address, 12), nothing, wrong == 0));
  }
}

function findLeaves4(space: usize, plan: usize, table: u32, input: usize, lanes: u32): void {
  const pointers = lanesOf(space);
  const nothing = <u32>(pointers - WORK_LANES + WORK_NOTHING);
  const addressMask = load<u64>(space, SPACE_ADDRESS_MASK);
  const base = load<u64>(space, SPACE_TABLES_BASE);
  const window = load<u64>(space, SPACE_TABLES_WINDOW);
  const linear = load<u32>(space, SPACE_TABLES_LINEAR);
  const need = load<u64>(plan, PLAN_NEED_TABLE);
  const check = load<u64>(plan, PLAN_CHECK_TABLE);
  for (let i: u32 = 0; i < lanes; i++) {
    const address = load<u64>(input + (i << 3));
    const entry4 = load<u64>(table + <u32>indexOf(address, 39));
    const offset3 = (entry4 & addressMask) - base;
    const entry3 = load<u64>(linear + <u32>(offset3 & window) + <u32>indexOf(address, 30));
    const offset2 = (entry3 & addressMask) - base;
    const entry2 = load<u64>(linear + <u32>(offset2 & window) + <u32>indexOf(address, 21));
    const offset1 = (entry2 & addressMask) - base;
    const wrong = (((entry4 ^ need) | (entry3 ^ need) | (entry2 ^ need)) & check) | ((offset3 | offset2 | offset1) & ~window);
    store<u32>(pointers + (i << 2), select(linear + <u32>offset1 + <u32>indexOf(address, 12), nothing, wrong == 0));
  }
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

/** Turns the leaf entries in `output` into physical addresses, or NOT_FAST where a check fails. */
function finishLanes(space: usize, plan: usize, input: usize, output: usize, lanes: u32, check: u64, offsets: u64): u32 {
  const half = v128.splat<u64>(load<u64>(space, SPACE_HALF));
  const high = v128.splat<u64>(load<u64>(space, SPACE_HIGH));
  const needs = v128.splat<u64>(load<u64>(plan, PLAN_NEED_LEAF));
  const checks = v128.splat<u64>(check);
  const offsetMask = v128.splat<u64>(offsets);
  const pageMask = v128.splat<u64>(load<u64>(space, SPACE_ADDRESS_MASK) & ~offsets);
  const zero = i64x2.splat(0);
  let anyFailed = zero;
  const end = output + (lanes << 3);
  for (let from = input, at = output; at < end; at += 16, from += 16) {
    const address = v128.load(from);
    const leaf = v128.load(at);
    const wrong = v128.or(
      v128.and(v128.xor(leaf, needs), checks),
      v128.and(v128.add<u64>(address, half), high),
    );
    const failed = v128.ne<u64>(wrong, zero);
    const result = v128.or(v128.and(leaf, pageMask), v128.and(address, offsetMask));
    anyFailed = v128.or(anyFailed, failed);
    v128.store(at, v128.or(result, failed));
  }
  return v128.any_true(anyFailed) ? BLOCK_FAILED : BLOCK_DONE;
}
