/** The shadow MMU of one virtual machine as the host asks it: nothing outside src/core knows an export, a view or a pointer. */

import { StateError } from "../../errors.js";
import { Allocations } from "../linear/allocations.js";
import { lasting } from "../linear/lasting.js";
import type { LinearMemory, Place } from "../linear/linear-memory.js";
import { VmRecord } from "../records/mmu.js";
import type { ShadowExports } from "../wasm/shadow-exports.js";
import { EventRing } from "./event-ring.js";
import { ShadowPages } from "./shadow-pages.js";

/** What it works on: an instance of the core (`Core.internals`). */
export interface Internals {
  readonly exports: ShadowExports & { configure(space: number): void };
  readonly linear: LinearMemory;
  /** Linear address of the WORK record. */
  readonly work: number;
}

/** A memslot, by its record. */
export interface SlotRef {
  readonly at: number;
}

/** Bytes of a table, and of a page of the host's. */
const PAGE_BYTES = 4096;

export class MmuCore {
  /** The VM's masks, counters and settings. */
  readonly vm: VmRecord;
  /** Headers and tables of its shadow pages, to look at. */
  readonly pages: ShadowPages;
  readonly events: EventRing;
  /** @internal What the other parts of the MMU's core are made over. */
  readonly internals: Internals;
  /** @internal What the VM holds of linear memory. */
  readonly memory: Allocations;
  readonly #exports: ShadowExports;
  readonly #linear: LinearMemory;
  #lent: Place[] = [];

  /** `eventCapacity`: events that the ring has room for. Throws OutOfMemoryError with nothing allocated. */
  constructor(core: { internals(): Internals }, eventCapacity: number) {
    const internals = core.internals();
    this.internals = internals;
    this.#exports = internals.exports;
    this.#linear = internals.linear;
    const memory = new Allocations(this.#linear);
    this.memory = memory;
    [this.vm, this.events] = memory.guard(() => {
      const vm = new VmRecord(this.#linear, memory.take(VmRecord.SIZE));
      return [vm, new EventRing(this.#linear, vm, memory, eventCapacity)];
    });
    this.pages = new ShadowPages(this.#linear, this.vm);
  }

  /** @internal What another virtual machine of the same core is made over. */
  get engine(): { internals(): Internals } {
    return { internals: () => this.internals };
  }

  /** Runs `build`; if it throws, the VM's memory is given back. */
  guard<T>(build: () => T): T {
    return this.memory.guard(build);
  }

  /** Derives what the core keeps of the settings in `vm`. */
  init(): void {
    this.#exports.vmInit(this.vm.at);
  }

  /** A table without entries; its host-physical address. */
  emptyTable(): number {
    return this.memory.take(PAGE_BYTES, PAGE_BYTES);
  }

  // ---------------------------------------------------------------- RAM that users give to slots

  /** Zeroed RAM for slots; its linear address. Throws OutOfMemoryError. */
  lend(size: number): number {
    const address = this.memory.lend(size);
    this.#lent.push({ address, size });
    return address;
  }

  /** @internal What was lent so far. */
  get lent(): readonly Place[] {
    return this.#lent;
  }

  /** @internal Lends RAM at an address. Throws StateError where that is not free, OutOfMemoryError. */
  lendAt(place: Place): void {
    const address = this.atPlaces([place], () => this.lend(place.size));
    if (address === place.address) return;
    const free = "expected them to be free: make it in a new core, before anything else";
    throw new StateError(`the state has RAM at ${place.address} to ${place.address + place.size}, ${free}`);
  }

  /** @internal Runs `build`, for which these places are not free; those that are free before are afterwards. */
  sparing<T>(places: readonly Place[], build: () => T): T {
    const kept = new Allocations(this.#linear);
    try {
      for (const place of places) this.atPlaces([place], () => kept.take(place.size));
      return build();
    } finally {
      kept.release();
    }
  }

  /** @internal RAM that another virtual machine's core has lent is this one's. */
  takeOver(from: MmuCore, places: readonly Place[]): void {
    const addresses = new Set(places.map(({ address }) => address));
    from.memory.handOver(places);
    from.#lent = from.#lent.filter(({ address }) => !addresses.has(address));
    this.memory.adopt(places);
    this.#lent.push(...places);
  }

  /** @internal What is allocated while `build` runs goes where it lay, if that is free. */
  atPlaces<T>(places: readonly Place[], build: () => T): T {
    return this.#linear.atPlaces(places, build);
  }

  /** @internal Where the VM's own records lie: no RAM, no pages, slots and vCPUs. */
  get places(): Place[] {
    const lent = new Set(this.#lent.map(({ address }) => address));
    return this.memory.places.filter(({ address }) => !lent.has(address));
  }

  /** @internal RAM, as a view of linear memory. */
  ram({ address, size }: Place): Uint8Array {
    return this.#linear.u8.subarray(address, address + size);
  }

  /** Bytes of RAM at a linear address, as the host has them, whatever slot shows them. */
  readRam(address: number, length: number): Uint8Array {
    return this.#linear.u8.slice(address, address + length);
  }

  /** Writes RAM as the host does: nobody is told. */
  writeRam(address: number, bytes: Uint8Array): void {
    this.#linear.u8.set(bytes, address);
  }

  /** Bytes of linear memory. */
  get memoryBytes(): number {
    return this.#linear.memory.buffer.byteLength;
  }

  /** Gives a caller's array again and again, anew where it lies in linear memory: growing empties every view of that. */
  lasting<T extends BigUint64Array | Uint32Array>(array: T): () => T {
    return lasting(array, this.#linear);
  }

  /** Whether the core has, or may put, something of its own in these bytes of linear memory. */
  keeps(address: number, size: number): boolean {
    return this.#linear.keeps(address, size);
  }

  // ---------------------------------------------------------------- roots and pages

  /** Drops a reference to a root. */
  putRoot(page: number): void {
    this.#exports.putRoot(this.vm.at, page);
  }

  /** Frees the pages that are zapped and referenced by nothing. */
  commitZap(): void {
    this.#exports.commitZap(this.vm.at);
  }

  /** Keeps the limit on pages with one more; false where that is not possible. */
  makeRoom(): boolean {
    return this.#exports.makeRoom(this.vm.at) !== 0;
  }

  setLimit(pages: number): void {
    this.#exports.setLimit(this.vm.at, pages);
  }

  zapAllFast(): void {
    this.#exports.zapAllFast(this.vm.at);
  }

  /** Zaps the shadow pages of a guest's table; whether there was one. */
  unprotectGfn(gfn: bigint): boolean {
    return this.#exports.unprotectGfn(this.vm.at, gfn) !== 0;
  }

  /** Zaps up to `count` tables that stand where huge pages were forbidden; how many. */
  recoverHuge(count: number): number {
    return this.#exports.recoverHuge(this.vm.at, count);
  }

  // ---------------------------------------------------------------- flushes

  flushRemote(): void {
    this.#exports.flushRemote(this.vm.at);
  }

  flushGfns(gfn: bigint, pages: bigint): void {
    this.#exports.flushGfns(this.vm.at, gfn, pages);
  }

  // ---------------------------------------------------------------- ranges of a slot

  /** Does RANGE_* `what` to the leaves of levels `from` to `to` that map gfns [start, end); not 0 where it found some. */
  forRange(slot: SlotRef, start: bigint, end: bigint, from: number, to: number, what: number): number {
    return this.#exports.forRange(this.vm.at, slot.at, start, end, from, to, what);
  }

  /** The host has the page at `hostAddress` behind a gfn; level of the leaf that was changed or zapped, 0 for none. */
  changePage(slot: SlotRef, gfn: bigint, hostAddress: bigint, writable: boolean): number {
    return this.#exports.changePage(this.vm.at, slot.at, gfn, hostAddress, writable ? 1 : 0);
  }

  /** Logs anew the writes to those of 64 gfns from `gfn` on that are in `mask`. */
  relogMasked(slot: SlotRef, gfn: bigint, mask: bigint, clearDirty: boolean): void {
    this.#exports.relogMasked(this.vm.at, slot.at, gfn, mask, clearDirty ? 1 : 0);
  }

  protectHuge(slot: SlotRef, gfn: bigint): void {
    this.#exports.protectHuge(this.vm.at, slot.at, gfn);
  }

  /** The first huge leaf of `level` in a nested guest's tables that maps some of gfns [start, end); 0 for none. */
  findHuge(slot: SlotRef, start: bigint, end: bigint, level: number): number {
    return this.#exports.findHuge(this.vm.at, slot.at, start, end, level);
  }

  /** The gfn behind what that leaf maps. */
  endOfHuge(sptep: number): bigint {
    return this.#exports.endOfHuge(this.vm.at, sptep);
  }

  /** A page of a slot was written. */
  markDirty(slot: SlotRef, gfn: bigint): void {
    this.#exports.markDirty(slot.at, gfn);
  }

  // ---------------------------------------------------------------- what is to be flushed

  /** One of the `flushCount` ranges that have to be flushed. */
  flushRange(index: number): { readonly gfn: bigint; readonly pages: bigint } {
    return { gfn: this.vm.flushRanges(2 * index), pages: this.vm.flushRanges(2 * index + 1) };
  }

  /** Gives its memory back. */
  dispose(): void {
    this.memory.release();
  }
}
