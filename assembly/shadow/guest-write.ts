/** An emulated write to memory that holds shadowed tables (kvm_mmu_pte_write): the SPTEs of the written entries are dropped. */
import { ShadowPage, Vcpu } from "../abi/records";
import { ROLE_HAS_4_BYTE_GPTE, ROLE_LEVEL, ROLE_QUADRANT, ROLE_QUADRANT_SHIFT } from "../abi/role";
import { LOW_PDPT } from "../abi/shadow";
import { gfnOfAddress } from "../pages/alias";
import { firstInChain, nextInChain } from "../pages/chain";
import { entryPointer, hasGptes, isObsolete, levelOf } from "../pages/page";
import { isPresent } from "../spte/predicates";
import { flushOrZap, zapEntry, zapPage } from "./zap";

/** Writes to one page without a walk through it after which it is taken for ordinary memory. */
// @ts-ignore: decorator
@inline const FLOOD: u32 = 3;

/** Level-1 pages may become unsync, so only upper levels are counted. */
function isFlooded(sp: ShadowPage): bool {
  if (levelOf(sp) == 1) return false;
  const writes = sp.flood + 1;
  sp.flood = writes;
  return writes >= FLOOD;
}

/** Writes more or less than whole entries; a single byte at the start of an entry is usual (bit operations). */
function isMisaligned(sp: ShadowPage, gpa: u64, bytes: u32): bool {
  const offset = (<u32>gpa) & 0xfff;
  const size: u32 = sp.role & ROLE_HAS_4_BYTE_GPTE ? 4 : 8;
  if ((offset & (size - 1)) == 0 && bytes == 1) return false;
  return ((offset ^ (offset + bytes - 1)) & ~(size - 1)) != 0 || bytes < 4;
}

/** First SPTE that stands for the written entry, 0 where this page shadows another part of the table. */
function writtenSptes(sp: ShadowPage, gpa: u64): usize {
  let offset = (<u32>gpa) & 0xfff;
  const role = sp.role;
  const low = sp.low;
  if (low & LOW_PDPT) {
    // Four PDPTEs at a 32-byte boundary; several tables can share the page.
    offset -= low & 0xfe0;
    return offset < 32 ? entryPointer(sp, offset >> 3) : 0;
  }
  if (role & ROLE_HAS_4_BYTE_GPTE) {
    offset <<= 1;
    // A 4-byte PDE maps 4 MiB: two SPTEs.
    if ((role & ROLE_LEVEL) == 2) offset = (offset & ~7) << 1;
    if (offset >> 12 != (role & ROLE_QUADRANT) >> ROLE_QUADRANT_SHIFT) return 0;
    offset &= 0xfff;
  }
  return entryPointer(sp, offset >> 3);
}

/** `bytes` bytes were written at `gpa`; memory holds the new value already. */
export function guestWrite(vcpu: Vcpu, gpa: u64, bytes: u32): void {
  const vm = vcpu.vm;
  if (vm.indirect == 0) return;
  const gfn = gfnOfAddress(vm, gpa);
  // A PAE guest may write an 8-byte entry in two halves.
  if (vcpu.pae != 0 && bytes == 4) {
    gpa &= ~(<u64>7);
    bytes = 8;
  }
  vm.pteWrites++;
  let flush = false;
  for (let sp = firstInChain(vm, gfn); sp != null; sp = nextInChain(sp!)) {
    if (sp.gfn != gfn || isObsolete(vm, sp) || !hasGptes(sp)) continue;
    if (isMisaligned(sp, gpa, bytes) || isFlooded(sp)) {
      zapPage(vm, sp);
      vm.flooded++;
      continue;
    }
    let sptep = writtenSptes(sp, gpa);
    if (sptep == 0) continue;
    const role = sp.role;
    const pairs = (role & ROLE_HAS_4_BYTE_GPTE) != 0 && (role & ROLE_LEVEL) == 2;
    for (let n = pairs ? 2 : 1; n > 0; n--) {
      const old = load<u64>(sptep);
      zapEntry(vm, sp, sptep, false);
      if (isPresent(old)) flush = true;
      sptep += 8;
    }
  }
  flushOrZap(vm, flush);
}
