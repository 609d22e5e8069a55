/**
 * The walk of a nested guest's own tables (walk_addr_generic for nested_mmu): every table and the final address go through
 * L1's second stage, whose walk sets accessed bits and traces its events at once, inside this one.
 */
import {
  PFERR_P,
  PFERR_PK,
  PFERR_RSVD,
  PFERR_U,
  PFERR_W,
  PTE_A,
  PTE_D,
  PTE_P,
  PTE_PKEY,
  PTE_PKEY_SHIFT,
} from "../abi/bits";
import { NOT_READ } from "../abi/codes";
import { SPACE_ADDRESS_MASK, SPACE_FETCH_CODE, SPACE_MEMORY, SPACE_PDPTES, SPACE_ROOT } from "../abi/layout";
import {
  EV_PAGETABLE_WALK,
  EV_PAGING_ELEMENT,
  EV_SET_ACCESSED,
  EV_SET_DIRTY,
  EV_WALKER_ERROR,
  FORMAT_32,
  FORMAT_NONE,
  MMU_FORMAT,
  MMU_GUEST_LEVEL,
  MMU_PDPTE_RESERVED,
  MMU_SECOND,
  MMU_SPACE,
  VCPU_GW_CHECKED,
  VCPU_GW_ERROR,
  VCPU_GW_FAULT,
  VCPU_GW_GFN,
  VCPU_GW_GPA,
  VCPU_GW_NESTED,
  VCPU_L2_GFN,
  VCPU_L2_GPA,
  VCPU_L2_POINTER,
  VCPU_L2_PTE,
  VCPU_PDPTES_READ,
  VCPU_VM,
} from "../abi/shadow";
import { ACC_ALL } from "../abi/spte";
import { resolve, writable } from "../memory/resolve";
import { emit, tracing } from "../pages/event";
import { markDirty, vcpuSlot } from "../pages/slot";
import { isLeaf, pageAddress, rightsOf } from "../walk/legacy";
import { denies, keyDenial } from "../walk/permissions";
import { reservedBits } from "../walk/reserved";
import { accessKind, walkTables } from "./table-walk";

/** Reading a table is a write to the second stage, for its accessed bits; and every access is a user's there. */
// @ts-ignore: decorator
@inline const TABLE_ACCESS: u32 = PFERR_U | PFERR_W;
// @ts-ignore: decorator
@inline const PAGE: u64 = ~(<u64>0xfff);

/** Takes L2's guest-physical page through L1's second stage; GW_GPA is L1's, or GW_NESTED is set. */
function translate(vcpu: usize, second: usize, gpa: u64, code: u32): bool {
  if (walkTables(vcpu, second, vcpu, gpa, code | PFERR_U)) return true;
  store<u32>(vcpu, 1, VCPU_GW_NESTED);
  store<u64>(vcpu, gpa, VCPU_GW_FAULT);
  return false;
}

function fail(vcpu: usize, space: usize, code: u32, cause: u32): bool {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const error = cause | (code & (PFERR_W | PFERR_U | load<u32>(space, SPACE_FETCH_CODE)));
  store<u32>(vcpu, error, VCPU_GW_ERROR);
  store<u32>(vcpu, 0, VCPU_GW_NESTED);
  if (tracing(vm)) emit(vm, EV_WALKER_ERROR, error, 0, 0, 0, 0, 0);
  return false;
}

/** SVM has no PDPTE registers: L2's are read once after each exit and kept where one is malformed (load_pdptrs). */
function readPdptes(vcpu: usize, mmu: usize, space: usize): void {
  if (load<u32>(vcpu, VCPU_PDPTES_READ) != 0) return;
  const root = load<u64>(space, SPACE_ROOT);
  if (!walkTables(vcpu, load<u32>(mmu, MMU_SECOND), vcpu, root & PAGE, TABLE_ACCESS)) return;
  const pointer = resolve(load<u32>(space, SPACE_MEMORY), (load<u64>(vcpu, VCPU_GW_GFN) << 12) | (root & 0xfff));
  if (pointer >= NOT_READ) return;
  const reserved = load<u64>(mmu, MMU_PDPTE_RESERVED);
  for (let i: usize = 0; i < 32; i += 8) {
    const pdpte = load<u64>(<usize>pointer + i);
    if ((pdpte & PTE_P) != 0 && (pdpte & reserved) != 0) return;
  }
  memory.copy(space + SPACE_PDPTES, pointer, 32);
  store<u32>(vcpu, 1, VCPU_PDPTES_READ);
}

/** Sets accessed and dirty bits, from the top; false where an entry is not what the walk read. */
function setAccessedDirty(vcpu: usize, top: u32, leaf: u32, write: bool, bytes: u32): bool {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  for (let level = top; level >= leaf; level--) {
    const i = <usize>(level - 1);
    const old = load<u64>(vcpu + (i << 3), VCPU_L2_PTE);
    const wanted = old | PTE_A | (level == leaf && write ? PTE_D : 0);
    if (wanted == old) continue;
    const gpa = load<u64>(vcpu + (i << 3), VCPU_L2_GPA);
    if (tracing(vm) && !(old & PTE_A)) emit(vm, EV_SET_ACCESSED, 0, 0, 0, gpa, 0, 0);
    if (tracing(vm) && (wanted & ~old & PTE_D) != 0) emit(vm, EV_SET_DIRTY, 0, 0, 0, gpa, 0, 0);
    const pointer: usize = load<u32>(vcpu + (i << 2), VCPU_L2_POINTER);
    if (pointer == 0) continue;
    if (bytes == 4) {
      if (load<u32>(pointer) != <u32>old) return false;
      store<u32>(pointer, <u32>wanted);
    } else {
      if (load<u64>(pointer) != old) return false;
      store<u64>(pointer, wanted);
    }
    // The kernel marks L2's frame number, which need not be L1's (update_accessed_dirty_bits): the log would miss the page.
    const gfn = load<u64>(vcpu + (i << 3), VCPU_L2_GFN);
    markDirty(vcpuSlot(vcpu, gfn), gfn);
  }
  return true;
}

/**
 * Translates L2's linear `address`. Returns true with GW_GPA, L1's; or false with GW_ERROR, and with GW_NESTED and GW_FAULT
 * where L1's second stage is at fault.
 */
export function walkL2(vcpu: usize, mmu: usize, address: u64, code: u32): bool {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const second: usize = load<u32>(mmu, MMU_SECOND);
  const space: usize = load<u32>(mmu, MMU_SPACE);
  const format = load<u32>(mmu, MMU_FORMAT);
  const offset = address & 0xfff;
  if (format == FORMAT_NONE) {
    if (!translate(vcpu, second, address, code)) return false;
    store<u32>(vcpu, 0, VCPU_GW_CHECKED);
    return true;
  }
  const bytes: u32 = format == FORMAT_32 ? 4 : 8;
  const indexBits: u64 = format == FORMAT_32 ? 10 : 9;
  const ram: usize = load<u32>(space, SPACE_MEMORY);
  if (tracing(vm)) emit(vm, EV_PAGETABLE_WALK, code & 0xff, 0, 0, address, 0, 0);
  while (true) {
    let level = load<u32>(mmu, MMU_GUEST_LEVEL);
    let table = load<u64>(space, SPACE_ROOT) & PAGE;
    if (level == 3) {
      readPdptes(vcpu, mmu, space);
      store<u32>(vcpu, 0, VCPU_GW_CHECKED);
      const pdpte = load<u64>(space + ((<usize>((address >> 30) & 3)) << 3), SPACE_PDPTES);
      if (tracing(vm)) emit(vm, EV_PAGING_ELEMENT, 3, 0, 0, pdpte, 0, 0);
      if (!(pdpte & PTE_P)) return fail(vcpu, space, code, 0);
      table = pdpte & load<u64>(space, SPACE_ADDRESS_MASK);
      level = 2;
    }
    const top = level;
    let rights = ACC_ALL;
    let entry: u64 = 0;
    for (; ; level--) {
      const index = (address >> (12 + indexBits * <u64>(level - 1))) & ((1 << indexBits) - 1);
      const inPage = index * <u64>bytes;
      const found = translate(vcpu, second, table, TABLE_ACCESS);
      // Whether the second stage came to its own check says nothing about this one.
      store<u32>(vcpu, 0, VCPU_GW_CHECKED);
      if (!found) return false;
      const at = (load<u64>(vcpu, VCPU_GW_GFN) << 12) | inPage;
      const pointer = resolve(ram, at);
      if (pointer >= NOT_READ) return fail(vcpu, space, code, 0);
      entry = bytes == 4 ? <u64>load<u32>(pointer) : load<u64>(pointer);
      if (tracing(vm)) emit(vm, EV_PAGING_ELEMENT, level, 0, 0, entry, 0, 0);
      if (!(entry & PTE_P)) return fail(vcpu, space, code, 0);
      if (entry & reservedBits(space, level, entry)) return fail(vcpu, space, code, PFERR_P | PFERR_RSVD);
      const i = <usize>(level - 1);
      store<u64>(vcpu + (i << 3), entry, VCPU_L2_PTE);
      store<u64>(vcpu + (i << 3), table | inPage, VCPU_L2_GPA);
      store<u64>(vcpu + (i << 3), at >> 12, VCPU_L2_GFN);
      store<u32>(vcpu + (i << 2), writable(ram, at, pointer), VCPU_L2_POINTER);
      rights &= rightsOf(space, entry);
      if (isLeaf(space, level, entry)) break;
      table = entry & load<u64>(space, SPACE_ADDRESS_MASK);
    }
    store<u32>(vcpu, 1, VCPU_GW_CHECKED);
    const kind = accessKind(vcpu, code);
    const key = bytes == 8 ? <u32>((entry & PTE_PKEY) >> PTE_PKEY_SHIFT) : 0;
    const denied = keyDenial(space, kind, rights, key) & PFERR_PK;
    if (denied != 0 || denies(space, kind, rights)) return fail(vcpu, space, code, PFERR_P | denied);
    const offsetMask: u64 = ((<u64>1) << (12 + indexBits * <u64>(level - 1))) - 1;
    const page = (pageAddress(space, level, entry, offsetMask) | (address & offsetMask)) & PAGE;
    const mapped = translate(vcpu, second, page, code);
    store<u32>(vcpu, 1, VCPU_GW_CHECKED);
    if (!mapped) return false;
    const gpa = (load<u64>(vcpu, VCPU_GW_GPA) & PAGE) | offset;
    const write = (code & PFERR_W) != 0;
    if (!setAccessedDirty(vcpu, top, level, write, bytes)) continue;
    store<u64>(vcpu, gpa, VCPU_GW_GPA);
    return true;
  }
}
