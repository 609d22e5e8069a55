/** Reading recordings: what is understood, and what is refused with file and place. */
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { RecordingError } from "../../src/recording/format/error.js";
import { parseScenario, readRecording } from "../../src/recording/format/reader.js";
import { temporaryFolder } from "../temporary.js";
import { RECORDINGS, recordingOf } from "./fixtures.js";

const { copyOf } = temporaryFolder();
const NAME = "b3p_pae_pdpte/npt0";
const TEXT = gunzipSync(readFileSync(join(RECORDINGS, NAME, "scenario.json.gz"))).toString();
// biome-ignore lint/suspicious/noExplicitAny: a document that the test damages
type Damaged = any;

function errorOf(action: () => unknown): RecordingError {
  try {
    action();
  } catch (error) {
    if (error instanceof RecordingError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

/** The error that a damaged scenario gives. */
function damaged(damage: (scenario: Damaged) => void): RecordingError {
  const scenario = JSON.parse(TEXT) as Damaged;
  damage(scenario);
  return errorOf(() => parseScenario("scenario.json", JSON.stringify(scenario)));
}

describe("a recording", () => {
  it("keeps all 64 bits of values", () => {
    const { config, setupEvents, steps } = recordingOf("e1_lm4_mmio_slots/npt0");
    expect(config.pageOffset).toBe(0xffff888000000000n);
    expect(config.masks.nx).toBe(1n << 63n);
    expect(setupEvents.find((event) => event.ev === "free_roots")).toMatchObject({ roots: (1n << 64n) - 1n });
    expect(steps[0]!.snapshot.rootMmu.previousRoots[0]).toEqual({ pgd: (1n << 64n) - 1n, hpa: (1n << 64n) - 1n });
  });

  it("has permissions as sixteen bytes and pages with their entries", () => {
    const { snapshot } = recordingOf("e1_lm4_mmio_slots/npt0").steps[0]!;
    expect(snapshot.rootMmu.permissions.slice(0, 4)).toEqual([0, 0x33, 0x0f, 0x3f]);
    const page = snapshot.pages.find((candidate) => candidate.role === 0x3701)!;
    expect([...page.entries.keys()]).toEqual([2]);
    expect(page.shadowed!.get(2)).toBe(0x2001n);
  });

  it("has the VMM's inputs and answers", () => {
    const steps = recordingOf("h10_lm4_smm/npt0").steps.filter((step) => step.kind === "vmm");
    expect(steps[0]!.inputs).toMatchObject([{ kind: "slot", slot: { addressSpace: 1, id: 0, size: 0x400000n } }]);
    expect(steps[1]!.inputs).toEqual([{ kind: "smi" }]);
    expect(steps[1]!.answers).toEqual([{ kind: "status", rc: 0 }]);
  });

  it("counts events of unknown kinds instead of failing", () => {
    const scenario = JSON.parse(TEXT) as Damaged;
    scenario.steps[0].events.push({ ev: "kvm_new_thing", sys: "kvm", field: 1 });
    scenario.steps[1].events.push({ ev: "kvm_new_thing", sys: "kvm", field: 1 });
    const recording = parseScenario("scenario.json", JSON.stringify(scenario));
    expect([...recording.unknownEvents]).toEqual([["kvm_new_thing", 2]]);
  });

  it("is of the kernel that its release says", () => {
    const kernelOf = (kernel?: string) => {
      const scenario = JSON.parse(TEXT) as Damaged;
      if (kernel !== undefined) scenario.config.kernel = kernel;
      return parseScenario("scenario.json", JSON.stringify(scenario)).config;
    };
    expect(["6.1", "6.1.0-rc3", "6.1-foo", undefined].map((kernel) => kernelOf(kernel).kernel)).toEqual(
      Array(4).fill("6.1"),
    );
    expect(kernelOf("6.12.3")).toMatchObject({ kernel: "6.12", emptySpte: 1n << 63n });
  });

  it("has the outcome of what the VMM asked beside slots", () => {
    const scenario = JSON.parse(TEXT) as Damaged;
    const prefault = { t: "prefault", gpa: "0x1000", size: "0x2000", left_gpa: "0x2000", left: "0x1000", errno: 2 };
    const quirk = { t: "quirk", disable: "0x80" };
    scenario.steps[0].extra = [
      { ...prefault, rc: -1 },
      { ...prefault, rc: 0 },
      { ...quirk, rc: 0 },
    ];
    scenario.steps[1].extra = [{ ...quirk, rc: -1 }];
    const { steps } = parseScenario("scenario.json", JSON.stringify(scenario));
    const left = { kind: "preFault", gpa: 0x2000n, size: 0x1000n };
    expect(steps[0]!.answers).toEqual([
      { ...left, errno: 2 },
      { ...left, errno: 0 },
      { kind: "status", rc: 0 },
    ]);
    const asked = { kind: "preFault", gpa: 0x1000n, size: 0x2000n };
    expect(steps[0]!.inputs).toEqual([asked, asked, { kind: "zapSlotsAlone" }]);
    // A quirk that the kernel did not take changes nothing.
    expect([steps[1]!.inputs, steps[1]!.answers]).toEqual([[], [{ kind: "status", rc: -1 }]]);
  });

  it("has its memory as it was before and after", () => {
    const { memoryBefore, memoryAfter } = recordingOf("e1_lm4_mmio_slots/npt0");
    const bytes = (image: typeof memoryBefore) => Buffer.concat([...image.pages.values()]);
    expect(bytes(memoryBefore).equals(bytes(memoryAfter))).toBe(false);
  });
});

describe("an error", () => {
  const DAMAGES: readonly (readonly [string, (s: Damaged) => void, string, string])[] = [
    [
      "a missing field",
      (s: Damaged) => delete s.steps[1].snap.root_mmu.root_hpa,
      "steps[1].snap.root_mmu.root_hpa",
      "missing",
    ],
    ["a value of the wrong type", (s: Damaged) => (s.steps[0].events[2].gfn = []), "steps[0].events[2].gfn", "[]"],
    ["a number that lost bits", (s: Damaged) => (s.slots[0].hva = 2 ** 60), "slots[0].hva", "hexadecimal"],
    ["more than 64 bits", (s: Damaged) => (s.slots[0].gpa = "0x10000000000000000"), "slots[0].gpa", "16 hex digits"],
    ["an unknown guest mode", (s: Damaged) => (s.config.guest_mode = "lm6"), "config.guest_mode", '"lm4" or'],
    [
      "an index outside a table",
      (s: Damaged) => (s.steps[0].snap.sps[0].e["512"] = "0x1"),
      "steps[0].snap.sps[0].e",
      "511",
    ],
    [
      "an SPTE that is empty in another kernel",
      (s: Damaged) => (s.config.empty_spte = "0x1"),
      "config.empty_spte",
      "0x0",
    ],
    ["a kernel that is not known", (s: Damaged) => (s.config.kernel = "6.10"), "config.kernel", "6.1 or 6.12"],
    ["a backing of two values", (s: Damaged) => (s.config.backing = [["0x0", 4096]]), "config.backing[0]", "page size"],
    [
      "a dirty-log bit that is none",
      (s: Damaged) => (s.config.manual_dirty_log = 4),
      "config.manual_dirty_log",
      "0 to 3",
    ],
    ["a number of 33 bits", (s: Damaged) => (s.steps[0].n = 2 ** 32), "steps[0].n", "32-bit"],
    [
      "a counter of the kernel's that is not what was found",
      (s: Damaged) => Object.assign(s.steps[0].snap, { tdp_mmu_pages: 3, tdp_walked: 2 }),
      "steps[0].snap.tdp_walked",
      "tdp_mmu_pages, 3",
    ],
    ["an unknown step kind", (s: Damaged) => (s.steps[0].kind = "host"), "steps[0].kind", '"guest" or "vmm"'],
    [
      "a short permissions array",
      (s: Damaged) => (s.steps[0].snap.root_mmu.perm = "00"),
      "steps[0].snap.root_mmu.perm",
      "16 bytes",
    ],
    [
      "a flag that is neither 0 nor 1",
      (s: Damaged) => (s.steps[0].snap.sps[0].unsync = 2),
      "steps[0].snap.sps[0].unsync",
      "0 or 1",
    ],
  ];
  const guest = (s: Damaged) => s.steps.find((step: Damaged) => step.kind === "guest");
  const slot = (id: number, size: string) => ({ id, flags: 0, gpa: "0x8000000000", size, hva: "0x7e0000000000" });
  const notice = { ev: "kvm_unmap_hva_range", start: "0x0", end: "0xfffffffffffff000" };
  const LIMITS: readonly (readonly [string, (s: Damaged) => void, string, string])[] = [
    ["a slot of 1 GiB", (s) => (s.slots[1].size = "0x40000000"), "slots[1].size", "up to 0x4000000"],
    ["a slot of part of a page", (s) => (s.slots[1].size = "0x1800"), "slots[1].size", "multiple of 0x1000"],
    ["a slot that ends beyond 2^52", (s) => (s.slots[1].gpa = "0xfffffffffe000"), "slots[1].gpa", "up to 0xffff"],
    ["a frame run that ends beyond 2^40", (s) => (s.pfnmap[0] = [0, "0xffffffffff", 2]), "pfnmap[0][1]", "below 2^40"],
    ["an operand of 3 bytes", (s) => (guest(s).size = 3), "steps[0].size", "1, 2, 4 or 8"],
    [
      "a level of 0",
      (s) => guest(s).events.unshift({ ev: "kvm_mmu_paging_element", pte: 0, level: 0 }),
      "steps[0].events[0].level",
      "from 1 to 5",
    ],
    [
      "slots of many numbers in both address spaces",
      (s) => {
        const many = Array.from({ length: 65 }, (_, i) => ({ ...slot(i >> 1, "0x0"), as: i & 1 }));
        s.slots.push(...many);
      },
      "slots",
      "at most 64 slots",
    ],
    ["a slot beyond 2^52", (s) => (s.slots[1].gpa = "0xffffffffff000"), "slots[1].gpa", "up to 0xffff"],
    [
      "slots that are large in all",
      (s) => s.slots.push(slot(9, "0x4000000")),
      "slots",
      "67108864 bytes of memory in all",
    ],
    [
      "slots that are large in all, a small one's host memory inside a large one's",
      (s) => {
        const at = (id: number, size: string, hva: string) => ({ ...slot(id, size), hva });
        s.slots.push(at(9, "0x3800000", "0x7e0000000000"), at(10, "0x1000", "0x7e0000001000"));
        s.slots.push(at(11, "0x800000", "0x7e1000000000"));
      },
      "slots",
      "67108864 bytes of memory in all",
    ],
    [
      "maps of many pages in all steps",
      (s) => {
        const runs = Array(33).fill([0, 0, 2 ** 14]);
        for (const step of [s.steps[0], s.steps[1]]) step.pfnmaps = [{ runs }];
      },
      "steps[1].pfnmaps",
      "1048576 pages in all maps",
    ],
    [
      "notices of many pages in all steps",
      (s) => {
        const steps = s.steps.filter((step: Damaged) => step.kind === "guest").slice(0, 4);
        for (const step of steps) step.events.push(...Array(200).fill(notice));
      },
      "steps[1].events",
      "1048576 pages in all notices",
    ],
    [
      "a step's slot of 1 GiB",
      (s) => (s.steps[1].in = { t: "slot", ...slot(9, "0x40000000") }),
      "steps[1].in.size",
      "up to",
    ],
    ["a map of -1 pages", (s) => (s.pfnmap[0][2] = -1), "pfnmap[0][2]", "from 1 to 16384, found -1"],
    ["a map of 2^31 pages", (s) => (s.pfnmap[0][2] = 2 ** 31), "pfnmap[0][2]", "from 1 to 16384"],
    ["a frame that no processor has", (s) => (s.pfnmap[0][1] = "0x10000000000"), "pfnmap[0][1]", "below 2^40"],
    [
      "maps of many pages in all",
      (s) => s.pfnmap.push(...Array(64).fill([0, 0, 2 ** 14])),
      "pfnmap",
      "1048576 pages in all maps",
    ],
    ["an operand of 2^31 bytes", (s) => (guest(s).size = 2 ** 31), "steps[0].size", "1, 2, 4 or 8"],
    [
      "a write of 9 bytes",
      (s) => guest(s).events.unshift({ ev: "pte_write", gpa: 0, new: 0, bytes: 9 }),
      "steps[0].events[0].bytes",
      "from 1 to 8",
    ],
    [
      "a level that no table has",
      (s) => guest(s).events.unshift({ ev: "kvm_mmu_paging_element", pte: 0, level: 6 }),
      "steps[0].events[0].level",
      "from 1 to 5",
    ],
    [
      "a range that ends before it starts",
      (s) => guest(s).events.unshift({ ...notice, start: "0x1000", end: "0x0" }),
      "steps[0].events[0].end",
      "from 0x1000 on",
    ],
    [
      "notices of many pages in all",
      (s) => guest(s).events.push(...Array(500).fill(notice)),
      "steps[0].events",
      "1048576 pages in all notices",
    ],
    [
      "many notices in a step",
      (s) => guest(s).events.push(...Array(1025).fill(notice)),
      "steps[0].events",
      "1024 exits, faults, walks and notices",
    ],
    [
      "many events in a step",
      (s) => guest(s).events.push(...Array(2 ** 14).fill({ ev: "mark_dirty", gfn: 0 })),
      "steps[0].events",
      "16384 events in a step",
    ],
    [
      "many events in all steps",
      (s) => {
        for (const step of s.steps.slice(0, 9)) step.events = Array(2 ** 14 - 1000).fill({ ev: "mark_dirty", gfn: 0 });
      },
      "steps[8].events",
      "131072 events in all",
    ],
    ["a host of 99 address bits", (s) => (s.config.host_maxphyaddr = 99), "config.host_maxphyaddr", "from 32 to 52"],
    [
      "a value nested deeper than a stack is",
      (s) => (s.config.npt = JSON.parse("[".repeat(9) + "]".repeat(9))),
      "config.npt",
      "an array of 1",
    ],
  ];
  it.each([...DAMAGES, ...LIMITS])("names file and field of %s", (_name, damage, field, expected) => {
    const error = damaged(damage);
    expect(error.file).toBe("scenario.json");
    expect(error.field).toBe(field);
    expect(error.message).toContain(expected);
    expect(error.message).not.toContain("\n");
  });

  describe("in a folder", () => {
    const copy = () => copyOf(join(RECORDINGS, NAME));

    it("finds text that is longer than text may be, packed or not", () => {
      const folder = copy();
      writeFileSync(join(folder, "guestmem_before.idx.json"), " ".repeat(2 ** 20));
      expect(errorOf(() => readRecording(folder)).message).toContain("expected at most 524288 bytes, found 1048576");
    });

    it("says which file cannot be read", () => {
      const folder = copy();
      rmSync(join(folder, "guestmem_before.idx.json"));
      expect(errorOf(() => readRecording(folder)).file).toBe(join(folder, "guestmem_before.idx.json"));
    });

    it("finds a gzip that breaks off", () => {
      const folder = copy();
      const file = join(folder, "scenario.json.gz");
      writeFileSync(file, readFileSync(file).subarray(0, 1000));
      expect(errorOf(() => readRecording(folder)).message).toContain("complete gzip");
    });

    it("finds a scenario that is not JSON", () => {
      const folder = copy();
      writeFileSync(join(folder, "scenario.json.gz"), gzipSync(TEXT.slice(0, 5000)));
      expect(errorOf(() => readRecording(folder)).message).toContain("not JSON");
    });

    it("finds an image that does not fit its index", () => {
      const folder = copy();
      writeFileSync(join(folder, "guestmem_before.idx.json"), '["0x1000"]');
      const error = errorOf(() => readRecording(folder));
      expect(error.file).toBe(join(folder, "guestmem_before.bin.gz"));
      expect(error.message).toContain("expected at most 4096 bytes when inflated");
    });

    it("inflates an image to no more than its index says", () => {
      const folder = copy();
      writeFileSync(join(folder, "guestmem_before.bin.gz"), gzipSync(new Uint8Array(2 ** 26)));
      expect(errorOf(() => readRecording(folder)).message).toMatch(/expected at most \d{7} bytes when inflated/);
    });

    it("does not wait for a pipe, and finds bytes behind the gzip data", () => {
      const folder = copy();
      const file = join(folder, "guestmem_before.bin.gz");
      const sound = readFileSync(file);
      // Zeros may follow, and nothing else, be it one byte.
      writeFileSync(file, Buffer.concat([sound, new Uint8Array(9)]));
      expect(readRecording(folder).memoryBefore.pages.size).toBeGreaterThan(0);
      writeFileSync(file, Buffer.concat([sound, Uint8Array.of(0, 1)]));
      expect(errorOf(() => readRecording(folder)).message).toMatch(/offset 0x\w+: expected the end of the gzip data/);
      writeFileSync(file, Buffer.concat([sound, new Uint8Array(1), gzipSync("more")]));
      expect(errorOf(() => readRecording(folder)).message).toMatch(/offset 0x\w+: expected the end of the gzip data/);
      rmSync(file);
      execFileSync("mkfifo", [file]);
      expect(errorOf(() => readRecording(folder)).message).toContain("expected a regular file");
    });

    it("counts the values of a scenario before it makes them", () => {
      const folder = copy();
      writeFileSync(join(folder, "scenario.json.gz"), gzipSync(`[${"{},".repeat(2 ** 20)}0]`));
      expect(errorOf(() => readRecording(folder)).message).toContain("expected at most 2097152 values, found 2097153");
    });

    it("finds an unaligned and a repeated page in the index", () => {
      const folder = copy();
      const index = JSON.parse(readFileSync(join(folder, "guestmem_before.idx.json"), "utf8")) as string[];
      const write = (gpas: string[]) => writeFileSync(join(folder, "guestmem_before.idx.json"), JSON.stringify(gpas));
      write(["0x1001", ...index.slice(1)]);
      expect(errorOf(() => readRecording(folder)).message).toContain("page-aligned");
      write([index[1]!, ...index.slice(1)]);
      expect(errorOf(() => readRecording(folder)).message).toContain("twice");
    });
  });
});
