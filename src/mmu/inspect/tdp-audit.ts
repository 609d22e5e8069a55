/** The structure checker's part for the TDP MMU: roots, the tree below each, and what its leaves allow. */

import { bitOf } from "../../abi/bits.js";
import { SHADOW_CODES } from "../../abi/shadow.js";
import { REMOVED_SPTE, SPTE } from "../../abi/spte.js";
import { sptepOf } from "../../core/mmu/shadow-pages.js";
import {
  childRole,
  roleAccess,
  roleIsDirect,
  roleIsInvalid,
  roleIsPromoted,
  roleLevel,
  roleSmm,
} from "../../role/index.js";
import type { Machine } from "../machine/machine.js";
import type { TdpMmu } from "../pages/tdp.js";
import type { AuditProblem, Invariant } from "./problem.js";
import { readPage, type ShadowPage } from "./snapshot.js";
import { SpteRules } from "./spte-rules.js";

const PRESENT = bitOf(SPTE, "MMU_PRESENT");
const LARGE = bitOf(SPTE, "PS");
const { LOW_LATCHED } = SHADOW_CODES;

/** Problems of the TDP MMU; none where the VM has no TDP MMU. */
export function auditTdp(vm: Machine): AuditProblem[] {
  return vm.tdpMmu === undefined ? [] : new TdpAudit(vm, vm.tdpMmu).run();
}

/** gfns of an address space where the guest must not write unnoticed: tables that are shadowed and in sync. */
function shadowedTables(vm: Machine, space: number): bigint[] {
  return vm.pages
    .active()
    .map((pointer) => readPage(vm, pointer))
    .filter(({ pointer, role, low, unsync }) => {
      const shadows = !roleIsDirect(role) && !roleIsPromoted(role) && (low & LOW_LATCHED) === 0;
      return shadows && !unsync && !vm.pages.isObsolete(pointer) && (roleSmm(role) === 0 ? 0 : 1) === space;
    })
    .map((page) => page.gfn);
}

class TdpAudit {
  readonly #problems: AuditProblem[] = [];
  readonly #byTable = new Map<number, ShadowPage>();
  readonly #reached = new Set<ShadowPage>();
  readonly #rules: SpteRules;
  /** gfns of write-protected tables, by address space. */
  readonly #tables: readonly (readonly bigint[])[];

  constructor(
    readonly vm: Machine,
    readonly tdp: TdpMmu,
  ) {
    this.#rules = new SpteRules(vm);
    this.#tables = [0, 1].map((space) => shadowedTables(vm, space));
    for (const pointer of tdp.pages()) {
      const page = readPage(vm, pointer);
      this.#byTable.set(page.table, page);
    }
  }

  run(): AuditProblem[] {
    const pages = [...this.#byTable.values()];
    for (const page of pages) if (this.#entryOf(page) === 0) this.#root(page);
    for (const page of pages) {
      if (!this.#reached.has(page)) this.#report("tdp tree", page, undefined, "no entry leads to it");
    }
    const counted = this.tdp.pageCount;
    if (counted !== pages.length) {
      this.#report("tdp tree", undefined, undefined, `${counted} TDP pages counted, ${pages.length} exist`);
    }
    return this.#problems;
  }

  #report(invariant: Invariant, page: ShadowPage | undefined, index: number | undefined, message: string): void {
    const name = page === undefined ? "" : `TDP page gfn 0x${page.gfn.toString(16)} role 0x${page.role.toString(16)}: `;
    const entry = index === undefined ? "" : `entry ${index}: `;
    this.#problems.push({ invariant, page: page?.pointer ?? 0, index, message: `${name}${entry}${message}` });
  }

  #wrong(page: ShadowPage, index: number, spte: bigint, what: string): void {
    this.#report("spte", page, index, `0x${spte.toString(16)} ${what}`);
  }

  #entryOf(page: ShadowPage): number {
    return this.vm.core.pages.header(page.pointer).sptep;
  }

  /** A valid root has a reference of the TDP MMU's own besides those of vCPUs. */
  #root(root: ShadowPage): void {
    const users = this.vm.cpus.flatMap((vcpu) => vcpu.rootPages()).filter((page) => page === root.pointer).length;
    const expected = users + (roleIsInvalid(root.role) ? 0 : 1);
    if (root.rootCount !== expected) {
      this.#report("root count", root, undefined, `counts ${root.rootCount} references, ${expected} exist`);
    }
    if (!roleIsDirect(root.role)) this.#report("role", root, undefined, "not direct");
    if (roleIsInvalid(root.role) && root.entries.size > 0) {
      this.#report("tdp tree", root, undefined, "an invalid root that maps memory");
    }
    this.#page(root);
  }

  #page(page: ShadowPage): void {
    this.#reached.add(page);
    for (const [index, spte] of page.entries) this.#entry(page, index, spte);
  }

  #entry(page: ShadowPage, index: number, spte: bigint): void {
    if (spte === REMOVED_SPTE) this.#report("tdp tree", page, index, "still has the removed marker");
    const level = roleLevel(page.role);
    // What the entry maps as tables are indexed, with alias bits.
    const place = (page.gfn | page.alias) + (BigInt(index) << BigInt(9 * (level - 1)));
    const gfn = this.vm.guest.plainGfn(place);
    if ((spte & PRESENT) === 0n) {
      for (const wrong of this.#rules.absent(spte, gfn)) this.#wrong(page, index, spte, wrong);
      return;
    }
    for (const wrong of this.#rules.present(page, spte)) this.#wrong(page, index, spte, wrong);
    if (level === 1 || spte & LARGE) {
      this.#leaf(page, index, spte, gfn);
      return;
    }
    const child = this.#byTable.get(this.vm.core.pages.tableOf(spte));
    if (child === undefined) {
      this.#report("tdp tree", page, index, "points to no TDP page");
      return;
    }
    if (this.#reached.has(child)) this.#report("tdp tree", child, undefined, "two entries lead to it");
    if (this.#entryOf(child) !== sptepOf(page.table, index)) {
      this.#report("tdp tree", child, undefined, "does not know the entry that leads to it");
    }
    const role = childRole(page.role, index, true, roleAccess(page.role));
    if ((child.gfn | child.alias) !== place || child.gfn !== gfn || child.role !== role)
      this.#report("role", child, undefined, "not what its place says");
    this.#page(child);
  }

  #leaf(page: ShadowPage, index: number, spte: bigint, gfn: bigint): void {
    const mmuWritable = (spte & this.vm.core.vm.mmuWritable) !== 0n;
    const space = roleSmm(page.role) === 0 ? 0 : 1;
    const slot = this.vm.slots.visible(space, gfn);
    if (slot === undefined) {
      this.#report("tdp tree", page, index, `gfn 0x${gfn.toString(16)} lies in no slot`);
      return;
    }
    const level = roleLevel(page.role);
    const pages = 1n << BigInt(9 * (level - 1));
    for (const wrong of this.#rules.leaf(page, spte, gfn, slot)) this.#wrong(page, index, spte, wrong);
    if (mmuWritable && this.#tables[space]!.some((table) => table >= gfn && table < gfn + pages)) {
      this.#report("write-protection", page, index, "lets the guest write a shadowed table");
    }
  }
}
