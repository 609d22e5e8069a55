/** Shadow pages as far as a trace tells: which were made, found, unsynced, synced and zapped, by frame number and role. */
import { DIRECT, INVALID, levelOf, pageRole } from "../events/role.js";

/** Pages that are kept apart; what concerns others is counted. */
export const MOST_PAGES = 2 ** 18;
/** Role words that are kept of a page, where the file has them. */
const MOST_WORDS = 4;
const FRAMES_SHIFT = 9;
/** Pages of a role that are looked at to find the only one left. */
const MOST_LOOKED = 64;

/** A page that a thread got before it was known whose the thread is. */
export interface EarlyPage {
  readonly gfn: number;
  readonly role: number;
  readonly created: boolean;
  readonly page: Page | undefined;
}

export class Page {
  readonly gfn: number;
  /** See events/role.ts; without `invalid`. */
  readonly role: number;
  /** The pages of the virtual machine that it is one of. */
  owner: Pages;
  /** The thread that alone has had to do with it, by its number; undefined where several have. */
  by: number | undefined;
  /** How many there are now: several where their roles differ in what a trace does not show. */
  live = 0;
  /** Of those, how many are out of sync with the guest's table. */
  unsync = 0;
  made = 0;
  found = 0;
  zapped = 0;
  syncs = 0;
  unsyncs = 0;
  /** It was there before the trace began, or its making was lost. */
  before = false;
  /** Zaps of pages that were out of sync: a sync event follows each, which is none. */
  syncOwed = 0;
  /** Line of the last event. */
  line = 0;
  /** How many zap-alls had been when it was made. */
  epoch = 0;
  /** Host-physical address of the table, where an SPTE showed it; 0 where none did. */
  table = 0;
  /** The page above: the one that the same fault got before, or whose entry the TDP MMU made. */
  parent: Page | undefined;
  /** How often it was loaded as a root. */
  loads = 0;
  /** Distinct role words. */
  readonly words: number[] = [];

  constructor(gfn: number, role: number, owner: Pages) {
    this.gfn = gfn;
    this.role = role;
    this.owner = owner;
  }

  get level(): number {
    return levelOf(this.role);
  }

  get direct(): boolean {
    return (this.role & DIRECT) !== 0;
  }

  /** Guest frames that an entry of such a page stands for. */
  get framesPerEntry(): number {
    return 2 ** (FRAMES_SHIFT * (this.level - 1));
  }

  addWord(word: number): void {
    if (word !== -1 && this.words.length < MOST_WORDS && !this.words.includes(word)) this.words.push(word);
  }
}

/** What all machines have together. */
export class PageBudget {
  /** Pages that are followed. */
  size = 0;
  /** Events of pages beyond `MOST_PAGES`. */
  untracked = 0;
  /** Events without a frame number, that could be of several pages. */
  unframed = 0;
}

/** The pages of one virtual machine. */
export class Pages {
  readonly #byRole = new Map<number, Map<number, Page>>();
  readonly #byLevel: number[][] = [];
  readonly #budget: PageBudget;
  /** Zap-alls so far. */
  epoch = 0;

  constructor(budget: PageBudget) {
    this.#budget = budget;
  }

  /** The page of that frame and role, which is made known; undefined where there are too many. */
  at(gfn: number, role: number): Page | undefined {
    const own = pageRole(role);
    let byGfn = this.#byRole.get(own);
    const known = byGfn?.get(gfn);
    if (known !== undefined) return known;
    if (this.#budget.size >= MOST_PAGES) {
      this.#budget.untracked++;
      return undefined;
    }
    byGfn ??= this.#addRole(own);
    const added = new Page(gfn, own, this);
    byGfn.set(gfn, added);
    this.#budget.size++;
    return added;
  }

  #addRole(own: number): Map<number, Page> {
    const byGfn = new Map<number, Page>();
    this.#byRole.set(own, byGfn);
    this.#byLevel[levelOf(own)] ??= [];
    this.#byLevel[levelOf(own)]!.push(own);
    return byGfn;
  }

  /** Takes a page of another machine; false where there is one of its frame and role. */
  adopt(page: Page): boolean {
    const byGfn = this.#byRole.get(page.role) ?? this.#addRole(page.role);
    if (byGfn.has(page.gfn)) return false;
    byGfn.set(page.gfn, page);
    page.owner.drop(page);
    page.owner = this;
    return true;
  }

  /** Another machine has it now. */
  drop({ gfn, role }: Page): void {
    this.#byRole.get(role)?.delete(gfn);
  }

  /** The pages that one thread alone has had to do with. */
  of(thread: number): Page[] {
    return [...this.all()].filter(({ by }) => by === thread);
  }

  /** The page of that frame and role, if the trace has shown it. */
  known(gfn: number, role: number): Page | undefined {
    return this.#byRole.get(pageRole(role))?.get(gfn);
  }

  /** The only page of a role that is left, for an event without a frame number; undefined where there are several. */
  onlyOne(role: number): Page | undefined {
    let found: Page | undefined;
    let looked = 0;
    for (const page of this.#byRole.get(pageRole(role))?.values() ?? []) {
      if (page.live === 0 && ++looked < MOST_LOOKED) continue;
      if (page.live === 0 || found !== undefined) {
        found = undefined;
        break;
      }
      found = page;
    }
    if (found === undefined) this.#budget.unframed++;
    return found;
  }

  /** Every page that the trace has shown. */
  *all(): IterableIterator<Page> {
    for (const byGfn of this.#byRole.values()) yield* byGfn.values();
  }

  /** The roles that pages of a level have had. */
  rolesOf(level: number): readonly number[] {
    return this.#byLevel[level] ?? [];
  }

  /** The only direct page of that frame and level that is there; undefined where there is none, or several. */
  onlyDirect(gfn: number, level: number): Page | undefined {
    const roles = this.rolesOf(level);
    if (roles.length > MOST_LOOKED) return undefined;
    let found: Page | undefined;
    for (const role of roles) {
      const page = (role & DIRECT) === 0 ? undefined : this.known(gfn, role);
      if (page === undefined || page.live === 0) continue;
      if (found !== undefined) return undefined;
      found = page;
    }
    return found;
  }

  /** A page of that frame and level that is out of sync, of another role; undefined where none is known. */
  otherUnsync(page: Page): Page | undefined {
    const roles = this.rolesOf(page.level);
    if (roles.length > MOST_LOOKED) return undefined;
    for (const role of roles) {
      const other = this.known(page.gfn, role);
      if (other !== undefined && other !== page && other.unsync > 0) return other;
    }
    return undefined;
  }

  /** kvm_mmu_get_page. */
  got(page: Page, created: boolean, unsync: boolean): void {
    if (created) {
      page.live++;
      page.made++;
      page.epoch = this.epoch;
      return;
    }
    page.found++;
    if (page.live > 0) return;
    page.live = 1;
    page.before = true;
    page.epoch = this.epoch;
    page.unsync = unsync ? 1 : 0;
  }

  /** A kvm_mmu_get_page was another machine's. */
  ungot(page: Page, created: boolean): void {
    if (created) page.made--;
    else page.found--;
    page.live = Math.max(0, page.live - 1);
    page.unsync = Math.min(page.unsync, page.live);
  }

  /** kvm_mmu_prepare_zap_page. */
  zap(page: Page, role: number, unsync: boolean): void {
    // A root that was in use when it was zapped is zapped again when the last vCPU leaves it.
    if (role & INVALID) return;
    page.zapped++;
    if (unsync) page.syncOwed++;
    if (page.live === 0) {
      page.before = true;
      return;
    }
    page.live--;
    if (unsync && page.unsync > 0) page.unsync--;
    page.unsync = Math.min(page.unsync, page.live);
    page.table = 0;
    page.parent = undefined;
  }

  /** kvm_mmu_unsync_page. */
  unsynced(page: Page): void {
    if (page.live === 0) {
      page.live = 1;
      page.before = true;
    }
    page.unsyncs++;
    page.unsync = Math.min(page.unsync + 1, page.live);
  }

  /** kvm_mmu_sync_page; false where it only ends a zap. */
  synced(page: Page): boolean {
    if (page.syncOwed > 0) {
      page.syncOwed--;
      return false;
    }
    page.syncs++;
    if (page.live === 0) {
      page.live = 1;
      page.before = true;
    } else if (page.unsync > 0) page.unsync--;
    return true;
  }
}
