/**
 * Entries whose bits contradict the role of the page that holds them, or that no kernel stores. Entries are collected by what
 * is in them besides their address, and judged at the end, when it is known what the trace tells of kernel and format.
 */
import { bitOf } from "../../abi/bits.js";
import { SPTE, SPTE_AD, SPTE_EPT, SPTE_LEGACY } from "../../abi/spte.js";
import type { SpteLayout } from "../../abi/spte-layout.js";
import { presentBit } from "../../spte/entry.js";
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
import type { ModelListener } from "../model/model.js";
import type { Page, Pages } from "../model/pages.js";
import type { Thread } from "../model/thread.js";
import { Evidence, type Found } from "./finding.js";
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
  /** The event's letters, where it has them: those of write, execute and user. */
  readonly letters: number | undefined;
  readonly gfn: number;
  readonly owner: Pages | undefined;
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
  unfollowed = 0;

  onEvent(thread: Thread, record: EventRecord): void {
    const { pages } = thread;
    if (record.kind === Kind.kvm_mmu_set_spte) {
      const rights =
        (record.low[Slot.w] === 1 || (record.low[Slot.spte]! & WRITABLE) !== 0 ? WRITE : 0) |
        (record.low[Slot.x] === 1 ? EXECUTE : 0) |
        (record.low[Slot.u] === 1 ? USER : 0);
      const owner = this.#owner(thread, record);
      if (record.counted) this.#collect(pages, record, Slot.spte, owner, rights);
    } else if (record.kind === Kind.kvm_tdp_mmu_spte_changed) {
      const low = record.low[Slot.new_spte]!;
      // Nothing of an entry that stands for nothing.
      if (low === 0 || !record.counted) return;
      this.#collect(pages, record, Slot.new_spte, this.#tdpOwner(pages, record), undefined);
    }
  }

  /** Pages may have gone, and their tables become others'. */
  onLost(): void {
    this.#tables.clear();
  }

  #collect(
    pages: Pages | undefined,
    record: EventRecord,
    slot: number,
    owner: number,
    rights: number | undefined,
  ): void {
    const low = record.low[slot]!;
    const high = record.high[slot]!;
    const level = record.low[Slot.level]!;
    const misaligned = (low & HUGE) !== 0 && (low & (ALIGNMENT[level] ?? 0)) !== 0 ? 1 : 0;
    const bits = Math.floor(high / HIGH_PART) * LOW_PART + (low % LOW_PART);
    const letters = rights === undefined || record.has[Slot.w] !== 1 ? undefined : lettersOf(record);
    const key =
      (((owner + 1) * 16 + (level % 8) * 2 + misaligned) * LOW_PART * LOW_PART + bits) * KINDS_OF_LETTERS +
      (rights === undefined ? NO_RIGHTS : (letters ?? NO_LETTERS));
    const known = this.#patterns.get(key);
    if (known !== undefined) {
      known.evidence.again(record);
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
      letters,
      gfn: record.number(Slot.gfn),
      owner: pages,
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
    if (known === undefined) {
      const { pages } = thread;
      return thread.nested || shadows(pages, level) ? NO_ROLE : this.#tdpOwner(pages, record);
    }
    if (known.table !== table || known.level !== level || known.live !== 1 || !holds(known, record.number(Slot.gfn))) {
      if (known.table !== table) this.#tables.delete(table);
      return NO_ROLE;
    }
    return known.role;
  }

  /** The role of the only page of the TDP MMU that can hold the entry. */
  #tdpOwner(pages: Pages | undefined, record: EventRecord): number {
    const level = record.low[Slot.level]!;
    const span = FRAMES ** level;
    const gfn = record.number(Slot.gfn);
    return pages?.onlyDirect(gfn - (gfn % span), level)?.role ?? NO_ROLE;
  }

  findings(era: SpteEra, form: RoleForm): Found[] {
    // The TDP MMU tells of one entry twice: that it was set, and that it was changed.
    const wrong = new Map<string, { readonly pattern: Pattern; readonly why: string[] }>();
    for (const pattern of this.#patterns.values()) {
      const why = problems(pattern, era);
      if (why.length === 0) continue;
      const key = `${pattern.spte} ${pattern.gfn} ${pattern.level}`;
      const known = wrong.get(key);
      if (known === undefined) wrong.set(key, { pattern, why });
      else {
        known.why.push(...why.filter((one) => !known.why.includes(one)));
        known.pattern.evidence.lines.push(...pattern.evidence.lines.slice(0, 1));
        known.pattern.evidence.count = Math.max(known.pattern.evidence.count, pattern.evidence.count);
      }
    }
    return [...wrong.values()].map(({ pattern: { spte, role, gfn, level, owner, evidence }, why }) => {
      const of = role === NO_ROLE ? `of level ${level}` : `in a page ${roleText(role, form)}`;
      return {
        code: "spte-contradicts-role",
        message: `SPTE ${spte.toString(16)} of gfn ${gfn.toString(16)} ${of}: ${why.join("; ")}`,
        details: [],
        count: evidence.count,
        owner,
        gfn,
        ...(role !== NO_ROLE && { role: roleText(role, form) }),
        since: evidence.since,
        until: evidence.until,
        evidence: evidence.lines,
      };
    });
  }
}

/** Whether pages of that level shadow a guest's tables. */
function shadows(pages: Pages | undefined, level: number): boolean {
  return pages?.rolesOf(level).some((role) => (role & DIRECT) === 0) ?? false;
}

/** Letters of an event as a number, and what stands for none, and for an event that says nothing of rights. */
const LETTER_W = 1;
const LETTER_X = 2;
const LETTER_U = 4;
const NO_LETTERS = 8;
const NO_RIGHTS = 9;
const KINDS_OF_LETTERS = 16;

function lettersOf({ low }: EventRecord): number {
  return (low[Slot.w] === 1 ? LETTER_W : 0) | (low[Slot.x] === 1 ? LETTER_X : 0) | (low[Slot.u] === 1 ? LETTER_U : 0);
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
function problems(pattern: Pattern, { layouts, format, physBits, adKnown }: SpteEra): string[] {
  const { spte, level, role, rights } = pattern;
  const broken =
    format === undefined
      ? []
      : commonProblems(
          layouts.map((layout) => judged(spte, level, adKnown ? role : NO_ROLE, layout, format, physBits)),
        );
  if (rights !== undefined) broken.push(...ofSetEntry(pattern, format));
  if (role === NO_ROLE || rights === undefined) return broken;
  const user = (rights & USER) !== 0;
  if (rights & EXECUTE && (role & EXECUTE) === 0) broken.push("executable, which the role does not allow");
  if (user && (role & USER) === 0)
    broken.push(`${format === "ept" ? "readable" : "for the user"}, which the role does not allow`);
  // With CR0.WP clear the supervisor writes through read-only tables, by entries that the user cannot use.
  if (rights & WRITE && user && (role & WRITE) === 0) broken.push("writable, which the role does not allow");
  return broken;
}

/** kvm_mmu_set_spte is traced for entries that map memory, with letters made of the entry's bits (mmutrace.h). */
function ofSetEntry({ spte, level, letters }: Pattern, format: SpteFormat | undefined): string[] {
  const broken: string[] = [];
  const bits = Number(spte & LOW_BITS);
  if (level > 1 && (bits & PRESENT_RIGHTS) !== 0 && (bits & HUGE) === 0)
    broken.push(`maps memory at level ${level} without PS: the processor takes it for a table`);
  if (letters === undefined) return broken;
  const differs = (letter: number, name: string, set: boolean) => {
    if (((letters & letter) !== 0) === set) return;
    broken.push(`the event's letters ${set ? "lack" : "have"} ${name}, which the entry ${set ? "has" : "has not"}`);
  };
  differs(LETTER_W, "w", (bits & WRITABLE) !== 0);
  if (format === "ept" && (bits & EXECUTE_USER) === 0) differs(LETTER_X, "x", (bits & EPT_EXECUTE) !== 0);
  if (format === "npt" || format === "shadow") {
    differs(LETTER_X, "x", (spte & NO_EXECUTE) === 0n);
    differs(LETTER_U, "u", (bits & LEGACY_USER) !== 0);
  }
  return broken;
}

const LOW_BITS = 0xfffn;
const LEGACY_USER = Number(bitOf(SPTE_LEGACY, "US"));
const NO_EXECUTE = bitOf(SPTE_LEGACY, "NX");
const LEGACY_PRESENT = bitOf(SPTE_LEGACY, "P");
const EPT_READ = bitOf(SPTE_EPT, "R");
const EPT_EXECUTE = Number(bitOf(SPTE_EPT, "X"));
/** A right of its own from 7.2 on. */
const EXECUTE_USER = 2 ** 10;
/** Present in every era: a table or a page has one of the low three bits. */
const PRESENT_RIGHTS = 7;
/** What marks MMIO in legacy entries of hosts that have it reserved (kvm_mmu_reset_all_pte_masks). */
const MMIO_BIT = bitOf(SPTE_LEGACY, "MMIO_RSVD");

/** The processor sees an entry where is_shadow_present_pte, from 5.13 on a bit of its own, does not. */
function isPresentToProcessorAlone(spte: bigint, layout: SpteLayout, format: SpteFormat): boolean {
  const bit = presentBit(layout);
  if (bit === 0n || (spte & bit) !== 0n) return false;
  // An MMIO entry of EPT is writable and not readable.
  return format === "ept" ? (spte & EPT_READ) !== 0n : (spte & LEGACY_PRESENT) !== 0n && (spte & MMIO_BIT) === 0n;
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
  if (isPresentToProcessorAlone(spte, layout, format)) return ["present to the processor, without the MMU-present bit"];
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
