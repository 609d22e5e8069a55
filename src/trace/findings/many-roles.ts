/** One guest frame that is shadowed under many roles, or under two in turns: each has a page of its own that is filled anew. */
import type { EventRecord } from "../events/record.js";
import { contextOf, differingFields, type RoleForm, roleText } from "../events/role.js";
import type { ModelListener } from "../model/model.js";
import type { Page, Pages } from "../model/pages.js";
import type { Thread } from "../model/thread.js";
import { Evidence, type Found } from "./finding.js";
import { CONTEXT_TURNS, FOLLOWED, ROLE_TURNS, ROLES_OF_A_FRAME, UNPRINTED_ROLES } from "./thresholds.js";

/** Roles that are kept of a frame. */
const KEPT = 32;

interface Frame {
  /** Pages of the frame at one level and of one kind; quadrants of a table are no other roles. */
  readonly pages: Page[];
  last: Page;
  turns: number;
  readonly evidence: Evidence;
}

/** A page that is made again while it is there: its role differs in what is not printed. */
interface Repeated {
  readonly evidence: Evidence;
  /** Roots that the machine had made when it was made first. */
  readonly roots: number;
  /** Those that it has made since. */
  rootsSince: number;
}

export class ManyRolesDetector implements ModelListener {
  readonly #machines = new Map<Pages, Map<number, Frame[]>>();
  #size = 0;
  readonly #repeated = new Map<Page, Repeated>();
  /** Roots that were made, by machine. */
  readonly #roots = new Map<Pages, number>();
  /** Zaps may be among the events that were lost. */
  #lost = false;
  unfollowed = 0;

  onLost(): void {
    this.#lost = true;
  }

  onZap(_thread: Thread, page: Page): void {
    if (this.#repeated.size > 0) this.#repeated.delete(page);
  }

  onGot(_thread: Thread, page: Page, created: boolean, root: boolean, record: EventRecord): void {
    if (created) this.#made(page, root, record);
    let byFrame = this.#machines.get(page.owner);
    if (byFrame === undefined) {
      byFrame = new Map();
      this.#machines.set(page.owner, byFrame);
    }
    const frames = byFrame.get(page.gfn);
    if (frames === undefined) {
      if (this.#size >= FOLLOWED) this.unfollowed++;
      else {
        this.#size++;
        byFrame.set(page.gfn, [first(page, record)]);
      }
      return;
    }
    const frame = frames.find(({ last }) => isSamePart(last, page));
    if (frame === undefined) {
      if (frames.length < KEPT) frames.push(first(page, record));
      return;
    }
    if (frame.last === page) return;
    frame.last = page;
    if (!record.counted) return;
    const isNew = !frame.pages.includes(page);
    if (isNew && frame.pages.length < KEPT) frame.pages.push(page);
    if (!isNew) frame.turns++;
    if (isNew || frame.turns <= 2) frame.evidence.add(record);
    else frame.evidence.again(record);
  }

  #made(page: Page, root: boolean, record: EventRecord): void {
    const roots = this.#roots.get(page.owner) ?? 0;
    if (root) {
      this.#roots.set(page.owner, roots + 1);
      return;
    }
    if (page.live < 2) return;
    let repeated = this.#repeated.get(page);
    if (repeated === undefined) {
      if (this.#repeated.size >= FOLLOWED) return;
      repeated = { evidence: new Evidence(), roots, rootsSince: 0 };
      this.#repeated.set(page, repeated);
    }
    repeated.evidence.add(record);
    repeated.rootsSince = roots - repeated.roots;
  }

  /** `isRebuilt`: that frame's roots are a finding of their own. `zapsSeen`: zaps say of which frame they are. */
  findings(form: RoleForm, isRebuilt: (page: Page) => boolean, zapsSeen: boolean): Found[] {
    const found: Found[] = [];
    for (const byFrame of this.#machines.values()) {
      for (const frames of byFrame.values()) {
        for (const frame of frames) {
          if (isMany(frame) && !isRebuilt(frame.pages[0]!)) found.push(ofFrame(frame, form));
        }
      }
    }
    if (this.#lost || !zapsSeen) return found;
    for (const [page, { evidence, rootsSince }] of this.#repeated) {
      // Where roots are made as often, the zaps are another thread's, which was not recorded.
      if (evidence.count < UNPRINTED_ROLES || rootsSince * 2 > evidence.count) continue;
      found.push(ofUnprinted(page, evidence, form));
    }
    return found;
  }
}

function isMany({ pages, turns, evidence }: Frame): boolean {
  if (evidence.count === 0) return false;
  // Rights differ where the tables above grant different ones; anything else is another context's.
  const contexts = new Set(pages.map(({ role }) => contextOf(role))).size;
  const often = turns >= (contexts > 1 ? CONTEXT_TURNS : ROLE_TURNS);
  return pages.length >= ROLES_OF_A_FRAME || (pages.length > 1 && often);
}

function ofFrame({ pages, turns, evidence }: Frame, form: RoleForm): Found {
  const fields = new Set(pages.slice(1).flatMap(({ role }) => differingFields(pages[0]!.role, role, form)));
  const page = pages[0]!;
  return {
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
    owner: page.owner,
    gfn: page.gfn,
    role: roleText(page.role, form),
    fields: [...fields],
    since: evidence.since,
    until: evidence.until,
    evidence: evidence.lines,
  };
}

function ofUnprinted(page: Page, evidence: Evidence, form: RoleForm): Found {
  return {
    code: "many-roles",
    message: `gfn ${page.gfn.toString(16)} (${roleText(page.role, form)}) was made ${evidence.count} times more without being zapped`,
    details: [
      "the roles differ in bits that the kernel does not print (CR0.WP, SMEP, SMAP, SMM, guest mode), or look-ups do not find pages that are there: a trace.dat has whole role words",
      ...(page.words.length > 1
        ? [`role words: ${page.words.map((word) => `0x${word.toString(16)}`).join(", ")}`]
        : []),
    ],
    count: evidence.count,
    owner: page.owner,
    gfn: page.gfn,
    role: roleText(page.role, form),
    since: evidence.since,
    until: evidence.until,
    evidence: evidence.lines,
  };
}

function first(page: Page, record: EventRecord): Frame {
  const evidence = new Evidence();
  evidence.add(record);
  return { pages: record.counted ? [page] : [], last: page, turns: 0, evidence };
}

/** Whether two pages of one frame stand for the same part of it: at the same level, and the same quadrant. */
function isSamePart(one: Page, other: Page): boolean {
  if (one.level !== other.level || one.direct !== other.direct) return false;
  return !differingFields(one.role, other.role).some((field) => field.startsWith("quadrant"));
}
