/** Comparing with a kernel that has special roots. */
import { describe, expect, it } from "vitest";
import {
  comparedEvents,
  compareEvents,
  type EventContext,
  type TaggedEvent,
} from "../../src/recording/compare/event-comparator.js";
import { PageNames, recordedRole } from "../../src/recording/compare/page-names.js";
import { rootModes } from "../../src/recording/compare/root-mode.js";
import { RuleCounts } from "../../src/recording/compare/rules.js";
import { compareStates, usesSpecialRoots } from "../../src/recording/compare/state-comparator.js";
import { PROBE_EVENTS, TRACE_EVENTS } from "../../src/recording/format/events.js";
import type { Snapshot } from "../../src/recording/format/recording.js";
import type { MmuState, ShadowPageState } from "../../src/recording/format/state.js";
import { ROLE_LEVEL_PROMOTED as LEVEL_PROMOTED, ROLE_PAE_ROOT as PAE_ROOT } from "../../src/role/index.js";
import { recordingOf } from "./fixtures.js";

const SPECIAL = recordingOf("b3p_pae_pdpte/npt0");
const ORDINARY = recordingOf("e1_lm4_mmio_slots/npt0");
const OWN_ROOT_HPA = 0x7000_0000n;

function context(rules = new RuleCounts()): EventContext {
  return {
    emits: new Set([...Object.keys(TRACE_EVENTS), ...Object.keys(PROBE_EVENTS)]),
    pageOffset: 0n,
    hardwareBits: 0x60n,
    recordedNames: new PageNames(),
    replayedNames: new PageNames(),
    rules,
  };
}

function getPage(role: number): TaggedEvent["event"] {
  return { ev: "kvm_mmu_get_page", mmu_valid_gen: 0, gfn: 1n, role, root_count: 0, unsync: 0, created: 1 };
}

const tag = (event: TaggedEvent["event"], special: boolean, loading = false): TaggedEvent => ({
  event,
  special,
  loading,
});

describe("contexts with special roots", () => {
  it("are those of the recorded kernel whose root is pae_root", () => {
    for (const recording of [SPECIAL, ORDINARY]) {
      for (const { snapshot } of recording.steps) {
        const { rootMmu } = snapshot;
        if (rootMmu.rootHpa === (1n << 64n) - 1n) continue;
        expect(usesSpecialRoots(rootMmu)).toBe(rootMmu.rootHpa === rootMmu.paeRoot?.hpa);
      }
    }
  });

  it("are followed through an SMI inside a step", () => {
    const recording = recordingOf("h10_lm4_smm/npt0");
    const step = recording.steps[4]!;
    const modes = rootModes(step.events, recording.steps[3]!.snapshot, step.snapshot);
    const loads = step.events.flatMap((event, index) => (event.ev === "mmu_load" ? [modes[index]] : []));
    expect(loads).toEqual([
      { special: true, loading: true },
      { special: false, loading: true },
    ]);
  });
});

describe("events of special roots", () => {
  it.each([
    ["get_page while roots are loaded", getPage(0x3702), true],
    ["a zap of a level-2 page", { ...getPage(0x3702), ev: "kvm_mmu_prepare_zap_page" }, false],
    ["free_roots", { ev: "free_roots", mmu: 0n, roots: 1n }, false],
  ] as const)("leave %s out, on both sides, and count it", (_name, event, loading) => {
    const rules = new RuleCounts();
    expect(comparedEvents([tag(event, true, loading)], context(rules))).toEqual([]);
    expect(rules.get("special-root-load") + rules.get("special-root-free")).toBe(1);
    expect(comparedEvents([tag(event, false, loading)], context())).toEqual([event]);
  });

  it.each([
    ["get_page of a level-1 page", getPage(0x3701)],
    ["get_page of a level-2 page outside a load", getPage(0x3702)],
    ["a zap of a level-1 page", { ...getPage(0x3701), ev: "kvm_mmu_prepare_zap_page" }],
    ["a sync of a page", { ...getPage(0x3701), ev: "kvm_mmu_sync_page" }],
    ["a walk", { ev: "kvm_mmu_pagetable_walk", addr: 1n, pferr: 0 }],
  ])("keep %s", (_name, event) => {
    expect(comparedEvents([tag(event, true)], context())).toEqual([event]);
  });
});

describe("event values", () => {
  const compare = (
    recorded: TaggedEvent["event"],
    replayed: TaggedEvent["event"],
    changes: Partial<EventContext> = {},
  ) => compareEvents([recorded], [replayed], { ...context(), ...changes });
  const setSpte = (spte: bigint, sptep: bigint, level = 1) => ({
    ev: "kvm_mmu_set_spte",
    gfn: 2n,
    spte,
    sptep,
    level,
    r: 1,
    x: 1,
    u: 0,
  });
  const pageAt = (hpa: bigint, gfn: bigint) => ({ hpa, gfn, role: 0x3701 }) as ShadowPageState;

  it("take roles of this project's layout for those of 6.1", () => {
    expect(recordedRole(0x3702 | (2 << 20) | PAE_ROOT)).toBe(0x3702);
    expect(compare(getPage(0x3702), getPage(0x3702 | (3 << 20)))).toEqual([]);
    expect(compare(getPage(0x3702), getPage(0x3702 | LEVEL_PROMOTED))).toHaveLength(1);
  });

  it("compare an SPTE's address by page and index", () => {
    const names = {
      recordedNames: new PageNames([pageAt(0x1000n, 5n)]),
      replayedNames: new PageNames([pageAt(0x8000n, 5n), pageAt(0x9000n, 6n)]),
    };
    expect(compare(setSpte(0x21n, 0x1010n), setSpte(0x21n, 0x8010n), names)).toEqual([]);
    expect(compare(setSpte(0x21n, 0x1010n), setSpte(0x21n, 0x8018n), names)).toHaveLength(1);
    expect(compare(setSpte(0x21n, 0x1010n), setSpte(0x21n, 0x9010n), names)).toHaveLength(1);
  });

  it("do not name a page by an address that two pages had", () => {
    const names = new PageNames([pageAt(0x1000n, 5n)], [pageAt(0x1000n, 6n)]);
    expect(names.name(0x1000n)).toBeUndefined();
  });

  it("allow hardware's accessed and dirty bits on the recorded side only", () => {
    const rules = new RuleCounts();
    const change = (old: bigint, spte: bigint) => {
      return { ev: "kvm_tdp_mmu_spte_changed", gfn: 2n, old_spte: old, new_spte: spte, level: 1, as_id: 0 };
    };
    expect(compare(change(0x861n, 0x861n), change(0x801n, 0x801n), { rules })).toEqual([]);
    expect(rules.get("hardware-ad-event")).toBe(2);
    expect(compare(change(0x801n, 0x801n), change(0x861n, 0x861n))).toHaveLength(1);
    expect(compare(change(0x863n, 0x863n), change(0x801n, 0x801n))).toHaveLength(1);
  });

  it("allow none that the change itself has set, nor in an SPTE that the kernel makes", () => {
    const change = (spte: bigint) => {
      return { ev: "kvm_tdp_mmu_spte_changed", gfn: 2n, old_spte: 0n, new_spte: spte, level: 1, as_id: 0 };
    };
    expect(compare(change(0x861n), change(0x801n))).toHaveLength(1);
    expect(compare(setSpte(0x861n, 0x1000n), setSpte(0x801n, 0x1000n))).toHaveLength(1);
  });

  it("drop a cleared SPTE that was empty, and only that", () => {
    const clear = (old: bigint) => tag({ ev: "spte_clear", sptep: 0n, old }, false);
    expect(comparedEvents([clear(0n), clear(1n)], context())).toHaveLength(1);
  });

  it("go on after an event too many", () => {
    const recorded = [getPage(1), setSpte(1n, 0n), getPage(2)];
    const replayed = [getPage(1), { ev: "unprotect_page", gfn: 1n }, setSpte(1n, 0n), getPage(2)];
    expect(compareEvents(recorded, replayed, context())).toEqual([
      { kind: "event", index: 1, recorded: undefined, replayed: { ev: "unprotect_page", gfn: 1n }, fields: [] },
    ]);
  });
});

describe("the state of special roots", () => {
  const { snapshot } = SPECIAL.steps[5]!;

  /** The recorded state as this project's roots would have it: an ordinary pae_root page above the level-2 pages. */
  function ownState(recorded: Snapshot, changes: Partial<MmuState> = {}): MmuState {
    const root = { ...pageOf(recorded.pages[0]!), hpa: OWN_ROOT_HPA, role: 0x3703, fullRole: 0x3703 | PAE_ROOT };
    return {
      ...recorded,
      rootMmu: { ...recorded.rootMmu, rootHpa: OWN_ROOT_HPA },
      pages: [...recorded.pages.map(pageOf), { ...root, gfn: 0x9999n, entries: new Map() }],
      usedPages: recorded.usedPages + 1,
      ...changes,
    } as MmuState;
  }

  function pageOf(page: Snapshot["pages"][number]): ShadowPageState {
    return { ...page, fullRole: page.role, shadowed: page.shadowed ?? new Map() };
  }

  function compare(state: MmuState, of = snapshot) {
    const rules = new RuleCounts();
    return { rules, differences: compareStates(of, state, { emptySpte: 0n, hardwareBits: 0x60n, rules }) };
  }

  it("may have promoted and pae_root pages, other used pages, root counts and previous roots, each counted", () => {
    const state = ownState(snapshot);
    const pages = state.pages.map((page) => ((page.role & 15) === 2 ? { ...page, rootCount: 0 } : page));
    const previousRoots = [{ pgd: 1n, hpa: OWN_ROOT_HPA }];
    const { rules, differences } = compare({ ...state, pages, rootMmu: { ...state.rootMmu, previousRoots } });
    expect(differences).toEqual([]);
    expect(rules.get("special-root-extra")).toBe(1);
    expect(rules.get("special-root-used")).toBe(1);
    expect(rules.get("special-root-count")).toBeGreaterThan(0);
    expect(rules.get("special-root-previous")).toBe(3);
  });

  it("may lack an empty level-2 page, but none that has entries", () => {
    const state = ownState(snapshot);
    const empty = state.pages.filter((page) => (page.role & 15) === 2 && page.entries.size === 0);
    const full = state.pages.filter((page) => (page.role & 15) === 2 && page.entries.size > 0);
    expect(full.length).toBeGreaterThan(0);
    const without = (gone: readonly ShadowPageState[]) => ({
      ...state,
      pages: state.pages.filter((page) => !gone.includes(page)),
    });
    const allowed = compare(without(empty));
    expect(allowed.differences).toEqual([]);
    expect(allowed.rules.get("special-root-empty")).toBe(empty.length);
    expect(compare(without(full)).differences).toHaveLength(full.length);
  });

  it("may not differ in an SPTE of level 1 or 2, or have another page too many", () => {
    const state = ownState(snapshot);
    for (const level of [1, 2]) {
      const pages = state.pages.map((page) =>
        (page.role & 15) === level
          ? { ...page, entries: new Map([...page.entries].map(([index, spte]) => [index, spte ^ 2n])) }
          : page,
      );
      expect(compare({ ...state, pages }).differences.length).toBeGreaterThan(0);
    }
    const extra = { ...state.pages[0]!, gfn: 0x1234n, hpa: 0x1234000n };
    expect(compare({ ...state, pages: [...state.pages, extra] }).differences).toHaveLength(1);
  });

  it("must have a valid root where the recorded kernel has one", () => {
    const state = ownState(snapshot);
    const invalid = { ...state.rootMmu, rootHpa: (1n << 64n) - 1n };
    expect(compare({ ...state, rootMmu: invalid }).differences).toMatchObject([{ where: "root_mmu.root valid" }]);
  });

  it("are no excuse for ordinary roots", () => {
    const recorded = ORDINARY.steps[5]!.snapshot;
    const { differences } = compare(ownState(recorded), recorded);
    expect(differences.map(({ where }) => where)).toEqual(["used pages", "root_mmu.root", "page gfn 9999 role 3703"]);
  });
});
