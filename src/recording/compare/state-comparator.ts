/** Comparing the state after a step with the recorded snapshot: contexts, roots, shadow pages and their SPTEs. */

import {
  ROLE_DIRECT,
  ROLE_INVALID,
  ROLE_LEVEL,
  ROLE_LEVEL_PROMOTED,
  ROLE_PAE_ROOT,
  roleLevel,
} from "../../role/index.js";
import type { RecordedContext, RecordedPage, Snapshot } from "../format/recording.js";
import type { MmuContextState, MmuState, ShadowPageState } from "../format/state.js";
import type { AdHistory } from "./ad-history.js";
import { PageNames, pageKey } from "./page-names.js";
import type { RuleCounts } from "./rules.js";

/** A part of the state that is not as recorded. */
export interface StateDifference {
  readonly kind: "state";
  /** What differs: `page gfn 106 role 3701 [5]`, `root_mmu.root_role`. */
  readonly where: string;
  readonly recorded: bigint | number | string | boolean | undefined;
  readonly replayed: bigint | number | string | boolean | undefined;
  /** Level of the page where the two values are SPTEs, so that they can be decoded. */
  readonly spteLevel?: number;
}

export interface StateContext {
  /** An SPTE of the recorded kernel that stands for nothing. */
  readonly emptySpte: bigint;
  /** Accessed and dirty bits of SPTEs. */
  readonly hardwareBits: bigint;
  /** Tells them from those that were there before. */
  readonly history?: AdHistory;
  readonly rules: RuleCounts;
  /** Special roots were in use before: their pages may still be there. */
  readonly specialSeen?: boolean;
  /** Told of each SPTE in which hardware set bits behind KVM's back. */
  readonly onHardwareBits?: (hpa: bigint, index: number, bits: bigint) => void;
}

/** An entry on both sides. */
interface Place {
  readonly recorded: RecordedPage;
  readonly replayed: ShadowPageState;
  readonly index: number;
}

const INVALID = 0xffffffffffffffffn;
const ROOT_LEVEL_4 = 4;
const PAE_ROOT_LEVEL = 3;

/**
 * Whether the recorded kernel serves this context by roots outside the hash (mmu_alloc_direct_roots,
 * mmu_alloc_shadow_roots): a direct PAE root, or a guest with fewer than four levels.
 */
export function usesSpecialRoots(context: MmuContextState): boolean {
  // A context that was never used.
  if (context.cpuRole === 0n) return false;
  if ((context.rootRole & ROLE_DIRECT) !== 0) return (context.rootRole & ROLE_LEVEL) === PAE_ROOT_LEVEL;
  return roleLevel(Number(BigInt.asUintN(32, context.cpuRole))) < ROOT_LEVEL_4;
}

/** Pages that the recorded kernel keeps in pae_root, pml4_root and pml5_root: promoted ones, and PDPTEs at level 3. */
function standsForSpecialRoot({ fullRole, pdpt }: ShadowPageState): boolean {
  return (fullRole & (ROLE_LEVEL_PROMOTED | ROLE_PAE_ROOT)) !== 0 || pdpt === true;
}

/** Compares the state after a step with the recorded snapshot. */
export function compareStates(snapshot: Snapshot, state: MmuState, context: StateContext): StateDifference[] {
  return new StateComparator(snapshot, state, context).run();
}

class StateComparator {
  readonly #differences: StateDifference[] = [];
  readonly #recordedNames: PageNames;
  readonly #replayedNames: PageNames;
  readonly #special: boolean;
  /** Pages that special roots, or this project's instead of them, have left may still be there. */
  readonly #leftovers: boolean;
  readonly #snapshot: Snapshot;
  readonly #state: MmuState;
  readonly #context: StateContext;

  constructor(snapshot: Snapshot, state: MmuState, context: StateContext) {
    this.#snapshot = snapshot;
    this.#state = state;
    this.#context = context;
    this.#recordedNames = new PageNames(snapshot.pages);
    this.#replayedNames = new PageNames(state.pages);
    this.#special = [snapshot.rootMmu, snapshot.guestMmu].some((mmu) => mmu !== undefined && usesSpecialRoots(mmu));
    this.#leftovers = this.#special || context.specialSeen === true;
  }

  run(): StateDifference[] {
    const [snapshot, state] = [this.#snapshot, this.#state];
    this.#equal("active MMU", snapshot.active, state.active);
    this.#equal("walking MMU", snapshot.walking, state.walking);
    this.#equal("mmu_valid_gen", snapshot.validGen, state.validGen);
    for (const field of ["gva", "gfn", "access", "gen"] as const)
      this.#equal(`mmio cache ${field}`, snapshot.mmio[field], state.mmio[field]);
    if (this.#leftovers) {
      if (snapshot.usedPages !== state.usedPages) this.#context.rules.use("special-root-used");
    } else {
      this.#equal("used pages", snapshot.usedPages, state.usedPages);
      this.#counted("indirect pages", snapshot.indirectPages, state.indirectPages);
      this.#counted("TDP pages", snapshot.tdpPages, state.tdpPages);
    }
    this.#mmu("root_mmu", snapshot.rootMmu, state.rootMmu);
    this.#mmu("guest_mmu", snapshot.guestMmu, state.guestMmu);
    this.#mmu("nested_mmu", snapshot.nestedMmu, state.nestedMmu);
    this.#pages();
    return this.#differences;
  }

  #equal<T extends bigint | number | string | boolean>(where: string, recorded: T, replayed: T): void {
    if (recorded !== replayed) this.#differences.push({ kind: "state", where, recorded, replayed });
  }

  /** A counter that not every recorder looks at. */
  #counted(where: string, recorded: number | undefined, replayed: number): void {
    if (recorded !== undefined) this.#equal(where, recorded, replayed);
  }

  #mmu(name: string, recorded: RecordedContext | undefined, replayed: MmuContextState | undefined): void {
    if (recorded === undefined) return;
    if (replayed === undefined) {
      this.#differences.push({ kind: "state", where: name, recorded: "exists", replayed: undefined });
      return;
    }
    const at = (field: string): string => `${name}.${field}`;
    this.#equal(at("cpu_role"), recorded.cpuRole, replayed.cpuRole);
    this.#equal(at("root_role"), recorded.rootRole, replayed.rootRole);
    this.#equal(at("pkru_mask"), recorded.pkruMask, replayed.pkruMask);
    recorded.permissions.forEach((value, index) => {
      this.#equal(at(`permissions[${index}]`), value, replayed.permissions[index] ?? -1);
    });
    recorded.guestReserved.forEach((value, index) => {
      this.#equal(
        at(`guest_rsvd[${Math.floor(index / 5)}][${index % 5}]`),
        value,
        replayed.guestReserved[index] ?? -1n,
      );
    });
    recorded.shadowZero.forEach((value, index) => {
      this.#equal(at(`shadow_zero[${Math.floor(index / 5)}][${index % 5}]`), value, replayed.shadowZero[index] ?? -1n);
    });
    recorded.pdptrs.forEach((value, index) => {
      this.#equal(at(`pdptrs[${index}]`), value, replayed.pdptrs[index] ?? -1n);
    });
    // nested_mmu only walks: it has no roots.
    if (name === "nested_mmu") return;
    this.#equal(at("root_pgd"), recorded.rootPgd, replayed.rootPgd);
    const special = usesSpecialRoots(recorded);
    if (special) this.#equal(at("root valid"), recorded.rootHpa !== INVALID, replayed.rootHpa !== INVALID);
    else this.#root(at("root"), recorded.rootHpa, replayed.rootHpa);
    recorded.previousRoots.forEach((root, index) => {
      const other = replayed.previousRoots[index];
      if (special) {
        const same = root.pgd === other?.pgd && root.hpa === other.hpa;
        if (!same) this.#context.rules.use("special-root-previous");
        return;
      }
      this.#equal(at(`prev_roots[${index}].pgd`), root.pgd, other?.pgd ?? INVALID);
      this.#root(at(`prev_roots[${index}]`), root.hpa, other?.hpa ?? INVALID);
    });
  }

  #root(where: string, recorded: bigint, replayed: bigint): void {
    const name = (names: PageNames, hpa: bigint): string =>
      // A root that was zapped while in use is on no list of pages: it has no name.
      hpa === INVALID ? "none" : (names.name(hpa) ?? "zapped");
    this.#equal(where, name(this.#recordedNames, recorded), name(this.#replayedNames, replayed));
  }

  #pages(): void {
    const replayed = new Map<string, ShadowPageState[]>();
    for (const page of this.#state.pages) {
      const key = pageKey(page);
      const same = replayed.get(key);
      if (same === undefined) replayed.set(key, [page]);
      else same.push(page);
    }
    for (const page of this.#snapshot.pages) {
      const key = pageKey(page);
      const other = replayed.get(key)?.shift();
      if (other !== undefined) this.#page(key, page, other);
      else if (!this.#mayBeMissing(page))
        this.#differences.push({ kind: "state", where: `page ${key}`, recorded: "exists", replayed: undefined });
    }
    for (const [key, rest] of replayed) {
      for (const page of rest) {
        if (!this.#mayBeExtra(page))
          this.#differences.push({ kind: "state", where: `page ${key}`, recorded: undefined, replayed: "exists" });
      }
    }
  }

  #mayBeMissing(page: RecordedPage): boolean {
    if (!this.#leftovers) return false;
    if ((page.role & ROLE_INVALID) !== 0) this.#context.rules.use("special-root-invalid");
    else if ((page.role & ROLE_LEVEL) === 2 && page.entries.size === 0) this.#context.rules.use("special-root-empty");
    else return false;
    return true;
  }

  #mayBeExtra(page: ShadowPageState): boolean {
    if (!this.#leftovers) return false;
    if ((page.role & ROLE_INVALID) !== 0) this.#context.rules.use("special-root-invalid");
    else if (standsForSpecialRoot(page)) this.#context.rules.use("special-root-extra");
    else return false;
    return true;
  }

  #page(key: string, recorded: RecordedPage, replayed: ShadowPageState): void {
    const at = (field: string): string => `page ${key} ${field}`;
    const level = recorded.role & ROLE_LEVEL;
    if (this.#special && level <= 2) {
      if (recorded.rootCount !== replayed.rootCount) this.#context.rules.use("special-root-count");
    } else this.#equal(at("root_count"), recorded.rootCount, replayed.rootCount);
    this.#equal(at("unsync"), recorded.unsync, replayed.unsync);
    this.#equal(at("unsync_children"), recorded.unsyncChildren, replayed.unsyncChildren);
    this.#equal(at("mmu_valid_gen"), recorded.validGen, replayed.validGen);
    this.#equal(at("write_flooding_count"), recorded.writeFlooding, replayed.writeFlooding);
    this.#equal(at("nx_huge_page_disallowed"), recorded.nxHugePageDisallowed, replayed.nxHugePageDisallowed);
    this.#equal(at("tdp_mmu_page"), recorded.tdp, replayed.tdp);
    for (const index of new Set([...recorded.entries.keys(), ...replayed.entries.keys()])) {
      this.#spte(
        at(`[${index}]`),
        recorded.entries.get(index) ?? this.#context.emptySpte,
        replayed.entries.get(index) ?? this.#state.emptySpte,
        level,
        { recorded, replayed, index },
      );
    }
    if (recorded.shadowed === undefined) return;
    for (const index of new Set([...recorded.shadowed.keys(), ...replayed.shadowed.keys()])) {
      this.#equal(at(`shadowed[${index}]`), recorded.shadowed.get(index) ?? 0n, replayed.shadowed.get(index) ?? 0n);
    }
  }

  #spte(where: string, recorded: bigint, replayed: bigint, level: number, place: Place): void {
    if (recorded === replayed && !PageNames.isTable(recorded, level)) return;
    const { hardwareBits, history, rules, onHardwareBits } = this.#context;
    let a = recorded;
    let b = replayed;
    if (PageNames.isTable(recorded, level) && PageNames.isTable(replayed, level)) {
      const x = this.#recordedNames.table(recorded);
      const y = this.#replayedNames.table(replayed);
      rules.use("table-address");
      if (x.child !== y.child || x.child === undefined) {
        this.#differences.push({ kind: "state", where, recorded, replayed, spteLevel: level });
        return;
      }
      a = x.bits;
      b = y.bits;
    }
    if (a === b) return;
    if ((a & ~hardwareBits) === (b & ~hardwareBits) && (b & ~a) === 0n) {
      const table = PageNames.isTable(recorded, level);
      const lost = table ? 0n : (history?.kept(place.recorded, place.index, a & ~b) ?? 0n);
      if (lost === 0n) {
        rules.use("hardware-ad-spte");
        onHardwareBits?.(place.replayed.hpa, place.index, a & ~b);
        return;
      }
      this.#differences.push({ kind: "state", where: `${where} lost`, recorded, replayed, spteLevel: level });
      return;
    }
    this.#differences.push({ kind: "state", where, recorded, replayed, spteLevel: level });
  }
}
