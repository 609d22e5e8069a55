/** `x86-paging read`. */
import { expect, it } from "vitest";
import { temporaryFolder } from "../temporary.js";
import { run } from "./run-main.js";

const PAGE = 4096;
const temporary = temporaryFolder();

/** A root at 0, tables at 0x1000 to 0x3000, two pages at 0x4000, and pages that are not there at 0x9000. */
const bytes = new Uint8Array(6 * PAGE);
const view = new DataView(bytes.buffer);
for (let table = 0; table < 3; table++) view.setBigUint64(table * PAGE, BigInt((table + 1) * PAGE) | 0x27n, true);
for (const [page, frame] of [4, 5, 9, 9].entries())
  view.setBigUint64(3 * PAGE + page * 8, BigInt(frame * PAGE) | 0x21n, true);
bytes.set(new TextEncoder().encode("the first page ends here"), 5 * PAGE - 24);
bytes.fill(0x41, 5 * PAGE, 5 * PAGE + 64);
const file = temporary.file("memory.raw", bytes);
const read = (...args: string[]) =>
  run(["read", file, ...args, "--raw", "--cr0", "80010001", "--cr3", "0", "--cr4", "20", "--efer", "d00", "-q"]);

it("shows bytes across pages in lines of 16, and lines that repeat once", async () => {
  expect(await read("ff0", "100")).toEqual({
    code: 0,
    stderr: "",
    stdout: [
      "0000000000000ff0  74 20 70 61 67 65 20 65  6e 64 73 20 68 65 72 65  t page ends here",
      "0000000000001000  41 41 41 41 41 41 41 41  41 41 41 41 41 41 41 41  AAAAAAAAAAAAAAAA",
      "*",
      "0000000000001040  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  ................",
      "0000000000001050  00 00 00 00                                       ....",
      "",
    ].join("\n"),
  });
});

it("says how far lines that repeat go", async () => {
  const { stdout } = await read("1000", "64");
  expect(stdout.split("\n").slice(1)).toEqual(["*", "0000000000001040", ""]);
});

it("begins and ends within a line", async () => {
  const { stdout } = await read("fea", "3");
  expect(stdout).toBe(
    `0000000000000fe0  ${"   ".repeat(8)} ${"   ".repeat(2)}65 20 66${"   ".repeat(3)}  ${" ".repeat(10)}e f\n`,
  );
});

it("says what is not mapped and what is not in the dump, once for all pages, and ends with 1", async () => {
  const { code, stdout } = await read("1ff8", "20K");
  expect(code).toBe(1);
  expect(stdout.split("\n").slice(1)).toEqual([
    "0000000000002000  8192 bytes: not in the dump",
    "0000000000004000  12280 bytes: not mapped: level-1 entry 0x0",
    "",
  ]);
  const far = await read("800000000000", "8");
  expect(far).toMatchObject({ code: 1, stdout: "0000800000000000  8 bytes: not a canonical address\n" });
});

it("reads by physical address, without registers", async () => {
  const { code, stdout } = await run(["read", file, "5000", "4", "--physical", "--raw"]);
  expect({ code, stdout }).toEqual({ code: 0, stdout: `0000000000005000  41 41 41 41${" ".repeat(39)}AAAA\n` });
});

it("writes bytes as they are, all of them or none", async () => {
  expect(await read("fe8", "28", "--binary")).toEqual({ code: 0, stderr: "", stdout: "the first page ends hereAAAA" });
  const { code, stdout, stderr } = await read("1000", "8K", "--binary");
  expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
  expect(stderr).toContain("0x2000: not in the dump; nothing was written");
});

it("gives pages as JSON", async () => {
  const { stdout } = await read("ffe", "4100", "--json");
  const pages = stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(pages).toEqual([
    { version: 1, address: "0xffe", size: 2, gpa: "0x4ffe", bytes: "7265" },
    { version: 1, address: "0x1000", size: 4096, gpa: "0x5000", bytes: expect.stringMatching(/^(41){64}0{8064}$/) },
    { version: 1, address: "0x2000", size: 2, missing: "not in the dump" },
  ]);
});

it.each([
  [["1000", "0"], "expected a number of bytes"],
  [["xyz", "8"], "expected a hexadecimal number"],
  [["ffffffffffffffff", "2"], "fewer than 2 bytes follow"],
  [["1000", "8", "--binary", "--json"], "--binary and --json"],
])("refuses %s", async (args, message) => {
  const { code, stdout, stderr } = await read(...args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr).toContain(message);
});
