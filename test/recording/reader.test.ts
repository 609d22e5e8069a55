import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { afterEach, describe, expect, it } from "vitest";
import { RecordingError } from "../../src/recording/error.js";
import { parseScenario, readRecording } from "../../src/recording/reader.js";
import { RECORDINGS, recordingOf } from "./fixtures.js";

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
    const recording = parseScenario("scenario.json", JSON.stringify(scenario));
    expect([...recording.unknownEvents]).toEqual([["kvm_new_thing", 1]]);
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
  it.each(DAMAGES)("names file and field of %s", (_name, damage, field, expected) => {
    const error = damaged(damage);
    expect(error.file).toBe("scenario.json");
    expect(error.field).toBe(field);
    expect(error.message).toContain(expected);
    expect(error.message).not.toContain("\n");
  });

  describe("in a folder", () => {
    const folders: string[] = [];
    afterEach(() => {
      for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
    });

    function copy(): string {
      const folder = mkdtempSync(join(tmpdir(), "recording-"));
      folders.push(folder);
      cpSync(join(RECORDINGS, NAME), folder, { recursive: true });
      return folder;
    }

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
      expect(error.message).toContain("1 pages");
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
