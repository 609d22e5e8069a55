/** Accessed and dirty bits that were there before are the replay's to keep; those that hardware set are not. */
import { describe, expect, it } from "vitest";
import { AdHistory } from "../../src/recording/compare/ad-history.js";
import type { RecordedEvent } from "../../src/recording/format/events.js";
import type { RecordedPage } from "../../src/recording/format/recording.js";

const A = 0x20n;
const D = 0x40n;
const LEAF = 0x5000_0e07n;
const OFFSET = 0xffff_8880_0000_0000n;
const HPA = 0x7000n;

function page(entry: bigint, changes: Partial<RecordedPage> = {}): RecordedPage {
  return {
    ...{ hpa: HPA, role: 0x3701, gfn: 0x100n, rootCount: 0, unsync: false, unsyncChildren: 0, validGen: 0 },
    ...{ writeFlooding: 0, nxHugePageDisallowed: false, tdp: false, shadowed: undefined },
    ...{ entries: new Map([[3, entry]]), ...changes },
  };
}

function history(before: RecordedPage[], events: object[] = []): AdHistory {
  return new AdHistory({ before, events: events as RecordedEvent[], pageOffset: OFFSET, accessed: A });
}

const NOW = page(LEAF | A | D);
const sptep = OFFSET + HPA + 24n;

describe("an accessed bit in a recorded SPTE that a replay lacks", () => {
  it("was lost where the SPTE had it before and the kernel did not touch it", () => {
    expect(history([page(LEAF | A)]).kept(NOW, 3, A | D)).toBe(A);
    expect(history([page(LEAF)]).kept(NOW, 3, A | D)).toBe(0n);
  });

  it("is hardware's where the kernel stored the SPTE without it in the step, and lost where it stored it", () => {
    const update = (value: bigint) => [{ ev: "spte_update", sptep, old: LEAF | A, new: value }];
    expect(history([page(LEAF | A)], update(LEAF)).kept(NOW, 3, A)).toBe(0n);
    expect(history([page(LEAF)], update(LEAF | A)).kept(NOW, 3, A)).toBe(A);
    expect(history([page(LEAF | A)], [{ ev: "spte_clear", sptep, old: LEAF | A }]).kept(NOW, 3, A)).toBe(0n);
    const set = [{ ev: "kvm_mmu_set_spte", sptep: HPA + 24n, spte: LEAF | A }];
    expect(history([], set).kept(NOW, 3, A | D)).toBe(A);
  });

  it("is hardware's in another page's place, another page of the host's, and behind ageing", () => {
    expect(history([page(LEAF | A, { gfn: 0x101n })]).kept(NOW, 3, A)).toBe(0n);
    expect(history([page((LEAF + 0x1000n) | A)]).kept(NOW, 3, A)).toBe(0n);
    expect(history([page(LEAF | A)], [{ ev: "kvm_age_hva", start: 0n, end: 1n }]).kept(NOW, 3, A | D)).toBe(0n);
  });

  it("is looked for by what the entry maps in pages of the TDP MMU", () => {
    const tdp = { tdp: true, role: 0x3781, gfn: 0x200n };
    const changed = (value: bigint) => [
      { ev: "kvm_tdp_mmu_spte_changed", as_id: 0, gfn: 0x203n, level: 1, old_spte: 0n, new_spte: value },
    ];
    const now = page(LEAF | A, tdp);
    expect(history([now], changed(LEAF)).kept(now, 3, A)).toBe(0n);
    expect(history([page(LEAF, tdp)], changed(LEAF | A)).kept(now, 3, A)).toBe(A);
  });
});
