/** `info`, and what every command says of dumps that lack something. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { concat, elfCore, limeRange, note, page, prstatusNote, qemuNote, table64 } from "../dump/builders.js";
import { avmlRange } from "../dump/writers/avml.js";
import { kdump } from "../dump/writers/kdump.js";
import { temporaryFolder } from "../temporary.js";
import { fixture, openPaths, run } from "./run-main.js";

const { file } = temporaryFolder();
const toTable = (frame: number) => (BigInt(frame) << 12n) | 7n;

/** Tables at frames 1 to 4, that map frames 0x10, 0x20 and 0x30, the first of which is in the dump. */
const TABLES = new Map<number, Uint8Array>([
  [1, table64({ 0: toTable(2) })],
  [2, table64({ 0: toTable(3) })],
  [3, table64({ 0: toTable(4) })],
  [4, table64({ 0: toTable(0x10), 1: toTable(0x20), 2: toTable(0x30) })],
  [0x10, page(1)],
]);
const notes = concat(
  qemuNote({ cr3: 0x1000n, cr4: 0x20n, rip: 0x1234n }),
  qemuNote({ cr3: 0x2000n, cr4: 0x20n, cs: 0x33 }),
);
const filtered = file("filtered", kdump({ pages: TABLES, excluded: [0x20], level: 31, notes }));
const json = async (...args: string[]) => JSON.parse((await run(args)).stdout);

describe("info", () => {
  it("shows format, memory, what is left out, every processor, registers and what they rest on", async () => {
    const { code, stdout, stderr } = await run(["info", filtered]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    for (const line of [
      /format +kdump-compressed, version 6, 64-bit, pages of zlib/,
      /dump level +31: zero pages, page cache, private page cache, user pages, free pages are left out/,
      /memory +20480 bytes in 2 ranges/,
      /excluded +4096 bytes in 1 range: what was in them is unknown/,
      /cpu 0 +CR0 0x80050033, CR3 0x1000, CR4 0x20; RIP 0x1234, CPL 0 +note QEMU/,
      /cpu 1 +CR0 0x80050033, CR3 0x2000, CR4 0x20; RIP 0x0, CPL 3 +note QEMU/,
      /mode +4-level paging/,
      /CR3 +0x1000 +note QEMU cpu 0/,
      /EFER +0xd00 +/,
      /0x1000 - 0x5000 +16 KiB held/,
      /0x20000 - 0x21000 +4 KiB excluded/,
    ]) {
      expect(stdout).toMatch(line);
    }
  });

  it("says the same as one object", async () => {
    const said = await json("info", filtered, "--json");
    expect(said).toMatchObject({
      format: "kdump",
      machine: "x86_64",
      memory: {
        held: {
          bytes: 20480,
          ranges: 2,
          list: [
            { gpa: "0x1000", size: 16384 },
            { gpa: "0x10000", size: 4096 },
          ],
        },
        excluded: { bytes: 4096, ranges: 1 },
        cut: { bytes: 0, ranges: 0, list: [] },
      },
      cpus: [
        { cpu: 0, cr3: "0x1000", origin: "note QEMU" },
        { cpu: 1, cr3: "0x2000", cpl: 3 },
      ],
      registers: { mode: "4level", cr3: { value: "0x1000", origin: "note QEMU cpu 0" }, maxPhysAddr: { value: 52 } },
    });
    expect((await json("info", filtered, "--cpu", "1", "--json")).registers.cr3.value).toBe("0x2000");
  });

  it("shows what there is where no root is known, and names the option that helps", async () => {
    const lime = file("empty.lime", limeRange(0x1000n, page(0, 0x3000)));
    for (const command of ["info", "tour"]) {
      const { code, stdout } = await run([command, lime]);
      expect(code).toBe(command === "info" ? 0 : 1);
      expect(stdout).toMatch(/format +LiME, 1 ranges/);
      expect(stdout).toMatch(/processors +no notes of any/);
      expect(stdout).toMatch(/mode +unknown/);
      expect(stdout).toMatch(/CR3 +unknown: .*CR3 must be given \(--cr3\), and memory has no VMCOREINFO/);
    }
    expect((await json("info", lime, "--json")).registers).toEqual({ problem: expect.stringMatching(/--cr3/) });
    expect(await run(["maps", lime])).toMatchObject({
      code: 2,
      stdout: "",
      stderr: expect.stringMatching(/\(--cr3\)/),
    });
    const core = file("core", elfCore({ notes: concat(prstatusNote(), prstatusNote()) }));
    expect((await run(["info", core])).stdout).toMatch(/processors +2 by CORE notes, which have no control registers/);
  });

  it("shows the first ranges, or all of them", async () => {
    const segments = Array.from({ length: 40 }, (_, i) => limeRange(BigInt(i) * 0x2000n, page(0)));
    const many = file("many.lime", concat(...segments));
    const lines = async (...args: string[]) => (await run(["info", many, ...args])).stdout.match(/ held$/gm)?.length;
    expect(await lines()).toBe(16);
    expect(await lines("--ranges")).toBe(40);
    expect((await run(["info", many])).stdout).toMatch(/24 more of held memory \(--ranges shows all\)/);
  });

  it("closes what it opened", async () => {
    await run(["info", filtered]);
    expect((await run(["info", file("none", "nothing")])).code).toBe(2);
    expect(openPaths()).not.toContain(filtered);
  });
});

describe("maps says why a page is not there", () => {
  it("in words and as JSON", async () => {
    const { stdout } = await run(["maps", filtered, "-q", "--format", "leaves"]);
    expect(stdout).toBe(
      "0000000000000000 10000 4K uwx\n0000000000001000 20000 4K uwx excluded\n0000000000002000 30000 4K uwx absent\n",
    );
    const runs = (await run(["maps", filtered, "-q"])).stdout.trim().split("\n").slice(1);
    expect(runs.map((line) => line.split(/\s+/)[7])).toEqual([undefined, "excluded", "absent"]);
    for (const format of ["runs", "leaves"]) {
      const lines = (await run(["maps", filtered, "-q", "--json", "--format", format])).stdout.trim().split("\n");
      expect(lines.map((line) => JSON.parse(line)).map(({ absent, presence }) => [absent, presence])).toEqual([
        [false, "held"],
        [true, "excluded"],
        [true, "absent"],
      ]);
    }
  });

  it("where the file breaks off, with a warning that --quiet does not silence", async () => {
    const segments = [...TABLES].map(([frame, bytes]) => ({ gpa: BigInt(frame) << 12n, bytes }));
    const whole = elfCore({ notes, segments });
    const path = file("cut.elf", whole.subarray(0, whole.length - 1));
    const { code, stdout, stderr } = await run(["maps", path, "-q", "--format", "leaves"]);
    expect(code).toBe(0);
    expect(stdout.split("\n")[0]).toBe("0000000000000000 10000 4K uwx cut");
    expect(stderr).toBe(
      `warning: ${path}: the file breaks off at 0x${(whole.length - 1).toString(16)}: 4096 bytes of memory, from 0x10000 on, are not there\n`,
    );
    const tables = file("cut2.elf", whole.subarray(0, whole.length - 4097));
    const refused = await run(["maps", tables, "-q"]);
    expect(refused).toMatchObject({ code: 2, stdout: "" });
    expect(refused.stderr).toMatch(
      /^error: .*the level-1 table at 0x4000 is not in the dump: .*; the file breaks off, .*--partial/,
    );
    const partial = await run(["maps", tables, "-q", "--partial"]);
    expect(partial.code).toBe(1);
    expect(partial.stderr).toMatch(/^warning: .*\n.*partial: 1 table is not in the dump/);
    const walk = await run(["walk", tables, "0", "-q"]);
    expect(walk.code).toBe(2);
    expect(walk.stderr).toMatch(/a table is not in the dump, .*; the file breaks off/);
  });
});

describe("tables that the writer left out", () => {
  const pages = new Map([...TABLES].filter(([frame]) => frame !== 4));
  const path = (name: string, level: number) => file(name, kdump({ pages, excluded: [4], level, notes }));

  it("map nothing where it leaves out zero pages and no other tables, which is said", async () => {
    const left = path("left", 31);
    const maps = await run(["maps", left]);
    expect(maps).toMatchObject({ code: 1, stdout: "" });
    expect(maps.stderr).toMatch(
      /: 1 table was left out by the dump's writer, which leaves out zero pages .*: it maps nothing\n/,
    );
    expect((await run(["walk", left, "0"])).stderr).toMatch(/1 table was left out/);
    expect((await run(["walk", left, "0", "-q"])).stderr).toBe("");
    const zero = await run(["maps", path("zero", 1)]);
    expect(zero.stderr).not.toMatch(/left out/);
  });

  it("are missing where nothing says that they are zero", async () => {
    const left = path("unknown", 30);
    const maps = await run(["maps", left]);
    expect(maps).toMatchObject({ code: 2, stdout: "" });
    expect(maps.stderr).toMatch(
      /level-1 table at 0x4000 is not in the dump: .*; the dump's writer left that page out \(--partial/,
    );
    expect((await run(["maps", left, "--zero-excluded"])).code).toBe(1);
    const root = file("root", kdump({ pages: new Map([[2, page(0)]]), excluded: [1], level: 30, notes }));
    expect((await run(["maps", root])).stderr).toMatch(
      /root table at 0x1000, but the dump's writer left that page out/,
    );
  });
});

describe("--part", () => {
  const part = (name: string, start: number, end: number) =>
    file(name, kdump({ pages: TABLES, notes, split: [start, end] }));
  const [a, b] = [part("vmcore.1", 0, 3), part("vmcore.2", 3, 0x11)];

  it("names the other files of a split kdump, in every command", async () => {
    const parts = ["--part", b, "-q"];
    expect((await run(["maps", a, ...parts, "--format", "leaves"])).stdout.split("\n")[0]).toBe(
      "0000000000000000 10000 4K uwx",
    );
    expect((await run(["walk", a, "0", "--format", "gva2gpa", ...parts])).stdout).toBe(
      "0000000000000000 gpa: 0x10000\n",
    );
    expect((await run(["find", b, "10000", "--part", a, "-q"])).stdout).toBe("0x10000 0000000000000000 4K uwx\n");
    expect((await run(["info", a, "--part", b])).stdout).toMatch(/2 parts/);
    expect((await run(["tour", a, "--part", b])).code).toBe(0);
    expect(openPaths()).not.toContain(b);
  });

  it("is asked for where a part is alone", async () => {
    const { code, stderr } = await run(["maps", a]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/level-2 table at 0x3000 is not in the dump/);
    expect((await run(["info", a])).stdout).toMatch(
      /warning +this is a part of a split dump, .* from 0x3000 on are not here: name them with --part/,
    );
    const elf = file("whole.elf", elfCore({ notes }));
    expect((await run(["maps", elf, "--part", a])).stderr).toMatch(
      /expected a split kdump where there are parts, found an ELF core/,
    );
    expect((await run(["maps", a, "--part", b, "--raw"])).stderr).toMatch(/found raw memory/);
  });
});

describe("dumps without registers", () => {
  const ram = () => {
    const bytes = new Uint8Array(0x40000);
    for (const [frame, content] of TABLES) bytes.set(content, frame * 4096);
    return bytes;
  };

  it("of AVML are read with a given root, whose mode is seen", async () => {
    const path = file("out.avml", avmlRange(0n, ram()));
    const { code, stdout, stderr } = await run(["maps", path, "--cr3", "1000", "--format", "leaves"]);
    expect({ code, lines: stdout.split("\n").length }).toEqual({ code: 0, lines: 4 });
    expect(stderr).toMatch(/CR4=0x20 inferred: the tables look like 4-level paging/);
  });

  it("are searched for VMCOREINFO", async () => {
    const va = 0xffff_ffff_8020_5000n;
    const bytes = ram();
    // The kernel's tables at 0x6000 map themselves at va.
    const index = (level: number) => Number((va >> BigInt(12 + 9 * (level - 1))) % 512n);
    bytes.set(table64({ [index(4)]: toTable(7) }), 0x6000);
    bytes.set(table64({ [index(3)]: toTable(8) }), 0x7000);
    bytes.set(table64({ [index(2)]: toTable(9) }), 0x8000);
    bytes.set(table64({ [index(1)]: toTable(6) }), 0x9000);
    const info = `OSRELEASE=6.1.0\nSYMBOL(swapper_pg_dir)=${va.toString(16)}\nNUMBER(phys_base)=${0x6000 - 0x20_5000}\n`;
    bytes.set(new TextEncoder().encode(info), 0x2_2000);
    const path = file("ram.lime", limeRange(0n, bytes));
    const { code, stdout, stderr } = await run(["maps", path, "--format", "leaves"]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: "ffffffff80205000 6000 4K uwx\n" });
    expect(stderr).toMatch(/CR3=0x6000 inferred: VMCOREINFO in RAM at 0x22000, swapper_pg_dir/);
    expect((await run(["info", path])).stdout).toMatch(/CR3 +0x6000 +inferred: VMCOREINFO in RAM at 0x22000/);
  });

  it("may have a bit of encryption in their entries", async () => {
    const mask = 1n << 47n;
    const encrypted = (frame: number) => toTable(frame) | mask;
    const pages = [
      table64({ 0: encrypted(2) }),
      table64({ 0: encrypted(3) }),
      table64({ 0: encrypted(4) }),
      table64({ 0: encrypted(0x10) }),
    ];
    const path = file("sme.lime", limeRange(0x1000n, concat(...pages)));
    const args = ["maps", path, "--cr3", "1000", "--cr4", "20", "-q", "--format", "leaves"];
    expect((await run([...args, "--encryption-mask", mask.toString(16)])).stdout).toBe(
      "0000000000000000 10000 4K uwx\n",
    );
    expect((await run(args)).code).toBe(2);
  });
});

it("a crash kernel's core is read by its VMCOREINFO", async () => {
  const va = 0xffff_ffff_8000_1000n;
  const text = `OSRELEASE=6.1.0\nSYMBOL(swapper_pg_dir)=${va.toString(16)}\nNUMBER(phys_base)=0\n`;
  const cores = concat(prstatusNote(), note("VMCOREINFO", 0, new TextEncoder().encode(text)));
  const segments = [...TABLES].map(([frame, bytes]) => ({ gpa: BigInt(frame) << 12n, bytes }));
  const { stdout } = await run([
    "maps",
    file("vmcore", elfCore({ notes: cores, segments })),
    "-q",
    "--format",
    "leaves",
  ]);
  expect(stdout.split("\n")[0]).toBe("0000000000000000 10000 4K uwx");
});

it("listings of a guest's kdumps are QEMU's own", async () => {
  const expected = (await run(["maps", fixture("i386-nopae"), "--format", "info-tlb"])).stdout;
  for (const name of [
    "kdump/zlib.kdump",
    "kdump/lzo.flattened",
    "kdump/zstd.kdump",
    "packed/blocks.elf.xz",
    "packed/frames.elf.zst",
  ]) {
    const path = new URL(`../fixtures/${name}`, import.meta.url).pathname;
    expect(readFileSync(path).length).toBeGreaterThan(0);
    expect((await run(["maps", path, "--format", "info-tlb"])).stdout === expected, name).toBe(true);
  }
});
