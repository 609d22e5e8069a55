/** The command `diff` of dumps and spaces. */
import { describe, expect, it } from "vitest";
import { at, dumpOf, P, RW, SYSTEM, USER, XD } from "../dump/isolated-guest.js";
import { temporaryFolder } from "../temporary.js";
import { fixture, run } from "./run-main.js";

const temporary = temporaryFolder();
const REGISTERS = ["--cr4", "20", "--cr0", "80010001", "--efer", "d00", "-q"];
const a = temporary.file("a.elf", dumpOf(SYSTEM));
/** Page 0 lies elsewhere, page 1 is gone, pages 2 and 3 are new, and the kernel's page is read-only. */
const b = temporary.file(
  "b.elf",
  dumpOf({
    ...SYSTEM,
    578: { 0: at(0x257, P | RW | USER), 2: at(0x260, P | USER), 3: at(0x261, P | USER) },
    770: { 0: (0x20_00e3n & ~RW) | XD },
  }),
);
const diff = (one: string, other: string, ...args: string[]) => run(["diff", one, other, ...REGISTERS, ...args]);
const users = ["--cr3", "220000", "--half", "user"];

describe("dumps", () => {
  it("shows what is gone, added and changed, and ends with 1", async () => {
    const { code, stdout, stderr } = await diff(a, b, "--cr3", "220000");
    expect({ code, stderr }).toEqual({ code: 1, stderr: "" });
    expect(stdout.trimEnd().split("\n")).toEqual([
      `- ${a}, CR3 0x220000 (given)`,
      `+ ${b}, CR3 0x220000 (given)`,
      "- 0000000000000000 0000000000001000      4 KiB   4K uw- 0000000000250000",
      "+ 0000000000000000 0000000000001000      4 KiB   4K uw- 0000000000257000 target changed",
      "- 0000000000001000 0000000000002000      4 KiB   4K u-- 0000000000251000",
      "+ 0000000000002000 0000000000004000      8 KiB   4K u-- 0000000000260000",
      "- ffff960000000000 ffff960000200000      2 MiB   2M -w- 0000000000200000",
      "+ ffff960000000000 ffff960000200000      2 MiB   2M --- 0000000000200000 rights changed",
      "8 KiB added in 1 range, 4 KiB gone in 1 range, 2.0 MiB changed in 2 ranges",
    ]);
  });

  it("says that nothing differs, and ends with 0", async () => {
    const { code, stdout } = await diff(a, a, ...users);
    expect(code).toBe(0);
    expect(stdout.trimEnd().split("\n").slice(2)).toEqual([
      "0 B added in 0 ranges, 0 B gone in 0 ranges, 0 B changed in 0 ranges",
    ]);
    expect((await run(["diff", fixture("amd64-4l"), fixture("amd64-4l"), "-q"])).code).toBe(0);
  });

  it("prints JSON, one object a range and one with the totals", async () => {
    const { stdout } = await diff(a, b, ...users, "--json");
    const objects = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(objects[0]).toEqual({
      version: 1,
      kind: "changed",
      va: "0x0",
      size: 4096,
      changes: ["target"],
      a: { pa: "0x250000", pageSize: 4096, user: true, writable: true, executable: true },
      b: { pa: "0x257000", pageSize: 4096, user: true, writable: true, executable: true },
    });
    expect(objects[1]).toMatchObject({ kind: "gone", changes: [], b: null });
    expect(objects.at(-1)).toEqual({
      version: 1,
      added: { ranges: 1, bytes: 8192 },
      gone: { ranges: 1, bytes: 4096 },
      changed: { ranges: 2, bytes: 4096 + 2 ** 21 },
    });
  });

  it("looks at what either side has among the filters", async () => {
    const kinds = async (...args: string[]) =>
      (await diff(a, b, "--cr3", "220000", "--json", ...args)).stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line))
        .slice(0, -1)
        .map(({ kind, va }) => `${kind} ${va}`);
    expect(await kinds("--kernel")).toEqual(["changed 0xffff960000000000"]);
    expect(await kinds("--writable")).toEqual(["changed 0x0", "changed 0xffff960000000000"]);
    expect(await kinds("--range", "1000-2001")).toEqual(["gone 0x1000", "added 0x2000"]);
  });

  it("compares bits of entries where they are asked for", async () => {
    const dirty = temporary.file(
      "dirty.elf",
      dumpOf({ ...SYSTEM, 578: { 0: at(0x250, P | RW | USER | 0x40n), 1: at(0x251, P | USER) } }),
    );
    expect((await diff(a, dirty, ...users)).code).toBe(0);
    const { stdout, code } = await diff(a, dirty, ...users, "--columns", "d");
    expect(code).toBe(1);
    expect(stdout.split("\n").slice(2, 4)).toEqual([
      "- 0000000000000000 0000000000001000      4 KiB   4K uwx 0000000000250000 d=0",
      "+ 0000000000000000 0000000000001000      4 KiB   4K uwx 0000000000250000 d=1 entry changed",
    ]);
  });

  it("names the kernel's regions", async () => {
    const { stdout } = await run([
      "diff",
      fixture("amd64-4l"),
      fixture("amd64-la57"),
      "-q",
      "--range",
      "ffffffffaaa00000-ffffffffaaa01000",
    ]);
    expect(stdout).toContain("kernel image");
  });
});

describe("spaces of one dump", () => {
  it("are named by the options of B", async () => {
    const { stdout } = await diff(a, a, "--cr3", "220000", "--b-half", "user");
    expect(stdout.trimEnd().split("\n").slice(1)).toEqual([
      `+ ${a}, CR3 0x221000 (given, --half user)`,
      "- 0000000000000000 0000000000001000      4 KiB   4K uw- 0000000000250000",
      "+ 0000000000000000 0000000000001000      4 KiB   4K uwx 0000000000250000 rights changed",
      "- 0000000000001000 0000000000002000      4 KiB   4K u-- 0000000000251000",
      "+ 0000000000001000 0000000000002000      4 KiB   4K u-x 0000000000251000 rights changed",
      "- ffff960000000000 ffff960000200000      2 MiB   2M -w- 0000000000200000",
      "+ ffffff8000000000 ffffff8000200000      2 MiB   2M -w- 0000000000200000",
      "2 MiB added in 1 range, 2 MiB gone in 1 range, 8 KiB changed in 2 ranges",
    ]);
    expect((await diff(a, a, "--cr3", "220000", "--b-cr3", "210000")).stdout).toContain(`+ ${a}, CR3 0x210000 (given)`);
    expect((await diff(a, a, "--cr3", "220000", "--b-cpu", "5")).stderr).toContain("expected a note of processor 5");
    expect((await diff(a, a, "--cr3", "220000", "--b-part", "none")).stderr).toContain("none: cannot be opened");
  });
});

describe("bad usage", () => {
  it.each([
    ["a dump and a folder", [a, temporary.directory], "expected a dump, as the other one is"],
    ["a dump and nothing", [a, "none"], "none: expected a dump, as the other one is"],
    ["what is no dump", [a, new URL(import.meta.url).pathname], "expected"],
    ["a dump whose paging is off", [a, a, "--cr0", "1"], "paging is off, nothing is mapped"],
  ])("refuses %s in one line and ends with 2", async (_, args, message) => {
    const { code, stdout, stderr } = await run(["diff", ...args, "--cr3", "220000", "-q"]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain(message);
  });
});
