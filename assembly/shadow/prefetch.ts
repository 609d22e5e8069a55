/** Filling the neighbours of a leaf: up to seven more entries of the same block of eight. */
import { NOT_READ } from "../abi/codes";
import { Memslot, ShadowPage, Vcpu } from "../abi/records";
import { ROLE_ACCESS, ROLE_DIRECT } from "../abi/role";
import { HOST_PRESENT, HOST_WRITABLE } from "../abi/shadow";
import { ACC_WRITE, SPTE_ADDRESS } from "../abi/spte";
import { gpteAccess, gpteAlias, gpteBytes, gpteGfn, protectClean, readGpte } from "../guest/gpte";
import { resolve } from "../memory/resolve";
import { aliasOf, aliasRights } from "../pages/alias";
import { adDisabled, entryGfn, entryPointer, indexOf, levelOf } from "../pages/page";
import { hostPage, isHidden, isInvalid, isReadOnly, logsWrites, vcpuSlot } from "../pages/slot";
import { isPresent } from "../spte/predicates";
import { dropInvalid, installLeaf } from "./leaf";

/** Entries of a block. */
// @ts-ignore: decorator
@inline export const BLOCK: u32 = 8;

/** Slot for a page that nobody asked for: none where mapping it writable would have to be logged. */
function prefetchSlot(vcpu: Vcpu, gfn: u64, avoidLog: bool): Memslot | null {
  const slot = vcpuSlot(vcpu, gfn);
  if (slot == null || isInvalid(slot)) return null;
  return avoidLog && logsWrites(slot) ? null : slot;
}

/** Address of the host page if it is there and writable, else 0: prefetching never makes the host do anything. */
function residentPage(slot: Memslot, gfn: u64): u64 {
  if (isReadOnly(slot)) return 0;
  const page = load<u64>(hostPage(slot, gfn));
  const wanted = <u64>(HOST_PRESENT | HOST_WRITABLE);
  return (page & wanted) == wanted ? (page & SPTE_ADDRESS) | HOST_PRESENT : 0;
}

/** Maps one entry of a shadowed level-1 table; false where it maps nothing usable now. */
export function prefetchGpte(vcpu: Vcpu, sp: ShadowPage, sptep: usize, gpte: u64, avoidLog: bool): bool {
  const mmu = vcpu.mmu;
  if (dropInvalid(vcpu, sptep, gpte)) return false;
  const gfn = gpteGfn(mmu, gpte);
  const access = protectClean(mmu, ((sp.role & ROLE_ACCESS) >> 8) & gpteAccess(mmu, gpte), gpte);
  const slot = prefetchSlot(vcpu, gfn, avoidLog && (access & ACC_WRITE) != 0);
  if (slot == null || isHidden(slot, gpteAlias(vcpu.vm, mmu, gpte))) return false;
  const page = residentPage(slot, gfn);
  if (page == 0) return false;
  installLeaf(vcpu, slot, sp, sptep, access, gfn, page & SPTE_ADDRESS, false);
  return true;
}

/** Maps entries [start, end) of a direct page as far as host pages are there; false where the first is not. */
function prefetchRun(vcpu: Vcpu, sp: ShadowPage, start: u32, end: u32): bool {
  const vm = vcpu.vm;
  const alias = sp.role & ROLE_DIRECT ? aliasOf(sp) : 0;
  const access = ((sp.role & ROLE_ACCESS) >> 8) & aliasRights(vm, alias);
  const base = entryGfn(vm, sp, start);
  const slot = prefetchSlot(vcpu, base, (access & ACC_WRITE) != 0);
  if (slot == null || isHidden(slot, alias)) return false;
  let count: u32 = 0;
  while (start + count < end) {
    if (vcpuSlot(vcpu, base + <u64>count) != slot) return false;
    if (residentPage(slot, base + <u64>count) == 0) break;
    count++;
  }
  if (count == 0) return false;
  for (let i: u32 = 0; i < count; i++) {
    const gfn = base + <u64>i;
    installLeaf(
      vcpu,
      slot,
      sp,
      entryPointer(sp, start + i),
      access,
      gfn,
      residentPage(slot, gfn) & SPTE_ADDRESS,
      false,
    );
  }
  return true;
}

function prefetchDirect(vcpu: Vcpu, sp: ShadowPage, sptep: usize): void {
  const first = indexOf(sptep) & ~(BLOCK - 1);
  let start: i32 = -1;
  for (let index = first; index < first + BLOCK; index++) {
    const entry = entryPointer(sp, index);
    if (entry != sptep && !isPresent(load<u64>(entry))) {
      if (start < 0) start = index;
      continue;
    }
    if (start < 0) continue;
    if (!prefetchRun(vcpu, sp, start, index)) return;
    start = -1;
  }
  if (start >= 0) prefetchRun(vcpu, sp, start, first + BLOCK);
}

/** After a fault in a direct context; without A bits a prefetched page would look accessed. */
export function prefetchDirectFault(vcpu: Vcpu, sp: ShadowPage, sptep: usize): void {
  const vm = vcpu.vm;
  if (adDisabled(sp) || levelOf(sp) > 1 || vm.invalidateInProgress != 0) return;
  prefetchDirect(vcpu, sp, sptep);
}

/** After a fault in a shadowing context that mapped entry `sptep` of `sp`. */
export function prefetchFault(vcpu: Vcpu, sp: ShadowPage, sptep: usize): void {
  const vm = vcpu.vm;
  if (levelOf(sp) > 1 || vm.invalidateInProgress != 0) return;
  if (sp.role & ROLE_DIRECT) {
    prefetchDirect(vcpu, sp, sptep);
    return;
  }
  const mmu = vcpu.mmu;
  const memory = mmu.space.memory;
  const bytes: usize = gpteBytes(mmu);
  const place = resolve(memory, vcpu.gwPteGpa(0));
  if (place >= NOT_READ) return;
  const block = (<usize>place) & ~(<usize>BLOCK * bytes - 1);
  const first = indexOf(sptep) & ~(BLOCK - 1);
  for (let i: u32 = 0; i < BLOCK; i++) {
    const entry = entryPointer(sp, first + i);
    if (entry == sptep || isPresent(load<u64>(entry))) continue;
    if (!prefetchGpte(vcpu, sp, entry, readGpte(mmu, block + <usize>i * bytes), true)) break;
  }
}
