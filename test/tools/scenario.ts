/** What the checks look at of a recording, and how they count. */

export type Hex = string;

export interface Mmu {
  cpu_role: Hex;
  root_role: Hex;
  grsvd?: Hex[];
  szero?: Hex[];
  pae_root?: { e: Record<string, Hex> };
}

export interface Scenario {
  config: {
    npt: number;
    ept?: number;
    guest_maxphyaddr: number;
    masks: Record<string, Hex | number>;
  };
  steps: { n: number; events: Record<string, Hex>[]; snap?: Snapshot }[];
}

export interface Snapshot {
  vcpu: number;
  cr0: Hex;
  cr4: Hex;
  efer: Hex;
  hflags: Hex;
  root_mmu?: Mmu;
  guest_mmu?: Mmu;
  nested_mmu?: Mmu;
  sps?: { role: Hex; gfn: Hex; spt: Hex; e: Record<string, Hex> }[];
}

/** Counts of agreements and the first disagreements, by subject. */
export class Tally {
  disagreements = 0;
  readonly #counts = new Map<string, [agree: number, differ: number]>();
  readonly #examples: string[] = [];

  compare(subject: string, recorded: unknown, computed: unknown, where: string): void {
    this.outcome(subject, recorded === computed, () => `recorded ${recorded}, computed ${computed}, ${where}`);
  }

  outcome(subject: string, agrees: boolean, detail: () => string): void {
    const count = this.#counts.get(subject) ?? [0, 0];
    this.#counts.set(subject, count);
    count[agrees ? 0 : 1]++;
    if (agrees) return;
    this.disagreements++;
    if (count[1] <= 5) this.#examples.push(`${subject}: ${detail()}`);
  }

  report(): string[] {
    const lines = [...this.#counts].map(([subject, [agree, differ]]) => `${subject}: ${agree} agree, ${differ} differ`);
    return [...lines.sort(), ...this.#examples];
  }
}
