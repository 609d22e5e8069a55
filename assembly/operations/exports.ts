/** What the host calls of the shadow MMU. 64-bit values cross as BigInt only outside the fault path. */
import { EV_GET_PAGE, VCPU_REQ_GFN, VCPU_REQ_PAGE, VCPU_REQ_ROLE, VCPU_VM, VM_ACTIVE, VM_INVALID } from "../abi/shadow";
import { fault, faultBatch, faultResume, isDirect } from "../fault/fault";
import { walkGuest } from "../guest/guest-walk";
import { firstInChain, growChains } from "../pages/chain";
import { emitPage } from "../pages/event";
import { flushGfns, flushRemote } from "../pages/flush";
import { listInit } from "../pages/list";
import { clearMmioInfo, mmioCached } from "../pages/mmio-info";
import { markDirty } from "../pages/slot";
import { guestWrite } from "../shadow/guest-write";
import { invalidatePage } from "../shadow/invlpg";
import { createPage, linkRootChild, requestRootChild } from "../shadow/make-page";
import { makeRoom, setLimit } from "../shadow/page-limit";
import { endOfHuge, findHuge, requestSplit, splitHuge } from "../shadow/split";
import { adoptPage, syncPage, syncRoot } from "../shadow/sync";
import { commitZap } from "../shadow/zap";
import { setCommonLeaves } from "../spte/make";
import { setRoot } from "../walk/space/configure";
import { changePage, forRange, protectHuge, relogMasked } from "./range";
import { recoverHuge } from "./recover";
import { putRoot, unprotectGfn, zapAllFast } from "./zap-all";

export function vmInit(vm: usize): void {
  listInit(vm + VM_ACTIVE);
  listInit(vm + VM_INVALID);
  setCommonLeaves(vm);
}

// @ts-ignore: decorator
@inline function wide(high: u32, low: u32): u64 {
  return ((<u64>high) << 32) | (<u64>low);
}

export function chainsGrow(vm: usize, chains: usize, bits: u32): void {
  growChains(vm, chains, bits);
}

export function pageFault(vcpu: usize, high: u32, low: u32, error: u32, prefetch: u32): u32 {
  return fault(vcpu, wide(high, low), error, prefetch);
}

/** The same for an address in one piece. */
export function pageFaultWide(vcpu: usize, address: u64, error: u32): u32 {
  return fault(vcpu, address, error, 0);
}

export function pageFaultBatch(vcpu: usize, addresses: usize, results: usize, first: u32, count: u32, error: u32): u32 {
  return faultBatch(vcpu, addresses, results, first, count, error);
}

export function pageFaultResume(vcpu: usize): u32 {
  return faultResume(vcpu);
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

export function rootChildRequest(vcpu: usize, root: usize, index: u32): u32 {
  return requestRootChild(vcpu, root, index);
}

export function rootChildLink(vcpu: usize, root: usize, index: u32): void {
  linkRootChild(vcpu, root, index);
}

export function walk(vcpu: usize, mmu: usize, gw: usize, high: u32, low: u32, code: u32): u32 {
  return walkGuest(vcpu, mmu, gw, wide(high, low), code) ? 1 : 0;
}

/** 1 where an access to `address` is one to the MMIO page that the vCPU remembers. */
export function mmioHit(vcpu: usize, high: u32, low: u32): u32 {
  return mmioCached(vcpu, wide(high, low), isDirect(vcpu)) ? 1 : 0;
}

export function pteWrite(vcpu: usize, high: u32, low: u32, bytes: u32): void {
  guestWrite(vcpu, wide(high, low), bytes);
}

export function unprotect(vm: usize, high: u32, low: u32): u32 {
  const gfn = wide(high, low);
  return unprotectGfn(vm, firstInChain(vm, gfn), gfn) ? 1 : 0;
}

export function invlpg(vcpu: usize, root: usize, high: u32, low: u32): void {
  invalidatePage(vcpu, root, wide(high, low));
}

export function forgetMmio(vcpu: usize, high: u32, low: u32): void {
  clearMmioInfo(vcpu, wide(high, low));
}

export function syncFromRoot(vcpu: usize, root: usize): void {
  syncRoot(vcpu, root);
}

/** Synchronises one page as the current context would; -1 where the role does not fit it. */
export function syncAssert(vcpu: usize, sp: usize): i32 {
  return syncPage(vcpu, sp);
}

export function rootPut(vm: usize, sp: usize): void {
  putRoot(vm, sp);
}

export function zapCommit(vm: usize): void {
  commitZap(vm);
}

export function reserveRoom(vm: usize): u32 {
  return makeRoom(vm) ? 1 : 0;
}

export function limitPages(vm: usize, limit: u32): void {
  setLimit(vm, limit);
}

export function spaceRoot(space: usize, high: u32, low: u32): void {
  setRoot(space, wide(high, low));
}

export function zapAll(vm: usize): void {
  zapAllFast(vm);
}

export function rangeApply(vm: usize, slot: usize, start: u64, end: u64, from: u32, to: u32, what: u32): u32 {
  return forRange(vm, slot, start, end, from, to, what) ? 1 : 0;
}

export function rangeChange(vm: usize, slot: usize, gfn: u64, page: u64, writable: u32): u32 {
  return changePage(vm, slot, gfn, page, writable);
}

export function logMasked(vm: usize, slot: usize, gfn: u64, mask: u64, clearDirty: u32): void {
  relogMasked(vm, slot, gfn, mask, clearDirty);
}

export function logProtectHuge(vm: usize, slot: usize, gfn: u64): u32 {
  return protectHuge(vm, slot, gfn) ? 1 : 0;
}

export function flushAll(vm: usize): void {
  flushRemote(vm);
}

export function flushRange(vm: usize, gfn: u64, pages: u64): void {
  flushGfns(vm, gfn, pages);
}

export function logDirty(slot: usize, gfn: u64): void {
  markDirty(slot, gfn);
}

/** Gives up to `count` pages up that stand where the NX-huge-page mitigation forbade a huge page; returns how many. */
export function recoverForbidden(vm: usize, count: u32): u32 {
  return recoverHuge(vm, count);
}

/** A nested guest's huge SPTE of `level` to be split, 0 for none. */
export function splitFind(vm: usize, slot: usize, start: u64, end: u64, level: u32): usize {
  return findHuge(vm, slot, start, end, level);
}

export function splitEnd(vm: usize, sptep: usize): u64 {
  return endOfHuge(vm, sptep);
}

export function splitRequest(vcpu: usize, sptep: usize): u32 {
  return requestSplit(vcpu, sptep) ? 1 : 0;
}

export function splitApply(vcpu: usize, slot: usize, sptep: usize): void {
  splitHuge(vcpu, slot, sptep);
}
