/**
 * Every difference between a recording and a replay that is not a failure, in one table. Each use is counted;
 * nothing else is tolerated. The first group is what any host would make different, the second what the emulated
 * hardware did without telling KVM, the third the projection of the recorded kernel's special roots.
 */
export const RULES = {
  "table-address": "addresses of shadow pages are compared by (gfn, role)",
  "short-lived-page": "an SPTE's address in a page that no snapshot holds is compared by its index only",
  "hardware-ad-spte":
    "the recorded SPTE has accessed or dirty bits that hardware set in the step, and that it had not before",
  "hardware-ad-event": "an event's SPTE, before and after the change, has accessed or dirty bits that hardware had set",
  "spte-clear-zero": "spte_clear of an empty entry",
  "not-emitted": "a probe that the target does not emit",
  "role-layout": "level_promoted pages and the fields pae_root and guest level of this project's roles",
  "special-root-load": "special roots (a): get_page between mmu_load and its return",
  "special-root-free": "special roots (a): free_roots, root loads and zaps of pages of level 2 and above",
  "special-root-previous": "special roots (b): previous roots",
  "special-root-count": "special roots (b): root counts of pages of level 2",
  "special-root-used": "special roots (b): number of used pages",
  "special-root-invalid": "special roots (b): invalid pages",
  "special-root-empty": "special roots (c): an empty recorded level-2 page that is missing here",
  "special-root-extra": "special roots (c): promoted and pae_root pages that exist only here",
} as const;

/** The name of a rule by which a difference is none. */
export type Rule = keyof typeof RULES;

/** What a snapshot or an event holds and nobody compares, with the reason. */
export const IGNORED_FIELDS: Readonly<Record<string, string>> = {
  "snap.hash": "order and buckets of the page hash",
  "sps[].parents": "address of a parent list",
  "snap order of sps": "order of the list of active pages",
  "pae_root, pml4_root, pml5_root": "the special roots themselves",
  "rip, guest_rip": "instruction pointers",
  "kvm_entry, kvm_exit, kvm_emulate_insn": "the guest's and the emulator's doings, which are inputs",
  "pointers in probes": "kernel addresses of vcpu, mmu, slot, kvm and sp",
};

/** Uses of the rules. */
export class RuleCounts {
  readonly #counts = new Map<Rule, number>();

  /** Counts a use of a rule. */
  use(rule: Rule, times = 1): void {
    this.#counts.set(rule, (this.#counts.get(rule) ?? 0) + times);
  }

  /** How often a rule was used. */
  get(rule: Rule): number {
    return this.#counts.get(rule) ?? 0;
  }

  /** Adds another's counts. */
  add(other: RuleCounts): void {
    for (const [rule, count] of other.#counts) this.use(rule, count);
  }

  /** In the order of the table, those used. */
  entries(): (readonly [Rule, number])[] {
    return (Object.keys(RULES) as Rule[])
      .filter((rule) => this.#counts.has(rule))
      .map((rule) => [rule, this.#counts.get(rule)!]);
  }
}
