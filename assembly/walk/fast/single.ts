/**
 * The fast walk once more for single calls, with nothing that these do not need: 4-level and 32-bit paging, the plain
 * accesses, addresses that are canonical as they are, no software TLB. `space.quick` says where it may be tried.
 */
import { CODE_INDEX_SHIFT, PTE_P, PTE_PS } from "../../abi/bits";
import { STATUS_PAGE_FAULT } from "../../abi/codes";
import { Plan, Space } from "../../abi/records";
import { NOT_FAST, planFor } from "../plan";
import { reportedCode } from "./exact";
import { WIDTH4 } from "./fast";
import { finishRefused } from "./refused";
import { walkSlots } from "./slots";

/** Added to the high half, it gives less than 1 << 16 for the addresses that 4-level paging calls canonical. */
// @ts-ignore: decorator
@inline export const HALF4_HIGH: u32 = 1 << (<u32>WIDTH4 - 33);

/** The fields of a plan, from a base that `planAt` gives. */
// @ts-ignore: decorator
@inline const NEED_TABLE: usize = Space.PLANS + offsetof<Plan>("needTable");
// @ts-ignore: decorator
@inline const CHECK_TABLE: usize = Space.PLANS + offsetof<Plan>("checkTable");
// @ts-ignore: decorator
@inline const NEED_LEAF: usize = Space.PLANS + offsetof<Plan>("needLeaf");
// @ts-ignore: decorator
@inline const CHECK_PAGE: usize = Space.PLANS + offsetof<Plan>("checkPage");
// @ts-ignore: decorator
@inline const CHECK_LARGE2: usize = Space.PLANS + offsetof<Plan>("checkLarge2");
// @ts-ignore: decorator
@inline const CHECK_LARGE3: usize = Space.PLANS + offsetof<Plan>("checkLarge3");
// @ts-ignore: decorator
@inline const BLOCK: usize = Space.PLANS + offsetof<Plan>("block");

/** `access` has no bit but W, U and I, which are a plan's index; the space's fields and its plan's have one base then. */
// @ts-ignore: decorator
@inline function planAt(space: Space, access: u32): usize {
  assert(Plan.SIZE == 1 << (5 + CODE_INDEX_SHIFT));
  return changetype<usize>(space) + (access << 5);
}

// @ts-ignore: decorator
@inline export function wide(high: u32, low: u32): u64 {
  return ((<u64>high) << 32) | low;
}

/** `high:low` is canonical; other results are those of `translate`. */
// @ts-ignore: decorator
@inline export function quick4(space: Space, high: u32, low: u32, access: u32): f64 {
  const plan = planAt(space, access);
  const base = space.tablesBase;
  const size = space.tablesSize;
  const linear = space.tablesLinear;
  const addressMask = space.addressMask;
  const need = load<u64>(plan, NEED_TABLE);

  const entry4 = load<u64>(space.rootLinear + ((high >>> 4) & 0xff8));
  let table = (entry4 & addressMask) - base;
  if (table >= size) return quickElsewhere(space, wide(high, low), access);
  const entry3 = load<u64>(linear + <u32>table + (((high << 5) | (low >>> 27)) & 0xff8));
  if (entry3 & PTE_PS) return quickLarge(space, wide(high, low), access, entry4 ^ need, entry3, 30);
  table = (entry3 & addressMask) - base;
  if (table >= size) return quickElsewhere(space, wide(high, low), access);
  const entry2 = load<u64>(linear + <u32>table + ((low >>> 18) & 0xff8));
  if (entry2 & PTE_PS) return quickLarge(space, wide(high, low), access, (entry4 ^ need) | (entry3 ^ need), entry2, 21);
  table = (entry2 & addressMask) - base;
  if (table >= size) return quickElsewhere(space, wide(high, low), access);
  const entry1 = load<u64>(linear + <u32>table + ((low >>> 9) & 0xff8));

  const wrong =
    load<u64>(plan, BLOCK) | (((entry4 ^ need) | (entry3 ^ need) | (entry2 ^ need)) & load<u64>(plan, CHECK_TABLE));
  const leaf = (entry1 ^ load<u64>(plan, NEED_LEAF)) & load<u64>(plan, CHECK_PAGE);
  if ((wrong | leaf) != 0) return refuse(space, wide(high, low), access, wrong, entry1);
  return <f64>(<i64>((entry1 & addressMask) | (<u64>(low & 0xfff))));
}

/**
 * 32-bit paging: all checks are those of the low halves. The slot of the tables is aligned and its size a power of two,
 * so that the plan says whether a table lies in it.
 */
// @ts-ignore: decorator
@inline export function quick32(space: Space, low: u32, access: u32): f64 {
  const plan = planAt(space, access);
  const addressMask = load<u32>(changetype<usize>(space), offsetof<Space>("addressMask"));
  const entry2 = load<u32>(space.rootLinear + ((low >>> 20) & 0xffc));
  // Bit 7 is PS where LARGE_LEVELS has bit 2 set.
  if ((entry2 >>> 5) & space.largeLevels) return quickLarge(space, low, access, 0, entry2, 22);
  const window = load<u32>(changetype<usize>(space), offsetof<Space>("tablesWindow"));
  const table = space.tablesLinear + (entry2 & addressMask & window);
  const entry1 = load<u32>(table + ((low >>> 10) & 0xffc));

  const wrong = load<u32>(plan, BLOCK) | ((entry2 ^ load<u32>(plan, NEED_TABLE)) & load<u32>(plan, CHECK_TABLE));
  const leaf = (entry1 ^ load<u32>(plan, NEED_LEAF)) & load<u32>(plan, CHECK_PAGE);
  if ((wrong | leaf) != 0) {
    // Address bits are those that tell the slot from others.
    return wrong >>> 12 != 0 ? quickElsewhere(space, low, access) : refuse(space, low, access, wrong, entry1);
  }
  return <f64>((entry1 & addressMask) | (low & 0xfff));
}

/** A table may lie in another slot than the root's. */
function quickElsewhere(space: Space, address: u64, access: u32): f64 {
  const result = walkSlots(space, planFor(space, access), address);
  return <i64>result >= 0 ? <f64>(<i64>result) : finishRefused(space, address, access, result);
}

/** `leaf` maps 1 << `shift` bytes; `above` is where the entries above differ from what is needed. */
function quickLarge(space: Space, address: u64, access: u32, above: u64, leaf: u64, shift: u64): f64 {
  const plan = planAt(space, access);
  const check = shift == 30 ? load<u64>(plan, CHECK_LARGE3) : load<u64>(plan, CHECK_LARGE2);
  const wrong = load<u64>(plan, BLOCK) | (above & load<u64>(plan, CHECK_TABLE));
  const bad = (leaf ^ load<u64>(plan, NEED_LEAF)) & check;
  if ((wrong | bad) != 0) return refuse(space, address, access, wrong, leaf);
  const offsetMask: u64 = ((<u64>1) << shift) - 1;
  return <f64>(<i64>((leaf & space.addressMask & ~offsetMask) | (address & offsetMask)));
}

/** Every entry was read; `wrong` is what is wrong above the leaf. There is no software TLB that a fault concerns. */
function refuse(space: Space, address: u64, access: u32, wrong: u64, leaf: u64): f64 {
  if (wrong != 0 || (leaf & PTE_P) != 0) return finishRefused(space, address, access, NOT_FAST);
  return -1 - <f64>((STATUS_PAGE_FAULT << 16) | reportedCode(space, access));
}
