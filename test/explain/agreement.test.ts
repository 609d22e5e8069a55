/** The checks of an explanation end as the walk does, for every kind of table and access, on both engines. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { loadSync } from "../../src/core/index.js";
import { PagingError } from "../../src/errors.js";
import { type CheckName, explain } from "../../src/explain/index.js";
import { formatScenario, type Scenario, scenarios, withScenario } from "../../src/fuzz/index.js";
import { createReference } from "../../src/reference/index.js";

const ENGINES = { core: loadSync(), reference: createReference() };
const RUNS = 4000;
const seen = { failed: new Set<CheckName>(), codes: new Set<string>(), passed: 0 };

/** Explains every access; throws where an explanation is not of what the walk found. */
function explainAll(engine: (typeof ENGINES)[keyof typeof ENGINES], scenario: Scenario): void {
  withScenario(engine, scenario, ({ spaces, refused }) => {
    const space = refused === undefined ? spaces[spaces.length - 1] : undefined;
    if (space === undefined) return;
    for (const { address, access } of scenario.accesses) {
      let walk: ReturnType<typeof space.walk>;
      try {
        walk = space.walk(address, access);
      } catch (error) {
        if (error instanceof PagingError) continue;
        throw error;
      }
      const { checks, deciding, code, walk: explained } = explain(space, address, access);
      expect(explained).toEqual(walk);
      expect(deciding === undefined).toBe(walk.result.ok);
      // Everything before the deciding check has passed; after it come other checks of one entry, such as its leaf's key.
      const from = deciding === undefined ? checks.length : checks.indexOf(deciding);
      expect(checks.slice(0, from).every(({ passed }) => passed)).toBe(true);
      expect(new Set(checks.slice(from + 1).map(({ entryAddress }) => entryAddress)).size).toBeLessThan(2);
      if (walk.result.ok) {
        seen.passed++;
        continue;
      }
      seen.failed.add(deciding!.name);
      const value = code.reduce((sum, { bit, set }) => sum | (set ? 1n << BigInt(bit) : 0n), 0n);
      expect(value).toBe(walk.result.errorCode);
      for (const { name, set } of code) seen.codes.add(`${name} ${set}`);
    }
  });
}

it.each(Object.keys(ENGINES) as (keyof typeof ENGINES)[])(
  `an explanation agrees with the walk of the %s in ${RUNS} scenarios`,
  { timeout: 120_000 },
  (name) => {
    const details = fc.check(
      fc.property(scenarios, (scenario) => explainAll(ENGINES[name], scenario)),
      { numRuns: RUNS, seed: 11 },
    );
    const found = details.counterexample?.[0];
    expect(found && `${details.errorInstance}\n${formatScenario(found)}`).toBeUndefined();
  },
);

it("the scenarios fail by every check, and set and clear every bit of a code", () => {
  expect([...seen.failed].sort()).toEqual(
    [
      ...["canonical", "configuration", "execute", "flags", "gmet", "memory", "present", "protection key", "read"],
      ...["reserved", "separation", "shadow stack", "smap", "smep", "supervisor", "user", "width", "write"],
    ].sort(),
  );
  expect(seen.passed).toBeGreaterThan(1000);
  expect(seen.codes.size).toBeGreaterThanOrEqual(2 * 20);
});
