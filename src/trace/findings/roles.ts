/**
 * Roles that no kernel makes, and events of a page that its role rules out. Only what holds in every kernel whose text this is:
 * kvm_mmu_get_page and kvm_unsync_page of arch/x86/kvm/mmu/mmu.c, 4.19 to 7.3.
 */

import { decodeWord, type RoleLayout } from "../../role/index.js";
import { Kind, PAGE_EVENTS, Slot } from "../events/kinds.js";
import type { EventRecord } from "../events/record.js";
import { DIRECT, FOUR_BYTE, INVALID, levelOf, quadrantOf, type RoleForm, roleText } from "../events/role.js";
import type { ModelListener } from "../model/model.js";
import type { Pages } from "../model/pages.js";
import type { Thread } from "../model/thread.js";
import { Evidence, type Found } from "./finding.js";
import { FOLLOWED } from "./thresholds.js";

const MOST_LEVELS = 5;
/** Tables of 4-byte entries have two levels. */
const FOUR_BYTE_LEVELS = 2;

interface Bad {
  readonly role: number;
  readonly why: string;
  readonly gfn: number;
  readonly owner: Pages | undefined;
  readonly evidence: Evidence;
}

/** What is known of the kernel at the end. */
export interface RoleEra {
  readonly before517: boolean;
  readonly expectedForm: RoleForm | undefined;
}

const FORM_TEXTS: Readonly<Record<RoleForm, string>> = {
  pae: "as until 5.0",
  size: "with three rights, as from 5.1 to 7.1",
  "four-rights": "with four rights, as from 7.2 on",
};

export class RolesDetector implements ModelListener {
  readonly #form: () => RoleForm;
  readonly #layout: () => RoleLayout | undefined;
  /** The first pages, and those in another form. */
  readonly #first = new Evidence();
  #firstForm: RoleForm | undefined;
  readonly #otherForm = new Evidence();
  /** Direct pages with guest entries of 4 bytes: until 5.16 there are none. */
  readonly #smallDirect = new Evidence();
  readonly #bad = new Map<string, Bad>();
  /** What was found out of a role, by kind and role: most roles are fine, and come again and again. */
  readonly #words = new Map<number, string>();
  readonly #judged = new Map<number, string | undefined>();

  constructor(form: () => RoleForm, layout: () => RoleLayout | undefined) {
    this.#form = form;
    this.#layout = layout;
  }

  onEvent(thread: Thread, record: EventRecord): void {
    if (!PAGE_EVENTS.has(record.kind) || !record.counted) return;
    const role = record.low[Slot.role]!;
    const form = this.#form();
    this.#firstForm ??= form;
    if (form !== this.#firstForm) this.#otherForm.add(record);
    this.#first.add(record);
    if (form === "size" && (role & DIRECT) !== 0 && (role & FOUR_BYTE) !== 0) this.#smallDirect.add(record);
    const layout = this.#layout();
    if (record.word !== -1 && layout !== undefined) this.#judgeWord(thread, record.word, role, layout, record);
    const key = role * PAGE_KEYS + record.kind;
    let why = this.#judged.get(key);
    if (why === undefined && !this.#judged.has(key)) {
      why = problemOf(role, record.kind, form);
      if (this.#judged.size < FOLLOWED) this.#judged.set(key, why);
    }
    if (why !== undefined) this.#report(thread, role, why, record);
    const unsync = record.low[Slot.unsync] === 1;
    if (unsync && (levelOf(role) !== 1 || role & DIRECT) && isGotOrZapped(record.kind)) {
      this.#report(thread, role, UNSYNC_PAGES, record);
    }
  }

  /** A whole role word, which says more than the kernel's text. */
  #judgeWord(thread: Thread, word: number, role: number, layout: RoleLayout, record: EventRecord): void {
    let why = this.#words.get(word);
    if (why === undefined) {
      why = problemOfWord(word, layout) ?? FINE;
      if (this.#words.size < FOLLOWED) this.#words.set(word, why);
    }
    if (why !== FINE) this.#report(thread, role, why, record);
  }

  findings(form: RoleForm, { before517, expectedForm }: RoleEra): Found[] {
    const found: Found[] = [];
    const printed = (evidence: Evidence, message: string) =>
      found.push({
        code: "impossible-role",
        message,
        details: [],
        count: evidence.count,
        since: evidence.since,
        until: evidence.until,
        evidence: evidence.lines,
      });
    const first = this.#firstForm;
    if (this.#otherForm.count > 0)
      printed(this.#otherForm, `roles are printed in two ways: first ${FORM_TEXTS[first!]}, then otherwise`);
    if (first !== undefined && expectedForm !== undefined && expectedForm !== first) {
      printed(
        this.#first,
        `roles are printed ${FORM_TEXTS[first]}: the kernel prints them ${FORM_TEXTS[expectedForm]}`,
      );
    }
    if (before517 && this.#smallDirect.count > 0)
      printed(this.#smallDirect, "direct pages have guest entries of 4 bytes: kernels until 5.16 give them 8");
    const bad = [...this.#bad.values()].map(({ role, why, gfn, owner, evidence }) => ({
      code: "impossible-role" as const,
      message: `${roleText(role, form)}: ${why}`,
      details: [`first of gfn ${gfn.toString(16)}`],
      count: evidence.count,
      owner,
      gfn,
      role: roleText(role, form),
      since: evidence.since,
      until: evidence.until,
      evidence: evidence.lines,
    }));
    return [...found, ...bad];
  }

  #report(thread: Thread, role: number, why: string, record: EventRecord): void {
    const key = `${role} ${why}`;
    let bad = this.#bad.get(key);
    if (bad === undefined) {
      if (this.#bad.size >= FOLLOWED) return;
      bad = { role, why, gfn: record.number(Slot.gfn), owner: thread.pages, evidence: new Evidence() };
      this.#bad.set(key, bad);
    }
    bad.evidence.add(record);
  }
}

const PAGE_KEYS = 64;
const UNSYNC_PAGES = "only shadow pages of level 1 are ever out of sync (mmu_try_to_unsync_pages)";
const isGotOrZapped = (kind: number): boolean =>
  kind === Kind.kvm_mmu_get_page || kind === Kind.kvm_mmu_prepare_zap_page;
/** A role word in which nothing is wrong. */
const FINE = "";

/** What no kernel with that layout puts into a role word. */
function problemOfWord(word: number, layout: RoleLayout): string | undefined {
  const { fields, unknown } = decodeWord(layout.base, word);
  if (unknown !== 0)
    return `the role word 0x${word.toString(16)} has bits that Linux ${layout.kernels} has no field for`;
  if (fields.smep_andnot_wp === 1 && fields.cr0_wp === 1)
    return `the role word 0x${word.toString(16)} has both cr0_wp and smep_andnot_wp`;
  return undefined;
}

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
  // Direct pages that are synced are the other detector's.
  if (kind === Kind.kvm_mmu_unsync_page && (level !== 1 || role & DIRECT)) return UNSYNC_PAGES;
  if (kind === Kind.kvm_mmu_sync_page && level !== 1 && !(role & DIRECT)) return UNSYNC_PAGES;
  if (kind === Kind.kvm_mmu_unsync_page && role & INVALID) return "a page that is on its way out is never made unsync";
  return undefined;
}
