/** What the host calls of the shadow MMU that is no operation of another file by itself. */
import { ShadowPage, Vcpu, Vm } from "../abi/records";
import { EV_GET_PAGE } from "../abi/shadow";
import { fault, isDirect } from "../fault/fault";
import { emitPage } from "../pages/event";
import { listInit } from "../pages/list";
import { mmioCached } from "../pages/mmio-info";
import { createPage } from "../shadow/make-page";
import { adoptPage } from "../shadow/sync";
import { setCommonLeaves } from "../spte/make";

export function vmInit(vm: Vm): void {
  listInit(vm.active);
  listInit(vm.invalid);
  setCommonLeaves(vm);
}

/** `fault` for an address in two halves: to the host a BigInt takes longer. */
export function faultAt(vcpu: Vcpu, high: u32, low: u32, error: u32, prefetch: u32): u32 {
  return fault(vcpu, ((<u64>high) << 32) | (<u64>low), error, prefetch);
}

/** 1: the found page can be used (it is `reqPage` then); 0: one has to be made. */
export function requestAdopt(vcpu: Vcpu, sp: ShadowPage | null): u32 {
  const vm = vcpu.vm;
  if (!adoptPage(vcpu, sp, vcpu.reqGfn, vcpu.reqRole)) return 0;
  emitPage(vm, EV_GET_PAGE, sp!, 0);
  vcpu.reqPage = sp!;
  return 1;
}

export function requestCreate(vcpu: Vcpu, sp: ShadowPage): void {
  createPage(vcpu, sp);
  vcpu.reqPage = sp;
}

/** An access to `address` is one to the MMIO page that the vCPU remembers. */
export function mmioHit(vcpu: Vcpu, address: u64): bool {
  return mmioCached(vcpu, address, isDirect(vcpu));
}
