/** `x86-paging search`. */
import { describe, expect, it } from "vitest";
import { elfCore } from "../dump/builders.js";
import { at, dumpOf, P, RW, SYSTEM, USER } from "../dump/isolated-guest.js";
import { temporaryFolder } from "../temporary.js";
import { run } from "./run-main.js";

const PAGE = 4096;
const temporary = temporaryFolder();

/**
 * A root at 0, tables at 0x1000 to 0x3000; virtual pages 0 and 1 in frames 5 and 4, 2 in a frame that is not there, 3 in frame 4 once
 * more, for the kernel.
 */
const bytes = new Uint8Array(6 * PAGE);
const view = new DataView(bytes.buffer);
for (let table = 0; table < 3; table++) view.setBigUint64(table * PAGE, BigInt((table + 1) * PAGE) | 0x27n, true);
for (const [page, entry] of [0x5025n, 0x4025n, 0x9025n, 0x4021n].entries())
  view.setBigUint64(3 * PAGE + page * 8, entry, true);
bytes.set(new TextEncoder().encode("nee"), 6 * PAGE - 3);
bytes.set(new TextEncoder().encode("dle\u0007 needle"), 4 * PAGE);
const file = temporary.file("memory.raw", bytes);
const REGISTERS = ["--raw", "--cr0", "80010001", "--cr3", "0", "--cr4", "20", "--efer", "d00", "-q"];
const search = (...args: string[]) => run(["search", file, ...args, ...REGISTERS]);

const NEEDLE = "6e 65 65 64 6c 65  needle";
const NOT_SEARCHED = `${file}: not searched of what is mapped: 4 KiB not in the dump`;

describe("a space", () => {
  it("is searched across its pages, and what is not there is said", async () => {
    const { code, stdout, stderr } = await search("needle");
    expect({ code, lines: stdout.trimEnd().split("\n") }).toEqual({
      code: 0,
      lines: [
        `0000000000000ffd 0x5ffd       ${NEEDLE}`,
        `0000000000001005 0x4005       ${NEEDLE}`,
        `0000000000003005 0x4005       ${NEEDLE}`,
      ],
    });
    expect(stderr.trimEnd()).toBe(NOT_SEARCHED);
  });

  it("is searched by digits and by expressions, in both cases, as UTF-16, and shows bytes that are no text as dots", async () => {
    expect((await search("--hex", "6c6507??")).stdout).toMatch(/1001 0x4001 {7}6c 65 07 20 {2}le\. \n/);
    const any = await search("--regex", "DLE.", "-i", "--json");
    expect(
      any.stdout
        .split("\n")
        .slice(0, 1)
        .map((line) => JSON.parse(line)),
    ).toEqual([{ version: 1, va: "0x1000", gpa: "0x4000", length: 4, bytes: "646c6507" }]);
    expect((await search("NEEDLE", "--ignore-case")).stdout.split("\n")).toHaveLength(4);
    expect(await search("needle", "--utf16")).toMatchObject({ code: 1, stdout: "" });
  });

  it("is searched where filters and ranges say", async () => {
    expect((await search("needle", "--kernel")).stdout).toBe(`0000000000003005 0x4005       ${NEEDLE}\n`);
    expect((await search("needle", "--range", "1000-2000")).stdout).toBe(`0000000000001005 0x4005       ${NEEDLE}\n`);
    expect((await search("needle", "--range", "1006-")).stdout).toBe(`0000000000003005 0x4005       ${NEEDLE}\n`);
    expect(await search("needle", "--range", "0-1002")).toMatchObject({ code: 1, stdout: "" });
    expect((await search("needle", "--range", "0-1003", "--range", "3000-3fff")).stdout.split("\n")).toHaveLength(3);
  });

  it("gives up after so many hits, and says so", async () => {
    const two = await search("needle", "--limit", "2");
    expect(two).toMatchObject({ code: 0 });
    expect(two.stdout.split("\n")).toHaveLength(3);
    expect(two.stderr).toContain("there are more hits: the search stopped after 2 (--limit allows more)");
    expect((await search("needle", "--limit", "3")).stderr.trimEnd()).toBe(NOT_SEARCHED);
  });

  it("shows the first bytes of long matches, and how many there are", async () => {
    const { stdout } = await search("--regex", "needle\\0{20}");
    expect(stdout.split("\n")[0]).toMatch(/ 00 00 {2}needle\.{10} \.\.\. 26 bytes$/);
  });

  it("is refused where so many pages are mapped again and again that it would take for ever", async () => {
    const tables: Record<number, Record<number, bigint>> = { 1: {}, 2: {}, 3: {}, 4: {} };
    for (let index = 0; index < 512; index++) {
      tables[2]![index] = at(3);
      tables[3]![index] = at(4);
      tables[4]![index] = at(1);
    }
    tables[1]![0] = at(2);
    const aliases = temporary.file("aliases.elf", dumpOf(tables));
    const registers = ["--cr0", "80010001", "--cr3", "1000", "--cr4", "20", "--efer", "d00"];
    const { code, stderr } = await run(["search", aliases, "needle", ...registers, "--max-mappings", "200000000"]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/expected at most 262144 mapped pages to search, found more \(--range says which\)/);
  });
});

describe("physical memory", () => {
  it("is searched without registers", async () => {
    const { code, stdout, stderr } = await run(["search", file, "needle", "--physical", "--raw"]);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: `0000000000004005 ${NEEDLE}\n`, stderr: "" });
    const other = await run(["search", file, "needle", "--physical", "--raw", "--range", "0-4005"]);
    expect(other).toMatchObject({ code: 1, stdout: "" });
    expect(other.stderr).toContain("nothing was found");
  });

  it("has parts that were left out, which is said", async () => {
    const notes = new TextEncoder().encode("VMCOREINFO\0\0");
    const note = new Uint8Array(12 + notes.length);
    new DataView(note.buffer).setUint32(0, 11, true);
    note.set(notes, 12);
    const filtered = temporary.file(
      "filtered.elf",
      elfCore({ notes: note, segments: [{ gpa: 0n, bytes: bytes, memsz: 0x10000n }] }),
    );
    const { stderr } = await run(["search", filtered, "needle", "--physical"]);
    expect(stderr).toContain("not searched of memory: 40 KiB left out by the dump's writer");
  });
});

describe("every space", () => {
  const frame = (text: string) => {
    const words: Record<number, bigint> = {};
    const page = new Uint8Array(PAGE);
    page.set(new TextEncoder().encode(text), 8);
    const pageView = new DataView(page.buffer);
    for (let index = 0; index < 512; index++) words[index] = pageView.getBigUint64(index * 8, true);
    return words;
  };
  const system = temporary.file("system.elf", dumpOf({ ...SYSTEM, 592: frame("needle"), 593: frame("hay") }));
  const all = (...args: string[]) =>
    run(["search", system, ...args, "--cr4", "20", "--cr0", "80010001", "--efer", "d00", "--cr3", "210000"]);

  it("is searched with --all, what they have in common once", async () => {
    expect((await all("needle", "--all")).stdout.trimEnd().split("\n")).toEqual([
      `0x220000     0000000000000008 0x250008     ${NEEDLE}`,
      `kernel       ffff960000050008 0x250008     ${NEEDLE}`,
    ]);
    expect((await all("needle", "--all", "--user", "--json")).stdout).toBe(
      `${JSON.stringify({ version: 1, root: "0x220000", shared: 1, va: "0x8", gpa: "0x250008", length: 6, bytes: "6e6565646c65" })}\n`,
    );
    expect((await all("needle", "--all", "--limit", "1")).stderr).toContain("the search stopped after 1");
  });

  it("says who maps what is found in physical memory", async () => {
    expect((await all("needle", "--physical", "--all")).stdout.trimEnd().split("\n")).toEqual([
      `0000000000250008 ${NEEDLE}`,
      "  0x220000     0000000000000008 4K uwx",
      "  kernel       ffff960000050008 2M -w-",
    ]);
    const { stdout } = await all("hay", "--physical", "--all", "--json", "--kernel");
    expect(JSON.parse(stdout)).toEqual({
      version: 1,
      gpa: "0x251008",
      length: 3,
      bytes: "686179",
      mappings: [
        {
          root: "0x220000",
          shared: 2,
          va: "0xffff960000051008",
          pageSize: 2097152,
          user: false,
          writable: true,
          executable: false,
        },
      ],
      moreMappings: 0,
    });
  });

  it("shows 64 mappings of a hit, and says that there are more", async () => {
    const many = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [index, at(0x250, P | RW | USER)]));
    const mapped = temporary.file("many.elf", dumpOf({ ...SYSTEM, 578: many, 592: frame("needle") }));
    const registers = ["--cr4", "20", "--cr0", "80010001", "--efer", "d00", "--cr3", "210000"];
    const { stdout } = await run(["search", mapped, "needle", "--physical", "--all", "--user", ...registers]);
    const lines = stdout.trimEnd().split("\n");
    expect(lines).toHaveLength(66);
    expect(lines.at(-1)).toBe("  36 more mappings of it (find --all shows all)");
  });

  it("may be none that maps it", async () => {
    const { stdout } = await all("--hex", "00012000", "--physical", "--all", "--limit", "1");
    expect(stdout.trimEnd().split("\n").slice(1)).toEqual([]);
    const alone = temporary.file("alone.elf", dumpOf({ ...SYSTEM, 2048: frame("needle") }));
    const registers = ["--cr4", "20", "--cr0", "80010001", "--efer", "d00", "--cr3", "210000"];
    const unmapped = await run(["search", alone, "needle", "--physical", "--all", ...registers]);
    expect(unmapped.stdout.split("\n")[1]).toBe("  mapped by no address space");
  });
});

it.each([
  [["x", "--hex"], /error: expected hexadecimal digits and \?, found "x"/],
  [["(", "--regex"], /error: expected a regular expression: /],
  [["00", "--hex", "--utf16"], /expected one of --hex, --regex and --utf16, found --hex, --utf16/],
  [["00", "--hex", "-i"], /--ignore-case: expected text or --regex, found --hex/],
  [["a", "--range", "20-10"], /expected END to be greater than START/],
  [["a", "--range", "20"], /expected START-END or GPA:SIZE@OFFSET/],
  [["a", "--limit", "0"], /expected a number from 1/],
])("refuses %j", async (args, message) => {
  const { code, stdout, stderr } = await search(...args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr).toMatch(message);
});

it("refuses to search a space whose paging is off", async () => {
  const { code, stderr } = await run(["search", file, "needle", "--raw", "--cr0", "1", "--cr3", "0"]);
  expect(code).toBe(2);
  expect(stderr).toContain("paging is off (--physical searches by physical address)");
});
