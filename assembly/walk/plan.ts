/**
 * Plans: what the fast walks ask of the entries for each kind of access, so that a walk gathers (entry ^ need) & check over its
 * levels and decides with one test. A plan may refuse what the full walk allows, never the other way round. Made anew
 * when a register changes.
 */
import {
  ACCESS_AC,
  ACCESS_FETCH,
  ACCESS_USER,
  ACCESS_WRITE,
  PDE4M_ADDRESS_HIGH,
  PFERR_I,
  PTE_A,
  PTE_D,
  PTE_P,
  PTE_PKEY,
  PTE_PS,
  PTE_RW,
  PTE_US,
} from "../abi/bits";
import {
  FEATURE_ACCESSED_ON_FAULT,
  FEATURE_LIVE_PDPTES,
  KIND_GUEST,
  MODE_32BIT,
  MODE_4LEVEL,
  MODE_5LEVEL,
  MODE_NONE,
  MODE_PAE,
  RIGHT_EXECUTE,
  RIGHT_USER,
  RIGHT_WRITE,
} from "../abi/codes";
import {
  MEMORY_SLOTS,
  PLAN_BLOCK,
  PLAN_CHECK_LARGE2,
  PLAN_CHECK_LARGE3,
  PLAN_CHECK_PAGE,
  PLAN_CHECK_TABLE,
  PLAN_CHECK_TLB,
  PLAN_NEED_LEAF,
  PLAN_NEED_TABLE,
  PLAN_SIZE_OF,
  SLOT_BASE,
  SLOT_LINEAR,
  SLOT_SIZE,
  SPACE_ADDRESS_MASK,
  SPACE_FAST,
  SPACE_FEATURES,
  SPACE_HALF,
  SPACE_HIGH,
  SPACE_KEYS_SUPERVISOR,
  SPACE_KEYS_USER,
  SPACE_KIND,
  SPACE_LAM_SUPERVISOR,
  SPACE_LAM_USER,
  SPACE_LARGE_LEVELS,
  SPACE_MEMORY,
  SPACE_PERMISSIONS,
  SPACE_PLANS,
  SPACE_QUICK,
  SPACE_RESERVED,
  SPACE_ROOT,
  SPACE_ROOT_LINEAR,
  SPACE_SECOND,
  SPACE_TABLES_BASE,
  SPACE_TABLES_LINEAR,
  SPACE_TABLES_SIZE,
  SPACE_TABLES_WINDOW,
  SPACE_TLB,
  SPACE_WIDTH,
  SPACE_XD_MASK,
} from "../abi/layout";
import { findSlot } from "../memory/resolve";
import { keyDenial } from "./permissions";

/** Rights of the legacy formats. */
// @ts-ignore: decorator
@inline const RIGHTS: u32 = RIGHT_EXECUTE | RIGHT_WRITE | RIGHT_USER;

/** The plan for error-code bits 4:1 of `code`. */
// @ts-ignore: decorator
@inline export function planOf(space: usize, code: u32): usize {
  assert(PLAN_SIZE_OF == 64);
  return space + SPACE_PLANS + ((code & 0x1e) << 5);
}

/** The fast walks serve spaces of a single stage, PAE with latched PDPTEs only, and change nothing where they fault. */
export function setFast(space: usize, mode: u32): void {
  const features = load<u32>(space, SPACE_FEATURES);
  const slow =
    (features & FEATURE_ACCESSED_ON_FAULT) != 0 || (mode == MODE_PAE && (features & FEATURE_LIVE_PDPTES) != 0);
  const plain = load<u32>(space, SPACE_KIND) == KIND_GUEST && load<u32>(space, SPACE_SECOND) == 0;
  store<u32>(space, plain && !slow ? mode : MODE_NONE, SPACE_FAST);
}

/** Makes all plans; the slot of the tables is known. */
export function setPlans(space: usize, mode: u32): void {
  for (let code: u32 = 0; code < 0x20; code += 2) setPlan(space, mode, code);
  setCanonical(space, mode);
}

function setPlan(space: usize, mode: u32, code: u32): void {
  const plan = planOf(space, code);
  const denied = <u32>load<u16>(space + code, SPACE_PERMISSIONS);
  let required = RIGHTS;
  let forbidden = RIGHTS;
  for (let rights: u32 = 0; rights <= RIGHTS; rights++) {
    if ((denied >> rights) & 1) continue;
    required &= rights;
    forbidden &= ~rights;
  }
  // Rights that are required in the AND over all levels are required in each entry. A forbidden user right (SMEP, SMAP)
  // is certainly not in the AND where the leaf lacks it.
  const table: u64 = (required & RIGHT_WRITE ? PTE_RW : 0) | (required & RIGHT_USER ? PTE_US : 0);
  const xd = required & RIGHT_EXECUTE ? load<u64>(space, SPACE_XD_MASK) : 0;
  const dirty: u64 = code & 2 ? PTE_D : 0;
  const keys = load<u32>(space, SPACE_KEYS_USER) | load<u32>(space, SPACE_KEYS_SUPERVISOR);
  const key: u64 = keys != 0 && !(code & PFERR_I) ? PTE_PKEY : 0;
  const present: u64 = PTE_P | PTE_A;
  const leaf: u64 = table | xd | dirty | key | (forbidden & RIGHT_USER ? PTE_US : 0);

  const outside = outsideTables(space, mode);
  store<u64>(plan, present | table | (load<u64>(space, SPACE_TABLES_BASE) & outside), PLAN_NEED_TABLE);
  store<u64>(plan, present | table | xd | tableReserved(space, mode) | outside, PLAN_CHECK_TABLE);
  store<u64>(plan, present | table | dirty, PLAN_NEED_LEAF);
  store<u64>(plan, present | leaf | reservedAt(space, 1, 0), PLAN_CHECK_PAGE);
  // 4 MiB pages above 4 GiB are left to the full walk.
  const high: u64 = mode == MODE_32BIT ? <u64>PDE4M_ADDRESS_HIGH : 0;
  store<u64>(plan, present | leaf | reservedAt(space, 2, 5) | high, PLAN_CHECK_LARGE2);
  store<u64>(plan, present | leaf | reservedAt(space, 3, 5), PLAN_CHECK_LARGE3);
  store<u64>(plan, present | leaf, PLAN_CHECK_TLB);
  const blocked =
    !isExact(denied, required, forbidden) ||
    keyDenial(space, code, 0, 0) != 0 ||
    keyDenial(space, code, RIGHT_USER, 0) != 0;
  store<u64>(plan, blocked ? 1 : 0, PLAN_BLOCK);
}

/** Whether exactly the rights that have all of `required` and none of `forbidden` are allowed. */
function isExact(denied: u32, required: u32, forbidden: u32): bool {
  if (forbidden & ~RIGHT_USER) return false;
  for (let rights: u32 = 0; rights <= RIGHTS; rights++) {
    const allowed = (rights & required) == required && (rights & forbidden) == 0;
    if (allowed == (((denied >> rights) & 1) != 0)) return false;
  }
  return true;
}

// @ts-ignore: decorator
@inline function reservedAt(space: usize, level: u32, half: u32): u64 {
  return load<u64>(space + ((level - 1 + half) << 3), SPACE_RESERVED);
}

/** What no entry that leads to a table may have: reserved bits of any such level, and PS where it would map a page. */
function tableReserved(space: usize, mode: u32): u64 {
  if (mode == MODE_32BIT) return load<u32>(space, SPACE_LARGE_LEVELS) ? PTE_PS : 0;
  let reserved: u64 = PTE_PS | reservedAt(space, 2, 0);
  if (mode >= MODE_4LEVEL) reserved |= reservedAt(space, 3, 0) | reservedAt(space, 4, 0);
  return mode == MODE_5LEVEL ? reserved | reservedAt(space, 5, 0) : reserved;
}

/**
 * Address bits that all tables of the root's slot have in common, where they tell its tables from others: of an aligned
 * slot whose size is a power of two. Of use to 32-bit paging only, where `quick32` saves the comparison by it.
 */
// @ts-ignore: decorator
@inline function outsideTables(space: usize, mode: u32): u64 {
  if (mode != MODE_32BIT || !isWindow(space)) return 0;
  return load<u64>(space, SPACE_ADDRESS_MASK) & ~load<u64>(space, SPACE_TABLES_WINDOW);
}

function isWindow(space: usize): bool {
  const window = load<u64>(space, SPACE_TABLES_WINDOW);
  return load<u64>(space, SPACE_TABLES_SIZE) == window + 1 && (load<u64>(space, SPACE_TABLES_BASE) & window) == 0;
}

/** Canonical addresses that masking would leave as they are: canonical for the narrowest width in force. */
function setCanonical(space: usize, mode: u32): void {
  let width = load<u32>(space, SPACE_WIDTH);
  const user = load<u32>(space, SPACE_LAM_USER);
  const supervisor = load<u32>(space, SPACE_LAM_SUPERVISOR);
  if (user != 0 && user < width) width = user;
  if (supervisor != 0 && supervisor < width) width = supervisor;
  const signed = mode >= MODE_4LEVEL;
  store<u64>(space, signed ? (<u64>1) << (width - 1) : 0, SPACE_HALF);
  store<u64>(space, ~(((<u64>1) << width) - 1), SPACE_HIGH);
}

/** Notes where the slot of the root lies: slots stay where they are as long as the space lives. */
export function setTables(space: usize): void {
  const memory: usize = load<u32>(space, SPACE_MEMORY);
  let slot: usize = 0;
  if (memory != 0 && load<u32>(memory, MEMORY_SLOTS) != 0) slot = findSlot(memory, load<u64>(space, SPACE_ROOT));
  const size = slot ? load<u64>(slot, SLOT_SIZE) : 0;
  store<u64>(space, slot ? load<u64>(slot, SLOT_BASE) : 0, SPACE_TABLES_BASE);
  store<u64>(space, size, SPACE_TABLES_SIZE);
  store<u64>(space, size ? ((<u64>1) << (63 - clz<u64>(size))) - 1 : 0, SPACE_TABLES_WINDOW);
  const linear = slot ? load<u32>(slot, SLOT_LINEAR) : 0;
  store<u32>(space, linear, SPACE_TABLES_LINEAR);
  setQuick(space, slot != 0, linear);
}

/** Root and slot are of whole pages: the slot that holds the first entry of a 4 KiB table holds all. */
function setQuick(space: usize, inSlot: bool, linear: u32): void {
  const mode = load<u32>(space, SPACE_FAST);
  const fits = mode == MODE_4LEVEL || (mode == MODE_32BIT && isWindow(space));
  const quick = inSlot && load<u32>(space, SPACE_TLB) == 0 && fits;
  store<u32>(space, quick ? mode : MODE_NONE, SPACE_QUICK);
  store<u32>(
    space,
    linear + <u32>(load<u64>(space, SPACE_ROOT) - load<u64>(space, SPACE_TABLES_BASE)),
    SPACE_ROOT_LINEAR,
  );
}

/** Error-code bits 4:1 of an access that is not implicit; bit 3 (SMAP does not apply) is the AC flag's place. */
// @ts-ignore: decorator
@inline export function planFor(space: usize, access: u32): usize {
  return planOf(space, (access & (ACCESS_WRITE | ACCESS_USER | ACCESS_FETCH)) | ((access & ACCESS_AC) >> 6));
}

/** No physical address: an exact walk has to be taken. */
// @ts-ignore: decorator
@inline export const NOT_FAST: u64 = 0xffffffffffffffff;

/** No physical address: every table is there and allows the access, and the leaf entry is not present. */
// @ts-ignore: decorator
@inline export const NOT_PRESENT: u64 = 0xfffffffffffffffe;
