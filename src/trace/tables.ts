/** Tables of the pages that a trace has shown. */
import { DIRECT, levelOf, type RoleForm, roleText } from "./events/role.js";
import type { Page } from "./model/pages.js";
import type { PageRow, RoleRow } from "./report.js";

/** Pages by role, roots' levels first. */
export function roleRows(pages: Iterable<Page>, form: RoleForm): RoleRow[] {
  const rows = new Map<number, { -readonly [key in keyof RoleRow]: RoleRow[key] }>();
  for (const page of pages) {
    let row = rows.get(page.role);
    if (row === undefined) {
      const none = { live: 0, unsync: 0, made: 0, found: 0, zapped: 0, synced: 0, unsynced: 0 };
      row = { role: roleText(page.role, form), level: page.level, direct: page.direct, ...none };
      rows.set(page.role, row);
    }
    row.live += page.live;
    row.unsync += page.unsync;
    row.made += page.made;
    row.found += page.found;
    row.zapped += page.zapped;
    row.synced += page.syncs;
    row.unsynced += page.unsyncs;
  }
  return [...rows.entries()]
    .sort(([a], [b]) => levelOf(b) - levelOf(a) || (a & DIRECT) - (b & DIRECT) || a - b)
    .map(([, row]) => row);
}

/** The name of a page's machine, where there are several. */
export type VmOf = (page: Page) => string | undefined;

/** Roots that are shown. */
const MOST_ROOTS = 64;

export function rootRows(pages: Iterable<Page>, form: RoleForm, vmOf: VmOf): PageRow[] {
  const roots = [...pages].filter(({ loads }) => loads > 0);
  roots.sort((a, b) => b.loads - a.loads || a.gfn - b.gfn || a.role - b.role);
  return roots.slice(0, MOST_ROOTS).map((page) => rowOf(page, form, vmOf));
}

export function pageRows(
  pages: Iterable<Page>,
  form: RoleForm,
  vmOf: VmOf,
  wanted: (page: Page) => boolean,
): PageRow[] {
  const found = [...pages].filter(wanted);
  found.sort((a, b) => Math.sign(b.live) - Math.sign(a.live) || b.level - a.level || a.gfn - b.gfn || a.role - b.role);
  return found.map((page) => rowOf(page, form, vmOf));
}

function rowOf(page: Page, form: RoleForm, vmOf: VmOf): PageRow {
  const vm = vmOf(page);
  return {
    ...(vm !== undefined && { vm }),
    gfn: page.gfn,
    role: roleText(page.role, form),
    live: page.live,
    unsync: page.unsync,
    made: page.made,
    found: page.found,
    zapped: page.zapped,
    before: page.before,
    loads: page.loads,
    ...(page.parent !== undefined && { parent: { gfn: page.parent.gfn, role: roleText(page.parent.role, form) } }),
    ...(page.words.length > 0 && { words: page.words }),
  };
}
