/** Huge pages that are split, and by what: faults (writes under dirty logging, fetches under the NX mitigation) or KVM ahead of them. */
import { bitOf } from "../../abi/bits.js";
import { SPTE } from "../../abi/spte.js";
import { Kind, Slot } from "../events/kinds.js";
import type { EventRecord } from "../events/record.js";
import { faultAccess, faultFormat } from "../model/fault-access.js";
import type { ModelListener } from "../model/model.js";
import type { Page } from "../model/pages.js";
import type { Thread } from "../model/thread.js";
import { Evidence, type Finding } from "./finding.js";
import { FOLLOWED, SPLITS } from "./thresholds.js";

/** What splits a huge page. */
type Splitter = "write" | "fetch" | "read" | "eager" | "other";

const WORDS: Readonly<Record<Splitter, readonly [by: string, what: string]>> = {
  write: ["write faults", "writes to pages that dirty logging or a shadowed table keeps from being written as one"],
  fetch: ["instruction fetches", "the mitigation of iTLB multihit (nx_huge_pages): code runs from small pages only"],
  read: ["read faults", "reads: another entry of the range cannot be part of a huge page any more"],
  eager: ["KVM ahead of faults", "eager splitting: dirty logging was switched on, or a log cleared"],
  other: ["something outside of faults", "nothing that a trace shows"],
};

const HUGE = Number(bitOf(SPTE, "PS"));
/** Present in every era: a table or a page has one of the low three bits. */
const RIGHTS = 7;

interface HugePage {
  readonly gfn: number;
  readonly level: number;
}

export class SplitDetector implements ModelListener {
  readonly #by = new Map<Splitter, Evidence>();
  /** Huge pages of the classic MMU, by frame and level. */
  readonly #huge = new Map<number, HugePage>();
  /** Until 6.0 a fault takes a huge page away before it puts a table in its place: the last that was, by thread. */
  readonly #removed = new Map<Thread, HugePage & { readonly line: number }>();
  /** The last split that the TDP MMU told of, by thread: an event of its own may follow. */
  readonly #last = new Map<Thread, HugePage & { readonly by: Splitter }>();

  onGot(thread: Thread, page: Page, _created: boolean, root: boolean, record: EventRecord): void {
    if (root || !page.direct || this.#huge.size === 0 || !isDirectFault(thread)) return;
    const key = keyOf(page.gfn, page.level + 1);
    if (!this.#huge.delete(key)) return;
    this.#add(faultAccess(faultFormat(thread), thread), record);
  }

  onZapAll(): void {
    this.#huge.clear();
  }

  onEvent(thread: Thread, record: EventRecord): void {
    switch (record.kind) {
      case Kind.kvm_mmu_set_spte: {
        const level = record.low[Slot.level]!;
        if (level < 2 || (record.low[Slot.spte]! & HUGE) === 0 || !isDirectFault(thread)) return;
        if (this.#huge.size >= FOLLOWED) return;
        const gfn = record.number(Slot.gfn);
        this.#huge.set(keyOf(gfn - (gfn % spanOf(level)), level), { gfn, level });
        return;
      }
      case Kind.kvm_tdp_mmu_spte_changed: {
        const old = record.low[Slot.old_spte]!;
        const made = record.low[Slot.new_spte]!;
        const level = record.low[Slot.level]!;
        if (level < 2) return;
        const gfn = record.number(Slot.gfn);
        const wasHuge = (old & HUGE) !== 0 && (old & RIGHTS) !== 0;
        if ((made & RIGHTS) === 0 && wasHuge && thread.fault.open) {
          this.#removed.set(thread, { gfn, level, line: thread.fault.line });
          return;
        }
        if ((made & HUGE) !== 0 || (made & RIGHTS) === 0) return;
        const removed = this.#removed.get(thread);
        const again = removed?.gfn === gfn && removed.level === level && removed.line === thread.fault.line;
        if (!wasHuge && !again) return;
        this.#removed.delete(thread);
        const by = thread.fault.open ? faultAccess(faultFormat(thread), thread) : "other";
        this.#add(by, record);
        this.#last.set(thread, { gfn, level, by });
        return;
      }
      case Kind.kvm_mmu_split_huge_page: {
        if (record.low[Slot.errno] !== 0) return;
        const last = this.#last.get(thread);
        if (last?.gfn === record.number(Slot.gfn) && last.level === record.low[Slot.level]) {
          const counted = this.#by.get(last.by);
          if (counted !== undefined) counted.count--;
          this.#last.delete(thread);
        }
        this.#add("eager", record);
      }
    }
  }

  findings(): Finding[] {
    const found: Finding[] = [];
    for (const [by, { count, since, until, lines }] of this.#by) {
      if (count < SPLITS) continue;
      const [name, what] = WORDS[by];
      const message = `${count} huge pages were split by ${name}`;
      found.push({ code: "huge-page-split", message, details: [what], count, since, until, evidence: lines });
    }
    return found;
  }

  #add(by: Splitter, record: EventRecord): void {
    let evidence = this.#by.get(by);
    if (evidence === undefined) {
      evidence = new Evidence();
      this.#by.set(by, evidence);
    }
    evidence.add(record);
  }
}

const FRAMES = 512;
const LEVELS = 8;
const spanOf = (level: number): number => FRAMES ** (level - 1);
const keyOf = (gfn: number, level: number): number => gfn * LEVELS + level;

/** A fault on the tables that map a guest's physical memory, not on those that shadow a guest's own. */
function isDirectFault(thread: Thread): boolean {
  return thread.fault.open && !thread.nested && faultFormat(thread) !== "shadow";
}
