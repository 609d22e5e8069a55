/**
 * Pages that are zapped and made again in a loop: KVM gives up a shadowed table that the guest writes to again and again
 * (detect_write_flooding), or that it keeps making for an access that never gets its accessed bit.
 */
import { Kind, Slot } from "../events/kinds.js";
import type { EventRecord } from "../events/record.js";
import { type RoleForm, roleText } from "../events/role.js";
import type { ModelListener } from "../model/model.js";
import type { Page, Pages } from "../model/pages.js";
import type { Thread } from "../model/thread.js";
import { Evidence, type Found } from "./finding.js";
import { CHURN_GAP, CHURN_ROUNDS, FOLLOWED, SPREAD_CHURN_LEAST, SPREAD_CHURN_ROUNDS } from "./thresholds.js";

const PAGE_SIZE = 4096;
const FLOODED = "the zaps come with writes to the table: KVM takes them for flooding, and gives up shadowing it";

class Loop {
  readonly evidence = new Evidence();
  /** Most rounds without a long pause, and all. */
  best = 0;
  rounds = 0;
  zapTime = 0;
  zapped = false;
  /** Zaps while the guest's write to the table was handled. */
  writes = 0;
  /** Walks that set an accessed bit in the guest's table. */
  accessed = 0;
  thread: Thread | undefined;
}

export class ChurnDetector implements ModelListener {
  readonly #loops = new Map<Page, Loop>();
  /** By machine and frame: the loops of its pages. */
  readonly #frames = new Map<Pages, Map<number, Loop>>();
  /** Rounds of shadowed tables, by machine. */
  readonly #all = new Map<Pages, Evidence>();
  /** Pages beyond those that are followed. */
  unfollowed = 0;

  onZap(thread: Thread, page: Page, record: EventRecord): void {
    // What a zap-all made obsolete is zapped by it, however long that takes.
    if (page.live === 0 || page.epoch < page.owner.epoch) return;
    const loop = this.#of(page);
    if (loop === undefined) return;
    loop.zapped = true;
    loop.zapTime = record.time;
    if (record.counted && thread.fault.open && (thread.fault.emulated || written(thread) === page.gfn)) loop.writes++;
    if (loop.evidence.count > 0) loop.evidence.show(record);
  }

  onGot(thread: Thread, page: Page, created: boolean, _root: boolean, record: EventRecord): void {
    if (!created) return;
    const loop = this.#loops.get(page);
    if (loop === undefined || !loop.zapped) return;
    loop.zapped = false;
    // A time that goes far back is another trace's.
    if (Math.abs(record.time - loop.zapTime) > CHURN_GAP) {
      if (loop.evidence.count < CHURN_ROUNDS) loop.evidence.clear();
      return;
    }
    loop.evidence.add(record);
    if (record.counted) loop.rounds++;
    loop.best = Math.max(loop.best, loop.evidence.count);
    if (thread.vcpu !== -1) loop.thread = thread;
    if (page.direct) return;
    let all = this.#all.get(page.owner);
    if (all === undefined) {
      all = new Evidence();
      this.#all.set(page.owner, all);
    }
    all.add(record);
  }

  onEvent(thread: Thread, record: EventRecord): void {
    if (record.kind !== Kind.kvm_mmu_set_accessed_bit || thread.pages === undefined || !record.counted) return;
    const loop = this.#frames.get(thread.pages)?.get(Math.floor(record.number(Slot.gpa) / PAGE_SIZE));
    if (loop !== undefined) loop.accessed++;
  }

  /** `isRebuilt`: the machine's direct pages go with roots that are made again, which is a finding of its own. */
  findings(form: RoleForm, isRebuilt: (owner: Pages) => boolean): Found[] {
    const found: Found[] = [];
    const looping = new Set<Pages>();
    for (const [page, loop] of this.#loops) {
      if (loop.best < CHURN_ROUNDS || (page.direct && isRebuilt(page.owner))) continue;
      if (!page.direct) looping.add(page.owner);
      found.push(ofPage(page, loop, form));
    }
    for (const [owner, evidence] of this.#all) {
      if (looping.has(owner) || evidence.count < SPREAD_CHURN_ROUNDS) continue;
      const loops = [...this.#loops].filter(
        ([page, { rounds }]) => page.owner === owner && !page.direct && rounds >= SPREAD_CHURN_LEAST,
      );
      const count = loops.reduce((sum, [, { rounds }]) => sum + rounds, 0);
      if (count < SPREAD_CHURN_ROUNDS) continue;
      const writes = loops.reduce((sum, [, loop]) => sum + loop.writes, 0);
      found.push({
        code: "page-churn",
        message: `${loops.length} shadowed tables were zapped and made again ${count} times in all, each within ${CHURN_GAP} s`,
        details: [
          ...(writes >= count / 2 ? [FLOODED] : []),
          "no table has many rounds: the guest gives its page tables from one process to the next, or KVM has too few pages (KVM_SET_NR_MMU_PAGES)",
        ],
        count,
        owner,
        since: evidence.since,
        until: evidence.until,
        evidence: evidence.lines,
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
    const loop = new Loop();
    this.#loops.set(page, loop);
    if (page.direct) return loop;
    let frames = this.#frames.get(page.owner);
    if (frames === undefined) {
      frames = new Map();
      this.#frames.set(page.owner, frames);
    }
    frames.set(page.gfn, loop);
    return loop;
  }
}

function ofPage(page: Page, { best, writes, accessed, thread, evidence }: Loop, form: RoleForm): Found {
  const details: string[] = [];
  const half = best / 2;
  if (writes >= half) details.push(FLOODED);
  if (accessed >= half)
    details.push("walks set accessed bits in the table again and again: they are missing each time");
  if (page.direct) {
    details.push(
      "the page is direct: the guest's writes to tables are not the reason; look for what takes the host's mappings away (kvm_unmap_hva_range: ballooning, KSM, NUMA balancing)",
    );
  }
  return {
    code: "page-churn",
    message: `gfn ${page.gfn.toString(16)} (${roleText(page.role, form)}) was zapped and made again ${best} times, each within ${CHURN_GAP} s`,
    details,
    count: best,
    owner: page.owner,
    ...(thread !== undefined && { vcpu: thread.vcpu }),
    gfn: page.gfn,
    role: roleText(page.role, form),
    since: evidence.since,
    until: evidence.until,
    evidence: evidence.lines,
  };
}

/** The frame of the address that a fault is about: of nested paging's faults, a table's own. */
function written({ fault }: Thread): number {
  return Math.floor((fault.addressHigh * 2 ** 32 + fault.addressLow) / PAGE_SIZE);
}
