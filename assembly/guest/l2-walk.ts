/**
 * The walk of a nested guest's own tables (walk_addr_generic for nested_mmu): every table and the final address go through
 * L1's second stage, whose walk sets accessed bits and traces its events at once, inside this one.
 */
import {
  PAE_LINEAR_POINTER_SHIFT,
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
import { Mmu, Space, Vcpu } from "../abi/records";
import {
  EV_PAGETABLE_WALK,
  EV_PAGING_ELEMENT,
  EV_SET_ACCESSED,
  EV_SET_DIRTY,
  EV_WALKER_ERROR,
  FORMAT_32,
  FORMAT_NONE,
} from "../abi/shadow";
import { ACC_ALL } from "../abi/spte";
import { resolve, writable } from "../memory/resolve";
import { emit, tracing } from "../pages/event";
import { markDirty, vcpuSlot } from "../pages/slot";
import { isLeaf, pageAddress, rightsOf } from "../walk/legacy";
import { denies, keyDenial } from "../walk/permissions";
import { reservedBits } from "../walk/reserved";
import { exchangeEntry } from "../walk/updates";
import { accessKind, walkTables } from "./table-walk";

/** Reading a table is a write to the second stage, for its accessed bits; and every access is a user's there. */
// @ts-ignore: decorator
@inline const TABLE_ACCESS: u32 = PFERR_U | PFERR_W;
// @ts-ignore: decorator
@inline const PAGE: u64 = ~(<u64>0xfff);

/**
 * Takes L2's guest-physical page, of a table (`onTable` 1) or of what is accessed, through L1's second stage; `gwGpa` is L1's,
 * or `gwNested` is set.
 */
function translate(vcpu: Vcpu, second: Mmu, gpa: u64, code: u32, onTable: u32): bool {
  if (walkTables(vcpu, second, vcpu, gpa, code | PFERR_U)) return true;
  vcpu.gwNested = 1;
  vcpu.gwOnTable = onTable;
  vcpu.gwFault = gpa;
  return false;
}

function fail(vcpu: Vcpu, space: Space, code: u32, cause: u32): bool {
  const vm = vcpu.vm;
  const error = cause | (code & (PFERR_W | PFERR_U | space.fetchCode));
  vcpu.gwError = error;
  vcpu.gwNested = 0;
  if (tracing(vm)) emit(vm, EV_WALKER_ERROR, error, 0, 0, 0, 0, 0);
  return false;
}

/** SVM has no PDPTE registers: L2's are read once after each exit and kept where one is malformed (load_pdptrs). */
function readPdptes(vcpu: Vcpu, mmu: Mmu, space: Space): void {
  if (vcpu.pdptesRead != 0) return;
  const root = space.root;
  if (!walkTables(vcpu, mmu.second!, vcpu, root & PAGE, TABLE_ACCESS)) return;
  const pointer = resolve(space.memory, (vcpu.gwGfn << 12) | (root & 0xfff));
  if (pointer >= NOT_READ) return;
  const reserved = mmu.pdpteReserved;
  for (let i: usize = 0; i < 32; i += 8) {
    const pdpte = load<u64>(<usize>pointer + i);
    if ((pdpte & PTE_P) != 0 && (pdpte & reserved) != 0) return;
  }
  memory.copy(space.pdptesAddress, pointer, 32);
  vcpu.pdptesRead = 1;
}

/** Sets accessed and dirty bits, from the top; false where an entry is not what the walk read. */
function setAccessedDirty(vcpu: Vcpu, top: u32, leaf: u32, write: bool, bytes: u32): bool {
  const vm = vcpu.vm;
  for (let level = top; level >= leaf; level--) {
    const i = level - 1;
    const old = vcpu.l2Pte(i);
    const wanted = old | PTE_A | (level == leaf && write ? PTE_D : 0);
    if (wanted == old) continue;
    const gpa = vcpu.l2Gpa(i);
    if (tracing(vm) && !(old & PTE_A)) emit(vm, EV_SET_ACCESSED, 0, 0, 0, gpa, 0, 0);
    if (tracing(vm) && (wanted & ~old & PTE_D) != 0) emit(vm, EV_SET_DIRTY, 0, 0, 0, gpa, 0, 0);
    const pointer = vcpu.l2Pointer(i);
    if (pointer == 0) continue;
    if (exchangeEntry(pointer, bytes, old, wanted) != old) return false;
    // The kernel marks L2's frame number, which need not be L1's (update_accessed_dirty_bits): the log would miss the page.
    const gfn = vcpu.l2Gfn(i);
    markDirty(vcpuSlot(vcpu, gfn), gfn);
  }
  return true;
}

/**
 * Translates L2's linear `address`. Returns true with `gwGpa`, L1's; or false with `gwError`, and with `gwNested` and `gwFault`
 * where L1's second stage is at fault.
 */
export function walkL2(vcpu: Vcpu, mmu: Mmu, address: u64, code: u32): bool {
  const vm = vcpu.vm;
  const second = mmu.second!;
  const space = mmu.space;
  const format = mmu.format;
  const offset = address & 0xfff;
  if (format == FORMAT_NONE) {
    if (!translate(vcpu, second, address, code, 0)) return false;
    vcpu.gwChecked = 0;
    return true;
  }
  const bytes: u32 = format == FORMAT_32 ? 4 : 8;
  const indexBits: u64 = format == FORMAT_32 ? 10 : 9;
  const ram = space.memory;
  if (tracing(vm)) emit(vm, EV_PAGETABLE_WALK, code & 0xff, 0, 0, address, 0, 0);
  while (true) {
    let level = mmu.guestLevel;
    let table = space.root & PAGE;
    if (level == 3) {
      readPdptes(vcpu, mmu, space);
      vcpu.gwChecked = 0;
      const pdpte = space.pdptes(<u32>((address >> PAE_LINEAR_POINTER_SHIFT) & 3));
      if (tracing(vm)) emit(vm, EV_PAGING_ELEMENT, 3, 0, 0, pdpte, 0, 0);
      if (!(pdpte & PTE_P)) return fail(vcpu, space, code, 0);
      table = pdpte & space.addressMask;
      level = 2;
    }
    const top = level;
    let rights = ACC_ALL;
    let entry: u64 = 0;
    for (; ; level--) {
      const index = (address >> (12 + indexBits * <u64>(level - 1))) & ((1 << indexBits) - 1);
      const inPage = index * <u64>bytes;
      const found = translate(vcpu, second, table, TABLE_ACCESS, 1);
      // Whether the second stage came to its own check says nothing about this one.
      vcpu.gwChecked = 0;
      if (!found) return false;
      const at = (vcpu.gwGfn << 12) | inPage;
      const pointer = resolve(ram, at);
      if (pointer >= NOT_READ) return fail(vcpu, space, code, 0);
      entry = bytes == 4 ? <u64>load<u32>(pointer) : load<u64>(pointer);
      if (tracing(vm)) emit(vm, EV_PAGING_ELEMENT, level, 0, 0, entry, 0, 0);
      if (!(entry & PTE_P)) return fail(vcpu, space, code, 0);
      if (entry & reservedBits(space, level, entry)) return fail(vcpu, space, code, PFERR_P | PFERR_RSVD);
      const i = level - 1;
      vcpu.setL2Pte(i, entry);
      vcpu.setL2Gpa(i, table | inPage);
      vcpu.setL2Gfn(i, at >> 12);
      vcpu.setL2Pointer(i, writable(ram, at, pointer));
      rights &= rightsOf(space, entry);
      if (isLeaf(space, level, entry)) break;
      table = entry & space.addressMask;
    }
    vcpu.gwChecked = 1;
    const kind = accessKind(vcpu, code);
    const key = bytes == 8 ? <u32>((entry & PTE_PKEY) >> PTE_PKEY_SHIFT) : 0;
    const denied = keyDenial(space, kind, rights, key) & PFERR_PK;
    if (denied != 0 || denies(space, kind, rights)) return fail(vcpu, space, code, PFERR_P | denied);
    const offsetMask: u64 = ((<u64>1) << (12 + indexBits * <u64>(level - 1))) - 1;
    const page = (pageAddress(space, level, entry, offsetMask) | (address & offsetMask)) & PAGE;
    const mapped = translate(vcpu, second, page, code, 0);
    vcpu.gwChecked = 1;
    if (!mapped) return false;
    const gpa = (vcpu.gwGpa & PAGE) | offset;
    const write = (code & PFERR_W) != 0;
    if (!setAccessedDirty(vcpu, top, level, write, bytes)) continue;
    vcpu.gwGpa = gpa;
    return true;
  }
}
