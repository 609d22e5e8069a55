/** One guest frame that is shadowed under many roles, or under two in turns: each has a page of its own that is filled anew. */
import type { EventRecord } from "../events/record.js";
import { contextOf, differingFields, type RoleForm, roleText } from "../events/role.js";
import type { ModelListener } from "../model/model.js";
import type { Page } from "../model/pages.js";
import type { Thread } from "../model/thread.js";
import { Evidence, type Finding } from "./finding.js";
import { CONTEXT_TURNS, FOLLOWED, ROLE_TURNS, ROLES_OF_A_FRAME } from "./thresholds.js";

/** Roles that are kept of a frame. */
const KEPT = 32;

interface Frame {
  /** Pages of the frame at one level and of one kind; quadrants of a table are no other roles. */
  readonly pages: Page[];
  last: Page;
  turns: number;
  readonly evidence: Evidence;
}

export class ManyRolesDetector implements ModelListener {
  readonly #frames = new Map<number, Frame[]>();
  unfollowed = 0;

  onGot(_thread: Thread, page: Page, _created: boolean, _root: boolean, record: EventRecord): void {
    const frames = this.#frames.get(page.gfn);
    if (frames === undefined) {
      if (this.#frames.size >= FOLLOWED) this.unfollowed++;
      else this.#frames.set(page.gfn, [first(page, record)]);
      return;
    }
    const frame = frames.find(({ last }) => isSamePart(last, page));
    if (frame === undefined) {
      if (frames.length < KEPT) frames.push(first(page, record));
      return;
    }
    if (frame.last === page) return;
    frame.last = page;
    const isNew = !frame.pages.includes(page);
    if (isNew && frame.pages.length < KEPT) frame.pages.push(page);
    if (!isNew) frame.turns++;
    if (isNew || frame.turns <= 2) frame.evidence.add(record);
    else {
      frame.evidence.count++;
      frame.evidence.until = record.time;
    }
  }

  findings(form: RoleForm): Finding[] {
    const found: Finding[] = [];
    for (const frames of this.#frames.values()) {
      for (const { pages, turns, evidence } of frames) {
        // Rights differ where the tables above grant different ones; anything else is another context's.
        const contexts = new Set(pages.map(({ role }) => contextOf(role))).size;
        const often = turns >= (contexts > 1 ? CONTEXT_TURNS : ROLE_TURNS);
        if (pages.length < ROLES_OF_A_FRAME && !(pages.length > 1 && often)) continue;
        const fields = new Set(pages.slice(1).flatMap(({ role }) => differingFields(pages[0]!.role, role, form)));
        const page = pages[0]!;
        found.push({
          code: "many-roles",
          message: `gfn ${page.gfn.toString(16)} is ${page.direct ? "mapped" : "shadowed"} at level ${page.level} under ${pages.length} roles, taken in turns ${turns} times`,
          details: [
            `they differ in ${[...fields].join(", ")}`,
            `roles: ${pages
              .slice(0, ROLES_OF_A_FRAME * 2)
              .map(({ role }) => roleText(role, form))
              .join("; ")}`,
          ],
          count: pages.length,
          gfn: page.gfn,
          role: roleText(page.role, form),
          fields: [...fields],
          since: evidence.since,
          until: evidence.until,
          evidence: evidence.lines,
        });
      }
    }
    return found;
  }
}

function first(page: Page, record: EventRecord): Frame {
  const evidence = new Evidence();
  evidence.add(record);
  return { pages: [page], last: page, turns: 0, evidence };
}

/** Whether two pages of one frame stand for the same part of it: at the same level, and the same quadrant. */
function isSamePart(one: Page, other: Page): boolean {
  if (one.level !== other.level || one.direct !== other.direct) return false;
  return !differingFields(one.role, other.role).some((field) => field.startsWith("quadrant"));
}
