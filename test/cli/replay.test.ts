/** The command `replay`: which recordings it finds, what it prints and ends with. */
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync, gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { temporaryFolder } from "../temporary.js";
import { run } from "./run-main.js";

const RECORDINGS = fileURLToPath(new URL("../fixtures/recordings", import.meta.url));
const E1 = join(RECORDINGS, "e1_lm4_mmio_slots", "npt0");

const { copyOf, folder: emptyFolder } = temporaryFolder();

/** A copy of the recording E1 whose scenario text is changed. */
function changedCopy(change: (text: string) => string): string {
  const folder = copyOf(E1);
  const file = join(folder, "scenario.json.gz");
  writeFileSync(file, gzipSync(change(gunzipSync(readFileSync(file)).toString())));
  return folder;
}

describe("replay", () => {
  it("passes a recording and ends with the totals", async () => {
    const { code, stdout } = await run(["replay", E1]);
    expect(stdout).toBe("1 passed, 0 failed\n");
    expect(code).toBe(0);
  });

  it("makes one file of a recording with --pack, and replays it, but does not overwrite one", async () => {
    const out = emptyFolder();
    const { code, stdout } = await run(["replay", "--pack", E1, "--out", out]);
    const file = join(out, "e1_lm4_mmio_slots-npt0.recording");
    expect([code, stdout]).toEqual([0, `${file}\n`]);
    expect((await run(["replay", file])).stdout).toBe("1 passed, 0 failed\n");
    expect((await run(["replay", out])).stdout).toBe("1 passed, 0 failed\n");
    expect((await run(["diff", E1, file])).code).toBe(0);
    const again = await run(["replay", "--pack", E1, "--out", out]);
    expect([again.code, again.stderr]).toEqual([2, `error: ${file}: cannot be written: file already exists\n`]);
  });

  it("finds the recordings below a folder", async () => {
    const { code, stdout } = await run([
      "replay",
      join(RECORDINGS, "e1_lm4_mmio_slots"),
      join(RECORDINGS, "b3p_pae_pdpte"),
    ]);
    expect(stdout).toBe("2 passed, 0 failed\n");
    expect(code).toBe(0);
  });

  it("shows the first differences with both sides decoded and exits 1", async () => {
    // The first set_spte of step 1 becomes writable in the recording.
    const folder = changedCopy((text) =>
      text.replace('"spte": "0x1f7ba21"', '"spte": "0x1f7ba23"').replace('"spte":"0x1f7ba21"', '"spte":"0x1f7ba23"'),
    );
    const { code, stdout } = await run(["replay", folder]);
    expect(code).toBe(1);
    const lines = stdout.split("\n");
    expect(lines[0]).toBe(`${folder}: 1 differences`);
    expect(lines[1]).toMatch(/^ {2}step 1 \(nop\): event \d+ kvm_mmu_set_spte: spte$/);
    expect(lines[2]).toMatch(/^ {4}recorded {2}kvm_mmu_set_spte: gfn 2 spte 1f7ba23 .*leaf rwx-/);
    expect(lines[3]).toMatch(/^ {4}replayed {2}kvm_mmu_set_spte: gfn 2 spte 1f7ba21 .*leaf r-x-/);
    expect(lines.at(-2)).toBe("0 passed, 1 failed");
  });

  it("compares no events with --no-events, but results and state", async () => {
    const { code, stdout } = await run(["replay", E1, "--no-events", "--summary"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/\nevents compared\n\nresults compared\n +31 {2}page fault result\n/);
    expect(stdout).not.toContain("events not compared");
  });

  it("says with --against which rules explain the differences, the most frequent first, and ends with 0", async () => {
    const kernels = fileURLToPath(new URL("../fixtures/kernel-recordings/d1_lm4_ptedit", import.meta.url));
    const { code, stdout } = await run(["replay", kernels, "--against", "6.1", "--show", "1"]);
    expect(code).toBe(0);
    const counts = [...stdout.matchAll(/^ +(\d+) {2}\S/gm)].map(([, count]) => Number(count));
    expect(counts.length).toBeGreaterThan(1);
    expect(counts).toEqual([...counts].sort((a, b) => b - a));
    const json = await run(["replay", kernels, "--against", "6.1", "--json"]);
    const { explained, unreadable, kernel } = JSON.parse(json.stdout.trimEnd().split("\n").at(-1)!);
    expect({ values: Object.values(explained), unreadable, kernel }).toEqual({
      values: counts,
      unreadable: 0,
      kernel: "6.1",
    });
    // With its own rules there is nothing to explain.
    const own = await run(["replay", kernels, "--against", "6.12"]);
    expect([own.code, own.stdout.includes("rule ")]).toEqual([0, false]);
  });

  it("sums up what was compared, allowed and ignored", async () => {
    const { stdout } = await run(["replay", E1, "--summary"]);
    expect(stdout).toMatch(/^recordings {3}1\nsteps {8}\d+\ndifferences {2}0\n/);
    expect(stdout).toMatch(/\d+ {2}kvm_mmu_set_spte/);
    expect(stdout).toContain("table-address: addresses of shadow pages");
    expect(stdout).toContain("fields ignored\n  snap.hash:");
    expect(stdout.endsWith("1 passed, 0 failed\n")).toBe(true);
  });

  it("prints JSON, one object a recording and one with the totals", async () => {
    const { stdout } = await run(["replay", E1, "--json"]);
    const [report, totals] = stdout
      .trim()
      .split("\n")
      .map((line: string) => JSON.parse(line));
    expect(report).toMatchObject({ recording: E1, pass: true, differences: 0, first: [] });
    expect(totals).toMatchObject({ recordings: 1, passed: 1, failed: 0, differences: 0 });
    expect(totals.events.kvm_mmu_get_page).toBeGreaterThan(0);
  });

  it.each(["wasm", "reference"])("judges the guest walks alone with the %s engine", async (engine) => {
    const { code, stdout } = await run(["replay", RECORDINGS, "--walks", "--summary", "--engine", engine]);
    expect(stdout).toMatch(/^(\d+) of \1 guest walks equal\n7 passed, 0 failed\n$/);
    expect(code).toBe(0);
  });

  it("shows a walk that differs", async () => {
    const folder = changedCopy((text) =>
      text.replace(/"pferr": ?"0x3"(?=[^}]*\}[^{]*\{[^}]*invalidate_gva)/, '"pferr": "0x7"'),
    );
    const { code, stdout } = await run(["replay", folder, "--walks"]);
    expect(code).toBe(1);
    expect(stdout).toContain("    recorded  kvm_mmu_walker_error: pferr 7 P|W|U\n");
    expect(stdout).toContain("    replayed  kvm_mmu_walker_error: pferr 3 P|W\n");
  });

  it.each([
    ["text", []],
    ["walks", ["--walks"]],
    ["JSON", ["--json"]],
  ])("replays the other recordings of a folder where one is broken, and ends with 2 (%s)", async (_name, options) => {
    const folder = emptyFolder();
    for (const name of ["a", "b", "c"]) cpSync(E1, join(folder, name), { recursive: true });
    const broken = join(folder, "b", "scenario.json.gz");
    writeFileSync(broken, "junk");
    const { code, stdout, stderr } = await run(["replay", folder, ...options]);
    expect(code).toBe(2);
    expect(stderr).toBe(`error: ${broken}: expected complete gzip data: incorrect header check\n`);
    const lines = stdout.trimEnd().split("\n");
    if (options[0] === "--json") {
      const [first, second, third, totals] = lines.map((line) => JSON.parse(line));
      expect([first.pass, second.pass, third.pass]).toEqual([true, false, true]);
      expect(second.unreadable).toContain("incorrect header check");
      expect(totals).toMatchObject({ recordings: 3, passed: 2, failed: 1, unreadable: 1 });
    } else expect(lines).toEqual([`${join(folder, "b")}: cannot be replayed`, "2 passed, 1 failed"]);
  });

  it("names file and step where the recording asks for what no VM does", async () => {
    const overlap = '{"id": 9, "flags": 0, "gpa": "0x1000", "size": "0x1000", "hva": "0x7e0000000000"}';
    const folder = changedCopy((text) => text.replace(/"slots": ?\[/, `"slots": [${overlap},`));
    const file = join(folder, "scenario.json.gz");
    const { code, stdout, stderr } = await run(["replay", folder]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(/^error: .*scenario\.json\.gz: config and slots: ConfigError: slot 0 overlaps slot 9\n$/);
    expect((await run(["replay", folder, "--walks"])).stderr).toContain(`error: ${file}: walks: ConfigError: slots at`);
    const missing = changedCopy((text) => text.replace(/"vcpu": ?0/, '"vcpu": 7'));
    expect((await run(["replay", missing])).stderr).toMatch(/: step 1 \(nop\): ConfigError: vCPU 0 does not exist\n$/);
  });

  it.each([
    ["a folder that does not exist", () => join(RECORDINGS, "nothing"), "no such folder"],
    ["a file", () => join(E1, "scenario.json.gz"), "expected a folder"],
    ["a folder without recordings", emptyFolder, "expected scenario.json.gz"],
    [
      "a broken scenario",
      () => changedCopy((text) => text.replace('"slots"', '"slats"')),
      "slots: expected an array, found missing",
    ],
  ])("refuses %s in one line and exits 2", async (_name, path, message) => {
    const { code, stdout, stderr } = await run(["replay", path()]);
    expect(code).toBe(2);
    expect(stdout).toBe("");
    expect(stderr).toMatch(/^error: .*\n$/);
    expect(stderr).toContain(message);
  });
});
