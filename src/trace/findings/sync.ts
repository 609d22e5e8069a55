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
import { Evidence, type Finding } from "./finding.js";
import { FOLLOWED } from "./thresholds.js";

interface Strange {
  readonly page: Page;
  /** What the vCPU's pages had in common; -1 where the page is direct, which no sync is for. */
  readonly context: number;
  readonly vcpu: number;
  readonly evidence: Evidence;
}

export class SyncDetector implements ModelListener {
  readonly #strange = new Map<Page, Strange>();

  onSync(thread: Thread, page: Page, record: EventRecord): void {
    const other = thread.context !== -1 && thread.context !== contextOf(page.role);
    if (!other && !page.direct) return;
    let strange = this.#strange.get(page);
    if (strange === undefined) {
      if (this.#strange.size >= FOLLOWED) return;
      strange = { page, context: page.direct ? -1 : thread.context, vcpu: thread.vcpu, evidence: new Evidence() };
      this.#strange.set(page, strange);
    }
    strange.evidence.add(record);
  }

  findings(form: RoleForm): Finding[] {
    return [...this.#strange.values()].map(({ page, context, vcpu, evidence }) => {
      const fields = context === -1 ? ["direct"] : differingFields(contextOf(page.role), context, form);
      const why =
        context === -1
          ? "a direct page shadows nothing that it could be synced with"
          : `the vCPU got pages of another context in the same exit: ${fields.join(", ")}`;
      return {
        code: "sync-other-role" as const,
        message: `gfn ${page.gfn.toString(16)} (${roleText(page.role, form)}) was synced in another role's context`,
        details: [why, "kernels until 5.10 sync every page of the frame when they look for one of it"],
        count: evidence.count,
        ...(vcpu !== -1 && { vcpu }),
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
