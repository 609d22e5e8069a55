/** A space that was saved and made again goes on as if nothing had happened, stale translations included. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { loadSync } from "../../src/index.js";
import { restoreMemory, restoreSpace, saveMemory, saveSpace } from "../../src/state/index.js";
import { MODES, StateGuest, type Step } from "./state-guest.js";

/** More of them: SEQUENCES=2000. */
const SEQUENCES = Number(process.env.SEQUENCES ?? 60);
const steps = fc.array(fc.tuple(fc.nat(), fc.nat(), fc.nat(), fc.nat()), { minLength: 1, maxLength: 60, size: "max" });

type How = "in another core" | "in place";

/** Runs the steps, with a save and a restore before step `at`; what was answered, and the state in the end. */
function run(guest: StateGuest, todo: readonly Step[], at: number, how: How | undefined): [unknown[], Uint8Array] {
  let now = guest;
  todo.forEach((step, index) => {
    if (index === at && how === "in another core") now = now.moved(loadSync());
    else if (index === at && how === "in place") restoreInPlace(now, todo);
    now.step(step);
    if (now !== guest) guest.log.push(now.log.at(-1));
  });
  const state = new Uint8Array(saveSpace(now.space));
  return [guest.log, state];
}

/** Something else happens between saving and restoring. */
function restoreInPlace(guest: StateGuest, others: readonly Step[]): void {
  const states = [saveMemory(guest.memory, { ram: true }), saveSpace(guest.space)] as const;
  const before = guest.log.length;
  for (const step of others) guest.step([...step].reverse() as unknown as Step);
  guest.log.length = before;
  restoreMemory(guest.memory, states[0]);
  restoreSpace(guest.space, states[1]);
}

const kinds = MODES.flatMap((mode) => [
  [mode, 16, false] as const,
  [mode, 64, false] as const,
  [mode, 0, false] as const,
  [mode, 0, true] as const,
]);

describe.each(kinds)("%s, a TLB of %i, behind EPT: %s", (mode, tlbEntries, staged) => {
  it.each<How>(["in another core", "in place"])("goes on as if nothing had happened %s", (how) => {
    const cores = [loadSync(), loadSync()] as const;
    const property = fc.property(steps, fc.nat(), (todo, at) => {
      const place = at % todo.length;
      const guests = cores.map((core) => StateGuest.make(core, mode, tlbEntries, staged));
      const [log, state] = run(guests[0]!, todo, -1, undefined);
      const [again, restored] = run(guests[1]!, todo, place, how);
      expect(again).toEqual(log);
      expect(restored).toEqual(state);
      for (const { memory } of guests) memory.dispose();
    });
    fc.assert(property, { numRuns: Math.ceil(SEQUENCES / 10), endOnFailure: process.env.SHRINK === "0" });
  });
});
