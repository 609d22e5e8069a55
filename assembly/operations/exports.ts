/** What the host calls of the shadow MMU that is no operation of another file by itself. */
import { EV_GET_PAGE, VCPU_REQ_GFN, VCPU_REQ_PAGE, VCPU_REQ_ROLE, VCPU_VM, VM_ACTIVE, VM_INVALID } from "../abi/shadow";
import { fault, isDirect } from "../fault/fault";
import { emitPage } from "../pages/event";
import { listInit } from "../pages/list";
import { mmioCached } from "../pages/mmio-info";
import { createPage } from "../shadow/make-page";
import { adoptPage } from "../shadow/sync";
import { setCommonLeaves } from "../spte/make";

export function vmInit(vm: usize): void {
  listInit(vm + VM_ACTIVE);
  listInit(vm + VM_INVALID);
  setCommonLeaves(vm);
}

/** `fault` for an address in two halves: to the host a BigInt takes longer. */
export function faultAt(vcpu: usize, high: u32, low: u32, error: u32, prefetch: u32): u32 {
  return fault(vcpu, ((<u64>high) << 32) | (<u64>low), error, prefetch);
}

/** 1: the found page can be used (it is REQ_PAGE then); 0: one has to be made. */
export function requestAdopt(vcpu: usize, sp: usize): u32 {
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  if (!adoptPage(vcpu, sp, load<u64>(vcpu, VCPU_REQ_GFN), load<u32>(vcpu, VCPU_REQ_ROLE))) return 0;
  emitPage(vm, EV_GET_PAGE, sp, 0);
  store<u32>(vcpu, <u32>sp, VCPU_REQ_PAGE);
  return 1;
}

export function requestCreate(vcpu: usize, sp: usize): void {
  createPage(vcpu, sp);
  store<u32>(vcpu, <u32>sp, VCPU_REQ_PAGE);
}

/** An access to `address` is one to the MMIO page that the vCPU remembers. */
export function mmioHit(vcpu: usize, address: u64): bool {
  return mmioCached(vcpu, address, isDirect(vcpu));
}
