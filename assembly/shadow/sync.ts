/** Synchronising: bringing unsync pages up to date with the guest's tables when the guest says so. */
import { Mmu, ShadowPage, Vcpu } from "../abi/records";
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
import { FORMAT_32, KERNEL_RULE_SYNC_KEEPS } from "../abi/shadow";
import { gpteAccess, gpteAlias, gpteBytes, gpteGfn, protectClean, readGpte } from "../guest/gpte";
import { firstInChain, nextInChain } from "../pages/chain";
import { flushRemote } from "../pages/flush";
import { entryAccess, entryGfn, entryPointer, isObsolete, setAccess } from "../pages/page";
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
export function firstGpte(vcpu: Vcpu, mmu: Mmu, sp: ShadowPage): usize {
  const ram = ramOf(vcpu, sp.gfn);
  if (ram == 0 || mmu.format != FORMAT_32) return ram;
  return ram + ((<usize>((sp.role & ROLE_QUADRANT) >> ROLE_QUADRANT_SHIFT)) << 11);
}

/**
 * Brings one entry of a level-1 page up to date with the guest's, the first of which is at `first` (0: the table is gone).
 * Returns as syncPage does.
 */
export function syncEntry(vcpu: Vcpu, sp: ShadowPage, index: u32, first: usize): i32 {
  const vm = vcpu.vm;
  const mmu = vcpu.mmu;
  const sptep = entryPointer(sp, index);
  const old = load<u64>(sptep);
  if (old == vm.empty) return 0;
  if (first == 0) return -1;
  const gpte = readGpte(mmu, first + <usize>index * <usize>gpteBytes(mmu));
  if (dropInvalid(vcpu, sptep, gpte)) return 1;
  const gfn = gpteGfn(mmu, gpte);
  const access = protectClean(mmu, ((sp.role & ROLE_ACCESS) >> 8) & gpteAccess(mmu, gpte), gpte);
  const slot = vcpuSlot(vcpu, gfn);
  const hidden = isHidden(slot, gpteAlias(vm, mmu, gpte));
  if (isMmio(vm, old)) {
    // An alias led nowhere; the plain address leads to the VM's own page.
    const appears = slot != null && isInternal(slot) && !hidden;
    if (gfn != mmioGfn(vm, old) || appears) clearSpte(vm, sptep);
    else markMmio(vcpu, sptep, gfn, access);
    return 0;
  }
  // Without rights, and without a bit of its own for "present", it would be as good as empty.
  if (((<u64>access) | vm.present) == vm.empty || gfn != entryGfn(vm, sp, index) || hidden) {
    dropSpte(vm, sptep);
    return 1;
  }
  if ((vm.rules & KERNEL_RULE_SYNC_KEEPS) != 0 && entryAccess(sp, index) == access) return 0;
  setAccess(vm, sp, index, access);
  const hostWritable = (old & vm.hostWritable) != 0;
  const spte = makeSpte(vcpu, sp, slot, access, gfn, addressOf(vm, old), old, true, false, hostWritable);
  return updateSpte(vm, sptep, spte) ? 1 : 0;
}

/**
 * Brings a level-1 page up to date. Returns 1 where TLBs have to be flushed, 0 where not, -1 where the page has to be zapped.
 * That the role fits the context is an assertion, not a filter: only a wrong role makes it fire.
 */
export function syncPage(vcpu: Vcpu, sp: ShadowPage): i32 {
  const vm = vcpu.vm;
  const mmu = vcpu.mmu;
  const role = sp.role;
  if ((role & ROLE_DIRECT) != 0 || ((role ^ mmu.rootRole) & ~VARYING) != 0) {
    vm.syncMismatch++;
    return -1;
  }
  const first = firstGpte(vcpu, mmu, sp);
  let flush = false;
  const empty = vm.empty;
  for (let index: u32 = 0; index < 512; index++) {
    // Most entries: not worth a call.
    if (load<u64>(entryPointer(sp, index)) == empty) continue;
    const result = syncEntry(vcpu, sp, index, first);
    if (result < 0) return -1;
    if (result != 0) flush = true;
  }
  return flush ? 1 : 0;
}

/** Synchronises a page and puts it on the list of zapped pages where that is not possible. */
function syncOrZap(vcpu: Vcpu, sp: ShadowPage): i32 {
  const result = syncPage(vcpu, sp);
  if (result < 0) zapPage(vcpu.vm, sp);
  return result;
}

/** Synchronises every unsync page below `parent`; promoted pages are descended through like any other. */
export function syncChildren(vcpu: Vcpu, parent: ShadowPage): void {
  const vm = vcpu.vm;
  let flush = false;
  while (collectUnsync(vm, parent) != 0) {
    let protectedNow = false;
    for (let i = firstCollected(vm); ; i = nextCollected(vm, i)) {
      const sp = collectedPage(vm, i);
      if (sp == null) break;
      const slot = vcpuSlot(vcpu, sp.gfn);
      if (slot != null && protectGfn(vm, slot, sp.gfn, 1)) protectedNow = true;
    }
    if (protectedNow) {
      flushOrZap(vm, true);
      flush = false;
    }
    for (let i = firstCollected(vm); ; i = nextCollected(vm, i)) {
      const sp = collectedPage(vm, i);
      if (sp == null) break;
      unlinkUnsync(vm, sp);
      if (syncOrZap(vcpu, sp) > 0) flush = true;
      clearPath(vm);
    }
  }
  flushOrZap(vm, flush);
}

/** Synchronises what a root reaches. */
export function syncRoot(vcpu: Vcpu, root: ShadowPage): void {
  if (root.unsyncChildren != 0) syncChildren(vcpu, root);
}

/**
 * A page of that name was found (or not: `sp` is null). Zaps unsync pages of the gfn that stand before it when an upper-level
 * page is wanted, synchronises the page where it is unsync, and returns whether it can be used.
 */
export function adoptPage(vcpu: Vcpu, sp: ShadowPage | null, gfn: u64, role: u32): bool {
  const vm = vcpu.vm;
  let usable = sp != null;
  if ((role & ROLE_LEVEL) > 1) {
    for (let other = firstInChain(vm, gfn); other != null && other != sp; other = nextInChain(other!)) {
      if (other.gfn != gfn || isObsolete(vm, other)) continue;
      if (other.unsync != 0) zapPage(vm, other);
    }
  }
  if (sp != null && (role & ROLE_DIRECT) == 0) {
    if (sp.unsync != 0) {
      const result = syncOrZap(vcpu, sp);
      if (result < 0) usable = false;
      else if (result > 0) flushRemote(vm);
    }
    if (usable) sp.flood = 0;
  }
  commitZap(vm);
  return usable;
}
