// The guest walk as KVM's software does it (walk_addr_generic in arch/x86/kvm/mmu/paging_tmpl.h), over memslots,
// leaving behind what the shadow walk needs: tables, entries and accumulated rights by level.
import {
  EV_PAGETABLE_WALK,
  EV_PAGING_ELEMENT,
  EV_SET_ACCESSED,
  EV_SET_DIRTY,
  EV_WALKER_ERROR,
  FORMAT_32,
  FORMAT_64,
  FORMAT_EPT,
  FORMAT_NONE,
  MMU_FLAGS,
  MMU_FORMAT,
  MMU_GUEST_LEVEL,
  MMU_HAVE_AD,
  MMU_LIVE_PDPTES,
  MMU_NX,
  MMU_PDPTES,
  MMU_PERMISSIONS,
  MMU_PGD,
  MMU_PKRU_MASK,
  MMU_SMEP,
  VCPU_AC,
  VCPU_GW_ERROR,
  VCPU_GW_GFN,
  VCPU_GW_GPA,
  VCPU_GW_LEVEL,
  VCPU_GW_MAX_LEVEL,
  VCPU_GW_PT_ACCESS,
  VCPU_GW_PTE,
  VCPU_GW_PTE_ACCESS,
  VCPU_GW_PTE_GPA,
  VCPU_GW_PTE_PTR,
  VCPU_GW_PTE_WRITABLE,
  VCPU_GW_QUALIFICATION,
  VCPU_GW_TABLE_GFN,
  VCPU_PKRU,
  VCPU_VM,
} from "../abi/shadow";
import { PFERR_I, PFERR_P, PFERR_PK, PFERR_RSVD, PFERR_U, PFERR_W } from "../abi/spte";
import { emit, tracing } from "./event";
import {
  accessedBit,
  gpteAccess,
  gpteBytes,
  gpteGfn,
  gpteGfnAt,
  gpteLast,
  gptePresent,
  gpteReserved,
  levelShift,
  protectClean,
  readGpte,
} from "./gpte";
import { isInvalid, isReadOnly, markDirty, ramOf, slotRam, vcpuSlot } from "./slot";

/** An implicit supervisor access (the kernel's PFERR_IMPLICIT_ACCESS); not a bit of any error code. */
// @ts-ignore: decorator
@inline export const WALK_IMPLICIT: u32 = 0x100;

/** PFERR bits of a denied access, 0 where it is allowed (permission_fault). */
function permissionFault(vcpu: usize, mmu: usize, access: u32, key: u32, code: u32): u32 {
  // The place of the reserved bit says that SMAP does not apply: EFLAGS.AC is set and the access is explicit.
  const noSmap: u32 = load<u32>(vcpu, VCPU_AC) != 0 && (code & WALK_IMPLICIT) == 0 ? PFERR_RSVD : 0;
  const index = ((code & 0x17) | noSmap) >> 1;
  let fault = ((<u32>load<u16>(mmu + (<usize>index << 1), MMU_PERMISSIONS) >> access) & 1) != 0;
  let error = PFERR_P;
  const keys = load<u32>(mmu, MMU_PKRU_MASK);
  if (keys != 0) {
    const offset = (code & 0x16) + ((access & 4) << 1);
    const denied = (load<u32>(vcpu, VCPU_PKRU) >> (key * 2)) & 3 & (keys >> offset);
    if (denied != 0) {
      fault = true;
      error |= PFERR_PK;
    }
  }
  return fault ? error : 0;
}

function fail(vcpu: usize, mmu: usize, gw: usize, error: u32, code: u32, rights: u64): bool {
  error |= code & (PFERR_W | PFERR_U);
  if (code & PFERR_I && load<u32>(mmu, MMU_FLAGS) & (MMU_NX | MMU_SMEP)) error |= PFERR_I;
  store<u32>(gw, error, VCPU_GW_ERROR);
  if (load<u32>(mmu, MMU_FORMAT) == FORMAT_EPT) {
    // Exit qualification: what was tried in bits 2:0, what the entries allow in bits 5:3.
    const tried: u64 = (code & PFERR_U ? 1 : 0) | (code & PFERR_W ? 2 : 0) | (code & PFERR_I ? 4 : 0);
    store<u64>(gw, tried | ((rights & 7) << 3), VCPU_GW_QUALIFICATION);
  }
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  if (tracing(vm)) emit(vm, EV_WALKER_ERROR, error, 0, 0, 0, 0, 0);
  return false;
}

function setAccessedDirty(vcpu: usize, mmu: usize, gw: usize, write: bool): void {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const accessed = accessedBit(mmu);
  const dirty = accessed << 1;
  const last = load<u32>(gw, VCPU_GW_LEVEL);
  for (let level = load<u32>(gw, VCPU_GW_MAX_LEVEL); level >= last; level--) {
    const i = <usize>(level - 1);
    const old = load<u64>(gw + (i << 3), VCPU_GW_PTE);
    let entry = old;
    const gpa = load<u64>(gw + (i << 3), VCPU_GW_PTE_GPA);
    if (!(entry & accessed)) {
      if (tracing(vm)) emit(vm, EV_SET_ACCESSED, 0, 0, 0, gpa, 0, 0);
      entry |= accessed;
    }
    if (level == last && write && !(entry & dirty)) {
      if (tracing(vm)) emit(vm, EV_SET_DIRTY, 0, 0, 0, gpa, 0, 0);
      entry |= dirty;
    }
    // Tables in read-only memory keep the bits that they have.
    if (entry == old || load<u32>(gw + (i << 2), VCPU_GW_PTE_WRITABLE) == 0) continue;
    const pointer: usize = load<u32>(gw + (i << 2), VCPU_GW_PTE_PTR);
    if (load<u32>(mmu, MMU_FORMAT) == FORMAT_32) store<u32>(pointer, <u32>entry);
    else store<u64>(pointer, entry);
    markDirty(vcpuSlot(vcpu, gpa >> 12), gpa >> 12);
    store<u64>(gw + (i << 3), entry, VCPU_GW_PTE);
  }
}

/**
 * Translates `address` in context `mmu` for the access of error code `code` (PFERR bits, WALK_IMPLICIT).
 * Returns true with GW_GFN, GW_GPA and GW_PTE_ACCESS, or false with GW_ERROR. `gw` is a VCPU record that takes the GW fields.
 */
export function walkGuest(vcpu: usize, mmu: usize, gw: usize, address: u64, code: u32): bool {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const format = load<u32>(mmu, MMU_FORMAT);
  if (format == FORMAT_NONE) {
    store<u64>(gw, address >> 12, VCPU_GW_GFN);
    store<u64>(gw, address, VCPU_GW_GPA);
    return true;
  }
  const trace = tracing(vm);
  if (trace) emit(vm, EV_PAGETABLE_WALK, code & 0xff, 0, 0, address, 0, 0);
  const write = (code & PFERR_W) != 0;
  const haveAd = load<u32>(mmu, MMU_HAVE_AD) != 0;
  const nx: u64 = format == FORMAT_64 ? 1 << 63 : 0;
  const bytes = gpteBytes(mmu);
  const indexBits: u64 = bytes == 4 ? 1023 : 511;
  let level = load<u32>(mmu, MMU_GUEST_LEVEL);
  let entry = load<u64>(mmu, MMU_PGD);
  if (format == FORMAT_64 && level == 3) {
    const index = <usize>((address >> 30) & 3);
    if (load<u32>(mmu, MMU_FLAGS) & MMU_LIVE_PDPTES) {
      const ram = ramOf(vcpu, gpteGfn(entry));
      if (ram == 0) return fail(vcpu, mmu, gw, 0, code, 0);
      entry = load<u64>(ram + <usize>(entry & 0xfe0) + (index << 3));
    } else entry = load<u64>(mmu + (index << 3), MMU_PDPTES);
    if (trace) emit(vm, EV_PAGING_ELEMENT, 3, 0, 0, entry, 0, 0);
    if (!(entry & 1)) return fail(vcpu, mmu, gw, 0, code, 0);
    level = 2;
  }
  store<u32>(gw, level, VCPU_GW_MAX_LEVEL);
  let rights: u64 = ~(<u64>0);
  for (; ; level--) {
    const above = rights;
    const i = <usize>(level - 1);
    const gfn = gpteGfn(entry);
    const offset = <u32>((address >> levelShift(mmu, level)) & indexBits) * bytes;
    store<u32>(gw, level, VCPU_GW_LEVEL);
    store<u64>(gw + (i << 3), gfn, VCPU_GW_TABLE_GFN);
    store<u64>(gw + (i << 3), (gfn << 12) + <u64>offset, VCPU_GW_PTE_GPA);
    const slot = vcpuSlot(vcpu, gfn);
    if (slot == 0 || isInvalid(slot)) return fail(vcpu, mmu, gw, 0, code, rights);
    const pointer = slotRam(slot, gfn) + <usize>offset;
    entry = readGpte(mmu, pointer);
    store<u32>(gw + (i << 2), <u32>pointer, VCPU_GW_PTE_PTR);
    store<u32>(gw + (i << 2), isReadOnly(slot) ? 0 : 1, VCPU_GW_PTE_WRITABLE);
    if (trace) emit(vm, EV_PAGING_ELEMENT, level, 0, 0, entry, 0, 0);
    rights = above & (entry ^ nx);
    if (!gptePresent(mmu, entry)) return fail(vcpu, mmu, gw, 0, code, rights);
    if (gpteReserved(mmu, entry, level)) return fail(vcpu, mmu, gw, PFERR_RSVD | PFERR_P, code, rights);
    store<u64>(gw + (i << 3), entry, VCPU_GW_PTE);
    store<u32>(gw + (i << 2), gpteAccess(mmu, above ^ nx), VCPU_GW_PT_ACCESS);
    if (gpteLast(mmu, entry, level)) break;
  }
  const access = gpteAccess(mmu, rights ^ nx);
  const key = format == FORMAT_64 ? <u32>(entry >> 59) & 15 : 0;
  const denied = permissionFault(vcpu, mmu, access, key, code);
  if (denied != 0) {
    store<u32>(gw, access, VCPU_GW_PTE_ACCESS);
    return fail(vcpu, mmu, gw, denied, code, rights);
  }
  let gfn = gpteGfnAt(mmu, entry, level);
  gfn += (address & ((<u64>1 << levelShift(mmu, level)) - 1)) >> 12;
  // PSE-36: bits 16:13 of a 4 MiB PDE are address bits 35:32.
  if (format == FORMAT_32 && level > 1) gfn += (entry & 0x1e000) << 7;
  store<u64>(gw, gfn, VCPU_GW_GFN);
  store<u64>(gw, (gfn << 12) | (address & 0xfff), VCPU_GW_GPA);
  store<u32>(gw, write ? access : protectClean(mmu, access, entry), VCPU_GW_PTE_ACCESS);
  const accessed = accessedBit(mmu);
  if (haveAd && ((rights & accessed) == 0 || (write && (entry & (accessed << 1)) == 0))) {
    setAccessedDirty(vcpu, mmu, gw, write);
  }
  return true;
}
