/**
 * Roots that are got again on every switch although they are among the last that the vCPU had: KVM keeps the current root and
 * three before it (struct kvm_mmu, prev_roots), and takes one of those without kvm_mmu_get_page where page-table base and role
 * are the same (cached_root_available of Linux 4.19, cached_root_find_and_keep_current of 6.1). A role bit that the wanted role
 * has and stored pages never do makes every look-up miss: `cr4_pae` of direct pages was one until 5.1.
 */

import { Kind } from "../events/kinds.js";
import type { EventRecord } from "../events/record.js";
import { differingFields, FOUR_BYTE, levelOf, type RoleForm, roleText } from "../events/role.js";
import type { ModelListener } from "../model/model.js";
import type { Page, Pages } from "../model/pages.js";
import { SWITCHES, type SwitchKind, type Thread } from "../model/thread.js";
import { Evidence, type Found } from "./finding.js";
import { BLIND_ROOT_MISSES, FOLLOWED, KEPT_ROOTS, ROOT_MISS_SHARE, ROOT_MISSES } from "./thresholds.js";

/** Roots of this level and above are shadow pages of their own; those of PAE guests are never kept. */
const LOWEST_KEPT_LEVEL = 4;
const ROLES_OF_A_ROOT = 8;

/** Switches of one kind on one vCPU. */
interface Misses {
  switches: number;
  /** Switches that got a root again. */
  missed: number;
  readonly evidence: Evidence;
  /** The roots. */
  readonly pages: Set<Page>;
  /** Of those that missed, how many made the root anew. */
  made: number;
}

/** What one vCPU did with its roots. */
class Roots {
  /** The last ones, the newest first. */
  readonly recent: Page[] = [];
  readonly misses = new Map<SwitchKind, Misses>();
  /** The last switch was counted as missed already. */
  counted = false;

  of(kind: SwitchKind): Misses {
    let found = this.misses.get(kind);
    if (found === undefined) {
      found = { switches: 0, missed: 0, evidence: new Evidence(), pages: new Set(), made: 0 };
      this.misses.set(kind, found);
    }
    return found;
  }

  loaded(page: Page): void {
    const at = this.recent.indexOf(page);
    if (at >= 0) this.recent.splice(at, 1);
    this.recent.unshift(page);
    if (this.recent.length > KEPT_ROOTS) this.recent.pop();
  }
}

export class RootsDetector implements ModelListener {
  /** Entries were seen. */
  #entries = false;
  /** Events of the TDP MMU were seen: it traces roots that it makes, and no end of one. */
  #tdpMmu = false;
  /** Roots that were found to be rebuilt. */
  readonly #rebuilt = new Set<Page>();
  readonly #madeAgain = new Set<Pages>();
  /** The highest level of a root. */
  #highest = 0;
  readonly #byThread = new Map<Thread, Roots>();
  /** Roles with which the frame of a root was a root. */
  readonly #roles = new Map<Pages, Map<number, number[]>>();

  onSwitch(thread: Thread, kind: SwitchKind, record: EventRecord): void {
    const roots = this.#of(thread);
    if (roots === undefined) return;
    roots.counted = false;
    if (!record.counted) return;
    const misses = roots.of(kind);
    misses.switches++;
    if (misses.missed > 0) misses.evidence.show(record);
  }

  onEvent(_thread: Thread, record: EventRecord): void {
    if (record.kind === Kind.kvm_tdp_mmu_spte_changed) this.#tdpMmu = true;
  }

  onEntry(thread: Thread): void {
    this.#entries = true;
    const roots = this.#byThread.get(thread);
    if (roots !== undefined) roots.counted = false;
  }

  onGot(thread: Thread, page: Page, created: boolean, root: boolean, record: EventRecord): void {
    if (!root || levelOf(page.role) < LOWEST_KEPT_LEVEL) return;
    const roots = this.#of(thread);
    if (roots === undefined) return;
    this.#remember(page);
    this.#highest = Math.max(this.#highest, page.level);
    const sameFrame = roots.recent.find((one) => one.gfn === page.gfn && one.direct === page.direct);
    // One that was made anew was gone, unless it was there as well, with bits that are not printed, or only its role was
    // another; of the TDP MMU's roots the making alone is traced.
    const again = roots.recent.includes(page)
      ? !created || page.live > 1 || (this.#tdpMmu && page.direct)
      : sameFrame !== undefined && this.#oneField(page, sameFrame);
    roots.loaded(page);
    if (!again || (roots.counted && this.#entries) || !record.counted) return;
    roots.counted = true;
    const misses = roots.of(thread.switched ?? "not seen");
    misses.missed++;
    if (created) misses.made++;
    misses.pages.add(page);
    misses.evidence.add(record);
  }

  onZap(_thread: Thread, page: Page): void {
    for (const { recent } of this.#byThread.values()) {
      const at = recent.indexOf(page);
      if (at >= 0) recent.splice(at, 1);
    }
  }

  onZapAll(owner: Pages | undefined): void {
    for (const [thread, { recent }] of this.#byThread) {
      if (owner === undefined || thread.pages === owner) recent.length = 0;
    }
  }

  onLost(): void {
    this.onZapAll(undefined);
  }

  /** Whether a finding is about that root, or one of its frame. */
  isRebuilt(page: Page): boolean {
    return [...this.#rebuilt].some(({ gfn, owner }) => gfn === page.gfn && owner === page.owner);
  }

  /** Whether a finding is about roots of that machine's direct pages that are made anew, with all that is below them. */
  areMadeAgain(owner: Pages): boolean {
    return this.#madeAgain.has(owner);
  }

  onReset(thread: Thread): void {
    const roots = this.#byThread.get(thread);
    if (roots !== undefined) roots.recent.length = 0;
  }

  /** `old`: the kernel is one of 4.19 to 5.0, in which direct pages never keep cr4_pae. */
  findings(form: RoleForm, old: boolean): Found[] {
    const found: Found[] = [];
    // Without entries, resets are not seen either, and pages below the highest level are taken for roots.
    const least = this.#entries ? ROOT_MISSES : BLIND_ROOT_MISSES;
    for (const [thread, roots] of this.#byThread) {
      for (const kind of SWITCHES) {
        const misses = roots.misses.get(kind);
        if (misses === undefined || misses.missed < least) continue;
        if (!this.#entries && [...misses.pages].some(({ level }) => level < this.#highest)) continue;
        if (kind !== "not seen" && misses.missed < ROOT_MISS_SHARE * misses.switches) continue;
        found.push(this.#finding(thread, kind, misses, form, old));
      }
    }
    return found;
  }

  #finding(thread: Thread, kind: SwitchKind, misses: Misses, form: RoleForm, old: boolean): Found {
    const pages = [...misses.pages];
    const page = pages[0]!;
    for (const one of pages) this.#rebuilt.add(one);
    const made = misses.made > misses.missed / 2;
    if (made && page.direct) this.#madeAgain.add(page.owner);
    const of = kind === "not seen" ? "entries" : `of ${misses.switches} switches (${kind})`;
    const others = pages.length > 1 ? ` and ${pages.length - 1} more` : "";
    const message =
      `${thread.name}: the root of gfn ${page.gfn.toString(16)} (${roleText(page.role, form)})${others} is ${made ? "made anew" : "got again"} ` +
      `on ${misses.missed} ${of}, though it is among the last ${KEPT_ROOTS} that the vCPU had`;
    const fields = this.#fields(page, form);
    const details: string[] = [];
    if (fields.length > 0) {
      details.push(
        `the same root is known by roles that differ in ${fields.join(", ")}: a stale bit that no look-up can match`,
      );
    } else if (!made || !page.direct) {
      details.push(
        "every role is the same in what a trace shows: what differs is a bit that stored pages do not keep or that is not printed",
      );
    }
    if (made && page.direct) {
      details.push(
        "all that is mapped below it is made again by faults: root_mmu's role changes at the switch, or its root is freed (kvm_mmu_free_roots, kvm_tdp_mmu_invalidate_all_roots)",
      );
    }
    if (!this.#entries) details.push("there are no kvm events: what else roots may have been lost by is not seen");
    if (old && page.direct) {
      details.push(
        "kernels until 5.0 clear cr4_pae in direct pages, so a wanted role that has it never matches (fixed in 5.1)",
      );
    }
    return {
      code: "roots-rebuilt",
      message,
      details,
      count: misses.missed,
      owner: page.owner,
      vcpu: thread.vcpu,
      gfn: page.gfn,
      role: roleText(page.role, form),
      fields: fields.length === 0 && old && page.direct ? ["cr4_pae"] : fields,
      since: misses.evidence.since,
      until: misses.evidence.until,
      evidence: misses.evidence.lines,
    };
  }

  /** Fields of which one alone tells two roles of the root's frame apart. */
  #fields({ gfn, owner }: Page, form: RoleForm): string[] {
    const roles = this.#roles.get(owner)?.get(gfn) ?? [];
    const names = new Set<string>();
    for (const [index, one] of roles.entries()) {
      for (const other of roles.slice(0, index)) {
        const fields = differingFields(other, one, form);
        if (fields.length === 1) names.add(fields[0]!);
      }
    }
    return [...names];
  }

  /** Whether two roots of a frame are one but for one field that is no right and no level. */
  #oneField(page: Page, other: Page): boolean {
    const differing = page.role ^ other.role;
    return (
      differing === FOUR_BYTE ||
      (differing !== 0 && differingFields(page.role, other.role).length === 1 && page.level === other.level)
    );
  }

  #remember({ gfn, role, owner }: Page): void {
    let roles = this.#roles.get(owner);
    if (roles === undefined) {
      roles = new Map();
      this.#roles.set(owner, roles);
    }
    const known = roles.get(gfn);
    if (known === undefined) {
      if (roles.size < FOLLOWED) roles.set(gfn, [role]);
    } else if (!known.includes(role) && known.length < ROLES_OF_A_ROOT) known.push(role);
  }

  #of(thread: Thread): Roots | undefined {
    const known = this.#byThread.get(thread);
    if (known !== undefined || this.#byThread.size >= FOLLOWED) return known;
    const roots = new Roots();
    this.#byThread.set(thread, roots);
    return roots;
  }
}
