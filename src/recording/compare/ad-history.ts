/**
 * Which accessed and dirty bits of a recorded state hardware may have set in its step, and which were there already: the
 * latter a replay must not have lost. The recorded kernel's own changes of SPTEs are in the step's events.
 */
import { fieldOf } from "../../abi/bits.js";
import { PTE } from "../../abi/entries.js";
import { ROLE_LEVEL, ROLE_SMM } from "../../role/index.js";
import type { RecordedEvent } from "../format/events.js";
import type { RecordedPage } from "../format/recording.js";

const SPTE_BYTES = 8n;
const LEVEL_BITS = 9;
const PAGE_SHIFT = BigInt(fieldOf(PTE, "ADDRESS").low);

/** The step's events, and what was there before it. */
export interface AdSource {
  readonly events: readonly RecordedEvent[];
  readonly before: readonly RecordedPage[];
  /** Base of the kernel's direct map. */
  readonly pageOffset: bigint;
  readonly accessed: bigint;
}

export class AdHistory {
  /** What the kernel last stored in the step, by host-physical address of the SPTE. */
  readonly #stored = new Map<bigint, bigint>();
  /** The same for the TDP MMU, whose events name an entry by what it maps. */
  readonly #mapped = new Map<string, bigint>();
  readonly #before: ReadonlyMap<bigint, RecordedPage>;
  /** Ageing clears A without an event for each SPTE. */
  readonly #unknown: bigint;

  constructor({ events, before, pageOffset, accessed }: AdSource) {
    this.#before = new Map(before.map((page) => [page.hpa, page]));
    this.#unknown = events.some(({ ev }) => ev === "kvm_age_hva") ? accessed : 0n;
    for (const event of events) {
      switch (event.ev) {
        case "spte_update":
        case "spte_update_nt":
          this.#stored.set(event.sptep - pageOffset, event.new);
          break;
        case "fast_page_fault":
          if (event.old_spte !== event.new_spte) this.#stored.set(event.sptep - pageOffset, event.new_spte);
          break;
        case "kvm_mmu_set_spte":
          this.#stored.set(event.sptep, event.spte);
          break;
        case "spte_clear":
        case "page_zap_pte":
          this.#stored.set(event.sptep - pageOffset, 0n);
          break;
        case "kvm_tdp_mmu_spte_changed":
          this.#mapped.set(nameOf(event.as_id, event.level, event.gfn), event.new_spte);
          break;
      }
    }
  }

  /** Of `bits`, which entry `index` of `page` has at the step's end: those that it had before hardware could set them. */
  kept(page: RecordedPage, index: number, bits: bigint): bigint {
    const stored = this.#stored.get(page.hpa + SPTE_BYTES * BigInt(index)) ?? this.#change(page, index);
    const old = stored ?? this.#unchanged(page, index);
    return bits & old & ~this.#unknown;
  }

  #change(page: RecordedPage, index: number): bigint | undefined {
    if (!page.tdp) return undefined;
    const level = page.role & ROLE_LEVEL;
    const gfn = page.gfn + (BigInt(index) << BigInt(LEVEL_BITS * (level - 1)));
    return this.#mapped.get(nameOf((page.role & ROLE_SMM) === 0 ? 0 : 1, level, gfn));
  }

  /** The entry as it was before the step; nothing where the page or what the entry maps is another. */
  #unchanged(page: RecordedPage, index: number): bigint {
    const before = this.#before.get(page.hpa);
    if (before === undefined || before.gfn !== page.gfn || before.role !== page.role) return 0n;
    const [old, now] = [before.entries.get(index), page.entries.get(index)];
    if (old === undefined || now === undefined || old >> PAGE_SHIFT !== now >> PAGE_SHIFT) return 0n;
    return old;
  }
}

function nameOf(space: number, level: number, gfn: bigint): string {
  return `${space} ${level} ${gfn}`;
}
