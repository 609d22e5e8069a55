/** `x86-paging maps`: what it lists, of one space and of all; `x86-paging shared`. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { mergedRows, type RowSource, rangeRows } from "../../src/cli/maps-rows.js";
import { elfCore, qemuNote, table64 } from "../dump/builders.js";
import { at, dumpOf, P, RW, SYSTEM, USER, XD } from "../dump/isolated-guest.js";
import { temporaryFolder } from "../temporary.js";
import { fixture, run } from "./run-main.js";

const temporary = temporaryFolder();

/** Virtual pages 0 to 5, of which 2 and 3 follow each other nowhere but by address; tables in frames 1 to 4. */
const toTable = (frame: number) => (BigInt(frame) << 12n) | 7n;
const pages = {
  0: 0x5_0067n,
  1: 0x5_1067n,
  2: 0x7_0067n,
  3: 0x6_0067n | (5n << 59n),
  4: 0x4005n | (1n << 8n),
  6: 0x8_0003n | XD,
};
const file = temporary.file(
  "maps.elf",
  elfCore({
    notes: qemuNote({ cr3: 0x1000n, cr4: 0x20n }),
    segments: [
      ...[
        table64({ 0: toTable(2) }),
        table64({ 0: toTable(3) }),
        table64({ 0: toTable(4) }),
        table64(pages),
        new Uint8Array(4096),
      ].map((bytes, index) => ({ gpa: BigInt(index + 1) << 12n, bytes })),
      { gpa: 0x7_0000n, bytes: new Uint8Array(4096) },
    ],
  }),
);
const lines = async (...args: string[]) => {
  const { stdout, code } = await run(["maps", file, "-q", ...args]);
  expect(code).toBe(0);
  return stdout.trimEnd().split("\n");
};
const starts = async (...args: string[]) => (await lines(...args)).slice(1).map((line) => line.slice(12, 16));

describe("maps", () => {
  it("tells programs what a dump of page tables lacks, of one space as of all; people are not told in each line", async () => {
    const list = async (...args: string[]) =>
      (await run(["maps", fixture("amd64-la57"), "-q", "--wx", ...args])).stdout.trimEnd();
    for (const all of [[], ["--all"]]) {
      expect(JSON.parse((await list("--json", ...all)).split("\n")[0]!)).toMatchObject({
        presence: "absent",
        absent: true,
      });
      expect((await list("--csv", ...all)).split("\n")[1]).toMatch(/,absent\b/);
    }
    expect(await list()).not.toContain("absent");
  });

  it("merges by virtual address and rights alone, and says how much is not in the dump", async () => {
    expect(await lines("--merge")).toEqual([
      "start            end                    size   pages rights",
      "0000000000000000 0000000000004000     16 KiB       4 uwx    12 KiB absent",
      "0000000000004000 0000000000005000      4 KiB       1 u-x",
      "0000000000006000 0000000000007000      4 KiB       1 -w-    absent",
    ]);
    expect((await lines("--merge", "--json")).map((line) => JSON.parse(line))[0]).toEqual({
      version: 1,
      va: "0x0",
      size: 16384,
      pages: 4,
      user: true,
      writable: true,
      executable: true,
      absentBytes: 12288,
    });
    expect(await lines("--merge", "--csv", "--columns", "pkey")).toEqual([
      "start,end,size,rights,pages,absent_bytes,pkey,region",
      "0x0,0x3000,12288,uwx,3,8192,0,",
      "0x3000,0x4000,4096,uwx,1,4096,5,",
      "0x4000,0x5000,4096,u-x,1,0,0,",
      "0x6000,0x7000,4096,-w-,1,4096,0,",
    ]);
  });

  it("merges as QEMU's info mem does, which does not look at execution", async () => {
    const expected = gunzipSync(readFileSync(fixture("i386-pae", "info-mem.txt.gz")))
      .toString()
      .trim()
      .split("\n")
      .map((line) => line.split(" "))
      .map(([range, , letters]) => `${range} ${letters}`);
    const { stdout } = await run(["maps", fixture("i386-pae"), "--merge", "--csv", "-q"]);
    const merged: { from: bigint; to: bigint; letters: string }[] = [];
    for (const line of stdout.trim().split("\n").slice(1)) {
      const [from, to, , rights] = line.split(",") as [string, string, string, string];
      const row = { from: BigInt(from), to: BigInt(to), letters: `${rights[0]}r${rights[1]}` };
      const last = merged.at(-1);
      if (last?.to === row.from && last.letters === row.letters) last.to = row.to;
      else merged.push(row);
    }
    const digits = (value: bigint) => value.toString(16).padStart(16, "0");
    expect(merged.map(({ from, to, letters }) => `${digits(from)}-${digits(to)} ${letters}`)).toEqual(expected);
  });

  it("lists what is in a range, what has an address, and one half", async () => {
    expect(await starts()).toEqual(["0000", "2000", "3000", "4000", "6000"]);
    expect(await starts("--range", "1000-2001")).toEqual(["1000", "2000"]);
    expect(await starts("--range", "4fff-")).toEqual(["4000", "6000"]);
    expect(await starts("--range", "0-1000", "--range", "4000-4001")).toEqual(["0000", "4000"]);
    expect(await starts("--has", "1fff")).toEqual(["0000"]);
    expect(await starts("--has", "1fff", "--merge")).toEqual(["0000"]);
    expect(await lines("--has", "1fff", "--format", "leaves")).toEqual(["0000000000001000 51000 4K uwx absent"]);
    expect(await lines("--has", "4fff", "--format", "info-tlb")).toEqual([
      "0000000000004000: 0000000000004000 -G-----U-",
    ]);
    expect(await starts("--kernel")).toEqual(["6000"]);
    expect(await starts("--user", "--range", "2000-")).toEqual(["2000", "3000", "4000"]);
    const nothing = await run(["maps", file, "-q", "--has", "5000"]);
    expect(nothing).toMatchObject({ code: 1, stdout: "" });
    expect(nothing.stderr).toContain("nothing is mapped that the filters let through");
    const range = await run(["maps", file, "-q", "--range", "5000-6000"]);
    expect(range.stderr).toContain("nothing is mapped that the filters let through");
  });

  it("shows attributes where they are asked for, and parts ranges by them", async () => {
    expect(await lines("--columns", "g,pat,a,d,pkey")).toEqual([
      "start            end                    size page rights physical         g pat a d pkey",
      "0000000000000000 0000000000002000      8 KiB   4K uwx    0000000000050000 0   0 1 1    0 absent",
      "0000000000002000 0000000000003000      4 KiB   4K uwx    0000000000070000 0   0 1 1    0",
      "0000000000003000 0000000000004000      4 KiB   4K uwx    0000000000060000 0   0 1 1    5 absent",
      "0000000000004000 0000000000005000      4 KiB   4K u-x    0000000000004000 1   0 0 0    0",
      "0000000000006000 0000000000007000      4 KiB   4K -w-    0000000000080000 0   0 0 0    0 absent",
    ]);
    expect((await lines("--columns", "A, pkey", "--format", "leaves", "--has", "3000"))[0]).toBe(
      "0000000000003000 60000 4K uwx absent a=1 pkey=5",
    );
    expect(JSON.parse((await lines("--columns", "pkey", "--json", "--has", "3000"))[0]!)).toMatchObject({ pkey: 5 });
  });

  it("gives comma-separated values", async () => {
    expect((await lines("--csv", "--columns", "g")).slice(0, 2)).toEqual([
      "start,end,size,rights,page_size,physical,presence,g,region",
      "0x0,0x2000,8192,uwx,4096,0x50000,absent,0,",
    ]);
    expect((await lines("--csv", "--format", "leaves"))[1]).toBe("0x0,0x1000,4096,uwx,4096,0x50000,absent,");
  });

  it.each([
    [["--json", "--csv"], /--json and --csv: expected one of them/],
    [["--merge", "--format", "leaves"], /--merge: expected --format runs, found leaves/],
    [["--all", "--format", "leaves"], /--all: expected --format runs, found leaves/],
    [["--csv", "--format", "info-tlb"], /--csv: expected --format runs or leaves, found info-tlb/],
    [["--columns", "a", "--format", "info-tlb"], /--columns: expected --format runs or leaves, found info-tlb/],
    [["--columns", "a,x"], /expected g, pat, a, d, pkey, found x/],
    [["--has", "x"], /expected a hexadecimal number/],
    [["--range", "5"], /expected START-END or GPA:SIZE@OFFSET/],
  ])("refuses %j", async (args, message) => {
    const { code, stdout, stderr } = await run(["maps", file, ...args]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(message);
  });

  it("takes ranges of a raw file with the same option, and other commands nothing else", async () => {
    // The file's first page, an ELF header, is no table.
    const raw = ["maps", file, "--range", "1000:4096@0", "--cr3", "1000"];
    expect((await run(raw)).stderr).toMatch(/the level-3 table at 0x[0-9a-f]+ is not in the dump/);
    expect((await run(["info", file, "--range", "0-1000"])).stderr).toMatch(/expected GPA:SIZE@OFFSET/);
  });
});

describe("the regions of a Linux kernel", () => {
  it("are named in listings", async () => {
    const rows = async (...args: string[]) =>
      (await run(["maps", fixture("amd64-4l"), "-q", ...args])).stdout.trimEnd().split("\n");
    expect((await rows("--has", "ffffffffaaa00000"))[1]).toMatch(/ 2M --x {4}[0-9a-f]{16} kernel image$/);
    expect((await rows("--merge", "--has", "ffff8ac180200000"))[1]).toMatch(/ direct map$/);
    expect((await rows("--csv", "--range", "ffffff0000000000-ffffff8000000000"))[1]).toMatch(/,espfix$/);
    expect(JSON.parse((await rows("--json", "--has", "ffffffffaaa00000"))[0]!)).toMatchObject({
      region: "kernel image",
    });
    expect((await rows("--json", "--has", "10000"))[0]).not.toContain("region");
    expect((await rows("--all", "--has", "ffffffffaaa00000"))[1]).toMatch(/ kernel image in 0x101c28000$/);
    // Neighbours in two regions are no range.
    const names = (await rows("--merge", "--range", "ffffc00000000000-")).map((line) => line.split("  ").at(-1));
    expect([...new Set(names.slice(1))]).toEqual([
      expect.stringContaining("vmalloc"),
      expect.stringContaining("vmemmap"),
      expect.stringContaining("cpu entry area"),
      expect.stringContaining("espfix"),
      expect.stringContaining("kernel image"),
      expect.stringContaining("modules"),
      expect.stringContaining("fixmap"),
    ]);
  });

  it("part ranges", () => {
    const rights = { read: true, write: true, user: false, execute: false, userExecute: false };
    const leaves = [0n, 4096n].map((va) => ({ va, pa: va, size: 4096n, rights, entry: 3n, level: 1 }));
    const source = (border: bigint): RowSource => ({
      mode: "4level",
      attributes: [],
      presence: () => "held",
      region: (va) => (va < border ? "one" : "other"),
    });
    expect([...rangeRows(leaves, source(4096n))]).toHaveLength(2);
    expect([...mergedRows(rangeRows(leaves, source(4096n)))]).toHaveLength(2);
    expect([...mergedRows(rangeRows(leaves, source(8192n)))]).toHaveLength(1);
  });

  it("are in info and tour, with what each rests on", async () => {
    const { stdout } = await run(["info", fixture("amd64-la57")]);
    expect(stdout).toContain(
      "  kernel image   0xffffffff9a400000 - 0xffffffff9da00000 its tables; moved by 0x19400000 (VMCOREINFO, KERNELOFFSET)\n",
    );
    const json = JSON.parse((await run(["info", fixture("amd64-la57"), "--json"])).stdout);
    expect(json.kernel[0]).toEqual({
      name: "direct map",
      start: "0xff3ed97e40000000",
      end: "0xff3ed97e80000000",
      basis: "its tables: 1 GiB hold memory at this distance from physical address 0",
    });
    expect((await run(["tour"])).stdout).toMatch(/^Kernel\n {2}direct map +0xff3ed97e40000000 - /m);
    expect((await run(["info", fixture("i386-pae")])).stdout).not.toContain("Kernel");
    expect(JSON.parse((await run(["info", fixture("i386-pae"), "--json"])).stdout).kernel).toEqual([]);
  });

  it("are those of the kernel's root where the users' is looked through", async () => {
    // The other root of the pair has nothing of the kernel here.
    const { stdout } = await run(["info", fixture("amd64-4l"), "--half", "user"]);
    expect(stdout).toMatch(/^Kernel\n {2}direct map/m);
  });
});

/** A second process, 0x260 and 0x261, that shares the writable and executable page 0x250 with the first, and has page 0x251 elsewhere. */
const TWO = {
  ...SYSTEM,
  608: { 0: at(0x270, P | RW | USER | XD), 300: at(0x300) },
  609: { 0: at(0x270, P | RW | USER), 511: at(0x301) },
  624: { 0: at(0x271, P | RW | USER) },
  625: { 0: at(0x272, P | RW | USER) },
  626: { 0: at(0x250, P | RW | USER), 3: at(0x251, P | RW | USER | XD), 4: at(0x252, P | RW | USER) },
};
const system = temporary.file("two.elf", dumpOf(TWO));
const REGISTERS = ["--cr4", "20", "--cr0", "80010001", "--efer", "d00", "--cr3", "210000"];

describe("maps --all", () => {
  const all = async (...args: string[]) =>
    (await run(["maps", system, ...REGISTERS, "--all", ...args])).stdout.trimEnd().split("\n");

  it("lists what several spaces have once, with the spaces, and the kernel's part at the end", async () => {
    expect(await all()).toEqual([
      "start            end                    size page rights physical        ",
      "0000000000000000 0000000000001000      4 KiB   4K uwx    0000000000250000 absent in 0x220000 0x260000",
      "0000000000001000 0000000000002000      4 KiB   4K u-x    0000000000251000 absent in 0x220000",
      "0000000000003000 0000000000004000      4 KiB   4K uw-    0000000000251000 absent in 0x260000",
      "0000000000004000 0000000000005000      4 KiB   4K uwx    0000000000252000 absent in 0x260000",
      "ffff960000000000 ffff960000200000      2 MiB   2M -w-    0000000000200000 in kernel",
    ]);
  });

  it("finds what is writable and executable anywhere", async () => {
    expect((await all("--wx", "--json")).map((line) => JSON.parse(line))).toMatchObject([
      { va: "0x0", pa: "0x250000", spaces: ["0x220000", "0x260000"], user: true, writable: true, executable: true },
      { va: "0x4000", pa: "0x252000", spaces: ["0x260000"] },
    ]);
    expect(await all("--wx", "--csv")).toEqual([
      "start,end,size,rights,page_size,physical,presence,region,spaces",
      "0x0,0x1000,4096,uwx,4096,0x250000,absent,,0x220000 0x260000",
      "0x4000,0x5000,4096,uwx,4096,0x252000,absent,,0x260000",
    ]);
  });

  it("merges what is in the same spaces", async () => {
    const contiguous = {
      ...TWO,
      626: { ...TWO[626], 1: at(0x900, P | RW | USER) },
      578: { 0: at(0x250, P | RW | USER) },
    };
    const merged = temporary.file("merged.elf", dumpOf(contiguous));
    const { stdout } = await run(["maps", merged, ...REGISTERS, "--all", "--merge", "--user"]);
    expect(stdout.trimEnd().split("\n").slice(1)).toEqual([
      "0000000000000000 0000000000001000      4 KiB       1 uwx    absent in 0x220000 0x260000",
      "0000000000001000 0000000000002000      4 KiB       1 uwx    absent in 0x260000",
      "0000000000003000 0000000000004000      4 KiB       1 uw-    absent in 0x260000",
      "0000000000004000 0000000000005000      4 KiB       1 uwx    absent in 0x260000",
    ]);
  });

  it("says that the filters let nothing through", async () => {
    const { code, stderr } = await run(["maps", system, ...REGISTERS, "--all", "--has", "9000"]);
    expect(code).toBe(1);
    expect(stderr).toContain("nothing is mapped that the filters let through");
  });
});

describe("shared", () => {
  const shared = (...args: string[]) => run(["shared", system, ...REGISTERS, ...args]);

  it("lists physical pages that users' parts of several spaces map, and where", async () => {
    const { code, stdout } = await shared();
    expect(code).toBe(0);
    expect(stdout.trimEnd().split("\n")).toEqual([
      "0000000000250000 0000000000251000      4 KiB in 2 spaces",
      "  0x220000     0000000000000000   4K uwx",
      "  0x260000     0000000000000000   4K uwx",
      "0000000000251000 0000000000252000      4 KiB in 2 spaces",
      "  0x220000     0000000000001000   4K u-x",
      "  0x260000     0000000000003000   4K uw-",
    ]);
  });

  it("looks at the mappings that are asked for", async () => {
    expect((await shared("--writable", "--json")).stdout).toBe(
      `${JSON.stringify({
        version: 1,
        gpa: "0x250000",
        size: 4096,
        spaces: 2,
        mappings: ["0x220000", "0x260000"].map((root) => ({
          root,
          va: "0x0",
          pageSize: 4096,
          user: true,
          writable: true,
          executable: true,
        })),
        moreMappings: 0,
      })}\n`,
    );
    const none = await shared("--least", "3");
    expect(none).toMatchObject({ code: 1, stdout: "" });
    expect(none.stderr).toContain("no physical page is mapped by 3 address spaces");
    expect((await shared("--least", "1")).code).toBe(2);
  });

  it("shows 64 mappings of a page, and says that there are more", async () => {
    const many = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [index, at(0x250, P | RW | USER)]));
    const other = temporary.file("many.elf", dumpOf({ ...TWO, 578: many }));
    const { stdout } = await run(["shared", other, ...REGISTERS, "--writable"]);
    const printed = stdout.trimEnd().split("\n");
    expect(printed[0]).toMatch(/in 2 spaces$/);
    expect(printed).toHaveLength(66);
    expect(printed.at(-1)).toBe("  37 more mappings of it (find --all shows all)");
  });
});
