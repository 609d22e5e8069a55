/**
 * A context's current root and the three before it (kvm_mmu_new_pgd and its neighbours in Linux 6.1).
 * A root is reused if its role is the one wanted and, unless it is direct, the guest's root table too; for a PAE
 * guest also the four PDPTEs. Its level does not matter: every root is an ordinary page.
 */

import { SHADOW_CODES } from "../../abi/shadow.js";
import type { LinearMemory } from "../../core/linear-memory.js";
import { ROLE_DIRECT } from "../../role/index.js";
import { MMU_WIDE, MMU_WORD, PAGE_WORD } from "../memory/records.js";

const { LOW_LATCHED } = SHADOW_CODES;

const PREVIOUS_ROOTS = 3;
const ALL_PREVIOUS = (1 << PREVIOUS_ROOTS) - 1;

/** Which roots to free: bit i is previous root i, CURRENT the current one. */
export const ROOTS = {
  previous: (index: number) => 1 << index,
  allPrevious: ALL_PREVIOUS,
  current: 1 << 3,
  all: ALL_PREVIOUS | (1 << 3),
} as const;

interface Root {
  page: number;
  pgd: bigint;
}

/** What dropping a root involves. */
export interface RootUsers {
  /** Drops a reference to a root page. */
  put(page: number): void;
  /** Frees what became free by that. */
  commit(): void;
}

/** Whose roots they are. */
export interface RootOwner {
  /** Linear address of its MMU record. */
  readonly pointer: number;
  /** Linear address of its latched PDPTEs. */
  readonly pdptesPointer: number;
}

export class RootCache {
  /** Switches that found a cached root, and that did not. */
  hits = 0;
  misses = 0;

  constructor(
    readonly linear: LinearMemory,
    readonly context: RootOwner,
    readonly users: RootUsers,
  ) {}

  get current(): Root {
    const { linear, context } = this;
    return { page: this.currentPage, pgd: linear.u64[context.pointer / 8 + MMU_WIDE.rootPgd]! };
  }

  /** The current root's page, 0 for none. */
  get currentPage(): number {
    return this.linear.u32[(this.context.pointer >>> 2) + MMU_WORD.root]!;
  }

  previous(index: number): Root {
    const { linear, context } = this;
    return {
      page: linear.u32[(context.pointer >>> 2) + MMU_WORD.previous + index]!,
      pgd: linear.u64[context.pointer / 8 + MMU_WIDE.previousPgd + index]!,
    };
  }

  setCurrent(root: Root): void {
    const { linear, context } = this;
    this.#count(this.currentPage, -1);
    this.#count(root.page, 1);
    linear.u32[(context.pointer >>> 2) + MMU_WORD.root] = root.page;
    linear.u64[context.pointer / 8 + MMU_WIDE.rootPgd] = root.pgd;
  }

  /** A page knows how many contexts it is the current root of. */
  #count(page: number, change: number): void {
    if (page === 0) return;
    const words = this.linear.u32;
    const at = (page >>> 2) + PAGE_WORD.current;
    words[at] = words[at]! + change;
  }

  #setPrevious(index: number, root: Root): void {
    const { linear, context } = this;
    linear.u32[(context.pointer >>> 2) + MMU_WORD.previous + index] = root.page;
    linear.u64[context.pointer / 8 + MMU_WIDE.previousPgd + index] = root.pgd;
  }

  /** Every root page in use. */
  pages(): number[] {
    return [this.current.page, ...[0, 1, 2].map((i) => this.previous(i).page)].filter((page) => page !== 0);
  }

  /**
   * Makes the root for `pgd` and `role` current if it is cached; else there is none afterwards, and one has to be
   * loaded. `low` and the context's PDPTEs name a PAE guest's table. Returns whether it was cached.
   */
  switchTo(pgd: bigint, role: number, low: number): boolean {
    const found = this.current.page !== 0 ? this.#keepingCurrent(pgd, role, low) : this.#withoutCurrent(pgd, role, low);
    if (found) this.hits++;
    else this.misses++;
    return found;
  }

  #keepingCurrent(pgd: bigint, role: number, low: number): boolean {
    if (this.#usable(this.current, pgd, role, low)) return true;
    for (let i = 0; i < PREVIOUS_ROOTS; i++) {
      // The swaps rotate: after a hit at i the old current root is previous root 0, the others follow.
      const root = this.current;
      this.setCurrent(this.previous(i));
      this.#setPrevious(i, root);
      if (this.#usable(this.current, pgd, role, low)) return true;
    }
    this.free(ROOTS.current);
    return false;
  }

  #withoutCurrent(pgd: bigint, role: number, low: number): boolean {
    for (let i = 0; i < PREVIOUS_ROOTS; i++) {
      const root = this.previous(i);
      if (!this.#usable(root, pgd, role, low)) continue;
      this.#setPrevious(i, this.current);
      this.setCurrent(root);
      for (let j = i; j < PREVIOUS_ROOTS - 1; j++) this.#setPrevious(j, this.previous(j + 1));
      this.#setPrevious(PREVIOUS_ROOTS - 1, { page: 0, pgd: this.previous(PREVIOUS_ROOTS - 1).pgd });
      return true;
    }
    return false;
  }

  #usable(root: Root, pgd: bigint, role: number, low: number): boolean {
    if (root.page === 0) return false;
    const words = this.linear.u32;
    const header = root.page >>> 2;
    if (words[header + PAGE_WORD.role] !== role) return false;
    if (role & ROLE_DIRECT) return true;
    if (root.pgd !== pgd || words[header + PAGE_WORD.low] !== low) return false;
    if ((low & LOW_LATCHED) === 0) return true;
    const latched = this.context.pdptesPointer >>> 2;
    for (let i = 0; i < 8; i++) if (words[header + PAGE_WORD.pdptes + i] !== words[latched + i]) return false;
    return true;
  }

  /** Frees some of the roots. A previous root keeps its pgd, the current one becomes 0, as in the kernel. */
  free(which: number): void {
    const current = this.current;
    const freesCurrent = (which & ROOTS.current) !== 0 && current.page !== 0;
    for (let i = 0; i < PREVIOUS_ROOTS; i++) {
      const root = this.previous(i);
      if ((which & ROOTS.previous(i)) === 0 || root.page === 0) continue;
      this.#setPrevious(i, { page: 0, pgd: root.pgd });
      this.users.put(root.page);
    }
    if (freesCurrent) {
      this.setCurrent({ page: 0, pgd: 0n });
      this.users.put(current.page);
    }
    this.users.commit();
  }

  /** Frees the roots for whose page `obsolete` is true. */
  freeWhere(obsolete: (page: number, pgd: bigint) => boolean, withCurrent: boolean): void {
    let which = 0;
    const { page, pgd } = this.current;
    if (withCurrent && page !== 0 && obsolete(page, pgd)) which |= ROOTS.current;
    for (let i = 0; i < PREVIOUS_ROOTS; i++) {
      const root = this.previous(i);
      if (root.page !== 0 && obsolete(root.page, root.pgd)) which |= ROOTS.previous(i);
    }
    if (which !== 0) this.free(which);
  }
}
