/**
 * The common case of a walk: every table in the slot of the root, every entry present, accessed and free of reserved
 * bits, the access allowed, nothing to update. Anything else is NOT_FAST, and an exact walk decides.
 * The checks of all entries are gathered and tested once: a table address taken from a bad entry can only lead to
 * another place inside the slot, whose contents no longer matter.
 */
import { ACCESS_IMPLICIT, PTE_P, PTE_PS } from "../../abi/bits";
import { MODE_32BIT, MODE_4LEVEL, MODE_5LEVEL, MODE_PAE } from "../../abi/codes";
import { Plan, Space } from "../../abi/records";
import { NOT_FAST, planFor } from "../plan";
import { finish } from "./finish";
import { walkSlots } from "./slots";

/** Bits of an address in 4-level paging. */
// @ts-ignore: decorator
@inline export const WIDTH4: u64 = 48;

/** An address is canonical there where (address + HALF4) >> WIDTH4 is 0; untagging leaves it as it is. */
// @ts-ignore: decorator
@inline const HALF4: u64 = 1 << (WIDTH4 - 1);

/** Byte offset of the entry for `address` at the level whose index begins at bit `shift`. */
// @ts-ignore: decorator
@inline export function indexOf(address: u64, shift: u64): u64 {
  return (address >> (shift - 3)) & 0xff8;
}

/** The physical address, NOT_PRESENT or NOT_FAST, both negative. */
export function walkFast(space: Space, address: u64, access: u32): u64 {
  if (space.fast != MODE_4LEVEL) return walkFastElsewhere(space, address, access);
  if (access & ACCESS_IMPLICIT || (address + HALF4) >> 48 != 0) return NOT_FAST;
  const plan = planFor(space, access);
  return walkFrom4(space, plan, address, space.root, plan.block);
}

/** The same for loops. 4-level paging; the other modes have their own function. */
// @ts-ignore: decorator
@inline export function walkFastInline(space: Space, address: u64, access: u32): u64 {
  if (space.fast != MODE_4LEVEL) return walkFastElsewhere(space, address, access);
  if (access & ACCESS_IMPLICIT || (address + HALF4) >> 48 != 0) return NOT_FAST;
  const plan = planFor(space, access);
  return walkFrom4Inline(space, plan, address, space.root, plan.block);
}

/** The same from the level-4 table at `table`; `above` is what was found wrong above it. */
function walkFrom4(space: Space, plan: Plan, address: u64, table: u64, above: u64): u64 {
  return walkFrom4Inline(space, plan, address, table, above);
}

// @ts-ignore: decorator
@inline function walkFrom4Inline(space: Space, plan: Plan, address: u64, table: u64, above: u64): u64 {
  const base = space.tablesBase;
  const size = space.tablesSize;
  const linear = space.tablesLinear;
  const addressMask = space.addressMask;
  const need = plan.needTable;
  const check = plan.checkTable;

  let offset = table - base + indexOf(address, 39);
  if (offset >= size) return walkSlots(space, plan, address);
  const entry4 = load<u64>(linear + <u32>offset);
  let wrong = entry4 ^ need;

  offset = (entry4 & addressMask) - base + indexOf(address, 30);
  if (offset >= size) return walkSlots(space, plan, address);
  const entry3 = load<u64>(linear + <u32>offset);
  if (entry3 & PTE_PS) {
    return finishLarge(space, plan, entry3, plan.checkLarge3, above | (wrong & check), address, 30);
  }
  wrong |= entry3 ^ need;

  offset = (entry3 & addressMask) - base + indexOf(address, 21);
  if (offset >= size) return walkSlots(space, plan, address);
  const entry2 = load<u64>(linear + <u32>offset);
  if (entry2 & PTE_PS) {
    return finishLarge(space, plan, entry2, plan.checkLarge2, above | (wrong & check), address, 21);
  }
  wrong |= entry2 ^ need;

  offset = (entry2 & addressMask) - base + indexOf(address, 12);
  if (offset >= size) return walkSlots(space, plan, address);
  const entry1 = load<u64>(linear + <u32>offset);
  return finish(plan, entry1, plan.checkPage, above | (wrong & check), addressMask, address, 12);
}

/** `finish` for a page that is none of 4 KiB. */
function finishLarge(space: Space, plan: Plan, leaf: u64, check: u64, wrong: u64, address: u64, shift: u64): u64 {
  return finish(plan, leaf, check, wrong, space.addressMask, address, shift);
}

function walkFastElsewhere(space: Space, address: u64, access: u32): u64 {
  const mode = space.fast;
  if (access & ACCESS_IMPLICIT || ((address + space.half) & space.high) != 0) {
    return NOT_FAST;
  }
  const plan = planFor(space, access);
  if (mode == MODE_32BIT) return walkFast32(space, plan, <u32>address);
  if (mode == MODE_PAE) return walkFastPae(space, plan, address);
  if (mode != MODE_5LEVEL) return NOT_FAST;
  const offset = space.root - space.tablesBase + indexOf(address, 48);
  if (offset >= space.tablesSize) return walkSlots(space, plan, address);
  const entry5 = load<u64>(space.tablesLinear + <u32>offset);
  const wrong = (entry5 ^ plan.needTable) & plan.checkTable;
  return walkFrom4(space, plan, address, entry5 & space.addressMask, wrong | plan.block);
}

/** PAE with latched PDPTEs: they were checked for reserved bits when they were loaded, and grant everything. */
function walkFastPae(space: Space, plan: Plan, address: u64): u64 {
  const base = space.tablesBase;
  const size = space.tablesSize;
  const linear = space.tablesLinear;
  const addressMask = space.addressMask;
  const pdpte = space.pdptes((<u32>address) >> 30);
  if (!(pdpte & PTE_P)) return NOT_FAST;

  let offset = (pdpte & addressMask) - base + indexOf(address, 21);
  if (offset >= size) return walkSlots(space, plan, address);
  const entry2 = load<u64>(linear + <u32>offset);
  const above = plan.block;
  if (entry2 & PTE_PS) return finishLarge(space, plan, entry2, plan.checkLarge2, above, address, 21);
  const wrong = (entry2 ^ plan.needTable) & plan.checkTable;

  offset = (entry2 & addressMask) - base + indexOf(address, 12);
  if (offset >= size) return walkSlots(space, plan, address);
  const entry1 = load<u64>(linear + <u32>offset);
  return finish(plan, entry1, plan.checkPage, above | wrong, addressMask, address, 12);
}

/** 32-bit paging: the checks are those of the low halves. */
function walkFast32(space: Space, plan: Plan, address: u32): u64 {
  const base = space.tablesBase;
  const size = space.tablesSize;
  const linear = space.tablesLinear;
  const addressMask = space.addressMask;
  const above = plan.block;

  let offset = space.root - base + <u64>((address >> 22) << 2);
  if (offset >= size) return walkSlots(space, plan, address);
  const entry2: u64 = load<u32>(linear + <u32>offset);
  if (entry2 & PTE_PS && space.largeLevels != 0) {
    return finishLarge(space, plan, entry2, plan.checkLarge2, above, address, 22);
  }
  const wrong = (entry2 ^ plan.needTable) & plan.checkTable;

  offset = (entry2 & addressMask) - base + <u64>(((address >> 12) & 1023) << 2);
  if (offset >= size) return walkSlots(space, plan, address);
  const entry1: u64 = load<u32>(linear + <u32>offset);
  return finish(plan, entry1, plan.checkPage, above | wrong, addressMask, address, 12);
}
