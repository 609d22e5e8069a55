/** The command `diff`: what it prints of two recordings, and how it ends. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync, gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { temporaryFolder } from "../temporary.js";
import { run } from "./run-main.js";

const RECORDINGS = fileURLToPath(new URL("../fixtures/recordings", import.meta.url));
const E1 = join(RECORDINGS, "e1_lm4_mmio_slots", "npt0");

const { copyOf } = temporaryFolder();

/** E1 with another right in the first SPTE that step 1 makes. */
function otherRight(): string {
  const folder = copyOf(E1);
  const file = join(folder, "scenario.json.gz");
  const text = gunzipSync(readFileSync(file)).toString();
  const other = text.replace(/("spte": ?"0x1f7ba2)1"/, '$13"');
  expect(other).not.toBe(text);
  writeFileSync(file, gzipSync(other));
  return folder;
}

describe("diff", () => {
  it("ends with 0 where nothing differs", async () => {
    const { code, stdout } = await run(["diff", E1, E1]);
    const [first, second, totals] = stdout.split("\n");
    expect(first).toBe(`- ${E1}: e1_lm4_mmio_slots, npt0, Linux 6.1`);
    expect(second).toBe(`+ ${E1}: e1_lm4_mmio_slots, npt0, Linux 6.1`);
    expect(totals).toMatch(/^0 of \d+ steps differ \(0 in answers, 0 in events, 0 in state\)$/);
    expect(code).toBe(0);
  });

  it("shows the lines of either side under their step and part, and ends with 1", async () => {
    const { code, stdout } = await run(["diff", E1, otherRight()]);
    const lines = stdout.trimEnd().split("\n").slice(2);
    expect(lines[0]).toBe("step 1 (nop)");
    expect(lines[1]).toBe("  events");
    expect(lines[2]).toMatch(/^ {4}- kvm_mmu_set_spte gfn 2 spte leaf r-x- /);
    expect(lines[3]).toMatch(/^ {4}\+ kvm_mmu_set_spte gfn 2 spte leaf rwx- /);
    expect(lines[4]).toMatch(/^1 of \d+ steps differ \(0 in answers, 1 in events, 0 in state\)$/);
    expect(code).toBe(1);
  });

  it("cuts the parts as --show says, and counts what is left", async () => {
    const { stdout } = await run(["diff", E1, otherRight(), "--show", "1"]);
    expect(stdout.split("\n").slice(4, 6)).toEqual([expect.stringMatching(/^ {4}- kvm_mmu/), "    ... 1 more"]);
  });

  it("prints JSON, one object a step and one with the totals", async () => {
    const { stdout } = await run(["diff", E1, otherRight(), "--json"]);
    const [step, totals, ...rest] = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(rest).toEqual([]);
    expect(step).toMatchObject({ op: "nop", a: 1, b: 1, answers: [], state: [] });
    expect(step.events.map(({ side }: { side: string }) => side)).toEqual(["a", "b"]);
    expect(totals).toMatchObject({ differing: 1, answers: 0, events: 1, state: 0, unmatched: 0 });
  });

  it.each([
    ["a folder with several recordings", [RECORDINGS, E1], "expected one recording, found 7 below it"],
    ["a folder that does not exist", [E1, join(RECORDINGS, "nothing")], "no such folder"],
    ["one recording", [E1], "missing required argument 'b'"],
  ])("refuses %s in one line and ends with 2", async (_name, folders, message) => {
    const { code, stdout, stderr } = await run(["diff", ...folders]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain(message);
  });
});
