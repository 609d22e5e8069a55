/**
 * Entries whose bits contradict the role of the page that holds them, or that no kernel stores. Entries are collected by what
 * is in them besides their address, and judged at the end, when it is known what the trace tells of kernel and format.
 */
import { bitOf } from "../../abi/bits.js";
import { SPTE, SPTE_AD } from "../../abi/spte.js";
import type { SpteLayout } from "../../abi/spte-layout.js";
import {
  adType,
  brokenInvariants,
  eptMasks,
  eptReserved,
  isPresentIn,
  legacyMasks,
  legacyReserved,
  type SpteFormat,
} from "../../spte/index.js";
import { Kind, Slot } from "../events/kinds.js";
import type { EventRecord } from "../events/record.js";
import { AD_DISABLED, DIRECT, EXECUTE, levelOf, type RoleForm, roleText, USER, WRITE } from "../events/role.js";
import type { Model, ModelListener } from "../model/model.js";
import type { Page } from "../model/pages.js";
import type { Thread } from "../model/thread.js";
import { Evidence, type Finding } from "./finding.js";
import { FOLLOWED } from "./thresholds.js";

const TABLE_SIZE = 4096;
/** An entry's bits 63:52 in its high half, and 11:0 in its low one. */
const HIGH_PART = 2 ** 20;
const LOW_PART = 2 ** 12;
const HUGE = Number(bitOf(SPTE, "PS"));
/** Address bits 29:13 and 20:13, which an aligned huge page has clear. */
const ALIGNMENT: readonly number[] = [0, 0, 0x1fe000, 0x3fffe000];
const NO_ROLE = -1;

interface Pattern {
  readonly spte: bigint;
  readonly level: number;
  /** Of the page that holds it; -1 where that is not known. */
  readonly role: number;
  /** Rights as the event shows them, in the role's bits; undefined where it shows none. */
  readonly rights: number | undefined;
  readonly gfn: number;
  readonly evidence: Evidence;
}

/** What a trace tells of entries in general. */
export interface SpteEra {
  /** Layouts of all the kernels that it can be of; an entry must be wrong in every one. */
  readonly layouts: readonly SpteLayout[];
  /** undefined where nothing tells. */
  readonly format: SpteFormat | undefined;
  /** Roles say whether entries have A/D bits. */
  readonly adKnown: boolean;
  /** Physical-address bits of the host; 52 where that is not known, so that none is called reserved. */
  readonly physBits: number;
}

export class SpteDetector implements ModelListener {
  readonly #patterns = new Map<number, Pattern>();
  readonly #tables = new Map<number, Page>();
  readonly #model: () => Model;
  unfollowed = 0;

  constructor(model: () => Model) {
    this.#model = model;
  }

  onEvent(thread: Thread, record: EventRecord): void {
    if (record.kind === Kind.kvm_mmu_set_spte) {
      const rights =
        (record.low[Slot.w] === 1 || (record.low[Slot.spte]! & WRITABLE) !== 0 ? WRITE : 0) |
        (record.low[Slot.x] === 1 ? EXECUTE : 0) |
        (record.low[Slot.u] === 1 ? USER : 0);
      this.#collect(record, Slot.spte, this.#owner(thread, record), rights);
    } else if (record.kind === Kind.kvm_tdp_mmu_spte_changed) {
      const low = record.low[Slot.new_spte]!;
      // Nothing of an entry that stands for nothing.
      if (low === 0) return;
      this.#collect(record, Slot.new_spte, this.#tdpOwner(record), undefined);
    }
  }

  /** Pages may have gone, and their tables become others'. */
  onLost(): void {
    this.#tables.clear();
  }

  #collect(record: EventRecord, slot: number, owner: number, rights: number | undefined): void {
    const low = record.low[slot]!;
    const high = record.high[slot]!;
    const level = record.low[Slot.level]!;
    const misaligned = (low & HUGE) !== 0 && (low & (ALIGNMENT[level] ?? 0)) !== 0 ? 1 : 0;
    const bits = Math.floor(high / HIGH_PART) * LOW_PART + (low % LOW_PART);
    const key =
      (((owner + 1) * 16 + (level % 8) * 2 + misaligned) * LOW_PART * LOW_PART + bits) * 2 +
      (rights === undefined ? 1 : 0);
    const known = this.#patterns.get(key);
    if (known !== undefined) {
      known.evidence.count++;
      known.evidence.until = record.time;
      return;
    }
    if (this.#patterns.size >= FOLLOWED) {
      this.unfollowed++;
      return;
    }
    const evidence = new Evidence();
    evidence.add(record);
    this.#patterns.set(key, {
      spte: record.big(slot),
      level,
      role: owner,
      rights,
      gfn: record.number(Slot.gfn),
      evidence,
    });
  }

  /** The role of the page that holds a set entry: the last page of the fault, or the one that the table was known as. */
  #owner(thread: Thread, record: EventRecord): number {
    const at = record.number(Slot.sptep);
    const table = at - (at % TABLE_SIZE);
    const { page } = thread.fault;
    const level = record.low[Slot.level]!;
    if (thread.fault.open && page !== undefined && page.level === level && holds(page, record.number(Slot.gfn))) {
      if (page.table === 0 && this.#tables.size < FOLLOWED) {
        page.table = table;
        this.#tables.set(table, page);
      }
    }
    const known = this.#tables.get(table);
    // Where no page of the level shadows anything, the entry is in a direct one.
    if (known === undefined) return thread.nested || this.#shadows(level) ? NO_ROLE : this.#tdpOwner(record);
    if (known.table !== table || known.level !== level || known.live !== 1 || !holds(known, record.number(Slot.gfn))) {
      if (known.table !== table) this.#tables.delete(table);
      return NO_ROLE;
    }
    return known.role;
  }

  #shadows(level: number): boolean {
    const roles = this.#model().pages.rolesOf(level);
    return roles.some((role) => (role & DIRECT) === 0);
  }

  /** The role of the only page of the TDP MMU that can hold the entry. */
  #tdpOwner(record: EventRecord): number {
    const level = record.low[Slot.level]!;
    const span = FRAMES ** level;
    const gfn = record.number(Slot.gfn);
    const base = gfn - (gfn % span);
    const { pages } = this.#model();
    return pages.onlyDirect(base, level)?.role ?? NO_ROLE;
  }

  findings(era: SpteEra, form: RoleForm): Finding[] {
    const found: Finding[] = [];
    for (const pattern of this.#patterns.values()) {
      const why = problems(pattern, era);
      if (why.length === 0) continue;
      const { spte, role, gfn, level, evidence } = pattern;
      const of = role === NO_ROLE ? `of level ${level}` : `in a page ${roleText(role, form)}`;
      found.push({
        code: "spte-contradicts-role",
        message: `SPTE ${spte.toString(16)} of gfn ${gfn.toString(16)} ${of}: ${why.join("; ")}`,
        details: [],
        count: evidence.count,
        gfn,
        ...(role !== NO_ROLE && { role: roleText(role, form) }),
        since: evidence.since,
        until: evidence.until,
        evidence: evidence.lines,
      });
    }
    return found;
  }
}

const FRAMES = 512;
const WRITABLE = 2;

/** Whether a page of a linear range has an entry for that frame; any other page may have. */
function holds(page: Page, gfn: number): boolean {
  if (!page.direct) return true;
  const span = FRAMES ** page.level;
  return gfn - (gfn % span) === page.gfn - (page.gfn % span);
}

/** What is wrong with an entry, in every layout that the trace's kernel can have. */
function problems({ spte, level, role, rights }: Pattern, { layouts, format, physBits, adKnown }: SpteEra): string[] {
  const broken =
    format === undefined
      ? []
      : commonProblems(
          layouts.map((layout) => judged(spte, level, adKnown ? role : NO_ROLE, layout, format, physBits)),
        );
  if (role === NO_ROLE || rights === undefined) return broken;
  const user = (rights & USER) !== 0;
  if (rights & EXECUTE && (role & EXECUTE) === 0) broken.push("executable, which the role does not allow");
  if (user && (role & USER) === 0)
    broken.push(`${format === "ept" ? "readable" : "for the user"}, which the role does not allow`);
  // With CR0.WP clear the supervisor writes through read-only tables, by entries that the user cannot use.
  if (rights & WRITE && user && (role & WRITE) === 0) broken.push("writable, which the role does not allow");
  return broken;
}

function judged(
  spte: bigint,
  level: number,
  role: number,
  layout: SpteLayout,
  format: SpteFormat,
  physBits: number,
): string[] {
  const options = { physBits, layout };
  const masks = format === "ept" ? eptMasks(options) : legacyMasks(options);
  if (spte === layout.empty || spte === layout.marker?.value || !isPresentIn(layout, spte, masks)) return [];
  const reserved =
    format === "ept"
      ? eptReserved(masks, { executeOnly: true, maxPageLevel: 3 })
      : legacyReserved(masks, { rootLevel: 5, nx: true, page1g: true });
  const broken = brokenInvariants(spte, { masks, level, reserved, layout });
  if (role === NO_ROLE || levelOf(role) !== level) return broken;
  const disabled = adType(spte, layout) === SPTE_AD.Disabled;
  const leaf = level === 1 || (spte & BigInt(HUGE)) !== 0n;
  if (leaf && disabled !== ((role & AD_DISABLED) !== 0)) {
    broken.push(
      disabled
        ? "marked as having no A/D bits, in a page of role ad"
        : "not marked as having no A/D bits, in a page of role !ad",
    );
  }
  return broken;
}

/** Those that all have. */
function commonProblems(all: readonly (readonly string[])[]): string[] {
  return (all[0] ?? []).filter((one) => all.every((others) => others.includes(one)));
}
