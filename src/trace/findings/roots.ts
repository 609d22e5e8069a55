/**
 * Roots that are got again on every switch although they are among the last that the vCPU had: KVM keeps the current root and
 * three before it (struct kvm_mmu, prev_roots), and takes one of those without kvm_mmu_get_page where page-table base and role
 * are the same (cached_root_available of Linux 4.19, cached_root_find_and_keep_current of 6.1). A role bit that the wanted role
 * has and stored pages never do makes every look-up miss: `cr4_pae` of direct pages was one until 5.1.
 */
import type { EventRecord } from "../events/record.js";
import { differingFields, FOUR_BYTE, levelOf, type RoleForm, roleText } from "../events/role.js";
import type { ModelListener } from "../model/model.js";
import type { Page } from "../model/pages.js";
import { SWITCHES, type SwitchKind, type Thread } from "../model/thread.js";
import { Evidence, type Finding } from "./finding.js";
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
      found = { switches: 0, missed: 0, evidence: new Evidence(), pages: new Set() };
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
  /** The highest level of a root. */
  #highest = 0;
  readonly #byThread = new Map<Thread, Roots>();
  /** Roles with which the frame of a root was a root. */
  readonly #roles = new Map<number, number[]>();

  onSwitch(thread: Thread, kind: SwitchKind, record: EventRecord): void {
    const roots = this.#of(thread);
    if (roots === undefined) return;
    const misses = roots.of(kind);
    misses.switches++;
    if (misses.missed > 0) misses.evidence.show(record);
    roots.counted = false;
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
    // One that was made anew was gone, unless only its role was another.
    const again = roots.recent.includes(page) ? !created : sameFrame !== undefined && this.#oneField(page, sameFrame);
    roots.loaded(page);
    if (!again || (roots.counted && this.#entries)) return;
    roots.counted = true;
    const misses = roots.of(thread.switched ?? "not seen");
    misses.missed++;
    misses.pages.add(page);
    misses.evidence.add(record);
  }

  onZap(_thread: Thread, page: Page): void {
    for (const { recent } of this.#byThread.values()) {
      const at = recent.indexOf(page);
      if (at >= 0) recent.splice(at, 1);
    }
  }

  onZapAll(): void {
    for (const { recent } of this.#byThread.values()) recent.length = 0;
  }

  onLost(): void {
    this.onZapAll();
  }

  onReset(thread: Thread): void {
    const roots = this.#byThread.get(thread);
    if (roots !== undefined) roots.recent.length = 0;
  }

  /** `old`: the kernel is one of 4.19 to 5.0, in which direct pages never keep cr4_pae. */
  findings(form: RoleForm, old: boolean): Finding[] {
    const found: Finding[] = [];
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

  #finding(thread: Thread, kind: SwitchKind, misses: Misses, form: RoleForm, old: boolean): Finding {
    const pages = [...misses.pages];
    const page = pages[0]!;
    const of = kind === "not seen" ? "entries" : `of ${misses.switches} switches (${kind})`;
    const others = pages.length > 1 ? ` and ${pages.length - 1} more` : "";
    const message =
      `vCPU ${thread.vcpu}: the root of gfn ${page.gfn.toString(16)} (${roleText(page.role, form)})${others} is got again ` +
      `on ${misses.missed} ${of}, though it is among the last ${KEPT_ROOTS} that the vCPU had`;
    const fields = this.#fields(page, form);
    const details: string[] = [];
    if (fields.length > 0) {
      details.push(
        `the same root is known by roles that differ in ${fields.join(", ")}: a stale bit that no look-up can match`,
      );
    } else {
      details.push(
        "every role is the same in what a trace shows: what differs is a bit that stored pages do not keep or that is not printed",
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
  #fields({ gfn }: Page, form: RoleForm): string[] {
    const roles = this.#roles.get(gfn) ?? [];
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

  #remember({ gfn, role }: Page): void {
    const known = this.#roles.get(gfn);
    if (known === undefined) {
      if (this.#roles.size < FOLLOWED) this.#roles.set(gfn, [role]);
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
