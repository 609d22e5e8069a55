/** The commands on dumps of real Linux guests, against what QEMU said of them. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { fixture, run } from "./run-main.js";

const DUMPS = ["amd64-la57", "amd64-1g", "amd64-4l", "i386-pae", "i386-nopae"];
const LISTED = ["amd64-la57", "i386-pae", "i386-nopae"];
const ENGINES = ["wasm", "reference"];

const text = (name: string, file: string) => {
  const bytes = readFileSync(fixture(name, file));
  return (file.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString();
};

/** Not toBe: a difference in a million characters must not be printed whole. */
function expectEqual(actual: string, expected: string): void {
  if (actual === expected) return;
  const [a, b] = [actual.split("\n"), expected.split("\n")];
  const line = a.findIndex((value, i) => value !== b[i]);
  expect({ line, text: a[line], lines: a.length }).toEqual({ line, text: b[line], lines: b.length });
}

describe.each(ENGINES)("dumps of real Linux guests, as QEMU saw them (%s)", (engine) => {
  it.each(LISTED)("%s: info tlb", async (name) => {
    const { code, stdout } = await run(["maps", fixture(name), "--format", "info-tlb", "--engine", engine]);
    expect(code).toBe(0);
    expectEqual(stdout, text(name, "info-tlb.txt.gz"));
  });

  it.each(LISTED)("%s: leaves with effective rights", async (name) => {
    const { code, stdout } = await run(["maps", fixture(name), "--format", "leaves", "--engine", engine]);
    const columns = (listing: string) => listing.replaceAll(/^(\S+ \S+ \S+ \S+).*$/gm, "$1");
    expect(code).toBe(0);
    expectEqual(columns(stdout), columns(text(name, "map-effective.txt.gz")));
  });

  it.each(DUMPS)("%s: gva2gpa", async (name) => {
    const list = fixture(name, "gva2gpa.txt");
    const { code, stdout } = await run([
      "walk",
      fixture(name),
      "--from",
      list,
      "--format",
      "gva2gpa",
      "--engine",
      engine,
    ]);
    expect(code).toBe(0);
    expectEqual(stdout, text(name, "gva2gpa.txt"));
  });
});

interface RunJson {
  va: string;
  pa: string;
  size: number;
  pageSize: 4096 | 2097152;
  user: boolean;
  writable: boolean;
  executable: boolean;
}

describe("runs", () => {
  it("cover exactly the leaves", async () => {
    const { stdout } = await run(["maps", fixture("i386-pae"), "--json"]);
    const pages: string[] = [];
    for (const line of stdout.trim().split("\n")) {
      const r = JSON.parse(line) as RunJson;
      const unit = { 4096: "4K", 2097152: "2M" }[r.pageSize];
      for (let done = 0; done < r.size; done += r.pageSize) {
        const va = (BigInt(r.va) + BigInt(done)).toString(16).padStart(16, "0");
        const rights = `${r.user ? "u" : "-"}${r.writable ? "w" : "-"}${r.executable ? "x" : "-"}`;
        pages.push(`${va} ${(BigInt(r.pa) + BigInt(done)).toString(16)} ${unit} ${rights}`);
      }
    }
    const expected = text("i386-pae", "map-effective.txt.gz").trim().split("\n");
    expect(pages.length).toBe(expected.length);
    expectEqual(pages.join("\n"), expected.map((line) => line.replace(" absent", "")).join("\n"));
  });

  it.each<[string[], (line: string) => boolean]>([
    [["--user"], (rights) => rights[0] === "u"],
    [["--writable"], (rights) => rights[1] === "w"],
    [["--executable"], (rights) => rights[2] === "x"],
    [["--wx"], (rights) => rights[1] === "w" && rights[2] === "x"],
    [["--user", "--executable"], (rights) => rights[0] === "u" && rights[2] === "x"],
  ])("filters: %j", async (filters, keep) => {
    const { stdout } = await run(["maps", fixture("amd64-la57"), "--format", "leaves", ...filters]);
    const expected = text("amd64-la57", "map-effective.txt.gz")
      .split("\n")
      .filter((line) => line !== "" && keep(line.split(" ")[3]!));
    expect(stdout.trim().split("\n").length).toBe(expected.length);
    expect(expected.length).toBeGreaterThan(0);
  });
});

describe("find", () => {
  it("finds every address that translates to the physical one", async () => {
    const leaves = text("amd64-la57", "map-effective.txt.gz").trim().split("\n");
    const expected = leaves
      .map((line) => line.split(" "))
      .map(([va, pa, size]) => ({
        va: BigInt(`0x${va}`),
        pa: BigInt(`0x${pa}`),
        size: size === "4K" ? 4096n : 1n << 21n,
      }))
      .filter(({ pa, size }) => pa <= 0x1f15c123n && 0x1f15c123n < pa + size)
      .map(({ va, pa }) => `0x1f15c123 ${(va + 0x1f15c123n - pa).toString(16).padStart(16, "0")}`);
    const { code, stdout } = await run(["find", fixture("amd64-la57"), "1f15c123"]);
    expect(code).toBe(0);
    expect(
      stdout
        .trim()
        .split("\n")
        .map((line) => line.split(" ").slice(0, 2).join(" ")),
    ).toEqual(expected);
    expect(expected.length).toBe(2);
  });

  it("says which addresses nothing maps, and ends with 1 if that is all of them", async () => {
    const none = await run(["find", fixture("i386-nopae"), "ff00000000"]);
    expect(none).toMatchObject({ code: 1, stdout: "" });
    expect(none.stderr).toMatch(/nothing maps 0xff00000000/);
    const some = await run(["find", fixture("i386-nopae"), "ff00000000", "19dd9000", "--json"]);
    expect(some.code).toBe(0);
    expect(JSON.parse(some.stdout.split("\n")[0]!)).toEqual({
      version: 1,
      gpa: "0x19dd9000",
      va: "0x10000",
      pageSize: 4096,
      user: true,
      writable: true,
      executable: true,
    });
  });
});

describe("tour", () => {
  it("shows the dump that comes with the package", async () => {
    const { code, stdout } = await run(["tour"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/5-level paging/);
    expect(stdout).toMatch(/CR3 +0x2634000 +note QEMU cpu 0/);
    expect(stdout).toMatch(/75674 pages: 75395 of 4K, 279 of 2M/);
    expect(stdout).toMatch(/gpa 0x1fc05969 {2}4K page, user, read-only, executable/);
  });
});

describe("spaces", () => {
  it("lists the space that runs, for people and for programs", async () => {
    const { code, stdout } = await run(["spaces", fixture("i386-pae")]);
    expect(code).toBe(0);
    expect(stdout.split("\n")).toEqual([
      "root          mode                 users      kernel    W+X  what",
      expect.stringMatching(/^0x12072c0 {5}PAE paging +15\.2 MiB +256\.2 MiB +583 {2}process, cpu 0$/),
      "",
    ]);
    const json = await run(["spaces", fixture("amd64-la57"), "--json"]);
    expect(JSON.parse(json.stdout)).toMatchObject({ root: "0x2634000", mode: "5level", kind: "process", cpus: [0] });
  });

  it("ends with 1 where there is none", async () => {
    const { code, stdout, stderr } = await run(["spaces", fixture("amd64-4l"), "--mode", "pae"]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toContain("no page tables were found");
  });
});
