/** What the host has behind guest pages: asked for at a fault, looked up for prefetching. */
import { show } from "../../checks.js";
import { ConfigError } from "../../errors.js";
import type { Vcpu } from "../vcpu.js";
import type { VirtualMachine } from "../vm.js";
import type { Memslot } from "./memslots.js";
import { vcpuRecord, vmRecord } from "./records.js";

/** What the host has behind a page: page frame number, whether it may be written, and at which level it is mapped. */
export interface HostPage {
  /** Of this 4 KiB page, within the host's MAXPHYADDR. */
  readonly pfn: bigint;
  readonly writable: boolean;
  /**
   * How large a page of its own tables holds it: 1: 4 KiB, 2: 2 MiB, 3: 1 GiB. All of such a page lies behind the
   * addresses around this one, so that the low bits of frame and host-virtual page number are the same.
   */
  readonly level: number;
}

/** The host's memory management. */
export interface HostMemory {
  /**
   * Finds or makes the page for a guest access; undefined: it has to be fetched first, and the guest is to wait. It may run
   * into the VM's own notifier methods, change slots and run other vCPUs; the vCPU that waits for it throws BusyError.
   */
  pin(hva: bigint, write: boolean): HostPage | undefined;
  /** The page if it is there now, without doing anything for it: meanwhile the VM throws BusyError. */
  peek(hva: bigint): HostPage | undefined;
}

/** Without a host, RAM lies at this page frame plus its linear page number, above all shadow tables. */
const RAM_ZONE_PFN = 1n << 21n;

export class HostPages {
  /** Pages that were not there (or not writable) when last looked at, by slot. */
  readonly #absent = new Map<Memslot, Set<bigint>>();
  #pins = 0;

  constructor(
    readonly vm: VirtualMachine,
    readonly host: HostMemory | undefined,
  ) {}

  /** The host is looking a page up for a fault. */
  get pinning(): boolean {
    return this.#pins > 0;
  }

  /** Throws ConfigError where no host can have `page` behind `hva`. */
  check(page: HostPage, hva: bigint): void {
    if (typeof page?.pfn !== "bigint" || typeof page.writable !== "boolean") {
      throw new ConfigError(`the host's page is ${show(page)}, expected a frame (pfn, a bigint), writable and level`);
    }
    const { pfn, level } = page;
    const bits = this.vm.limits.hostPhysicalBits;
    if (pfn < 0n || pfn >> BigInt(bits - 12) !== 0n) {
      throw new ConfigError(`pfn 0x${pfn.toString(16)} is no frame of ${bits} address bits`);
    }
    if (level === 1) return;
    if (level !== 2 && level !== 3) throw new ConfigError(`the host's page has level ${level}, expected 1, 2 or 3`);
    if ((pfn ^ (hva >> 12n)) & ((1n << BigInt(9 * (level - 1))) - 1n)) {
      const at = `pfn 0x${pfn.toString(16)} behind 0x${hva.toString(16)}`;
      throw new ConfigError(`${at} is no part of a page of level ${level}: their low bits differ`);
    }
  }

  /** Number of the host's changes so far; one that ends during a look-up makes what was found old. */
  get #changes(): number {
    return vmRecord.get32(this.vm.linear, this.vm.pointer, "INVALIDATE_SEQ");
  }

  /**
   * Answers a fault that needs its host page: "page" where it is known now, "wait" where it has to be fetched first,
   * "retry" where what the host said is old already.
   */
  provide(vcpu: Vcpu): "page" | "wait" | "retry" {
    const { linear, slots } = this.vm;
    const pointer = vcpuRecord.get32(linear, vcpu.pointer, "F_SLOT");
    const slot = slots.slots.find((one) => one.pointer === pointer)!;
    const gfn = vcpuRecord.get64(linear, vcpu.pointer, "F_GFN");
    const write = (vcpuRecord.get32(linear, vcpu.pointer, "F_ERROR") & 2) !== 0;
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

  #pin(vcpu: Vcpu, host: HostMemory, hva: bigint, write: boolean): HostPage | undefined {
    this.#pins++;
    this.vm.caches.hold();
    vcpu.waiting = true;
    try {
      return host.pin(hva, write);
    } finally {
      vcpu.waiting = false;
      this.vm.caches.letGo();
      this.#pins--;
    }
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
    return { pfn: RAM_ZONE_PFN + BigInt(slot.ram >>> 12) + (gfn - slot.base), writable: true, level: 1 };
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
