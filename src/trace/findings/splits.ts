/** Huge pages that are split, and by what: faults (writes under dirty logging, fetches under the NX mitigation) or KVM ahead of them. */
import { bitOf } from "../../abi/bits.js";
import { SPTE } from "../../abi/spte.js";
import { Kind, Slot } from "../events/kinds.js";
import type { EventRecord } from "../events/record.js";
import { faultAccess, faultFormat } from "../model/fault-access.js";
import type { ModelListener } from "../model/model.js";
import type { Page, Pages } from "../model/pages.js";
import type { Thread } from "../model/thread.js";
import { Evidence, type Found } from "./finding.js";
import { FOLLOWED, SPLITS } from "./thresholds.js";

/** What splits a huge page. */
type Splitter = "table" | "write" | "fetch" | "read" | "eager" | "other";

const WORDS: Readonly<Record<Splitter, readonly [by: string, what: string]>> = {
  table: [
    "guest tables within them",
    "a page table of the guest (or of L1) is shadowed in each: KVM maps such a range by small pages, to see writes to the table",
  ],
  write: [
    "write faults",
    "writes to pages that dirty logging keeps from being written as one: a log is on (migration)",
  ],
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

/** Those of one virtual machine. */
class Splits {
  readonly by = new Map<Splitter, Evidence>();
  /** Huge pages of the classic MMU, by frame and level. */
  readonly huge = new Set<number>();
  /** Ranges of huge pages' sizes that have a shadowed table in them. */
  readonly tables = new Set<number>();

  add(by: Splitter, record: EventRecord): void {
    let evidence = this.by.get(by);
    if (evidence === undefined) {
      evidence = new Evidence();
      this.by.set(by, evidence);
    }
    evidence.add(record);
  }
}

export class SplitDetector implements ModelListener {
  readonly #machines = new Map<Pages, Splits>();
  /** Until 6.0 a fault takes a huge page away before it puts a table in its place: the last that was, by thread. */
  readonly #removed = new Map<Thread, HugePage & { readonly line: number }>();
  /** The last split that the TDP MMU told of, by thread: an event of its own may follow. */
  readonly #last = new Map<Thread, HugePage & { readonly by: Splitter }>();

  onGot(thread: Thread, page: Page, created: boolean, root: boolean, record: EventRecord): void {
    const splits = this.#of(page.owner);
    if (!page.direct) {
      // Only tables that are new matter: one that was there before the huge page is no reason to split it.
      if (created && splits.tables.size < FOLLOWED) {
        for (let level = 2; level <= HIGHEST; level++) splits.tables.add(keyOf(baseOf(page.gfn, level), level));
      }
      return;
    }
    if (root || splits.huge.size === 0 || !thread.fault.open) return;
    const key = keyOf(page.gfn, page.level + 1);
    if (!splits.huge.has(key)) return;
    const byTable = splits.tables.has(key);
    // Tables that shadow a guest's map one range in several ways, huge and not.
    if (!byTable && !isDirectFault(thread)) return;
    splits.huge.delete(key);
    splits.add(byTable ? "table" : faultAccess(faultFormat(thread), thread), record);
  }

  onZapAll(owner: Pages | undefined): void {
    if (owner === undefined) this.#machines.clear();
    else this.#of(owner).huge.clear();
  }

  onEvent(thread: Thread, record: EventRecord): void {
    const { pages } = thread;
    if (pages === undefined) return;
    switch (record.kind) {
      case Kind.kvm_mmu_set_spte: {
        const level = record.low[Slot.level]!;
        if (level < 2 || (record.low[Slot.spte]! & HUGE) === 0) return;
        const { huge } = this.#of(pages);
        if (huge.size < FOLLOWED) huge.add(keyOf(baseOf(record.number(Slot.gfn), level), level));
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
        const access = thread.fault.open ? faultAccess(faultFormat(thread), thread) : "other";
        const splits = this.#of(pages);
        const isTable = access !== "fetch" && access !== "other" && splits.tables.has(keyOf(gfn, level));
        const by = isTable ? "table" : access;
        splits.add(by, record);
        this.#last.set(thread, { gfn, level, by });
        return;
      }
      case Kind.kvm_mmu_split_huge_page: {
        if (record.low[Slot.errno] !== 0) return;
        const last = this.#last.get(thread);
        if (last?.gfn === record.number(Slot.gfn) && last.level === record.low[Slot.level]) {
          const before = this.#of(pages).by.get(last.by);
          if (before !== undefined && record.counted) before.count--;
          this.#last.delete(thread);
        }
        this.#of(pages).add("eager", record);
      }
    }
  }

  findings(): Found[] {
    const found: Found[] = [];
    for (const [owner, splits] of this.#machines) {
      for (const [by, { count, since, until, lines }] of splits.by) {
        if (count < SPLITS) continue;
        const [name, what] = WORDS[by];
        const message = `${count} huge pages were split by ${name}`;
        found.push({ code: "huge-page-split", message, details: [what], count, owner, since, until, evidence: lines });
      }
    }
    return found;
  }

  #of(pages: Pages): Splits {
    let splits = this.#machines.get(pages);
    if (splits === undefined) {
      splits = new Splits();
      this.#machines.set(pages, splits);
    }
    return splits;
  }
}

const FRAMES = 512;
const LEVELS = 8;
/** Pages of 1 GiB are the largest. */
const HIGHEST = 3;
const baseOf = (gfn: number, level: number): number => gfn - (gfn % FRAMES ** (level - 1));
const keyOf = (gfn: number, level: number): number => gfn * LEVELS + level;

/** A fault on the tables that map a guest's physical memory, not on those that shadow a guest's own. */
function isDirectFault(thread: Thread): boolean {
  return thread.fault.open && !thread.nested && faultFormat(thread) !== "shadow";
}
