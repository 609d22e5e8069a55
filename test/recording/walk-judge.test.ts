/** The judge of walks finds each kind of difference. */
import { describe, expect, it } from "vitest";
import { loadSync } from "../../src/core/index.js";
import type { GuestStep, Recording } from "../../src/recording/format/recording.js";
import { judgeWalks } from "../../src/recording/walks/walk-judge.js";
import { createReference } from "../../src/reference/index.js";
import { NAMES, recordingOf } from "./fixtures.js";

describe.each([
  ["wasm", loadSync],
  ["reference", createReference],
] as const)("%s engine", (_name, create) => {
  // Nothing is emulated in e3 under EPT, so that it has no guest walk.
  it.each(NAMES.filter((name) => !name.startsWith("e3_")))("walks %s as the kernel did", (name) => {
    const report = judgeWalks(recordingOf(name), create());
    expect(report.differences).toEqual([]);
    expect(report.walks).toBeGreaterThan(0);
    expect(report.matched).toBe(report.walks);
  });
});

/** The recording with its guest steps changed. */
function changed(name: string, change: (step: GuestStep) => GuestStep): Recording {
  const recording = recordingOf(name);
  return { ...recording, steps: recording.steps.map((step) => (step.kind === "guest" ? change(step) : step)) };
}

function differences(recording: Recording): number {
  return judgeWalks(recording, createReference()).differences.length;
}

describe("a difference is found", () => {
  it("where a table entry has another value", () => {
    const recording = recordingOf("e1_lm4_mmio_slots/npt0");
    const pages = new Map([...recording.memoryBefore.pages].map(([gpa, page]) => [gpa, page.slice()]));
    pages.get(0x106000n)![1]! ^= 0x10;
    const memoryBefore = Object.assign(Object.create(Object.getPrototypeOf(recording.memoryBefore)), { pages });
    expect(differences({ ...recording, memoryBefore })).toBeGreaterThan(0);
  });

  it("where the processor's own accessed and dirty bits are not followed", () => {
    const recording = changed("g3_nested_32/npt1-tdp0", (step) => ({ ...step, memoryChanges: [] }));
    expect(differences(recording)).toBeGreaterThan(0);
  });

  it("where an emulated write to a table is left out", () => {
    const recording = changed("h1_lm4_pt_in_huge/npt0", (step) => ({
      ...step,
      memoryChanges: [],
      events: step.events.filter((event) => event.ev !== "pte_write"),
    }));
    expect(differences(recording)).toBeGreaterThan(0);
  });

  it("where a plain write to a table outside slot 0 is left out", () => {
    const recording = changed("h1_lm4_pt_in_huge/npt0", (step) => (step.op === "poke" ? { ...step, op: "nop" } : step));
    expect(differences(recording)).toBeGreaterThan(0);
  });

  it("where an accessed bit was set that the walk does not set", () => {
    const recording = changed("e1_lm4_mmio_slots/npt0", (step) => ({
      ...step,
      events: step.events.filter((event) => event.ev !== "kvm_mmu_set_accessed_bit"),
    }));
    expect(differences(recording)).toBeGreaterThan(0);
  });

  it("where an error code differs in one bit", () => {
    const recording = changed("e1_lm4_mmio_slots/npt0", (step) => ({
      ...step,
      events: step.events.map((event) =>
        event.ev === "kvm_mmu_walker_error" ? { ...event, pferr: event.pferr ^ 1 } : event,
      ),
    }));
    expect(differences(recording)).toBeGreaterThan(0);
  });
});
