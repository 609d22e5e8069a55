/** The comparison of states: everything that a state says counts, but what a rule allows. */
import { describe, expect, it } from "vitest";
import { RuleCounts } from "../../src/recording/compare/rules.js";
import { compareStates } from "../../src/recording/compare/state-comparator.js";
import type { Snapshot } from "../../src/recording/format/recording.js";
import type { MmuContextState, MmuState, ShadowPageState } from "../../src/recording/format/state.js";
import { recordingOf } from "./fixtures.js";
import { stateOf } from "./playback-target.js";

/** Nested EPT: each context is there, and none has special roots. */
const NESTED = recordingOf("x1_nested_ept/ept-tdp1").steps.at(-1)!.snapshot;
/** Shadow paging of a long-mode guest. */
const SHADOW = recordingOf("e1_lm4_mmio_slots/npt0").steps.at(-1)!.snapshot;

function differences(snapshot: Snapshot, state: MmuState): string[] {
  const context = { emptySpte: 0n, hardwareBits: 0n, rules: new RuleCounts() };
  return compareStates(snapshot, state, context).map(({ where }) => where);
}

function replaced<T>(list: readonly T[], index: number, item: T): T[] {
  return list.map((old, at) => (at === index ? item : old));
}

/** Each value that is reached by a path, changed: [path, changed state]. */
function* changes(value: unknown, path: string, skip: ReadonlySet<string>): Generator<readonly [string, unknown]> {
  if (skip.has(path.replace(/\[\d+\]/g, "[]"))) return;
  if (typeof value === "bigint") yield [path, value ^ 1n];
  else if (typeof value === "number") yield [path, value + 1];
  else if (typeof value === "boolean") yield [path, !value];
  else if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) {
      for (const [at, changed] of changes(item, `${path}[${index}]`, skip)) yield [at, replaced(value, index, changed)];
    }
  } else if (value instanceof Map) {
    for (const [key, item] of value) {
      for (const [at, changed] of changes(item, `${path}[${key}]`, skip)) yield [at, new Map(value).set(key, changed)];
    }
  } else if (typeof value === "object" && value !== null) {
    for (const [name, item] of Object.entries(value)) {
      for (const [at, changed] of changes(item, path === "" ? name : `${path}.${name}`, skip)) {
        yield [at, { ...value, [name]: changed }];
      }
    }
  }
}

/** What is the recorded kernel's own, an address, or no part of what a snapshot shows. */
const NOT_COMPARED = new Set([
  "emptySpte",
  "pages",
  // nested_mmu only walks.
  "nestedMmu.rootPgd",
  "nestedMmu.rootHpa",
  "nestedMmu.previousRoots",
  ...["rootMmu", "guestMmu", "nestedMmu"].flatMap((mmu) =>
    ["paeRoot", "pml4Root", "pml5Root"].map((r) => `${mmu}.${r}`),
  ),
]);

describe("a state that is the recorded one", () => {
  it.each([
    ["nested EPT", NESTED],
    ["shadow paging", SHADOW],
  ])("has no differences (%s)", (_, snapshot) => {
    expect(differences(snapshot, stateOf(snapshot))).toEqual([]);
  });
});

describe("a state that differs in one value", () => {
  it.each([
    ["nested EPT", NESTED],
    ["shadow paging", SHADOW],
  ])("has a difference, wherever the value is (%s)", (_, snapshot) => {
    const missed: string[] = [];
    let tried = 0;
    for (const [path, changed] of changes(stateOf(snapshot), "", NOT_COMPARED)) {
      // A counter that this recorder did not look at.
      if (path === "tdpPages" && snapshot.tdpPages === undefined) continue;
      if (path === "indirectPages" && snapshot.indirectPages === undefined) continue;
      tried++;
      if (differences(snapshot, changed as MmuState).length === 0) missed.push(path);
    }
    expect(missed).toEqual([]);
    expect(tried).toBeGreaterThan(50);
  });

  it("has one in each value of each page, but where it lies", () => {
    const state = stateOf(SHADOW);
    const skip = new Set(["hpa", "fullRole", "gfn", "role"]);
    state.pages.forEach((page, index) => {
      for (const [path, changed] of changes(page, "", skip)) {
        const pages = replaced(state.pages, index, changed as ShadowPageState);
        expect(differences(SHADOW, { ...state, pages }), `page ${index} ${path}`).not.toEqual([]);
      }
    });
  });

  it("has one where a counter that the recorder looked at differs", () => {
    for (const counter of ["indirectPages", "tdpPages"] as const) {
      const snapshot = { ...NESTED, [counter]: 7 };
      expect(differences(snapshot, stateOf(snapshot))).toEqual([]);
      expect(differences(snapshot, { ...stateOf(snapshot), [counter]: 8 })).toHaveLength(1);
      expect(differences({ ...NESTED, [counter]: undefined }, { ...stateOf(NESTED), [counter]: 8 })).toEqual([]);
    }
  });
});

describe("pages", () => {
  const state = stateOf(SHADOW);
  it("are all there, and no others, two of one name as well", () => {
    for (const index of state.pages.keys()) {
      expect(differences(SHADOW, { ...state, pages: state.pages.filter((_, at) => at !== index) })).not.toEqual([]);
    }
    const invalid = { ...state.pages[0]!, hpa: 0x1234_5000n, gfn: 0x1234n, role: state.pages[0]!.role | (1 << 11) };
    for (const extra of [{ ...state.pages[0]!, hpa: 0x1234_5000n }, invalid]) {
      expect(differences(SHADOW, { ...state, pages: [...state.pages, extra] })).toHaveLength(1);
    }
    const twice: Snapshot = { ...SHADOW, pages: [...SHADOW.pages, { ...SHADOW.pages[0]!, hpa: 0x1234_5000n }] };
    expect(differences(twice, stateOf(twice))).toEqual([]);
    expect(differences(twice, state)).toHaveLength(1);
  });

  it("of a context that was never used have no special roots", () => {
    const unused = { cpuRole: 0n, rootRole: 0x800, rootHpa: (1n << 64n) - 1n };
    const snapshot: Snapshot = { ...SHADOW, guestMmu: { ...SHADOW.rootMmu, ...unused } };
    expect(differences(snapshot, { ...stateOf(snapshot), usedPages: snapshot.usedPages + 1 })).toEqual(["used pages"]);
  });
});

describe("contexts", () => {
  it("that were recorded have to be there", () => {
    for (const name of ["guestMmu", "nestedMmu"] as const) {
      const { [name]: _, ...without } = stateOf(NESTED) as MmuState & Record<typeof name, MmuContextState>;
      expect(differences(NESTED, without as MmuState)).toHaveLength(1);
    }
  });

  it("tell a root that was zapped from none", () => {
    const state = stateOf(SHADOW);
    const other = { ...state, rootMmu: { ...state.rootMmu, rootHpa: (1n << 64n) - 1n } };
    const zapped: Snapshot = { ...SHADOW, rootMmu: { ...SHADOW.rootMmu, rootHpa: 0x7777_0000n } };
    expect(differences(zapped, other)).toEqual(["root_mmu.root"]);
  });
});
