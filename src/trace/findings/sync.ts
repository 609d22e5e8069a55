/**
 * Syncs of a page of another role: all pages below a root share what kvm_sync_page_check compares (entry size, direct, NX,
 * A/D), so within one exit, without a switch, pages of one such context alone can be got and synced. A page of another is
 * read as if its entries were of the context's format.
 */
import type { EventRecord } from "../events/record.js";
import { contextOf, differingFields, type RoleForm, roleText } from "../events/role.js";
import type { ModelListener } from "../model/model.js";
import type { Page } from "../model/pages.js";
import type { Thread } from "../model/thread.js";
import { Evidence, type Found } from "./finding.js";
import { FOLLOWED } from "./thresholds.js";

interface Strange {
  readonly page: Page;
  /** What the vCPU's pages had in common; -1 where the page is direct, which no sync is for. */
  readonly context: number;
  readonly vcpu: number;
  readonly evidence: Evidence;
}

/** Instead of a context: no sync is for a direct page. */
const DIRECT_PAGE = -1;

export class SyncDetector implements ModelListener {
  readonly #strange = new Map<Page, Strange>();

  onSync(thread: Thread, page: Page, record: EventRecord): void {
    if (!record.counted) return;
    const context = this.#expected(thread, page);
    if (context === undefined && !page.direct) return;
    let strange = this.#strange.get(page);
    if (strange === undefined) {
      if (this.#strange.size >= FOLLOWED) return;
      strange = { page, context: context ?? DIRECT_PAGE, vcpu: thread.vcpu, evidence: new Evidence() };
      this.#strange.set(page, strange);
    }
    strange.evidence.add(record);
  }

  /** What pages of the vCPU have in common where this page does not have it; undefined where nothing speaks against it. */
  #expected(thread: Thread, page: Page): number | undefined {
    if (page.direct) return undefined;
    const own = contextOf(page.role);
    if (thread.context !== -1) return thread.context === own ? undefined : thread.context;
    // Nothing was got in this exit: all that is synced is below the root that the vCPU has,
    if (thread.rootContext !== -1 && !thread.nested) return thread.rootContext === own ? undefined : thread.rootContext;
    // or that is not known. Then a page that was never made, while another of the frame is out of sync,
    if (page.made === 0 && page.found === 0 && page.unsyncs === 0) {
      const other = page.owner.otherUnsync(page);
      if (other !== undefined && contextOf(other.role) !== own) return contextOf(other.role);
      return undefined;
    }
    // or one that was made, by another vCPU, in a context that this one was never in.
    const [any] = thread.contexts;
    return page.before || any === undefined || thread.contexts.has(own) ? undefined : any;
  }

  findings(form: RoleForm): Found[] {
    return [...this.#strange.values()].map(({ page, context, vcpu, evidence }) => {
      const fields = context === DIRECT_PAGE ? ["direct"] : differingFields(contextOf(page.role), context, form);
      const why =
        context === DIRECT_PAGE
          ? "a direct page shadows nothing that it could be synced with"
          : `the vCPU's pages are of another context: ${fields.join(", ")} (this page's value first)`;
      return {
        code: "sync-other-role" as const,
        message: `gfn ${page.gfn.toString(16)} (${roleText(page.role, form)}) was synced in another role's context`,
        details: [
          why,
          "kernels until 5.10 sync every page of the frame when they look for one of it; in later ones look at who calls kvm_sync_page: its role check is missing or wrong",
        ],
        count: evidence.count,
        ...(vcpu !== -1 && { vcpu }),
        owner: page.owner,
        gfn: page.gfn,
        role: roleText(page.role, form),
        fields,
        since: evidence.since,
        until: evidence.until,
        evidence: evidence.lines,
      };
    });
  }
}
