/** INVLPG: the leaf of an address is made anew where its page is unsync (kvm_mmu_invlpg). */
import { ShadowPage, Vcpu } from "../abi/records";
import { KERNEL_RULE_INVALIDATE_SYNCS } from "../abi/shadow";
import { gpteBytes, readGpte } from "../guest/gpte";
import { flushGfns } from "../pages/flush";
import { nextEntry, pagesOf, rootEntry } from "../pages/iterator";
import { clearMmioInfo } from "../pages/mmio-info";
import { indexOf, levelOf, pageOf } from "../pages/page";
import { isLast, isPresent } from "../spte/predicates";
import { prefetchGpte } from "./prefetch";
import { firstGpte, syncEntry } from "./sync";
import { zapEntry } from "./zap";

/** Brings one entry of an unsync page up to date. */
function syncOne(vcpu: Vcpu, sp: ShadowPage, sptep: usize): void {
  const vm = vcpu.vm;
  const result = syncEntry(vcpu, sp, indexOf(sptep), firstGpte(vcpu, vcpu.mmu, sp));
  if (result < 0) zapEntry(vm, sp, sptep, false);
  if (result != 0) flushGfns(vm, sp.gfn, pagesOf(levelOf(sp)));
}

/** INVLPG through one root: the leaf for `address` is made anew if its page is unsync. */
export function invalidatePage(vcpu: Vcpu, root: ShadowPage, address: u64): void {
  const vm = vcpu.vm;
  const mmu = vcpu.mmu;
  clearMmioInfo(vcpu, address);
  let level = levelOf(root);
  for (let sptep = rootEntry(root, address); sptep != 0; sptep = nextEntry(sptep, address, level), level--) {
    const sp = pageOf(vm, sptep);
    const old = load<u64>(sptep);
    if (vm.rules & KERNEL_RULE_INVALIDATE_SYNCS) {
      if (sp.unsync != 0) syncOne(vcpu, sp, sptep);
    } else if (isLast(old, level)) {
      if (sp.unsync == 0) break;
      const first = firstGpte(vcpu, mmu, sp);
      zapEntry(vm, sp, sptep, false);
      if (isPresent(old)) flushGfns(vm, sp.gfn, pagesOf(levelOf(sp)));
      if (first == 0) break;
      const gpte = readGpte(mmu, first + <usize>(indexOf(sptep) * gpteBytes(mmu)));
      prefetchGpte(vcpu, sp, sptep, gpte, false);
    }
    if (sp.unsyncChildren == 0) break;
  }
}
