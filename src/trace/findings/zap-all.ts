/** Zap-alls one after another: every page of the virtual machine becomes obsolete at each (kvm_mmu_zap_all_fast). */
import { Slot } from "../events/kinds.js";
import type { EventRecord } from "../events/record.js";
import type { ModelListener } from "../model/model.js";
import { Evidence, type Finding } from "./finding.js";
import { FELT_ZAP_ALLS, ZAP_ALL_PAGES, ZAP_ALL_WINDOW, ZAP_ALLS } from "./thresholds.js";

/** Zap-alls of the window that are looked at. */
const MOST_KEPT = 64;

export class ZapAllDetector implements ModelListener {
  readonly #evidence = new Evidence();
  /** Times of the last ones, the oldest first. */
  readonly #last: { readonly time: number; readonly pages: number }[] = [];
  /** Most within the window, and most of those that found pages enough to be felt. */
  #most = 0;
  #mostFelt = 0;
  #pages = 0;

  onZapAll(record: EventRecord): void {
    this.#evidence.add(record);
    this.#pages += record.number(Slot.used_pages);
    this.#last.push({ time: record.time, pages: record.number(Slot.used_pages) });
    while (record.time - this.#last[0]!.time > ZAP_ALL_WINDOW) this.#last.shift();
    this.#most = Math.max(this.#most, this.#last.length);
    const pages = this.#last.reduce((sum, one) => sum + one.pages, 0);
    if (pages >= ZAP_ALL_PAGES) this.#mostFelt = Math.max(this.#mostFelt, this.#last.length);
    if (this.#last.length > MOST_KEPT) this.#last.shift();
  }

  findings(): Finding[] {
    if (this.#most < ZAP_ALLS && this.#mostFelt < FELT_ZAP_ALLS) return [];
    const { count, since, until, lines } = this.#evidence;
    return [
      {
        code: "zap-all-storm",
        message: `${count} zap-alls, up to ${this.#most} within ${ZAP_ALL_WINDOW} s`,
        details: [
          `${this.#pages} pages were in use at them in all, and had to be made again`,
          "deleting or moving a memslot does that: a device whose BAR or ROM is mapped and unmapped, a framebuffer, hotplug",
        ],
        count,
        since,
        until,
        evidence: lines,
      },
    ];
  }
}
