/** Zap-alls one after another: every page of the virtual machine becomes obsolete at each (kvm_mmu_zap_all_fast). */
import { Slot } from "../events/kinds.js";
import type { EventRecord } from "../events/record.js";
import type { ModelListener } from "../model/model.js";
import { Evidence, type Finding } from "./finding.js";
import { ZAP_ALL_WINDOW, ZAP_ALLS } from "./thresholds.js";

export class ZapAllDetector implements ModelListener {
  readonly #evidence = new Evidence();
  /** Times of the last ones, the oldest first. */
  readonly #times: number[] = [];
  /** Most within the window. */
  #most = 0;
  #pages = 0;

  onZapAll(record: EventRecord): void {
    this.#evidence.add(record);
    this.#pages += record.number(Slot.used_pages);
    this.#times.push(record.time);
    while (record.time - this.#times[0]! > ZAP_ALL_WINDOW) this.#times.shift();
    this.#most = Math.max(this.#most, this.#times.length);
    if (this.#times.length > ZAP_ALLS * ZAP_ALLS) this.#times.shift();
  }

  findings(): Finding[] {
    if (this.#most < ZAP_ALLS) return [];
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
