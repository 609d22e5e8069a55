/** The shadow MMU's exports of the Wasm module, each by the name that it has there. Pointers are linear addresses. */
export interface ShadowExports {
  vmInit(vm: number): void;
  /** Goes over to 2^`bits` zeroed buckets of pages by gfn at `chains`. */
  growChains(vm: number, chains: number, bits: number): void;
  fault(vcpu: number, address: bigint, error: number, prefetch: number): number;
  /** The same for an address in two halves: a BigInt takes longer. */
  faultAt(vcpu: number, high: number, low: number, error: number, prefetch: number): number;
  faultBatch(vcpu: number, addresses: number, results: number, first: number, count: number, error: number): number;
  faultResume(vcpu: number): number;
  requestAdopt(vcpu: number, page: number): number;
  requestCreate(vcpu: number, page: number): void;
  requestRootChild(vcpu: number, root: number, index: number): number;
  linkRootChild(vcpu: number, root: number, index: number): void;
  walkGuest(vcpu: number, mmu: number, result: number, address: bigint, code: number): number;
  mmioHit(vcpu: number, address: bigint): number;
  guestWrite(vcpu: number, gpa: bigint, bytes: number): void;
  unprotectGfn(vm: number, gfn: bigint): number;
  invalidatePage(vcpu: number, root: number, address: bigint): void;
  clearMmioInfo(vcpu: number, address: bigint): void;
  syncRoot(vcpu: number, root: number): void;
  syncPage(vcpu: number, page: number): number;
  putRoot(vm: number, page: number): void;
  commitZap(vm: number): void;
  makeRoom(vm: number): number;
  setLimit(vm: number, limit: number): void;
  setRoot(space: number, root: bigint): void;
  zapAllFast(vm: number): void;
  forRange(vm: number, slot: number, start: bigint, end: bigint, from: number, to: number, what: number): number;
  changePage(vm: number, slot: number, gfn: bigint, page: bigint, writable: number): number;
  relogMasked(vm: number, slot: number, gfn: bigint, mask: bigint, clearDirty: number): void;
  protectHuge(vm: number, slot: number, gfn: bigint): number;
  flushRemote(vm: number): void;
  flushGfns(vm: number, gfn: bigint, pages: bigint): void;
  markDirty(slot: number, gfn: bigint): void;
  tdpInit(tdp: number): void;
  tdpFillPool(vm: number, page: number): void;
  getRoot(vm: number, role: number): number;
  countSplits(vm: number, slot: number, start: bigint, end: bigint): number;
  splitLeaves(vm: number, slot: number, start: bigint, end: bigint): void;
  recoverHuge(vm: number, count: number): number;
  findHuge(vm: number, slot: number, start: bigint, end: bigint, level: number): number;
  endOfHuge(vm: number, sptep: number): bigint;
  requestSplit(vcpu: number, sptep: number): number;
  splitHuge(vcpu: number, slot: number, sptep: number): void;
}
