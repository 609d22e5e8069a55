/** All detectors of one trace, and what they find. */
import type { RoleLayout } from "../../role/index.js";
import type { RoleForm } from "../events/role.js";
import type { Model, ModelListener } from "../model/model.js";
import { ChurnDetector } from "./churn.js";
import { FINDING_CODES, type Finding, type Found } from "./finding.js";
import { ManyRolesDetector } from "./many-roles.js";
import { RolesDetector } from "./roles.js";
import { RootsDetector } from "./roots.js";
import { SplitDetector } from "./splits.js";
import { SpteDetector, type SpteEra } from "./sptes.js";
import { SpuriousDetector } from "./spurious.js";
import { SyncDetector } from "./sync.js";
import { SHOWN_OF_A_KIND } from "./thresholds.js";
import { ZapAllDetector } from "./zap-all.js";

/** What is known at the end of a trace. */
export interface Conclusion {
  readonly form: RoleForm;
  readonly spte: SpteEra;
  /** The kernel is older than 5.1. */
  readonly old: boolean;
  /** The kernel is older than 5.17. */
  readonly before517: boolean;
  /** How the kernel prints roles, where its release is known. */
  readonly expectedForm: RoleForm | undefined;
}

export class Detectors {
  readonly #roots = new RootsDetector();
  readonly #churn = new ChurnDetector();
  readonly #manyRoles = new ManyRolesDetector();
  readonly #spurious = new SpuriousDetector();
  readonly #splits = new SplitDetector();
  readonly #zapAll = new ZapAllDetector();
  readonly #roles: RolesDetector;
  readonly #sptes = new SpteDetector();
  readonly #sync = new SyncDetector();
  readonly #model: () => Model;

  /** `form`: how roles were printed so far. */
  constructor(form: () => RoleForm, layout: () => RoleLayout | undefined, model: () => Model) {
    this.#roles = new RolesDetector(form, layout);
    this.#model = model;
  }

  get listeners(): readonly ModelListener[] {
    return [
      ...[this.#roots, this.#churn, this.#manyRoles, this.#spurious, this.#splits],
      ...[this.#zapAll, this.#roles, this.#sptes, this.#sync],
    ];
  }

  /** Objects that were not followed, because there were too many. */
  get unfollowed(): number {
    return this.#churn.unfollowed + this.#manyRoles.unfollowed + this.#spurious.unfollowed + this.#sptes.unfollowed;
  }

  /** The findings by code, in the order of FINDING_CODES, the most frequent first; `more` counts those left out. */
  findings({ form, spte, old, before517, expectedForm }: Conclusion): {
    readonly findings: Finding[];
    readonly more: number;
  } {
    const roots = this.#roots.findings(form, old);
    const zapsSeen = this.#model().vms.budget.unframed === 0;
    const all = [
      ...roots,
      ...this.#churn.findings(form, (owner) => this.#roots.areMadeAgain(owner)),
      ...this.#manyRoles.findings(form, (page) => this.#roots.isRebuilt(page), zapsSeen),
      ...this.#spurious.findings(),
      ...this.#splits.findings(),
      ...this.#zapAll.findings(),
      ...this.#roles.findings(form, { before517, expectedForm }),
      ...this.#sptes.findings(spte, form),
      ...this.#sync.findings(form),
    ];
    const findings: Finding[] = [];
    for (const code of FINDING_CODES) {
      const own = all.filter((one: Found) => one.code === code).sort((a, b) => b.count - a.count || a.since - b.since);
      findings.push(...own.slice(0, SHOWN_OF_A_KIND).map((one) => this.#withVm(one)));
    }
    return { findings, more: all.length - findings.length };
  }

  /** Says which machine it is of, where there are several. */
  #withVm({ owner, ...finding }: Found): Finding {
    const { vms } = this.#model();
    const vm = owner === undefined || !vms.several ? undefined : vms.vmOf(owner)?.name;
    if (vm === undefined) return finding;
    return { ...finding, vm, message: `VM of ${vm}: ${finding.message}` };
  }
}
