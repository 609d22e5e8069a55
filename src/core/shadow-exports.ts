/** The shadow MMU's exports of the Wasm module; see assembly/operations/exports.ts. Pointers are linear addresses. */
export interface ShadowExports {
  vmInit(vm: number): void;
  /** Goes over to 2^`bits` zeroed buckets of pages by gfn at `chains`. */
  chainsGrow(vm: number, chains: number, bits: number): void;
  pageFault(vcpu: number, high: number, low: number, error: number, prefetch: number): number;
  /** The same for an address in one piece. */
  pageFaultWide(vcpu: number, address: bigint, error: number): number;
  pageFaultBatch(vcpu: number, addresses: number, results: number, first: number, count: number, error: number): number;
  pageFaultResume(vcpu: number): number;
  requestAdopt(vcpu: number, page: number): number;
  requestCreate(vcpu: number, page: number): void;
  rootChildRequest(vcpu: number, root: number, index: number): number;
  rootChildLink(vcpu: number, root: number, index: number): void;
  walk(vcpu: number, mmu: number, result: number, high: number, low: number, code: number): number;
  mmioHit(vcpu: number, high: number, low: number): number;
  pteWrite(vcpu: number, high: number, low: number, bytes: number): void;
  unprotect(vm: number, gfnHigh: number, gfnLow: number): number;
  invlpg(vcpu: number, root: number, high: number, low: number): void;
  forgetMmio(vcpu: number, high: number, low: number): void;
  syncFromRoot(vcpu: number, root: number): void;
  syncAssert(vcpu: number, page: number): number;
  rootPut(vm: number, page: number): void;
  zapCommit(vm: number): void;
  reserveRoom(vm: number): number;
  limitPages(vm: number, limit: number): void;
  spaceRoot(space: number, high: number, low: number): void;
  zapAll(vm: number): void;
  rangeApply(vm: number, slot: number, start: bigint, end: bigint, from: number, to: number, what: number): number;
  rangeChange(vm: number, slot: number, gfn: bigint, page: bigint, writable: number): number;
  logMasked(vm: number, slot: number, gfn: bigint, mask: bigint, clearDirty: number): void;
  logProtectHuge(vm: number, slot: number, gfn: bigint): number;
  flushAll(vm: number): void;
  flushRange(vm: number, gfn: bigint, pages: bigint): void;
  logDirty(slot: number, gfn: bigint): void;
  tdpInit(tdp: number): void;
  tdpFillPool(vm: number, page: number): void;
  tdpRoot(vm: number, role: number): number;
  tdpCountSplits(vm: number, slot: number, start: bigint, end: bigint): number;
  tdpSplit(vm: number, slot: number, start: bigint, end: bigint): void;
  recoverForbidden(vm: number, count: number): number;
  splitFind(vm: number, slot: number, start: bigint, end: bigint, level: number): number;
  splitEnd(vm: number, sptep: number): bigint;
  splitRequest(vcpu: number, sptep: number): number;
  splitApply(vcpu: number, slot: number, sptep: number): void;
}
