/** Comparing two recordings: what counts as the same in spite of another host, and what does not. */
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { diffRecordings } from "../../src/recording/diff/diff.js";
import type { RecordedEvent } from "../../src/recording/format/events.js";
import { readRecording } from "../../src/recording/format/reader.js";
import type { GuestStep, RecordedPage, Recording, Step } from "../../src/recording/format/recording.js";
import { recordingOf } from "./fixtures.js";

const A = recordingOf("e1_lm4_mmio_slots/npt0");
const KERNEL_612 = fileURLToPath(new URL("../fixtures/kernel-recordings/x1_nested_ept/ept-tdp1-nx", import.meta.url));

/** A with each step changed. */
function changed(change: (step: Step, index: number) => Step | undefined): Recording {
  return { ...A, steps: A.steps.flatMap((step, index) => change(step, index) ?? []) };
}

/** The first guest step whose events have one of that kind, and its place. */
function firstWith(ev: RecordedEvent["ev"]): number {
  return A.steps.findIndex((step) => step.kind === "guest" && step.events.some((event) => event.ev === ev));
}

function withEvent(at: number, ev: RecordedEvent["ev"], change: (event: RecordedEvent) => RecordedEvent): Recording {
  let done = false;
  return changed((step, index) => {
    if (index !== at) return step;
    const events = step.events.map((event) => {
      if (done || event.ev !== ev) return event;
      done = true;
      return change(event);
    });
    return { ...step, events };
  });
}

/** A page of the state after every step from `from` on, changed. */
function withPage(from: number, change: (page: RecordedPage) => RecordedPage): Recording {
  return changed((step, index) => {
    if (index < from) return step;
    const [first, ...rest] = step.snapshot.pages;
    return { ...step, snapshot: { ...step.snapshot, pages: first === undefined ? rest : [change(first), ...rest] } };
  });
}

describe("a recording", () => {
  it("is equal to itself", () => {
    expect(diffRecordings(A, A, { probes: true })).toEqual({ steps: A.steps.length, differing: [] });
  });

  it("is equal to one whose pages lie elsewhere on the host", () => {
    const at = firstWith("kvm_mmu_set_spte");
    const moved = withEvent(at, "kvm_mmu_set_spte", (event) => {
      if (event.ev !== "kvm_mmu_set_spte") return event;
      return { ...event, spte: event.spte ^ 0x4000n };
    });
    expect(moved).not.toEqual(A);
    expect(diffRecordings(A, moved).differing).toEqual([]);
  });
});

describe("what differs", () => {
  it("is a right that an SPTE has in one only, in the event that makes it", () => {
    const at = firstWith("kvm_mmu_set_spte");
    const other = withEvent(at, "kvm_mmu_set_spte", (event) => {
      return event.ev === "kvm_mmu_set_spte" ? { ...event, spte: event.spte ^ 2n } : event;
    });
    const [step, ...rest] = diffRecordings(A, other).differing;
    expect(rest).toEqual([]);
    expect(step).toMatchObject({ a: A.steps[at]!.n, b: A.steps[at]!.n, answers: [], state: [] });
    expect(step!.events.map(({ side }) => side)).toEqual(["a", "b"]);
    const [left, right] = step!.events.map(({ text }) => /spte leaf (\S+)/.exec(text)![1]!);
    expect([left![1], right![1]].sort()).toEqual(["-", "w"]);
  });

  it("is an event that is missing in one", () => {
    const at = firstWith("kvm_mmu_get_page");
    const other = changed((step, index) => {
      return index === at ? { ...step, events: step.events.filter(({ ev }) => ev !== "kvm_mmu_get_page") } : step;
    });
    const [step] = diffRecordings(A, other).differing;
    expect(step!.events.length).toBe(A.steps[at]!.events.filter(({ ev }) => ev === "kvm_mmu_get_page").length);
    expect(step!.events.every(({ side, text }) => side === "a" && text.startsWith("kvm_mmu_get_page "))).toBe(true);
    expect(diffRecordings(other, A).differing[0]!.events.every(({ side }) => side === "b")).toBe(true);
  });

  it("is what the guest was told", () => {
    const at = A.steps.findIndex((step) => step.kind === "guest" && step.result === "ok");
    const told = { vector: 14, errorCode: 5, cr2: 0x1234n };
    const other = changed((step, index) => {
      return index === at ? ({ ...step, result: "exception", exception: told } as GuestStep) : step;
    });
    expect(diffRecordings(A, other).differing).toMatchObject([
      {
        answers: [
          { side: "a", text: "ends as ok" },
          { side: "b", text: "ends as exception" },
          { side: "b", text: "exception 14, error code 5, CR2 1234" },
        ],
      },
    ]);
  });

  it("is state, once: in the step after which it differs", () => {
    const at = firstWith("kvm_mmu_set_spte") + 1;
    const other = withPage(at, (page) => ({ ...page, unsync: !page.unsync }));
    const found = diffRecordings(A, other).differing.filter((step) => step.state.length > 0);
    expect(found[0]!.a).toBe(A.steps[at]!.n);
    const first = A.steps[at]!.snapshot.pages[0]!;
    expect(found[0]!.state).toHaveLength(2);
    for (const { text } of found[0]!.state) expect(text).toContain(`gfn ${first.gfn.toString(16)} role`);
    // As long as it is the same page in the same state, nothing more is said of it.
    const again = found.slice(1).flatMap((step) => step.state.map(({ text }) => text));
    expect(again).not.toContain(found[0]!.state[0]!.text);
  });

  it("is what the VMM asked for, but not where its memory lies", () => {
    const at = A.steps.findIndex((step) => step.inputs.some((input) => input.kind === "slot"));
    const asked = (change: { hva?: bigint; flags?: number }) =>
      changed((step, index) => {
        if (index !== at) return step;
        const inputs = step.inputs.map((input) => {
          return input.kind === "slot" ? { ...input, slot: { ...input.slot, ...change } } : input;
        });
        return { ...step, inputs };
      });
    expect(diffRecordings(A, asked({ hva: 0x1000n })).differing).toEqual([]);
    const [step] = diffRecordings(A, asked({ flags: 77 })).differing;
    expect(step!.answers.map(({ side, text }) => [side, text.includes('"flags":77')])).toEqual([
      ["a", false],
      ["b", true],
    ]);
  });

  it("is a step that one has not, and the others are still compared with their own", () => {
    const at = A.steps.findIndex((step) => step.kind === "vmm");
    const other = changed((step, index) => (index === at ? undefined : step));
    const { steps, differing } = diffRecordings(A, other);
    expect(steps).toBe(A.steps.length - 1);
    const alone = differing.filter((step) => step.a === undefined || step.b === undefined);
    expect(alone).toMatchObject([{ op: A.steps[at]!.op, a: A.steps[at]!.n, b: undefined }]);
    const back = diffRecordings(other, A).differing.filter((step) => step.a === undefined);
    expect(back).toMatchObject([{ op: A.steps[at]!.op, a: undefined, b: A.steps[at]!.n }]);
  });

  it("is in probes only where they are asked for", () => {
    const at = firstWith("invalidate_gva");
    const other = withEvent(at, "invalidate_gva", (event) => {
      return event.ev === "invalidate_gva" ? { ...event, gva: event.gva + 0x1000n } : event;
    });
    expect(diffRecordings(A, other).differing).toEqual([]);
    expect(diffRecordings(A, other, { probes: true }).differing).toHaveLength(1);
  });
});

it("results go by name, whatever number the kernel gives them", () => {
  const texts = [recordingOf("x1_nested_ept/ept-tdp1"), readRecording(KERNEL_612)].map((recording) => {
    // Against nothing, every line is a difference.
    const { differing } = diffRecordings(recording, {
      ...recording,
      steps: recording.steps.map((step) => ({ ...step, events: [] })),
    });
    return differing.flatMap((step) => step.events.map(({ text }) => text)).filter((text) => /_pf_ret /.test(text));
  });
  for (const lines of texts) {
    expect(lines.length).toBeGreaterThan(10);
    expect(lines.some((line) => line.endsWith(" ret fixed"))).toBe(true);
    for (const line of lines) expect(line).toMatch(/ret (retry|emulate|write-protected|fixed|spurious)$/);
  }
});
