/** The replayer against a target that does what was recorded, and against ones that do not. */
import { describe, expect, it } from "vitest";
import type { MmuEvent } from "../../src/recording/format/events.js";
import type { FaultInput, FaultOutcome, MmuState, NestedEntry } from "../../src/recording/format/state.js";
import { replay } from "../../src/recording/replay/replayer.js";
import { NAMES, recordingOf } from "./fixtures.js";
import { type Call, playback } from "./playback-target.js";

function callsOf(name: string, filter: readonly string[]): Call[] {
  const { factory, calls } = playback(recordingOf(name));
  replay(recordingOf(name), factory);
  return calls.filter(([call]) => filter.includes(call));
}

describe("a target that does what was recorded", () => {
  // These two change between ordinary and special roots inside a step, where a playback, which emits at the end of
  // it, cannot say which event belongs to which.
  it.each(NAMES.filter((name) => !/^(h10|g3)_/.test(name)))("passes %s", (name) => {
    const { factory } = playback(recordingOf(name));
    const report = replay(recordingOf(name), factory);
    expect(report.failure).toBeUndefined();
    expect(report.differences).toEqual([]);
    expect(report.steps).toBe(recordingOf(name).steps.length);
  });
});

describe("inputs", () => {
  it("enter the guest, fault and enter again in the recorded order", () => {
    const calls = callsOf("e1_lm4_mmio_slots/npt0", ["createVcpu", "enterGuest", "pageFault"]);
    expect(calls.slice(0, 4)).toEqual([
      ["createVcpu", 0, { cr0: 0x80010031n, cr3: 0x100000n, cr4: 0x20n, efer: 0xd00n }],
      ["enterGuest", 0],
      ["pageFault", 0, { address: 0x2220n, errorCode: 0x10n, eventDelivery: false, rip: 0x2220n }],
      ["enterGuest", 0],
    ]);
  });

  it("give emulation's walks and leave a page fault's own ones to the target", () => {
    const walks = callsOf("e1_lm4_mmio_slots/npt0", ["pageFault", "guestWalk"]);
    // Step 3 faults on MMIO for the first time: the handler walks itself, then the instruction is fetched.
    expect(walks.slice(1, 4)).toEqual([
      ["pageFault", 0, { address: 0x10000000100n, errorCode: 0n, eventDelivery: false, rip: 0x2000n }],
      ["guestWalk", 0, 0x2000n, 0x10],
      ["pageFault", 0, { address: 0x10000000100n, errorCode: 8n, eventDelivery: false, rip: 0x2000n }],
    ]);
  });

  it("mark faults that interrupt the delivery of an event", () => {
    const faults = callsOf("e1_lm4_mmio_slots/npt0", ["pageFault"]) as [string, number, { eventDelivery: boolean }][];
    expect(faults.filter(([, , fault]) => fault.eventDelivery)).toHaveLength(2);
  });

  it("set slots in the order of the VMM's steps", () => {
    const slots = callsOf("e1_lm4_mmio_slots/npt0", ["setSlot"]) as [string, { id: number; size: bigint }][];
    expect(slots.map(([, slot]) => `${slot.id}:${slot.size.toString(16)}`)).toMatchInlineSnapshot(`
      [
        "0:400000",
        "1:800000",
        "2:4000",
        "3:4000",
        "3:0",
        "3:4000",
        "3:4000",
      ]
    `);
  });

  it("enter and leave SMM with the interrupted registers", () => {
    const calls = callsOf("h10_lm4_smm/npt0", ["enterSmm", "leaveSmm", "writeCr0", "writeCr3", "writeCr4"]);
    const registers = { cr0: 0x80010031n, cr3: 0x100000n, cr4: 0x20n, efer: 0xd00n };
    expect(calls.slice(0, 2)).toEqual([
      ["enterSmm", 0],
      ["leaveSmm", 0, registers],
    ]);
    expect(calls.map(([name]) => name)).not.toContain("writeCr3");
  });

  it("enter a nested guest with L1's tables and the VMCB's registers", () => {
    const [call] = callsOf("g3_nested_32/npt1-tdp0", ["enterNested"]);
    const entry = call![2] as NestedEntry;
    expect(entry.secondStage).toEqual({
      kind: "npt",
      ncr3: 0x102000n,
      hostCr0: 0x80000000n,
      hostCr4: expect.any(BigInt),
      hostEfer: expect.any(BigInt),
    });
    expect(entry.registers.cr0).toBe(0x31n);
  });

  it("make a PFERR word of an exit qualification and keep the qualification", () => {
    const faults = callsOf("x1_nested_ept/ept-tdp1", ["pageFault"]);
    expect(faults[0]).toEqual([
      "pageFault",
      0,
      { address: 0x100000n, errorCode: 0x200000002n, exitQualification: 0x82n, eventDelivery: false, rip: 0x2220n },
    ]);
    const fetches = faults
      .map(([, , fault]) => fault as FaultInput)
      .filter((fault) => fault.exitQualification === 0x184n);
    expect(fetches[0]?.errorCode).toBe(0x100000010n);
  });

  it("fault with RSVD on an EPT misconfiguration, at the address that was accessed", () => {
    const faults = callsOf("x1_nested_ept/ept-tdp1", ["pageFault"]) as [string, number, { errorCode: bigint }][];
    const misconfigured = faults.filter(([, , fault]) => fault.errorCode === 8n);
    expect(misconfigured.length).toBeGreaterThan(0);
  });

  it("deliver a notifier call inside the look-up that ran into it", () => {
    const recording = recordingOf("e3_lm4_notifier/eptnoad-tdp0");
    const slot = recording.slots[0]!;
    const { factory, calls } = playback(recording, {
      pinInFault: (address) => (address < slot.size ? slot.hva + (address & ~0xfffn) : undefined),
    });
    replay(recording, factory);
    const names = calls.map(([name]) => name).filter((name) => !["enterGuest", "guestWalk"].includes(name));
    const faults = names.join(" ").split("pageFault");
    expect(faults).toContain(" unmapRange changePte pinned ");
    expect(faults).not.toContain(" pinned unmapRange changePte ");
  });

  it("leave host ranges outside the slots alone", () => {
    const recording = recordingOf("e1_lm4_mmio_slots/npt0");
    const calls = callsOf("e1_lm4_mmio_slots/npt0", ["unmapRange"]) as [string, bigint, bigint][];
    for (const [, start, end] of calls) {
      const inside = recording.slots.some((slot) => start < slot.hva + slot.size && end > slot.hva);
      expect(inside).toBe(true);
    }
  });
});

describe("a difference", () => {
  const name = "e1_lm4_mmio_slots/npt0";
  const recording = recordingOf(name);

  function differences(
    changeEvents?: (events: MmuEvent[], step: number) => MmuEvent[],
    changeState?: (state: MmuState, step: number) => MmuState,
  ) {
    const { factory } = playback(recording, {
      ...(changeEvents === undefined ? {} : { changeEvents }),
      ...(changeState === undefined ? {} : { changeState }),
    });
    return replay(recording, factory).differences;
  }

  it("is found in a missing event, once", () => {
    const found = differences((events, step) =>
      step === 3
        ? events.filter(
            (event, index) =>
              index !== events.findIndex((other) => other.ev === "mark_mmio_spte") || event.ev !== "mark_mmio_spte",
          )
        : events,
    );
    expect(found).toHaveLength(1);
    expect(found[0]!.difference).toMatchObject({
      kind: "event",
      recorded: { ev: "mark_mmio_spte" },
      replayed: undefined,
    });
  });

  it("is found in a field of an event", () => {
    const found = differences((events, step) =>
      events.map((event) =>
        step === 1 && event.ev === "kvm_mmu_set_spte" ? { ...event, spte: event.spte ^ 2n } : event,
      ),
    );
    expect(found).toHaveLength(1);
    expect(found[0]!.difference).toMatchObject({ kind: "event", fields: ["spte"] });
  });

  it("is found in the order of events", () => {
    const found = differences((events, step) => (step === 3 ? [...events].reverse() : events));
    expect(found.length).toBeGreaterThan(0);
  });

  it("is found in an SPTE of the state", () => {
    const found = differences(undefined, (state, step) => ({
      ...state,
      pages: state.pages.map((page) =>
        step === 1 && page.role === 0x3701 ? { ...page, entries: new Map([[2, page.entries.get(2)! ^ 0x400n]]) } : page,
      ),
    }));
    expect(found).toHaveLength(1);
    expect(found[0]!.difference).toMatchObject({ kind: "state", where: "page gfn 103 role 3701 [2]" });
  });

  it("is found in a page too many and a page too few", () => {
    const extra = differences(undefined, (state, step) =>
      step === 1 ? { ...state, pages: [...state.pages, { ...state.pages[0]!, gfn: 0x999n, hpa: 0x999000n }] } : state,
    );
    expect(extra.map(({ difference }) => difference)).toMatchObject([{ where: "page gfn 999 role 3701" }]);
    const missing = differences(undefined, (state, step) =>
      step === 1 ? { ...state, pages: state.pages.filter((page) => page.role !== 0x3701) } : state,
    );
    expect(missing.map(({ difference }) => difference)).toMatchObject([
      { where: "page gfn 103 role 3701" },
      { where: "page gfn 102 role 3702 [0]" },
    ]);
  });

  it.each([
    ["usedPages", 99],
    ["validGen", 7],
    ["active", "guest_mmu"],
    ["mmio", { gva: 1n, gfn: 0n, access: 0, gen: 0n }],
  ] as const)("is found in %s", (field, value) => {
    const found = differences(undefined, (state, step) => (step === 1 ? { ...state, [field]: value } : state));
    expect(found.length).toBeGreaterThan(0);
  });

  it.each([
    ["rootPgd", 1n],
    ["rootHpa", 0n],
    ["cpuRole", 0n],
    ["rootRole", 0],
    ["permissions", new Array(16).fill(1)],
    ["pkruMask", 1],
    ["guestReserved", new Array(10).fill(3n)],
    ["shadowZero", new Array(10).fill(3n)],
    ["pdptrs", [1n, 0n, 0n, 0n]],
    [
      "previousRoots",
      [
        { pgd: 0n, hpa: 0n },
        { pgd: 0n, hpa: 0n },
        { pgd: 0n, hpa: 0n },
      ],
    ],
  ] as const)("is found in root_mmu's %s", (field, value) => {
    const found = differences(undefined, (state, step) =>
      step === 1 ? { ...state, rootMmu: { ...state.rootMmu, [field]: value } } : state,
    );
    expect(found.length).toBeGreaterThan(0);
  });

  it.each([
    ["rootCount", 5],
    ["unsync", true],
    ["unsyncChildren", 3],
    ["validGen", 9],
    ["writeFlooding", 2],
    ["nxHugePageDisallowed", true],
    ["tdp", true],
    ["shadowed", new Map([[2, 0x9999n]])],
  ] as const)("is found in a page's %s", (field, value) => {
    const found = differences(undefined, (state, step) => ({
      ...state,
      pages: state.pages.map((page) => (step === 1 && page.role === 0x3701 ? { ...page, [field]: value } : page)),
    }));
    expect(found).toHaveLength(1);
  });

  it.each<[string, (entries: ReadonlyMap<number, bigint>) => [number, bigint][]]>([
    ["has more", (entries) => [...entries, [7, 0x9027n]]],
    ["lacks", () => []],
  ])("is found in an entry that a page %s", (_what, change) => {
    for (const field of ["entries", "shadowed"] as const) {
      const found = differences(undefined, (state, step) => ({
        ...state,
        pages: state.pages.map((page) =>
          step === 1 && page.role === 0x3701 ? { ...page, [field]: new Map(change(page[field])) } : page,
        ),
      }));
      expect([field, found.length]).toEqual([field, 1]);
    }
  });
});

describe("a page fault's result", () => {
  const recording = recordingOf("e1_lm4_mmio_slots/npt0");

  function results(changeOutcome: (outcome: FaultOutcome, step: number) => FaultOutcome) {
    const { factory } = playback(recording, { changeOutcome });
    return replay(recording, factory).differences.map(({ difference }) => difference);
  }

  it("is compared with what the recorded handler returned", () => {
    expect(results((outcome, step) => (step === 1 ? { result: "spurious" } : outcome))).toEqual([
      { kind: "result", where: "page fault result", recorded: "fixed", replayed: "spurious" },
    ]);
    expect(results((outcome) => (outcome.result === "mmio" ? { result: "fixed" } : outcome)).length).toBeGreaterThan(0);
  });

  it("is counted once for each fault that the kernel handled", () => {
    const events = recording.steps.flatMap((step) => step.events.map(({ ev }) => ev));
    const { results: counts, notCompared } = replay(recording, playback(recording).factory);
    const handled = events.filter((ev) => ev === "kvm_page_fault").length;
    expect(counts.get("page fault result")).toBe(handled);
    expect([...notCompared.keys()].filter((ev) => /_pf_ret$/.test(ev) && ev !== "page_fault_ret")).toEqual([]);
  });

  it("is compared with the exception that the guest got", () => {
    const wrong = results((outcome) =>
      outcome.result === "inject" ? { ...outcome, errorCode: outcome.errorCode ^ 1 } : outcome,
    );
    expect(wrong.length).toBeGreaterThan(0);
    expect(wrong[0]).toMatchObject({ where: "injected fault" });
    const missing = results((outcome) => (outcome.result === "inject" ? { result: "retry" } : outcome));
    expect(missing).toHaveLength(wrong.length);
  });
});

it("finds an emulated write to another page than the walk before it led to", () => {
  const recording = recordingOf("h1_lm4_pt_in_huge/npt0");
  const { factory } = playback(recording);
  const wrong: typeof factory = (...args) => {
    const target = factory(...args);
    return { ...target, guestWalk: (...walk) => ({ ...target.guestWalk(...walk), ok: true, gpa: 0x7000n }) };
  };
  const differences = replay(recording, wrong).differences.map(({ difference }) => difference);
  expect(differences[0]).toMatchObject({ kind: "result", where: "emulated write", replayed: "page 0x7" });
});

describe("hardware's accessed and dirty bits", () => {
  const recording = recordingOf("e1_lm4_mmio_slots/npt0");

  /** Level-1 pages of step 1, with other entries. */
  function changed<P extends { readonly role: number; readonly entries: ReadonlyMap<number, bigint> }>(
    pages: readonly P[],
    change: (spte: bigint) => bigint,
  ): P[] {
    return pages.map((page) =>
      page.role === 0x3701
        ? { ...page, entries: new Map([...page.entries].map(([index, spte]) => [index, change(spte)])) }
        : page,
    );
  }

  it("may be missing here, are counted, and are given to the target", () => {
    // Nothing but hardware sets D in the SPTE of a page that was read.
    const steps = recording.steps.map((step) => {
      const pages = changed(step.snapshot.pages, (spte) => spte | 0x40n);
      return step.n === 1 ? { ...step, snapshot: { ...step.snapshot, pages } } : step;
    });
    const dirtied = { ...recording, steps };
    const { factory, calls } = playback(dirtied, {
      changeState: (state, step) =>
        step === 1 ? { ...state, pages: changed(state.pages, (spte) => spte & ~0x40n) } : state,
    });
    const report = replay(dirtied, factory);
    expect(report.differences).toEqual([]);
    expect(report.rules.get("hardware-ad-spte")).toBe(1);
    expect(calls.filter(([name]) => name === "setHardwareBits")).toEqual([
      ["setHardwareBits", expect.any(BigInt), 2, 0x40n],
    ]);
  });

  it("may not be lost here: the kernel has stored the SPTE with them", () => {
    const { factory } = playback(recording, {
      changeState: (state, step) =>
        step === 1 ? { ...state, pages: changed(state.pages, (spte) => spte & ~0x20n) } : state,
    });
    const differences = replay(recording, factory).differences.map(({ difference }) => difference);
    expect(differences).toEqual([expect.objectContaining({ kind: "state", where: "page gfn 103 role 3701 [2] lost" })]);
  });

  it("may not be set here where the recording has them clear", () => {
    const { factory } = playback(recording, {
      changeState: (state, step) => ({
        ...state,
        pages: state.pages.map((page) =>
          step === 1 && page.role === 0x3701
            ? { ...page, entries: new Map([...page.entries].map(([index, spte]) => [index, spte | 0x60n])) }
            : page,
        ),
      }),
    });
    expect(replay(recording, factory).differences).toHaveLength(1);
  });
});

it("counts probes that the target does not emit instead of comparing them", () => {
  const recording = recordingOf("e1_lm4_mmio_slots/npt0");
  const emits = new Set(["kvm_mmu_set_spte"]);
  const { factory } = playback(recording, { emits });
  const report = replay(recording, factory);
  expect(report.differences).toEqual([]);
  expect(report.notCompared.get("spte_update")).toBeGreaterThan(0);
  expect(report.events.get("kvm_mmu_get_page")).toBeGreaterThan(0);
});

it("ends a recording where the target throws and says in which step", () => {
  const recording = recordingOf("e1_lm4_mmio_slots/npt0");
  const { factory } = playback(recording, {
    changeState: (state, step) => {
      if (step === 4) throw new RangeError("out of pages");
      return state;
    },
  });
  expect(replay(recording, factory).failure).toMatchObject({ step: 4, error: { message: "out of pages" } });
});

it("fails a recording for which no target can be made", () => {
  const report = replay(recordingOf("e1_lm4_mmio_slots/npt0"), () => {
    throw new RangeError("no such paging");
  });
  expect(report).toMatchObject({ steps: 0, failure: { step: 0, error: { message: "no such paging" } } });
});
