/** The options of the commands that open dumps: each reaches what it is for, and what is inferred is said, no more. */
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { type CpuRegisters, concat, elfCore, page, qemuNote, table64 } from "../dump/builders.js";
import { temporaryFolder } from "../temporary.js";
import { openPaths, run } from "./run-main.js";

const { file } = temporaryFolder();
const toTable = (frame: number) => (BigInt(frame) << 12n) | 7n;

function coreOf(tables: Record<number, Uint8Array>, registers: CpuRegisters = {}, machine = 62): Uint8Array {
  const segments = Object.entries(tables).map(([frame, bytes]) => ({ gpa: BigInt(frame) << 12n, bytes }));
  const processors = [
    { cr3: 0x1000n, cr4: 0x20n, ...registers },
    { cr3: 0x2000n, cr4: 0x20n },
  ];
  return elfCore({ machine, notes: concat(...processors.map((one) => qemuNote(one))), segments });
}

const tables = {
  1: table64({ 0: toTable(2) }),
  2: table64({ 0: toTable(3) }),
  3: table64({ 0: toTable(4) }),
  4: table64({ 0: 0x5007n, 1: (1n << 45n) | 0x5007n }),
};
const dump = file("sound.elf", coreOf(tables));
const packed = file("sound.elf.gz", gzipSync(coreOf(tables)));

describe("an option", () => {
  it("--maxphyaddr says which address bits are reserved under --strict, and only there", async () => {
    const walk = (...options: string[]) => run(["walk", dump, "1000", "-q", "--format", "gva2gpa", ...options]);
    const mapped = "0000000000001000 gpa: 0x200000005000\n";
    expect((await walk("--strict")).stdout).toBe(mapped);
    expect((await walk("--maxphyaddr", "45")).stdout).toBe(mapped);
    expect((await walk("--maxphyaddr", "46", "--strict")).stdout).toBe(mapped);
    expect(await walk("--maxphyaddr", "45", "--strict")).toMatchObject({
      code: 1,
      stdout: "0000000000001000 Unmapped\n",
    });
  });

  it("--max-inflated limits what a gzip file inflates to, and the message says how to allow more", async () => {
    const size = coreOf(tables).length;
    expect((await run(["maps", packed, "-q", "--max-inflated", `${size}`])).code).toBe(0);
    const { code, stderr } = await run(["maps", packed, "--max-inflated", `${size - 1}`]);
    expect(code).toBe(2);
    expect(stderr).toMatch(new RegExp(`expected at most ${size - 1} bytes .* \\(--max-inflated allows more\\)\\n$`));
  });

  it("--offset alone makes a file raw memory", async () => {
    const raw = file("raw", concat(...Object.values(tables)));
    const { code, stdout } = await run(["maps", raw, "--offset", "1000", "--cr3", "1000", "--format", "leaves", "-q"]);
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: "0000000000000000 5000 4K uwx\n0000000000001000 200000005000 4K uwx\n",
    });
    expect((await run(["maps", raw, "--cr3", "1000"])).code).toBe(2);
  });

  it("--offset and --raw say so where the file looks like a dump of its own format", async () => {
    const { code, stderr } = await run(["maps", dump, "--raw", "--cr3", "1000", "-q", "--partial"]);
    expect(stderr).toMatch(
      /^warning: .*sound\.elf: it begins as an ELF core does, and is read as raw memory all the same$/m,
    );
    expect([0, 1]).toContain(code);
    expect((await run(["info", packed, "--offset", "0", "--cr3", "0"])).stdout).toMatch(/begins as an ELF core/);
    expect(await run(["maps", dump, "--offset", "800"])).toMatchObject({
      code: 2,
      stderr: "error: --offset: expected a multiple of 0x1000 (pages), found 0x800\n",
    });
  });

  it("--cpu takes another processor's registers", async () => {
    const { stdout } = await run(["walk", dump, "0", "--cpu", "1", "-q", "--partial"]);
    expect(stdout).toContain("PML4E at 0000000000002000");
    expect((await run(["walk", dump, "0", "--cpu", "2"])).code).toBe(2);
  });

  it("--cyclic follow is what allows a table that contains itself, and --partial does not", async () => {
    const cyclic = file("cyclic.elf", coreOf({ ...tables, 1: table64({ 0: toTable(2), 3: toTable(1) }) }));
    expect((await run(["maps", cyclic, "-q", "--cyclic", "follow"])).code).toBe(0);
    for (const options of [[], ["--partial"], ["--cyclic", "refuse"]]) {
      expect(await run(["maps", cyclic, ...options])).toMatchObject({ code: 2, stdout: "" });
    }
  });

  it("--partial says how many tables are missing", async () => {
    const note = async (...frames: number[]) => {
      const entries = Object.fromEntries(frames.map((frame, index) => [index + 1, toTable(frame)]));
      const path = file("partial.elf", coreOf({ ...tables, 3: table64({ 0: toTable(4), ...entries }) }));
      return (await run(["maps", path, "--partial"])).stderr.split("partial: ")[1];
    };
    expect(await note()).toBeUndefined();
    expect(await note(9)).toBe("1 table is not in the dump; its mappings are left out\n");
    expect(await note(9, 10)).toBe("2 tables are not in the dump; their mappings are left out\n");
    expect(await note(9, 9, 10)).toBe("2 tables are not in the dump; their mappings are left out\n");
  });
});

it("walk --json has every attribute of the page", async () => {
  const attributes = 0x101n | (0x19n << 0n) | (5n << 59n);
  const path = file(
    "attributes.elf",
    coreOf({ ...tables, 4: table64({ 0: 0x5007n, 2: attributes | 0x6000n }) }, { cr4: 0xa0n }),
  );
  const [plain, global] = (await run(["walk", path, "0", "2000", "--json", "-q"])).stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line).result);
  expect(plain).toEqual({
    ...{ mapped: true, gpa: "0x5000", pageSize: 4096, user: true, writable: true, executable: true },
    ...{ protectionKey: 0, global: false, pat: 0 },
  });
  expect(global).toMatchObject({ mapped: true, gpa: "0x6000", user: false, writable: false, global: true, pat: 3 });
});

describe("what is said of the registers", () => {
  const said = async (...args: string[]) => (await run(args)).stderr;
  const efer =
    "4-level paging; EFER=0xd00 inferred: the ELF machine is x86-64, so LMA=1; NXE assumed, no note carries it";
  const width = "; MAXPHYADDR=52 assumed: the largest, no note carries it";

  it("is what was inferred, and of MAXPHYADDR only where something depends on it", async () => {
    expect(await said("walk", dump, "0")).toBe(`${efer}\n`);
    expect(await said("walk", dump, "0", "--strict")).toBe(`${efer}${width}\n`);
    expect(await said("walk", dump, "0", "--strict", "--maxphyaddr", "46")).toBe(`${efer}\n`);
    expect(await said("walk", dump, "0", "--strict", "--efer", "d00")).toBe(`4-level paging${width}\n`);
    expect(await said("walk", dump, "0", "--efer", "d00")).toBe("");
    for (const command of [
      ["walk", dump, "0"],
      ["maps", dump],
      ["find", dump, "5000"],
    ]) {
      expect(await said(...command, "-q")).toBe("");
    }
  });

  it("is whether XD is in use, where that was assumed", async () => {
    const xd = file("xd.elf", coreOf({ ...tables, 4: table64({ 0: (1n << 63n) | 0x5007n }) }));
    expect(await said("maps", dump)).toBe(
      `${efer}\nbit 63 (XD) is set in no present entry, so NXE makes no difference\n`,
    );
    expect(await said("maps", xd)).toBe(`${efer}\nbit 63 (XD) is in use, so NXE=1 holds\n`);
    expect(await said("maps", xd, "--efer", "d00")).toBe("");
  });
});

describe("a dump is closed again", () => {
  const broken = file("broken.elf", coreOf(tables, { cr3: 0x9000n }));
  const reserved = file("reserved.elf", coreOf({ 1: table64({ 0: 0xfffn }) }, { cr4: 0x20n }, 3));
  const missing = file("missing.elf", coreOf({ ...tables, 3: table64({ 0: toTable(9) }) }));
  it.each([
    [0, "read", ["walk", dump, "0"]],
    [0, "read", ["maps", dump]],
    [0, "read", ["find", dump, "5000"]],
    [0, "read", ["tour", dump]],
    [1, "without an answer", ["find", dump, "7000"]],
    [2, "whose root table is not in it", ["maps", broken]],
    [2, "whose registers are refused", ["walk", reserved, "0", "--strict"]],
    [2, "with bad options", ["maps", dump, "--cr0", "80000000"]],
    [2, "whose tables are not all there", ["maps", missing]],
    [2, "that is none", ["maps", file("none", page(0))]],
  ] as const)("with %i: one %s, %j", async (expected, _, args) => {
    expect((await run(args)).code).toBe(expected);
    expect(openPaths()).not.toContain(args[1]);
  });
});
