/**
 * A context's current root and the three before it (kvm_mmu_new_pgd and its neighbours in Linux 6.1).
 * A root is reused if its role is the one wanted and, unless it is direct, the guest's root table too; for a PAE
 * guest also the four PDPTEs. Its level does not matter: every root is an ordinary page.
 */

import { SHADOW_CODES } from "../../abi/shadow.js";
import type { ContextCore } from "../../core/mmu/context-core.js";
import type { ShadowPages } from "../../core/mmu/shadow-pages.js";
import { ROLE_DIRECT } from "../../role/index.js";

const { LOW_LATCHED } = SHADOW_CODES;

/** The kernel's INVALID_PAGE: no root. */
export const INVALID_PAGE = 0xffff_ffff_ffff_ffffn;
const PREVIOUS_ROOTS = 3;
const CURRENT = 1 << PREVIOUS_ROOTS;
const ALL_PREVIOUS = CURRENT - 1;

/** Which roots to free: bit i is previous root i, CURRENT the current one. */
export const ROOTS = {
  previous: (index: number) => 1 << index,
  allPrevious: ALL_PREVIOUS,
  current: CURRENT,
  all: ALL_PREVIOUS | CURRENT,
} as const;

export interface Root {
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

export class RootCache {
  /** Switches that found a cached root, and that did not. */
  hits = 0;
  misses = 0;
  readonly #pages: ShadowPages;

  constructor(
    /** Whose roots they are. */
    readonly core: ContextCore,
    pages: ShadowPages,
    readonly users: RootUsers,
  ) {
    this.#pages = pages;
  }

  get current(): Root {
    const { mmu } = this.core;
    return { page: mmu.root, pgd: mmu.rootPgd };
  }

  /** The current root's page, 0 for none. */
  get currentPage(): number {
    return this.core.mmu.root;
  }

  /** There is a current root, be it a dummy one. */
  get hasCurrent(): boolean {
    return this.currentPage !== 0 || this.isDummy;
  }

  /** The current root stands for a table that lies in no slot; it has no page, and its pgd is that of before. */
  get isDummy(): boolean {
    return this.core.mmu.dummy !== 0;
  }

  setDummy(): void {
    this.core.mmu.dummy = 1;
  }

  #dropDummy(): void {
    this.core.mmu.dummy = 0;
    this.core.mmu.rootPgd = 0n;
  }

  previous(index: number): Root {
    const { mmu } = this.core;
    return { page: mmu.previous(index), pgd: mmu.previousPgd(index) };
  }

  setCurrent(root: Root): void {
    const { mmu } = this.core;
    // A page knows how many contexts it is the current root of.
    this.#pages.countCurrent(this.currentPage, -1);
    this.#pages.countCurrent(root.page, 1);
    mmu.root = root.page;
    mmu.rootPgd = root.pgd;
  }

  #setPrevious(index: number, root: Root): void {
    const { mmu } = this.core;
    mmu.setPrevious(index, root.page);
    mmu.setPreviousPgd(index, root.pgd);
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
    if (this.isDummy) this.#dropDummy();
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
    if (this.#pages.role(root.page) !== role) return false;
    if (role & ROLE_DIRECT) return true;
    if (root.pgd !== pgd || this.#pages.low(root.page) !== low) return false;
    return (low & LOW_LATCHED) === 0 || this.#pages.hasPdptes(root.page, this.core.space);
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
    if ((which & ROOTS.current) !== 0 && this.isDummy) this.#dropDummy();
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
    // Nothing tells whether its table lies in a slot by now.
    if (withCurrent && this.isDummy) this.#dropDummy();
    for (let i = 0; i < PREVIOUS_ROOTS; i++) {
      const root = this.previous(i);
      if (root.page !== 0 && obsolete(root.page, root.pgd)) which |= ROOTS.previous(i);
    }
    if (which !== 0) this.free(which);
  }
}
