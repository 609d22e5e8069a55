/**
 * Pages that are zapped and made again in a loop: KVM gives up a shadowed table that the guest writes to again and again
 * (detect_write_flooding), or that it keeps making for an access that never gets its accessed bit.
 */
import { Kind, Slot } from "../events/kinds.js";
import type { EventRecord } from "../events/record.js";
import { type RoleForm, roleText } from "../events/role.js";
import type { ModelListener } from "../model/model.js";
import type { Page } from "../model/pages.js";
import type { Thread } from "../model/thread.js";
import { Evidence, type Finding } from "./finding.js";
import { CHURN_GAP, CHURN_ROUNDS, FOLLOWED } from "./thresholds.js";

const PAGE_SIZE = 4096;

interface Loop {
  readonly evidence: Evidence;
  /** Most rounds without a long pause, and the evidence of those. */
  best: number;
  zapTime: number;
  zapped: boolean;
  /** Zaps while the guest's write to the table was handled. */
  writes: number;
  /** Walks that set an accessed bit in the guest's table. */
  accessed: number;
  vcpu: number;
}

export class ChurnDetector implements ModelListener {
  readonly #loops = new Map<Page, Loop>();
  /** By frame: the loops of its pages. */
  readonly #frames = new Map<number, Loop>();
  /** Pages beyond those that are followed. */
  unfollowed = 0;
  #epoch = 0;

  onZapAll(): void {
    this.#epoch++;
  }

  onZap(thread: Thread, page: Page, record: EventRecord): void {
    // What a zap-all made obsolete is zapped by it, however long that takes.
    if (page.live === 0 || page.epoch < this.#epoch) return;
    const loop = this.#of(page);
    if (loop === undefined) return;
    loop.zapped = true;
    loop.zapTime = record.time;
    if (thread.fault.open && (thread.fault.emulated || written(thread) === page.gfn)) loop.writes++;
    if (loop.evidence.count > 0) loop.evidence.show(record);
  }

  onGot(thread: Thread, page: Page, created: boolean, _root: boolean, record: EventRecord): void {
    if (!created) return;
    const loop = this.#loops.get(page);
    if (loop === undefined || !loop.zapped) return;
    loop.zapped = false;
    if (record.time - loop.zapTime > CHURN_GAP) {
      if (loop.evidence.count < CHURN_ROUNDS) loop.evidence.clear();
      return;
    }
    loop.evidence.add(record);
    loop.best = Math.max(loop.best, loop.evidence.count);
    if (thread.vcpu !== -1) loop.vcpu = thread.vcpu;
  }

  onEvent(_thread: Thread, record: EventRecord): void {
    if (record.kind !== Kind.kvm_mmu_set_accessed_bit || this.#frames.size === 0) return;
    const loop = this.#frames.get(Math.floor(record.number(Slot.gpa) / PAGE_SIZE));
    if (loop !== undefined) loop.accessed++;
  }

  findings(form: RoleForm): Finding[] {
    const found: Finding[] = [];
    for (const [page, loop] of this.#loops) {
      if (loop.best < CHURN_ROUNDS) continue;
      const details: string[] = [];
      const half = loop.best / 2;
      if (loop.writes >= half)
        details.push("the zaps come with writes to the table: KVM takes them for flooding, and gives up shadowing it");
      if (loop.accessed >= half)
        details.push("walks set accessed bits in the table again and again: they are missing each time");
      if (page.direct) details.push("the page is direct: the guest's writes to tables are not the reason");
      found.push({
        code: "page-churn",
        message: `gfn ${page.gfn.toString(16)} (${roleText(page.role, form)}) was zapped and made again ${loop.best} times, each within ${CHURN_GAP} s`,
        details,
        count: loop.best,
        ...(loop.vcpu !== -1 && { vcpu: loop.vcpu }),
        gfn: page.gfn,
        role: roleText(page.role, form),
        since: loop.evidence.since,
        until: loop.evidence.until,
        evidence: loop.evidence.lines,
      });
    }
    return found;
  }

  #of(page: Page): Loop | undefined {
    const known = this.#loops.get(page);
    if (known !== undefined) return known;
    if (this.#loops.size >= FOLLOWED) {
      this.unfollowed++;
      return undefined;
    }
    const loop: Loop = {
      evidence: new Evidence(),
      best: 0,
      zapTime: 0,
      zapped: false,
      writes: 0,
      accessed: 0,
      vcpu: -1,
    };
    this.#loops.set(page, loop);
    if (!page.direct) this.#frames.set(page.gfn, loop);
    return loop;
  }
}

/** The frame of the address that a fault is about: of nested paging's faults, a table's own. */
function written({ fault }: Thread): number {
  return Math.floor((fault.addressHigh * 2 ** 32 + fault.addressLow) / PAGE_SIZE);
}
