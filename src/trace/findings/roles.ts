/**
 * Roles that no kernel makes, and events of a page that its role rules out. Only what holds in every kernel whose text this is:
 * kvm_mmu_get_page and kvm_unsync_page of arch/x86/kvm/mmu/mmu.c, 4.19 to 7.3.
 */
import { Kind, PAGE_EVENTS, Slot } from "../events/kinds.js";
import type { EventRecord } from "../events/record.js";
import { DIRECT, FOUR_BYTE, INVALID, levelOf, quadrantOf, type RoleForm, roleText } from "../events/role.js";
import type { ModelListener } from "../model/model.js";
import type { Thread } from "../model/thread.js";
import { Evidence, type Finding } from "./finding.js";
import { FOLLOWED } from "./thresholds.js";

const MOST_LEVELS = 5;
/** Tables of 4-byte entries have two levels. */
const FOUR_BYTE_LEVELS = 2;

interface Bad {
  readonly role: number;
  readonly why: string;
  readonly gfn: number;
  readonly evidence: Evidence;
}

export class RolesDetector implements ModelListener {
  readonly #form: () => RoleForm;
  readonly #bad = new Map<string, Bad>();
  /** What was found out of a role, by kind and role: most roles are fine, and come again and again. */
  readonly #judged = new Map<number, string | undefined>();

  constructor(form: () => RoleForm) {
    this.#form = form;
  }

  onEvent(_thread: Thread, record: EventRecord): void {
    if (!PAGE_EVENTS.has(record.kind)) return;
    const role = record.low[Slot.role]!;
    const key = role * PAGE_KEYS + record.kind;
    let why = this.#judged.get(key);
    if (why === undefined && !this.#judged.has(key)) {
      why = problemOf(role, record.kind, this.#form());
      if (this.#judged.size < FOLLOWED) this.#judged.set(key, why);
    }
    if (why !== undefined) this.#report(role, why, record);
    const unsync = record.low[Slot.unsync] === 1;
    if (unsync && (levelOf(role) !== 1 || role & DIRECT) && record.kind !== Kind.kvm_mmu_sync_page) {
      this.#report(role, "only shadow pages of level 1 are ever out of sync", record);
    }
  }

  findings(form: RoleForm): Finding[] {
    return [...this.#bad.values()].map(({ role, why, gfn, evidence }) => ({
      code: "impossible-role" as const,
      message: `${roleText(role, form)}: ${why}`,
      details: [`first of gfn ${gfn.toString(16)}`],
      count: evidence.count,
      gfn,
      role: roleText(role, form),
      since: evidence.since,
      until: evidence.until,
      evidence: evidence.lines,
    }));
  }

  #report(role: number, why: string, record: EventRecord): void {
    const key = `${role} ${why}`;
    let bad = this.#bad.get(key);
    if (bad === undefined) {
      if (this.#bad.size >= FOLLOWED) return;
      bad = { role, why, gfn: record.number(Slot.gfn), evidence: new Evidence() };
      this.#bad.set(key, bad);
    }
    bad.evidence.add(record);
  }
}

const PAGE_KEYS = 64;

/** Why no kernel has such a role in such an event; undefined where some kernel does. */
function problemOf(role: number, kind: number, form: RoleForm): string | undefined {
  const level = levelOf(role);
  if (level < 1 || level > MOST_LEVELS) return `a page has level 1 to ${MOST_LEVELS}`;
  // Until 5.0 a direct page has no entry size.
  const four = (role & FOUR_BYTE) !== 0 && !(form === "pae" && role & DIRECT);
  if (!four && quadrantOf(role) !== 0 && form !== "pae") return "only tables of 4-byte entries have quadrants";
  if (four && level > FOUR_BYTE_LEVELS) return "tables of 4-byte entries have two levels";
  if (four && level === 1 && quadrantOf(role) > 1) return "a page table of 4-byte entries has two quadrants";
  if (kind === Kind.kvm_mmu_get_page && role & INVALID) return "a page that is on its way out is never got";
  if (kind === Kind.kvm_mmu_unsync_page && role & INVALID) return "a page that is on its way out is never made unsync";
  return undefined;
}
