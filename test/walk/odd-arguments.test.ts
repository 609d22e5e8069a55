/** What the interface of every engine answers to arguments that make no sense: a typed error, if at all. */
import { describe, expect, it } from "vitest";
import { createEngine } from "../engine.js";
import { ENGINE_USES, MEMORY_USES, machineOf, SPACE_USES } from "../engine-uses.js";
import { expectTypedAnswers } from "../odd-values.js";

describe("arguments that make no sense", () => {
  const uses = { ...ENGINE_USES, ...MEMORY_USES, ...SPACE_USES };
  it.each(Object.entries(uses))("get a typed error of %s, if any, and everything goes on", (name, list) => {
    const machine = machineOf(createEngine());
    list.forEach((use, index) => {
      expectTypedAnswers(`${name}, use ${index}`, (odd) => use(machine, odd));
    });
    expect(machine.space.translate(0x1234)).toMatchObject({ ok: true, pa: 0x20_1234n });
  });
});
