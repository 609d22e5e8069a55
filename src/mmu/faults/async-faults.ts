/**
 * Asynchronous page faults of a vCPU (kvm_setup_async_pf and kvm_async_page_ready): where the host has to fetch a page
 * the guest is told to wait for its gfn, and runs on. A gfn has one wait, through whichever alias it was accessed.
 */
import type { Cpu } from "../machine/cpu.js";
import type { AsyncFault } from "./outcome.js";

export class AsyncFaults {
  readonly #waits = new Map<bigint, AsyncFault>();

  constructor(readonly cpu: Cpu) {}

  /** What the guest waits for, in the order of the faults. */
  get waits(): readonly AsyncFault[] {
    return [...this.#waits.values()];
  }

  /** @internal Waits for these and for nothing else. */
  adopt(waits: readonly AsyncFault[]): void {
    this.#waits.clear();
    for (const wait of waits) this.#waits.set(wait.gfn, wait);
  }

  /** The fault in progress waits for its page, `first` where none for the gfn did before. */
  add(): { readonly waits: AsyncFault; readonly first: boolean } {
    const { core, mmu, isDirect } = this.cpu;
    const { fGfn: gfn, fAddress: address } = core.record;
    const old = this.#waits.get(gfn);
    if (old !== undefined) return { waits: old, first: false };
    const waits = { gfn, address, pgd: isDirect ? undefined : mmu.pgd };
    this.#waits.set(gfn, waits);
    return { waits, first: true };
  }

  /** Ends the wait for a gfn; undefined where there was none. */
  take(gfn: bigint): AsyncFault | undefined {
    const wait = this.#waits.get(gfn);
    this.#waits.delete(gfn);
    return wait;
  }
}
