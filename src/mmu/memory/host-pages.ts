/** What the host has behind guest pages: asked for at a fault, looked up for prefetching. */
import { bitOf, PFERR } from "../../abi/index.js";
import { show } from "../../checks.js";
import type { MmuCore } from "../../core/mmu/mmu-core.js";
import type { VcpuCore } from "../../core/mmu/vcpu-core.js";
import { ConfigError } from "../../errors.js";
import type { HostMemory, HostPage } from "../config/config.js";
import type { Memslot, Memslots } from "./memslots.js";

const PFERR_W = Number(bitOf(PFERR, "W"));
/** Without a host, RAM lies at this page frame plus its linear page number, above all shadow tables. */
const RAM_ZONE_PFN = 1n << 21n;

/** The machine whose pages they are. */
export interface HostPagesHome {
  readonly core: MmuCore;
  readonly slots: Memslots;
  readonly limits: { readonly hostPhysicalBits: number };
  /** Calls the host, which must not use the machine meanwhile. */
  undisturbed<T>(occupation: string, call: () => T): T;
  /** Faults come by where more is asked, until `letGo`. */
  hold(): void;
  letGo(): void;
}

/** A vCPU whose fault needs a page. */
export interface Waiter {
  readonly core: VcpuCore;
  waiting: boolean;
}

export class HostPages {
  /** Pages that were not there (or not writable) when last looked at, by slot. */
  readonly #absent = new Map<Memslot, Set<bigint>>();
  #pins = 0;

  constructor(
    readonly vm: HostPagesHome,
    readonly host: HostMemory | undefined,
  ) {}

  /** The host is looking a page up for a fault. */
  get pinning(): boolean {
    return this.#pins > 0;
  }

  /** Throws ConfigError where no host can have `page` behind `hva`. */
  check(page: HostPage, hva: bigint): void {
    if (!isHostPage(page)) {
      throw new ConfigError(`the host's page is ${show(page)}, expected a frame (pfn, a bigint), writable and level`);
    }
    const { pfn, level } = page;
    const bits = this.vm.limits.hostPhysicalBits;
    if (pfn < 0n || pfn >> BigInt(bits - 12) !== 0n) {
      throw new ConfigError(`pfn 0x${pfn.toString(16)} is no frame of ${bits} address bits`);
    }
    if (level === 1) return;
    if (level !== 2 && level !== 3)
      throw new ConfigError(`the host's page has level ${show(level)}, expected 1, 2 or 3`);
    if ((pfn ^ (hva >> 12n)) & ((1n << BigInt(9 * (level - 1))) - 1n)) {
      const at = `pfn 0x${pfn.toString(16)} behind 0x${hva.toString(16)}`;
      throw new ConfigError(`${at} is no part of a page of level ${level}: their low bits differ`);
    }
  }

  /** Number of the host's changes so far; one that ends during a look-up makes what was found old. */
  get #changes(): number {
    return this.vm.core.vm.invalidateSeq;
  }

  /**
   * Answers a fault that needs its host page: "page" where it is known now, "wait" where it has to be fetched first,
   * "retry" where what the host said is old already.
   */
  provide(vcpu: Waiter): "page" | "wait" | "retry" {
    const { slots } = this.vm;
    const slot = slots.slots.find((one) => vcpu.core.faultsIn(one.core))!;
    const { fGfn: gfn, fError } = vcpu.core.record;
    const write = (fError & PFERR_W) !== 0;
    if (this.host === undefined) {
      slots.setHostPage(slot, gfn, this.#own(slot, gfn));
      return "page";
    }
    const before = this.#changes;
    const hva = this.#hva(slot, gfn);
    const page = this.#pin(vcpu, this.host, hva, write);
    if (page !== undefined) this.check(page, hva);
    this.#peekAbsent();
    // The slot may be gone with its records.
    if (!slots.slots.includes(slot)) return "retry";
    if (page === undefined) return "wait";
    // Kept, an old page would be mapped ahead by a later fault (is_page_fault_stale looks at the fault's own only).
    if (this.#changes !== before) return "retry";
    slots.setHostPage(slot, gfn, page);
    return "page";
  }

  #pin(vcpu: Waiter, host: HostMemory, hva: bigint, write: boolean): HostPage | undefined {
    this.#pins++;
    this.vm.hold();
    vcpu.waiting = true;
    try {
      return host.pin(hva, write);
    } finally {
      vcpu.waiting = false;
      this.vm.letGo();
      this.#pins--;
    }
  }

  /** @internal Pages of a slot that are looked at again, in that order; undefined without a host. */
  absent(slot: Memslot): readonly bigint[] | undefined {
    const gfns = this.#absent.get(slot);
    return gfns && [...gfns];
  }

  /** @internal */
  setAbsent(slot: Memslot, gfns: readonly bigint[]): void {
    this.#absent.set(slot, new Set(gfns));
  }

  /** What the host has behind the pages of a slot that is going to be added. */
  look(slot: Memslot): Map<bigint, HostPage> {
    const found = new Map<bigint, HostPage>();
    for (let gfn = slot.base; this.host !== undefined && gfn < slot.base + BigInt(slot.pages); gfn++) {
      const page = this.#peek(this.host, this.#hva(slot, gfn));
      if (page !== undefined) found.set(gfn, page);
    }
    return found;
  }

  /** A slot was added; `found` is what `look` gave. */
  fill(slot: Memslot, found: ReadonlyMap<bigint, HostPage>): void {
    const absent = new Set<bigint>();
    for (let gfn = slot.base; gfn < slot.base + BigInt(slot.pages); gfn++) {
      const page = this.host === undefined ? this.#own(slot, gfn) : found.get(gfn);
      if (page !== undefined) this.vm.slots.setHostPage(slot, gfn, page);
      if (page === undefined || !page.writable) absent.add(gfn);
    }
    if (this.host !== undefined) this.#absent.set(slot, absent);
  }

  forget(slot: Memslot): void {
    this.#absent.delete(slot);
  }

  /** The host took these pages away. */
  remove(slot: Memslot, from: bigint, to: bigint): void {
    for (let gfn = from; gfn < to; gfn++) {
      this.vm.slots.setHostPage(slot, gfn, undefined);
      this.#absent.get(slot)?.add(gfn);
    }
  }

  /** The host put another page behind a page; a later look-up may find that it can be written again. */
  change(slot: Memslot, gfn: bigint, page: HostPage): void {
    this.vm.slots.setHostPage(slot, gfn, page);
    this.#absent.get(slot)?.add(gfn);
  }

  #hva(slot: Memslot, gfn: bigint): bigint {
    return slot.hva + ((gfn - slot.base) << 12n);
  }

  #own(slot: Memslot, gfn: bigint): HostPage {
    return { pfn: RAM_ZONE_PFN + BigInt(slot.core.ramPage) + (gfn - slot.base), writable: true, level: 1 };
  }

  /** Looks again at pages that the host had taken away: prefetching maps those that are back. */
  #peekAbsent(): void {
    if (this.host === undefined) return;
    for (const [slot, gfns] of this.#absent) {
      for (const gfn of gfns) {
        const page = this.#peek(this.host, this.#hva(slot, gfn));
        if (page === undefined) continue;
        this.vm.slots.setHostPage(slot, gfn, page);
        if (page.writable) gfns.delete(gfn);
      }
    }
  }

  #peek(host: HostMemory, hva: bigint): HostPage | undefined {
    const page = this.vm.undisturbed("the host is asked what it has", () => host.peek(hva));
    if (page !== undefined) this.check(page, hva);
    return page;
  }
}

/** Whether it has a frame and says whether that may be written; a proxy may refuse to. */
function isHostPage(page: HostPage | undefined): boolean {
  try {
    return typeof page?.pfn === "bigint" && typeof page.writable === "boolean";
  } catch {
    return false;
  }
}
