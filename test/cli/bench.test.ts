/** `x86-paging bench`, as `npm run build` puts it into dist. */
import { describe, expect, it } from "vitest";
import { run } from "./run-main.js";

interface Report {
  readonly machine: { readonly node: string };
  readonly notes: readonly string[];
  readonly sections: readonly {
    readonly title: string;
    readonly results: readonly { readonly name: string; readonly ratio: number; readonly nanoseconds: number }[];
  }[];
  readonly curves: readonly { readonly of: string; readonly points: readonly { readonly x: number }[] }[];
}

describe("x86-paging bench", () => {
  it("lists what it would measure, narrowed by a word in any case", async () => {
    const all = await run(["bench", "--list"]);
    expect(all).toMatchObject({ code: 0, stderr: "" });
    const shadow = await run(["bench", "--list", "--only", "SHADOW"]);
    const titles = shadow.stdout.trim().split("\n");
    expect(titles.length).toBeGreaterThan(3);
    expect(titles.every((title) => title.includes("Shadow") && all.stdout.includes(title))).toBe(true);
    expect(all.stdout).toContain("L1, random");
    expect((await run(["bench", "--list", "--only", "growth"])).stdout).toBe("Growth\n");
  });

  it("prints a table for each section, ratios to the first row", async () => {
    const { code, stdout } = await run(["bench", "--quick", "--only", "events"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^### Shadow fault, cold, events\n\n\| \| ratio \| spread \| ns per fault \|\n/);
    expect(stdout).toMatch(/\| core, events off \| 1\.00 \|/);
  });

  it("prints everything as one object", async () => {
    const { code, stdout } = await run(["bench", "--quick", "--only", "events", "--json"]);
    expect(code).toBe(0);
    const report = JSON.parse(stdout) as Report;
    expect(report.machine.node).toBe(process.version);
    expect(report.sections.map(({ title }) => title)).toEqual(["Shadow fault, cold, events"]);
    const [first, ...others] = report.sections[0]!.results;
    expect(first).toMatchObject({ name: "core, events off", ratio: 1 });
    expect(others.map(({ ratio }) => ratio > 1)).toEqual([true, true]);
    expect(first!.nanoseconds).toBeGreaterThan(0);
    expect(report.curves).toEqual([]);
  });

  it("measures what grows as curves", async () => {
    const { code, stdout } = await run(["bench", "--quick", "--only", "growth", "--json"]);
    expect(code).toBe(0);
    const { curves, sections } = JSON.parse(stdout) as Report;
    expect(sections).toEqual([]);
    expect([...new Set(curves.map((curve) => curve.of))]).toEqual(["memslots", "shadow pages", "leaf mappings"]);
    const mappings = curves.find((curve) => curve.of === "leaf mappings")!;
    expect(mappings.points.map(({ x }) => x)).toEqual([1e3, 1e4, 1e5, 1e6]);
  });

  it("shows progress where messages go to a terminal and tables do not", async () => {
    const { stderr } = await run(["bench", "--quick", "--only", "events"], { errorTerminal: true });
    expect(stderr).toContain("Benchmarks");
  });

  it("says what to do where nothing has the word, and gives examples", async () => {
    const missing = await run(["bench", "--only", "nothing of that name"]);
    expect(missing).toMatchObject({ code: 2, stdout: "" });
    expect(missing.stderr).toMatch(/^error: no benchmark has "nothing of that name" in its title; --list prints/);
    expect((await run(["bench", "--help"])).stdout).toContain("x86-paging bench --only shadow");
  });
});
