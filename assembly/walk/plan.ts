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
  CODE_INDEX,
  CODE_INDEX_SHIFT,
  CR4_LASS,
  CR4_PKE,
  CR4_PKS,
  LINEAR_SUPERVISOR,
  PDE4M_ADDRESS_HIGH,
  PFERR_I,
  PFERR_RSVD,
  PFERR_W,
  PLAN_BLOCK_KEY,
  PLAN_BLOCK_RIGHTS,
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
import { Plan, RamSlot, Space } from "../abi/records";
import { findSlot } from "../memory/resolve";
import { keyDenial } from "./permissions";

/** Rights of the legacy formats. */
// @ts-ignore: decorator
@inline const RIGHTS: u32 = RIGHT_EXECUTE | RIGHT_WRITE | RIGHT_USER;

/** The plan for error-code bits 4:1 of `code`. */
// @ts-ignore: decorator
@inline export function planOf(space: Space, code: u32): Plan {
  // The number of the plan, times its size.
  const offset = (code & CODE_INDEX) * (Plan.SIZE >> CODE_INDEX_SHIFT);
  return changetype<Plan>(changetype<usize>(space) + Space.PLANS + offset);
}

/** Linear-address-space separation is on (SDM "Linear-Address Pre-Processing"). */
// @ts-ignore: decorator
@inline function isSeparated(space: Space, mode: u32): bool {
  return (space.cr4 & CR4_LASS) != 0 && mode >= MODE_4LEVEL;
}

/**
 * The fast walks serve spaces of a single stage, PAE with latched PDPTEs only, and change nothing where they fault. They
 * do not ask which half of the addresses an access may have.
 */
export function setFast(space: Space, mode: u32): void {
  const features = space.features;
  const slow =
    isSeparated(space, mode) ||
    (features & FEATURE_ACCESSED_ON_FAULT) != 0 ||
    (mode == MODE_PAE && (features & FEATURE_LIVE_PDPTES) != 0);
  const plain = space.kind == KIND_GUEST && space.second == null;
  space.fast = plain && !slow ? mode : MODE_NONE;
}

/** Makes all plans; the slot of the tables is known. */
export function setPlans(space: Space, mode: u32): void {
  for (let code: u32 = 0; code <= CODE_INDEX; code += 1 << CODE_INDEX_SHIFT) setPlan(space, mode, code);
  setCanonical(space, mode);
}

function setPlan(space: Space, mode: u32, code: u32): void {
  const plan = planOf(space, code);
  const denied = <u32>space.permissions(code >> CODE_INDEX_SHIFT);
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
  const xd = required & RIGHT_EXECUTE ? space.xdMask : 0;
  const dirty: u64 = code & PFERR_W ? PTE_D : 0;
  // Whatever the keys are now: other keys than 0 are left to the full walk where keys can deny anything.
  const key: u64 = hasKeys(space, mode) && !(code & PFERR_I) ? PTE_PKEY : 0;
  const present: u64 = PTE_P | PTE_A;
  const leaf: u64 = table | xd | dirty | key | (forbidden & RIGHT_USER ? PTE_US : 0);

  const outside = outsideTables(space, mode);
  plan.needTable = present | table | (space.tablesBase & outside);
  plan.checkTable = present | table | xd | tableReserved(space, mode) | outside;
  plan.needLeaf = present | table | dirty;
  plan.checkPage = present | leaf | reservedAt(space, 1, 0);
  // 4 MiB pages above 4 GiB are left to the full walk.
  const high: u64 = mode == MODE_32BIT ? <u64>PDE4M_ADDRESS_HIGH : 0;
  plan.checkLarge2 = present | leaf | reservedAt(space, 2, 5) | high;
  plan.checkLarge3 = present | leaf | reservedAt(space, 3, 5);
  plan.checkTlb = present | leaf;
  plan.block = isExact(denied, required, forbidden) ? 0 : PLAN_BLOCK_RIGHTS;
  setKeyBlock(space, plan, code);
}

function setKeyBlock(space: Space, plan: Plan, code: u32): void {
  const denied = keyDenial(space, code, 0, 0) | keyDenial(space, code, RIGHT_USER, 0);
  plan.block = (plan.block & PLAN_BLOCK_RIGHTS) | (denied ? PLAN_BLOCK_KEY : 0);
}

/** Other keys: plans ask for key 0, so that its rights alone count. */
export function setKeyBlocks(space: Space): void {
  for (let code: u32 = 0; code <= CODE_INDEX; code += 1 << CODE_INDEX_SHIFT) {
    setKeyBlock(space, planOf(space, code), code);
  }
}

/** Protection keys exist in long mode only, and not at the nested level (SDM "Protection Keys"). */
// @ts-ignore: decorator
@inline export function hasKeys(space: Space, mode: u32): bool {
  return space.kind == KIND_GUEST && mode >= MODE_4LEVEL && (space.cr4 & (CR4_PKE | CR4_PKS)) != 0;
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
@inline function reservedAt(space: Space, level: u32, half: u32): u64 {
  return space.reserved(level - 1 + half);
}

/** What no entry that leads to a table may have: reserved bits of any such level, and PS where it would map a page. */
function tableReserved(space: Space, mode: u32): u64 {
  if (mode == MODE_32BIT) return space.largeLevels ? PTE_PS : 0;
  let reserved: u64 = PTE_PS | reservedAt(space, 2, 0);
  if (mode >= MODE_4LEVEL) reserved |= reservedAt(space, 3, 0) | reservedAt(space, 4, 0);
  return mode == MODE_5LEVEL ? reserved | reservedAt(space, 5, 0) : reserved;
}

/**
 * Address bits that all tables of the root's slot have in common, where they tell its tables from others: of an aligned
 * slot whose size is a power of two. Of use to 32-bit paging only, where `quick32` saves the comparison by it.
 */
// @ts-ignore: decorator
@inline function outsideTables(space: Space, mode: u32): u64 {
  if (mode != MODE_32BIT || !isWindow(space)) return 0;
  return space.addressMask & ~space.tablesWindow;
}

function isWindow(space: Space): bool {
  const window = space.tablesWindow;
  return space.tablesSize == window + 1 && (space.tablesBase & window) == 0;
}

/** Canonical addresses that masking would leave as they are: canonical for the narrowest width in force; none with LASS. */
export function setCanonical(space: Space, mode: u32): void {
  let width = space.width;
  const user = space.lamUser;
  const supervisor = space.lamSupervisor;
  if (user != 0 && user < width) width = user;
  if (supervisor != 0 && supervisor < width) width = supervisor;
  if (isSeparated(space, mode)) {
    // Which half is whose is a question of each access: no address passes.
    space.half = LINEAR_SUPERVISOR;
    space.high = 0xffffffffffffffff;
    return;
  }
  const signed = mode >= MODE_4LEVEL;
  space.half = signed ? (<u64>1) << (width - 1) : 0;
  space.high = ~(((<u64>1) << width) - 1);
}

/** Notes where the slot of the root lies: where slots change, the space is told (`slotsChanged`). */
export function setTables(space: Space): void {
  const memory = space.memory;
  let slot: RamSlot | null = null;
  if (memory != null && memory.slots != 0) slot = findSlot(memory, space.root);
  const size = slot != null ? slot.size : 0;
  space.tablesBase = slot != null ? slot.base : 0;
  space.tablesSize = size;
  space.tablesWindow = size ? ((<u64>1) << (63 - clz<u64>(size))) - 1 : 0;
  const linear = slot != null ? slot.linear : 0;
  space.tablesLinear = linear;
  setQuick(space, slot != null, linear);
}

/** Root and slot are of whole pages: the slot that holds the first entry of a 4 KiB table holds all. */
function setQuick(space: Space, inSlot: bool, linear: u32): void {
  const mode = space.fast;
  const fits = mode == MODE_4LEVEL || (mode == MODE_32BIT && isWindow(space));
  const quick = inSlot && space.tlb == 0 && fits;
  space.quick = quick ? mode : MODE_NONE;
  space.rootLinear = linear + <u32>(space.root - space.tablesBase);
}

/** Error-code bits 4:1 of an access that is not implicit; bit 3 (SMAP does not apply) is the AC flag's place. */
// @ts-ignore: decorator
@inline export function planFor(space: Space, access: u32): Plan {
  // EFLAGS.AC takes the place of the reserved bit.
  const ac = (access & ACCESS_AC) / (ACCESS_AC / PFERR_RSVD);
  return planOf(space, (access & (ACCESS_WRITE | ACCESS_USER | ACCESS_FETCH)) | ac);
}

/** No physical address: an exact walk has to be taken. */
// @ts-ignore: decorator
@inline export const NOT_FAST: u64 = 0xffffffffffffffff;

/** No physical address: every table is there and allows the access, and the leaf entry is not present. */
// @ts-ignore: decorator
@inline export const NOT_PRESENT: u64 = 0xfffffffffffffffe;
