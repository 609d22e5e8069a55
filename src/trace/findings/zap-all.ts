/** Zap-alls one after another: every page of the virtual machine becomes obsolete at each (kvm_mmu_zap_all_fast). */
import { Kind, Slot } from "../events/kinds.js";
import type { EventRecord } from "../events/record.js";
import type { ModelListener } from "../model/model.js";
import type { Pages } from "../model/pages.js";
import type { Outcome, Thread } from "../model/thread.js";
import { Evidence, type Found } from "./finding.js";
import {
  FELT_ZAP_ALLS,
  STEADY_ZAP_ALL_TIME,
  STEADY_ZAP_ALLS,
  ZAP_ALL_PAGES,
  ZAP_ALL_PAUSE,
  ZAP_ALL_WINDOW,
  ZAP_ALLS,
} from "./thresholds.js";

/** Zap-alls of the window that are looked at. */
const MOST_KEPT = 64;
/** Whose machine is not known is told apart by thread, up to so many. */
const MOST_KEYS = 4096;

interface ZapAll {
  readonly time: number;
  /** In use, of those that the kernel counts. */
  readonly used: number;
  /** Made, and entries mapped, until the next. */
  again: number;
}

/** The zap-alls of one virtual machine. */
class ZapAlls {
  readonly evidence = new Evidence();
  readonly owner: Pages | undefined;
  /** The last ones, the oldest first. */
  readonly last: ZapAll[] = [];
  /** Most within the window, and most of those that found pages enough to be felt. */
  most = 0;
  mostFelt = 0;
  used = 0;
  again = 0;
  /** Of those without a long pause: how many, and from when on; and the longest such row. */
  inRow = 0;
  rowFrom = 0;
  steady = 0;
  steadyTime = 0;

  constructor(owner: Pages | undefined) {
    this.owner = owner;
  }

  add(record: EventRecord): void {
    this.evidence.add(record);
    const { time } = record;
    const used = record.number(Slot.used_pages);
    this.used += used;
    const before = this.last.at(-1);
    this.judge();
    if (before === undefined || time - before.time > ZAP_ALL_PAUSE) {
      this.inRow = 0;
      this.rowFrom = time;
    }
    this.inRow++;
    if (this.inRow >= STEADY_ZAP_ALLS && time - this.rowFrom > this.steadyTime) {
      this.steady = this.inRow;
      this.steadyTime = time - this.rowFrom;
    }
    this.last.push({ time, used, again: 0 });
    while (time - this.last[0]!.time > ZAP_ALL_WINDOW) this.last.shift();
    if (this.last.length > MOST_KEPT) this.last.shift();
    this.most = Math.max(this.most, this.last.length);
    this.judge();
  }

  madeAgain(): void {
    const last = this.last.at(-1);
    if (last === undefined) return;
    last.again++;
    this.again++;
  }

  /** Those of the window, with what each was found to cost. */
  judge(): void {
    // The TDP MMU's pages are counted by what is made again, for it is not in the kernel's number.
    const pages = this.last.reduce((sum, { used, again }) => sum + Math.max(used, again), 0);
    if (pages >= ZAP_ALL_PAGES) this.mostFelt = Math.max(this.mostFelt, this.last.length);
  }
}

export class ZapAllDetector implements ModelListener {
  readonly #of = new Map<Pages | Thread, ZapAlls>();
  #tdpMmu = false;

  onZapAll(owner: Pages | undefined, record: EventRecord, thread: Thread): void {
    if (!record.counted) return;
    const key = owner ?? thread;
    let all = this.#of.get(key);
    if (all === undefined) {
      if (this.#of.size >= MOST_KEYS) return;
      all = new ZapAlls(owner);
      this.#of.set(key, all);
    }
    all.add(record);
  }

  onFault(thread: Thread, outcome: Outcome): void {
    if (this.#of.size === 0 || outcome !== "mapped" || thread.pages === undefined) return;
    this.#of.get(thread.pages)?.madeAgain();
  }

  onEvent(_thread: Thread, record: EventRecord): void {
    if (record.kind === Kind.kvm_tdp_mmu_spte_changed) this.#tdpMmu = true;
  }

  findings(): Found[] {
    const found: Found[] = [];
    for (const all of this.#of.values()) {
      all.judge();
      const isSteady = all.steady >= STEADY_ZAP_ALLS && all.steadyTime >= STEADY_ZAP_ALL_TIME;
      if (all.most < ZAP_ALLS && all.mostFelt < FELT_ZAP_ALLS && !isSteady) continue;
      const { count, since, until, lines } = all.evidence;
      const how =
        all.most >= ZAP_ALLS || all.mostFelt >= FELT_ZAP_ALLS
          ? `up to ${all.most} within ${ZAP_ALL_WINDOW} s`
          : `${all.steady} of them over ${Math.round(all.steadyTime)} s without a pause of ${ZAP_ALL_PAUSE} s`;
      const details: string[] = [];
      if (!this.#tdpMmu || all.used > 0)
        details.push(`${all.used} shadow pages were in use at them in all, and had to be made again`);
      if (this.#tdpMmu) details.push("pages of the TDP MMU are not in the kernel's number of pages in use");
      if (all.again > 0) details.push(`${all.again} faults mapped memory again after them`);
      details.push(
        "deleting or moving a memslot does that: a device whose BAR or ROM is mapped and unmapped, a framebuffer, hotplug; the VMM's own log of memory regions at those times says which",
      );
      found.push({
        code: "zap-all-storm",
        message: `${count} zap-alls, ${how}`,
        details,
        count,
        owner: all.owner,
        since,
        until,
        evidence: lines,
      });
    }
    return found;
  }
}
