/** Which events, pages and findings are asked for: a time, a guest frame, a role. */

import { ConfigError } from "../errors.js";
import { PAGE_EVENTS, Slot } from "./events/kinds.js";
import type { EventRecord } from "./events/record.js";
import { pageRole, type RoleForm, roleText } from "./events/role.js";
import type { Finding } from "./findings/finding.js";

/** Which events are looked at. */
export interface TraceFilter {
  /** Seconds of the trace's clock: what is before makes pages known, and is not counted. */
  readonly since?: number;
  /** What is after is not looked at. */
  readonly until?: number;
  /** Pages, entries, faults and findings of this guest frame number. */
  readonly gfn?: number;
  /** Words of a role as the trace prints it, all of which a page's has: `l4 direct`. */
  readonly role?: string;
}

const PAGE_SIZE = 4096;
/** A word of KVM_MMU_PAGE_PRINTK's text of a role, of any kernel. */
const ROLE_WORD = /^(?:l\d{1,2}|pae|[48]-byte|q[0-3]|direct|[r-]?[w-][u-][x-]|!?nxe|!?ad)$/;

const wordsOf = (role = ""): string[] => role.split(/\s+/).filter((word) => word !== "");

/** Throws a ConfigError for words that are none of any kernel's text of a role. */
export function checkRole(role: string | undefined): void {
  const unknown = wordsOf(role).find((word) => !ROLE_WORD.test(word));
  if (unknown === undefined) return;
  throw new ConfigError(
    `role: expected words of a role as traces print it ("l4 8-byte q0 direct wux nxe ad"), found "${unknown}"`,
  );
}

export class EventFilter {
  readonly #filter: TraceFilter;
  readonly #words: readonly string[];
  readonly #form: () => RoleForm;
  readonly #roles = new Map<number, boolean>();

  constructor(filter: TraceFilter, form: () => RoleForm) {
    this.#filter = filter;
    this.#form = form;
    this.#words = wordsOf(filter.role);
  }

  inTime({ time }: EventRecord): boolean {
    return time >= (this.#filter.since ?? Number.NEGATIVE_INFINITY);
  }

  isOver({ time }: EventRecord): boolean {
    return time > (this.#filter.until ?? Number.POSITIVE_INFINITY);
  }

  /** Whether an event is one that is asked for. */
  passes(record: EventRecord): boolean {
    if (!this.inTime(record)) return false;
    const { gfn } = this.#filter;
    const isPage = PAGE_EVENTS.has(record.kind);
    if (this.#words.length > 0 && !(isPage && this.#hasRole(record.low[Slot.role]!))) return false;
    if (gfn === undefined) return true;
    if (record.has[Slot.gfn] === 1) return record.number(Slot.gfn) === gfn;
    const slot = record.has[Slot.gpa] === 1 ? Slot.gpa : Slot.address;
    return record.has[slot] === 1 && Math.floor(record.number(slot) / PAGE_SIZE) === gfn;
  }

  isOf(gfn: number, role: number): boolean {
    return (this.#filter.gfn === undefined || this.#filter.gfn === gfn) && this.#hasRole(role);
  }

  concerns({ gfn, role }: Finding): boolean {
    const { gfn: wanted } = this.#filter;
    if (wanted !== undefined && gfn !== wanted) return false;
    return this.#words.length === 0 || (role !== undefined && hasWords(role, this.#words));
  }

  #hasRole(role: number): boolean {
    if (this.#words.length === 0) return true;
    const own = pageRole(role);
    const known = this.#roles.get(own);
    if (known !== undefined) return known;
    const has = hasWords(roleText(own, this.#form()), this.#words);
    this.#roles.set(own, has);
    return has;
  }
}

function hasWords(role: string, words: readonly string[]): boolean {
  const own = role.split(" ");
  return words.every((word) => own.includes(word));
}
