/** Synchronising: bringing unsync pages up to date with the guest's tables when the guest says so. */
import {
  ROLE_ACCESS,
  ROLE_DIRECT,
  ROLE_GUEST_LEVEL,
  ROLE_LEVEL,
  ROLE_LEVEL_PROMOTED,
  ROLE_PAE_ROOT,
  ROLE_QUADRANT,
  ROLE_QUADRANT_SHIFT,
} from "../abi/role";
import {
  FORMAT_32,
  MMU_FORMAT,
  MMU_ROOT_ROLE,
  SP_FLOOD,
  SP_UNSYNC,
  SP_UNSYNC_CHILDREN,
  VCPU_MMU,
  VCPU_VM,
  VM_HOST_WRITABLE,
  VM_PRESENT,
  VM_SYNC_MISMATCH,
} from "../abi/shadow";
import { gpteAccess, gpteAlias, gpteBytes, gpteGfn, protectClean, readGpte } from "../guest/gpte";
import { firstInChain, nextInChain } from "../pages/chain";
import { flushRemote } from "../pages/flush";
import { entryGfn, entryPointer, gfnOf, isObsolete, roleOf, setAccess } from "../pages/page";
import { isHidden, isInternal, ramOf, vcpuSlot } from "../pages/slot";
import { mmioGfn } from "../spte/make";
import { addressOf, isMmio } from "../spte/predicates";
import { dropInvalid, makeSpte, markMmio } from "./leaf";
import { clearPath, collectUnsync, collectedPage, firstCollected, nextCollected, unlinkUnsync } from "./unsync";
import { clearSpte, dropSpte, updateSpte } from "./update";
import { protectGfn } from "./write-protect";
import { commitZap, flushOrZap, zapPage } from "./zap";

/** Role fields that differ within one context: a page is synchronised only if the others equal the root role's. */
// @ts-ignore: decorator
@inline const VARYING: u32 =
  ROLE_LEVEL | ROLE_ACCESS | ROLE_QUADRANT | ROLE_LEVEL_PROMOTED | ROLE_PAE_ROOT | ROLE_GUEST_LEVEL;

/** Linear address of the guest entry behind the first SPTE of a level-1 page, 0 where the table is gone. */
export function firstGpte(vcpu: usize, mmu: usize, sp: usize): usize {
  const ram = ramOf(vcpu, gfnOf(sp));
  if (ram == 0 || load<u32>(mmu, MMU_FORMAT) != FORMAT_32) return ram;
  return ram + ((<usize>((roleOf(sp) & ROLE_QUADRANT) >> ROLE_QUADRANT_SHIFT)) << 11);
}

/**
 * Brings a level-1 page up to date. Returns 1 where TLBs have to be flushed, 0 where not, -1 where the page has to be zapped.
 * That the role fits the context is an assertion, not a filter: only a wrong role makes it fire.
 */
export function syncPage(vcpu: usize, sp: usize): i32 {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const mmu: usize = load<u32>(vcpu, VCPU_MMU);
  const role = roleOf(sp);
  if ((role & ROLE_DIRECT) != 0 || ((role ^ load<u32>(mmu, MMU_ROOT_ROLE)) & ~VARYING) != 0) {
    store<u32>(vm, load<u32>(vm, VM_SYNC_MISMATCH) + 1, VM_SYNC_MISMATCH);
    return -1;
  }
  const bytes = <usize>gpteBytes(mmu);
  const first = firstGpte(vcpu, mmu, sp);
  const pageAccess = (role & ROLE_ACCESS) >> 8;
  let flush = false;
  for (let index: u32 = 0; index < 512; index++) {
    const sptep = entryPointer(sp, index);
    const old = load<u64>(sptep);
    if (old == 0) continue;
    if (first == 0) return -1;
    const gpte = readGpte(mmu, first + <usize>index * bytes);
    if (dropInvalid(vcpu, sptep, gpte)) {
      flush = true;
      continue;
    }
    const gfn = gpteGfn(mmu, gpte);
    const access = protectClean(mmu, pageAccess & gpteAccess(mmu, gpte), gpte);
    const slot = vcpuSlot(vcpu, gfn);
    const hidden = isHidden(slot, gpteAlias(vm, mmu, gpte));
    if (isMmio(vm, old)) {
      // An alias led nowhere; the plain address leads to the VM's own page.
      const appears = slot != 0 && isInternal(slot) && !hidden;
      if (gfn != mmioGfn(vm, old) || appears) clearSpte(vm, sptep);
      else markMmio(vcpu, sptep, gfn, access);
      continue;
    }
    if ((access == 0 && load<u64>(vm, VM_PRESENT) == 0) || gfn != entryGfn(vm, sp, index) || hidden) {
      dropSpte(vm, sptep);
      flush = true;
      continue;
    }
    setAccess(vm, sp, index, access);
    const hostWritable = (old & load<u64>(vm, VM_HOST_WRITABLE)) != 0;
    const spte = makeSpte(vcpu, sp, slot, access, gfn, addressOf(vm, old), old, true, false, hostWritable);
    if (updateSpte(vm, sptep, spte)) flush = true;
  }
  return flush ? 1 : 0;
}

/** Synchronises a page and puts it on the list of zapped pages where that is not possible. */
function syncOrZap(vcpu: usize, sp: usize): i32 {
  const result = syncPage(vcpu, sp);
  if (result < 0) zapPage(load<u32>(vcpu, VCPU_VM), sp);
  return result;
}

/** Synchronises every unsync page below `parent`; promoted pages are descended through like any other. */
export function syncChildren(vcpu: usize, parent: usize): void {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  let flush = false;
  while (collectUnsync(vm, parent) != 0) {
    let protectedNow = false;
    for (let i = firstCollected(vm); ; i = nextCollected(vm, i)) {
      const sp = collectedPage(vm, i);
      if (sp == 0) break;
      const slot = vcpuSlot(vcpu, gfnOf(sp));
      if (slot != 0 && protectGfn(vm, slot, gfnOf(sp), 1)) protectedNow = true;
    }
    if (protectedNow) {
      flushOrZap(vm, true);
      flush = false;
    }
    for (let i = firstCollected(vm); ; i = nextCollected(vm, i)) {
      const sp = collectedPage(vm, i);
      if (sp == 0) break;
      unlinkUnsync(vm, sp);
      if (syncOrZap(vcpu, sp) > 0) flush = true;
      clearPath(vm);
    }
  }
  flushOrZap(vm, flush);
}

/** Synchronises what a root reaches. */
export function syncRoot(vcpu: usize, root: usize): void {
  if (load<u32>(root, SP_UNSYNC_CHILDREN) != 0) syncChildren(vcpu, root);
}

/**
 * A page of that name was found (or not: `sp` is 0). Zaps unsync pages of the gfn that stand before it when an upper-level
 * page is wanted, synchronises the page where it is unsync, and returns whether it can be used.
 */
export function adoptPage(vcpu: usize, sp: usize, gfn: u64, role: u32): bool {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  let usable = sp != 0;
  if ((role & ROLE_LEVEL) > 1) {
    for (let other = firstInChain(vm, gfn); other != 0 && other != sp; other = nextInChain(other)) {
      if (gfnOf(other) != gfn || isObsolete(vm, other)) continue;
      if (load<u32>(other, SP_UNSYNC) != 0) zapPage(vm, other);
    }
  }
  if (usable && (role & ROLE_DIRECT) == 0) {
    if (load<u32>(sp, SP_UNSYNC) != 0) {
      const result = syncOrZap(vcpu, sp);
      if (result < 0) usable = false;
      else if (result > 0) flushRemote(vm);
    }
    if (usable) store<u32>(sp, 0, SP_FLOOD);
  }
  commitZap(vm);
  return usable;
}
