/** `maps --not-present` and `walk --not-present`. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { elfCore, note, qemuNote, table64 } from "../dump/builders.js";
import { temporaryFolder } from "../temporary.js";
import { fixture, run } from "./run-main.js";

const { file } = temporaryFolder();

it("lists what real guests made inaccessible, where their kernels have it", async () => {
  // Of amd64-4l and i386-pae: "none-touched" and the first half of "thp-none" of the mappings that the guest made.
  const wide = await run(["maps", fixture("amd64-4l"), "--not-present", "linux", "-q"]);
  expect(wide.code).toBe(0);
  expect(wide.stdout.trimEnd().split("\n")).toEqual([
    expect.stringMatching(/^[0-9a-f]{16} [0-9a-f]{16} {6}2 MiB {7}1 {2}no access 0x[0-9a-f]+00000, large$/),
    expect.stringMatching(/^[0-9a-f]{16} [0-9a-f]{16} {5}16 KiB {7}4 {2}no access 0x[0-9a-f]+000$/),
  ]);
  const pae = await run(["maps", fixture("i386-pae"), "--not-present", "linux", "-q"]);
  expect(pae.stdout.trimEnd().split("\n")).toEqual([
    "00000000b6e00000 00000000b7000000      2 MiB       1  no access 0x10e000000, large",
    "00000000b7f74000 00000000b7f78000     16 KiB       4  no access 0x10fb51000",
  ]);
});

it("reads what a real guest swapped out as its /proc/self/pagemap has it", async () => {
  const expected = readFileSync(fixture("amd64-swap", "pagemap.txt"), "utf8")
    .trim()
    .split("\n")
    .map((line) => line.split(" ").map((word) => BigInt(`0x${word}`)) as [bigint, bigint]);
  const { stdout } = await run(["maps", fixture("amd64-swap"), "--not-present", "linux", "-q", "--json"]);
  const found = new Map<bigint, string>();
  for (const line of stdout.trim().split("\n")) {
    const { va, entries, kind, file: swapFile, offset, pa } = JSON.parse(line);
    for (let page = 0n; page < BigInt(entries); page++) {
      const place =
        kind === "swap" ? `swap ${swapFile} ${BigInt(offset) + page}` : `memory ${BigInt(pa) / 4096n + page}`;
      found.set(BigInt(va) + page * 4096n, place);
    }
  }
  // Bit 62: swapped, with the file in bits 4:0 and its page above; else the frame (Documentation/admin-guide/mm/pagemap.rst).
  const text = (word: bigint) => {
    const number = BigInt.asUintN(55, word);
    return (word >> 62n) & 1n ? `swap ${number % 32n} ${number / 32n}` : `memory ${number}`;
  };
  const swapped = expected.filter(([, word]) => (word >> 62n) & 1n);
  expect(swapped).toHaveLength(48);
  // Four pages were made inaccessible: they are in memory, and in no entry that is present.
  const missing = expected.filter(([va]) => found.has(va));
  expect(missing).toHaveLength(52);
  for (const [va, word] of missing) expect(found.get(va)).toBe(text(word));
});

/** A page of a swap file, one that moves and one in memory, under a kernel that VMCOREINFO names. */
const swap = (type: bigint, offset: bigint) => (type << 59n) | ((~offset & ((1n << 50n) - 1n)) << 9n);
const system = (text: string, name: string) => {
  const tables = [
    table64({ 0: 0x2007n }),
    table64({ 0: 0x3007n }),
    table64({ 0: 0x4007n }),
    table64({ 0: swap(0n, 5n), 1: swap(0n, 6n), 2: swap(26n, (1n << 34n) | 0x123n), 3: 0x4007n }),
  ];
  const [first, second] = [
    qemuNote({ cr3: 0x1000n, cr4: 0x20n }),
    note("VMCOREINFO", 0, new TextEncoder().encode(text)),
  ];
  const notes = new Uint8Array(first.length + second.length);
  notes.set(first);
  notes.set(second, first.length);
  return file(name, elfCore({ notes, segments: tables.map((bytes, i) => ({ gpa: BigInt(i + 1) << 12n, bytes })) }));
};
const old = system("OSRELEASE=6.1.0-56-amd64\n", "old.elf");

describe("a system", () => {
  const maps = async (path: string, ...args: string[]) =>
    (await run(["maps", path, "-q", "--not-present", "linux", ...args])).stdout.trimEnd().split("\n");

  it("is read as its release and its VMCOREINFO say, or as it is asked for", async () => {
    expect(await maps(old)).toEqual([
      "0000000000000000 0000000000002000      8 KiB       2  swap file 0, page 0x5",
      "0000000000002000 0000000000003000      4 KiB       1  migration write 0x123000, accessed",
    ]);
    expect((await maps(old, "--pfn-bits", "40"))[1]).toMatch(/migration write 0x400000123000$/);
    const wide = system("OSRELEASE=6.1.0\nNUMBER(MAX_PHYSMEM_BITS)=52\n", "wide.elf");
    expect((await maps(wide))[1]).toMatch(/migration write 0x400000123000$/);
    const older = system("OSRELEASE=5.10.0\n", "older.elf");
    expect((await maps(older))[1]).toMatch(/swap file 26, page 0x400000123$/);
  });

  it("has wider numbers of page frames with 5 levels", async () => {
    const tables = [2n, 3n, 4n, 5n].map((frame) => table64({ 0: (frame << 12n) | 7n }));
    const last = table64({ 0: swap(26n, (1n << 34n) | 0x123n) });
    const path = file(
      "five.elf",
      elfCore({
        notes: qemuNote({ cr3: 0x1000n, cr4: 0x1020n }),
        segments: [...tables, last].map((bytes, i) => ({ gpa: BigInt(i + 1) << 12n, bytes })),
      }),
    );
    expect((await maps(path))[0]).toMatch(/ 0x400000123000$/);
  });

  it("is listed where ranges say, and as JSON", async () => {
    expect(await maps(old, "--range", "1000-2001")).toHaveLength(2);
    expect(await maps(old, "--has", "2fff")).toHaveLength(1);
    expect(JSON.parse((await maps(old, "--json"))[0]!)).toEqual({
      version: 1,
      va: "0x0",
      size: 8192,
      entries: 2,
      pageSize: 4096,
      entry: `0x${swap(0n, 5n).toString(16)}`,
      kind: "swap",
      file: 0,
      offset: "0x5",
      flags: [],
    });
    const none = await run(["maps", old, "-q", "--not-present", "linux", "--has", "5000"]);
    expect(none).toMatchObject({ code: 1, stdout: "" });
    expect(none.stderr).toContain("no entry that is not present says anything that the filters let through");
  });

  it("is read by walks, which say it behind why an address is not mapped", async () => {
    const { stdout } = await run(["walk", old, "1234", "3000", "9000", "--not-present", "linux", "-q"]);
    const lines = stdout.trimEnd().split("\n");
    expect(lines.filter((line) => /^ {2}linux/.test(line))).toEqual(["  linux: swap file 0, page 0x6"]);
    expect(lines[6]).toBe("  linux: swap file 0, page 0x6");
    const json = await run(["walk", old, "2000", "9000", "--not-present", "linux", "-q", "--json"]);
    const results = json.stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line).result);
    expect(results[0].notPresent).toEqual({ kind: "migration write", pa: "0x123000", flags: ["accessed"] });
    expect(results[1]).not.toHaveProperty("notPresent");
    const windows = await run(["walk", old, "0", "--not-present", "windows", "-q"]);
    expect(windows.stdout).toMatch(/^ {2}windows: prototype, /m);
  });
});

it.each([
  [["maps", old, "--pfn-bits", "34"], /--pfn-bits: expected --not-present with it/],
  [["maps", old, "--not-present", "linux", "--pfn-bits", "41"], /expected a number from 1 to 40/],
  [["maps", old, "--not-present", "linux", "--wx"], /--not-present: expected no --wx with it/],
  [["maps", old, "--not-present", "linux", "--format", "leaves"], /--not-present: expected no --format with it/],
  [["maps", old, "--not-present", "linux", "--all"], /--not-present: expected no --all with it/],
  [["maps", fixture("i386-pae"), "--not-present", "windows"], /--not-present windows: expected 4-level paging/],
  [["walk", old, "0", "--not-present", "linux", "--format", "gva2gpa"], /--not-present: expected --format text/],
  [["maps", old, "--not-present", "minix"], /Allowed choices are linux, windows/],
])("refuses %j", async (args, message) => {
  const { code, stdout, stderr } = await run(args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr).toMatch(message);
});
