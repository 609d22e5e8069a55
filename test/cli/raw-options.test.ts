/** --range, --map and --pc-hole: which bytes of a raw file belong where. */
import { closeSync, openSync, truncateSync, writeSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { concat, page, table64 } from "../dump/builders.js";
import { temporaryFolder } from "../temporary.js";
import { run } from "./run-main.js";

const { file } = temporaryFolder();
const toTable = (frame: number) => (BigInt(frame) << 12n) | 7n;
/** Tables of frames 0x101 to 0x104, of which the file has the last two first, behind a page of something else. */
const raw = file(
  "ram.bin",
  concat(
    page(9),
    table64({ 0: toTable(0x104) }),
    table64({ 0: toTable(0x105) }),
    table64({ 0: toTable(0x102) }),
    table64({ 0: toTable(0x103) }),
  ),
);
const ranges = ["--range", "101000:8K@3000", "--range", "103000:0x2000@0x1000"];
const cr3 = ["--cr3", "101000", "--cr4", "20", "-q"];
const listing = "0000000000000000 105000 4K uwx\n";

describe("--range and --map", () => {
  it("are in every command that opens a dump", async () => {
    expect(await run(["maps", raw, ...ranges, ...cr3, "--format", "leaves"])).toMatchObject({
      code: 0,
      stdout: listing,
    });
    expect((await run(["walk", raw, "0", ...ranges, ...cr3, "--format", "gva2gpa"])).stdout).toMatch(/gpa: 0x105000/);
    expect((await run(["find", raw, "105000", ...ranges, ...cr3])).stdout).toMatch(/^0x105000 0/);
    expect((await run(["info", raw, ...ranges, "--cr3", "101000"])).stdout).toMatch(/raw memory in 2 ranges, as given/);
    expect((await run(["tour", raw, ...ranges, ...cr3])).code).toBe(0);
    for (const command of ["maps", "walk", "find", "info", "tour"]) {
      expect((await run([command, "--help"])).stdout).toMatch(/--range[\s\S]*--map[\s\S]*--pc-hole/);
    }
  });

  it("may come from a file or standard input, and from both options", async () => {
    const text = "# memory\n\n101000:8K@3000 # low\n103000:8K@1000\n";
    expect((await run(["maps", raw, "--map", file("map", text), ...cr3, "--format", "leaves"])).stdout).toBe(listing);
    const piped = await run(["maps", raw, "--map", "-", ...cr3, "--format", "leaves"], { stdin: text });
    expect(piped.stdout).toBe(listing);
    const one = file("one", "103000:8K@1000");
    expect((await run(["maps", raw, ...ranges.slice(0, 2), "--map", one, ...cr3, "--format", "leaves"])).stdout).toBe(
      listing,
    );
  });

  it.each<[string, string[], RegExp]>([
    ["a range without an offset", ["--range", "1000:4K"], /--range .*expected GPA:SIZE@OFFSET/],
    ["an odd address", ["--range", "1001:4K@0"], /multiples of 4096/],
    ["a size that was meant to be hexadecimal", ["--range", "0:40000@0"], /SIZE is decimal without 0x/],
    ["a size of 0", ["--range", "0:0x0@0"], /multiples of 4096/],
    [
      "what lies outside the file",
      ["--range", "0:8K@4000"],
      /^error: .*ram\.bin: offset 0x4000: expected the bytes of 0:8192@4000, but the file ends at 0x5000\n$/,
    ],
    ["overlaps", ["--range", "0:8K@0", "--range", "1000:4K@0"], /share no address, found 0:8192@0 and 1000:4096@0/],
    ["an empty map", ["--map", file("empty", "# nothing\n")], /empty: expected ranges, found none/],
    ["a map that is none", ["--map", file("bad", "0:4K@0\nfoo\n")], /bad: line 2: expected GPA:SIZE@OFFSET, found foo/],
    ["a map that is not there", ["--map", "/nonexistent"], /nonexistent: cannot be read/],
    [
      "two ways at once",
      ["--range", "0:4K@0", "--offset", "0"],
      /one of --offset, --range and --pc-hole, found --offset, --range/,
    ],
    ["a map and a hole", ["--map", "-", "--pc-hole", "pc"], /found --map, --pc-hole/],
    ["an unknown machine", ["--pc-hole", "xbox"], /expected pc, q35, vmware or a hexadecimal address/],
    ["a hole inside a page", ["--pc-hole", "c0000800"], /--pc-hole: expected a multiple of 0x1000/],
    ["a hole above 4 GiB", ["--pc-hole", "100000000"], /hole that begins above 0 and below 4 GiB/],
  ])("refuse %s in one line", async (_, options, message) => {
    const { code, stdout, stderr } = await run(["maps", raw, ...options, "--cr3", "0"]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(
      stderr
        .trim()
        .split("\n")
        .filter((line) => !line.startsWith("(")).length,
    ).toBe(1);
    expect(stderr).toMatch(message);
  });
});

it("--pc-hole has the part above the hole at 4 GiB", async () => {
  const path = file("large.bin", "");
  truncateSync(path, 0xc000_0000 + 0x4000_0000);
  const descriptor = openSync(path, "r+");
  // The tables are the first pages behind 3 GiB of the file.
  for (let level = 0; level < 4; level++) {
    const entry = table64({ 0: (1n << 32n) | toTable(level + 1) });
    writeSync(descriptor, entry, 0, 4096, 0xc000_0000 + level * 4096);
  }
  closeSync(descriptor);
  const args = ["maps", path, "--cr3", "100000000", "--cr4", "20", "-q", "--format", "leaves"];
  for (const hole of ["pc", "vmware", "c0000000"]) {
    expect((await run([...args, "--pc-hole", hole])).stdout).toBe("0000000000000000 100004000 4K uwx\n");
  }
  expect((await run([...args, "--pc-hole", "q35"])).code).toBe(1);
});
