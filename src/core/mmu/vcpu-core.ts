/** A vCPU's record and the core's operations on it: faults, walks, pages that it asks for, invalidations. */
import { Allocations } from "../linear/allocations.js";
import type { Place } from "../linear/linear-memory.js";
import { VcpuRecord } from "../records/mmu.js";
import type { ShadowExports } from "../wasm/shadow-exports.js";
import { ContextCore } from "./context-core.js";
import type { FaultLanes } from "./fault-lanes.js";
import type { MmuCore, SlotRef } from "./mmu-core.js";

export class VcpuCore {
  readonly record: VcpuRecord;
  /** Its contexts, as many as were asked for. */
  readonly contexts: readonly ContextCore[];
  readonly #exports: ShadowExports;
  readonly #memory: Allocations;
  /** The record's place and the fast calls' functions by themselves, never changed: V8 takes them for constants. */
  readonly #at: number;
  readonly #fault: ShadowExports["fault"];
  readonly #faultAt: ShadowExports["faultAt"];

  /** @internal `noRoot` as in ContextCore. Throws OutOfMemoryError with nothing allocated. */
  constructor({ internals, vm }: MmuCore, contexts: number, noRoot: bigint) {
    const { exports, linear } = internals;
    const memory = new Allocations(linear);
    this.#exports = exports;
    this.#fault = exports.fault;
    this.#faultAt = exports.faultAt;
    this.#memory = memory;
    [this.record, this.contexts] = memory.guard(() => [
      new VcpuRecord(linear, memory.take(VcpuRecord.SIZE)),
      Array.from({ length: contexts }, () => new ContextCore(internals, memory, noRoot)),
    ]);
    this.#at = this.record.at;
    this.record.vm = vm.at;
  }

  /** Faults go through `mmu` from here on, linear addresses through `walkMmu`. */
  use(mmu: ContextCore, walkMmu: ContextCore): void {
    this.record.mmu = mmu.mmu.at;
    this.record.walkMmu = walkMmu.mmu.at;
  }

  // ---------------------------------------------------------------- faults and walks

  /** A code of RET_PF_*, NEED_* and the like; `prefetch` 1: no access of the guest stands behind it. */
  fault(address: bigint, errorCode: number, prefetch: number): number {
    const fault = this.#fault;
    return fault(this.#at, address, errorCode, prefetch);
  }

  /** The same for an address in two halves: a BigInt takes longer. */
  faultAt(high: number, low: number, errorCode: number): number {
    const faultAt = this.#faultAt;
    return faultAt(this.#at, high, low, errorCode, 0);
  }

  /** Goes on with the fault that asked for something. */
  faultResume(): number {
    return this.#exports.faultResume(this.#at);
  }

  /** Faults at lanes `first` to `count` - 1; the lane at which something is asked for, `count` where all are done. */
  faultBatch(lanes: FaultLanes, first: number, count: number, errorCode: number): number {
    return this.#exports.faultBatch(this.#at, lanes.input, lanes.output, first, count, errorCode);
  }

  /** Whether the fault that asks for a host page is in this slot. */
  faultsIn(slot: SlotRef): boolean {
    return this.record.fSlot === slot.at;
  }

  /** Walks the guest's tables of a context; whether that led to a page. The record's GW_* fields say more. */
  walkGuest(context: ContextCore, address: bigint, code: number): boolean {
    return this.#exports.walkGuest(this.#at, context.mmu.at, this.#at, address, code) !== 0;
  }

  /** Whether the MMIO access that is remembered is at this address. */
  mmioHit(address: bigint): boolean {
    return this.#exports.mmioHit(this.#at, address) !== 0;
  }

  // ---------------------------------------------------------------- shadow pages that it asks for

  /** Takes a page that was found for the request, 0 for none; false where one has to be made. */
  requestAdopt(page: number): boolean {
    return this.#exports.requestAdopt(this.#at, page) !== 0;
  }

  /** Makes the page of the request of `page`'s memory. */
  requestCreate(page: number): void {
    this.#exports.requestCreate(this.#at, page);
  }

  /** Asks for the table below entry `index` of a root; false where none is to be linked there. */
  requestRootChild(root: number, index: number): boolean {
    return this.#exports.requestRootChild(this.#at, root, index) === 1;
  }

  /** Links the page that was provided for that. */
  linkRootChild(root: number, index: number): void {
    this.#exports.linkRootChild(this.#at, root, index);
  }

  /** Asks for the table that a huge leaf is split into; false where it cannot be. */
  requestSplit(sptep: number): boolean {
    return this.#exports.requestSplit(this.#at, sptep) !== 0;
  }

  /** Splits it. */
  splitHuge(slot: SlotRef, sptep: number): void {
    this.#exports.splitHuge(this.#at, slot.at, sptep);
  }

  // ---------------------------------------------------------------- what the guest does

  /** `bytes` were written at a guest-physical address: the shadow pages of a table there follow. */
  guestWrite(gpa: bigint, bytes: number): void {
    this.#exports.guestWrite(this.#at, gpa, bytes);
  }

  /** Makes leaves of unsync tables for an address anew, below one root. */
  invalidatePage(root: number, address: bigint): void {
    this.#exports.invalidatePage(this.#at, root, address);
  }

  clearMmioInfo(address: bigint): void {
    this.#exports.clearMmioInfo(this.#at, address);
  }

  /** Brings the unsync pages below a root up to date. */
  syncRoot(root: number): void {
    this.#exports.syncRoot(this.#at, root);
  }

  /** Brings one unsync page up to date: how many entries changed, negative where its role is not this guest's. */
  syncPage(page: number): number {
    return this.#exports.syncPage(this.#at, page);
  }

  /** @internal Where its records lie. */
  get places(): Place[] {
    return this.#memory.places;
  }

  /** Gives its memory back. */
  release(): void {
    this.#memory.release();
  }
}
