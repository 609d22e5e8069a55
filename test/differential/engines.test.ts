/** Core and reference over random scenarios. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { loadSync } from "../../src/core/index.js";
import { formatScenario, fuzzRound, runScenario, scenarios } from "../../src/fuzz/index.js";
import { createReference } from "../../src/reference/index.js";

const core = loadSync();
const reference = createReference();

/** Seeds are fixed so that a failure is the same everywhere; `x86-paging fuzz` looks further. */
const SEEDS = Array.from({ length: 12 }, (_, index) => 1000 + index);
const RUNS = 2000;

describe("the core and the reference agree", () => {
  it.each(SEEDS)(`on ${RUNS} scenarios from seed %i`, { timeout: 60_000 }, (seed) => {
    const finding = fuzzRound(core, reference, seed, RUNS);
    const text = finding && `${finding.differences.join("\n")}\n${formatScenario(finding.scenario)}`;
    expect(text).toBeUndefined();
  });
});

describe("the scenarios reach what they are meant to", () => {
  const outcomes = fc.sample(scenarios, { numRuns: 3000, seed: 1 }).map((one) => runScenario(reference, one));
  const statuses = outcomes.flatMap((one) => one.translations.map((text) => JSON.parse(text)));

  it("every mode", () => {
    const modes = new Set(outcomes.flatMap((one) => one.modes));
    expect([...modes].sort()).toEqual(["32bit", "4level", "5level", "ept4", "ept5", "none", "pae"]);
  });

  it("every status that a walk can have", () => {
    expect([...new Set(statuses.map((one) => one.status))].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 8]);
  });

  it("every page-fault bit, in combination", () => {
    const codes = new Set(statuses.filter((one) => one.status === 1).map((one) => Number(one.errorCode)));
    for (let bit = 0; bit < 6; bit++) expect([...codes].some((code) => (code >> bit) & 1)).toBe(true);
    expect(codes.size).toBeGreaterThan(20);
  });

  it("success as often as one access in four, and through two stages one in twenty", () => {
    const share = (chosen: typeof statuses) => chosen.filter((one) => one.status === 0).length / chosen.length;
    expect(share(statuses)).toBeGreaterThan(1 / 4);
    const nested = outcomes.filter((one) => one.modes.length === 2).flatMap((one) => one.translations);
    expect(share(nested.map((text) => JSON.parse(text)))).toBeGreaterThan(1 / 20);
  });
});
