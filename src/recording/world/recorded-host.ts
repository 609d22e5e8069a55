/** The host of a replay: answers look-ups of pages from the recording. */
import { hasRule } from "../../abi/kernel-rules.js";
import type { RecordedEvent } from "../format/events.js";
import type { HostRange } from "../format/ranges.js";
import type { PfnRun, Recording, Step } from "../format/recording.js";
import type { HostPage, ReplayHost } from "../format/state.js";
import { hostRanges } from "./guest-memory.js";
import { pagesBetween, type SlotTable } from "./slot-table.js";

const PAGE_SHIFT = 12n;
const PAGE = 0x1000n;
const PAGE_MASK = ~0xfffn;
const LARGE_PAGE = 1n << 21n;
const HUGE_PAGE = 1n << 30n;

/** What the host does while the target looks a page up or injects a fault. */
export interface HostActions {
  /** Delivers the notifier calls that this fault's look-up ran into. */
  notifierInFault(): void;
  injectPageFault(vcpu: number, fault: { readonly errorCode: number; readonly address: bigint }): void;
}

/** The host as a recording shows it: which page frame lies where, what is present and what read-only. */
export class RecordedHost implements ReplayHost {
  /** Frames by page address in host-virtual memory. */
  readonly #frames = new Map<bigint, bigint>();
  readonly #present = new Set<bigint>();
  readonly #shared = new Set<bigint>();
  /** Pages of a slot that a notifier took away as a whole, as fork does, and that nobody has asked for since. */
  readonly #taken = new Set<bigint>();
  /** Those of them that are back with the same frame: the host write-protected them, it did not free them. */
  readonly #protectedPages = new Set<bigint>();
  #readOnlyBefore = new Set<bigint>();
  #readOnlyAfter = new Set<bigint>();
  #events: readonly RecordedEvent[] = [];
  #position = 0;

  /** Where pages may ever be: what a notifier says of others concerns nobody. */
  readonly #ranges: readonly HostRange[];
  readonly #unmapsOnly: boolean;
  readonly #recording: Recording;
  readonly #slots: SlotTable;
  readonly #actions: HostActions;

  constructor(recording: Recording, slots: SlotTable, actions: HostActions) {
    this.#recording = recording;
    this.#slots = slots;
    this.#actions = actions;
    this.#ranges = hostRanges(recording);
    this.#unmapsOnly = hasRule(recording.config.kernel, "unmap-only");
    this.#readMap(recording.pfnMap);
  }

  #readMap(runs: readonly PfnRun[]): void {
    for (const { gfn, pfn, count } of runs) {
      for (let offset = 0n; offset < BigInt(count); offset++) {
        const hva = this.#slots.hva((gfn + offset) << PAGE_SHIFT);
        if (hva === undefined) continue;
        const page = hva & PAGE_MASK;
        if (this.#taken.has(page) && this.#frames.get(page) === pfn + offset) this.#protectedPages.add(page);
        this.#map(hva, pfn + offset);
      }
    }
    this.#findShared();
  }

  /** Frames that lie at several addresses (the zero page, merged pages) are read-only until a write copies them. */
  #findShared(): void {
    const first = new Map<bigint, bigint>();
    for (const [page, pfn] of this.#frames) {
      const other = first.get(pfn);
      if (other === undefined) first.set(pfn, page);
      else for (const one of [page, other]) this.#shared.add(one);
    }
  }

  #map(hva: bigint, pfn: bigint): void {
    if (this.#frames.get(hva & PAGE_MASK) !== pfn) this.#shared.delete(hva & PAGE_MASK);
    this.#frames.set(hva & PAGE_MASK, pfn);
    this.#present.add(hva & PAGE_MASK);
  }

  beginStep(step: Step): void {
    this.#events = step.events;
    this.#position = 0;
    this.#readOnlyAfter = this.#hvas(step);
  }

  /** The events up to `position` have been replayed. */
  at(position: number): void {
    this.#position = position;
  }

  endStep(step: Step): void {
    for (const runs of step.pfnMaps) {
      this.#present.clear();
      this.#readMap(runs);
    }
    this.#readOnlyBefore = this.#readOnlyAfter;
  }

  #hvas(step: Step): Set<bigint> {
    const found = new Set<bigint>();
    for (const { gfn } of step.hostReadOnly ?? []) {
      const hva = this.#slots.hva(gfn << PAGE_SHIFT);
      if (hva !== undefined) found.add(hva);
    }
    return found;
  }

  /** The host no longer maps [start, end). */
  unmapped(start: bigint, end: bigint): void {
    if (this.#isSplit(start, end)) return;
    const whole = this.#slots.all().some((slot) => start <= slot.hva && end >= slot.hva + slot.size);
    for (const hva of pagesBetween(this.#ranges, start & PAGE_MASK, end)) {
      this.#present.delete(hva);
      if (whole) this.#taken.add(hva);
    }
  }

  /**
   * A transparent huge page is split (__split_huge_pmd) because a part of it changes: a notice of the whole block, and in
   * the same step one of the part. The block's pages stay where they are.
   */
  #isSplit(start: bigint, end: bigint): boolean {
    if (end - start !== LARGE_PAGE || start % LARGE_PAGE !== 0n || this.mappingLevel(start) !== 1) return false;
    return this.#events.some(
      (event) =>
        event.ev === "kvm_unmap_hva_range" &&
        event.start >= start &&
        event.end <= end &&
        event.end - event.start < LARGE_PAGE,
    );
  }

  /** What the host maps at `hva` when a notifier tells of a changed page. */
  current(hva: bigint): HostPage | undefined {
    const page = hva & PAGE_MASK;
    const pfn = this.#frames.get(page);
    return pfn === undefined || !this.#present.has(page)
      ? undefined
      : { pfn, writable: !this.#readOnlyAfter.has(page) && !this.#shared.has(page) };
  }

  /** The frame that the kernel found for `hva` in the fault that is being replayed. */
  #requested(hva: bigint): bigint | undefined {
    const gfns = new Set(this.#slots.gpas(hva).map((gpa) => gpa >> PAGE_SHIFT));
    for (let index = this.#position; index < this.#events.length; index++) {
      const event = this.#events[index]!;
      if (event.ev === "kvm_mmu_spte_requested" && gfns.has(event.gfn)) return event.pfn;
      if (event.ev === "page_fault_ret") return undefined;
    }
    return undefined;
  }

  /** A later write of this step makes the host copy the page: until then it was read-only. */
  #copiedLater(hva: bigint): boolean {
    const page = hva & PAGE_MASK;
    return this.#events.slice(this.#position).some((event) => {
      // Linux 6.12 has no notice of another page: the old one is taken away.
      if (event.ev === "kvm_unmap_hva_range")
        return this.#unmapsOnly && event.start === page && event.end === page + PAGE;
      return event.ev === "kvm_set_spte_hva" && (event.hva & PAGE_MASK) === page;
    });
  }

  pin(hva: bigint, write: boolean): HostPage | undefined {
    const page = hva & PAGE_MASK;
    const copied = this.#copiedLater(hva);
    this.#actions.notifierInFault();
    const pfn = this.#requested(hva) ?? this.#frames.get(page);
    if (pfn === undefined) return undefined;
    this.#map(page, pfn);
    this.#taken.delete(page);
    if (write) this.#protectedPages.delete(page);
    const readOnly =
      this.#readOnlyAfter.has(page) || this.#readOnlyBefore.has(page) || this.#shared.has(page) || copied;
    if (write) this.#readOnlyBefore.delete(page);
    return { pfn, writable: write || !readOnly };
  }

  pinAtomic(hva: bigint): bigint | undefined {
    const page = hva & PAGE_MASK;
    const readOnly = this.#readOnlyAfter.has(page) || this.#readOnlyBefore.has(page) || this.#shared.has(page);
    if (!this.#present.has(page) || readOnly || this.#protectedPages.has(page)) return undefined;
    return this.#frames.get(page);
  }

  mappingLevel(hva: bigint): number {
    for (const backing of this.#recording.config.backing) {
      if (hva < backing.hva || hva >= backing.hva + backing.size) continue;
      if (backing.pageSize >= HUGE_PAGE) return 3;
      if (backing.pageSize >= LARGE_PAGE) return 2;
    }
    return 1;
  }

  injectPageFault(vcpu: number, fault: { readonly errorCode: number; readonly address: bigint }): void {
    this.#actions.injectPageFault(vcpu, fault);
  }
}
