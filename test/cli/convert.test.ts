/** `x86-paging convert` and `x86-paging reduce`. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { elfCore, limeRange, qemuNote, table64 } from "../dump/builders.js";
import { at, dumpOf, P, RW, SYSTEM, USER } from "../dump/isolated-guest.js";
import { temporaryFolder } from "../temporary.js";
import { fixture, run } from "./run-main.js";

const temporary = temporaryFolder();
let number = 0;
const output = () => join(temporary.directory, `out-${number++}`);
const kdump = new URL("../fixtures/kdump/zlib.kdump", import.meta.url).pathname;
const GUESTS = ["amd64-4l", "amd64-la57", "i386-pae", "i386-nopae"];

async function same(one: string, other: string, ...args: string[]): Promise<void> {
  const [a, b] = await Promise.all([one, other].map((file) => run([args[0]!, file, ...args.slice(1)])));
  expect(b!.stdout).toBe(a!.stdout);
  expect(b!.code).toBe(a!.code);
  expect(a!.stdout.length).toBeGreaterThan(100);
}

describe("convert", () => {
  it.each([...GUESTS.map((name) => fixture(name)), kdump])("%s: every listing is the same", async (file) => {
    const path = output();
    const { code, stdout, stderr } = await run(["convert", file, "-o", path]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^\S+: [\d.]+ [KM]iB, \d+ pages of memory\n$/);
    for (const format of ["info-tlb", "leaves", "runs"]) await same(file, path, "maps", "-q", "--format", format);
    await same(file, path, "spaces");
    const { registers } = JSON.parse((await run(["info", path, "--json"])).stdout);
    expect(registers).toEqual(JSON.parse((await run(["info", file, "--json"])).stdout).registers);
  });

  it("writes LiME, and says what that does not have", async () => {
    const path = output();
    const { stderr } = await run(["convert", fixture("amd64-4l"), "--to", "lime", "-o", path]);
    expect(stderr).toContain(`${path}: LiME has no registers: CR3 has to be given (--cr3)`);
    const [a, b] = [
      ["maps", fixture("amd64-4l"), "-q"],
      ["maps", path, "-q", "--cr3", "101c28000"],
    ];
    expect((await run(b!)).stdout).toBe((await run(a!)).stdout);
  });

  it("replaces a file only where it is told to, and not the dump itself", async () => {
    const path = temporary.file("there", "old");
    const refused = await run(["convert", fixture("i386-pae"), "-o", path]);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain("expected no file of that name, found one (--force replaces it)");
    expect(readFileSync(path, "utf8")).toBe("old");
    expect((await run(["convert", fixture("i386-pae"), "-o", path, "--force"])).code).toBe(0);
    const itself = await run(["convert", path, "-o", path, "--force"]);
    expect(itself).toMatchObject({ code: 2, stdout: "" });
    expect(itself.stderr).toContain("expected another file than the dump");
    expect((await run(["convert", path])).stderr).toContain("required option");
  });

  it("says what the file lacks that is converted", async () => {
    const whole = limeRange(0n, new Uint8Array(0x3000).fill(1));
    const file = temporary.file("cut.lime", whole.subarray(0, 0x1800));
    const path = output();
    const { stderr, code } = await run(["convert", file, "-o", path]);
    expect(code).toBe(0);
    expect(stderr).toMatch(/warning: .*cut\.lime: .*\n.*8192 bytes that the file lacks are absent/);
  });
});

describe("reduce", () => {
  it.each([...GUESTS.map((name) => fixture(name)), kdump])("%s: every listing is the same", async (file) => {
    const path = output();
    expect((await run(["reduce", file, "-o", path])).code).toBe(0);
    const original = await run(["maps", file, "-q", "--format", "leaves"]);
    const reduced = await run(["maps", path, "-q", "--format", "leaves"]);
    expect(reduced.stdout).toBe(original.stdout.replaceAll(/ (absent|excluded)$/gm, ""));
    expect(reduced.stderr).toContain("page tables and notes alone: what they map is not in it");
    await same(file, path, "maps", "-q", "--format", "info-tlb");
    await same(file, path, "spaces");
  });

  const REGISTERS = ["--cr4", "20", "--cr0", "80010001", "--efer", "d00", "--cr3", "220000"];
  const system = temporary.file(
    "system.elf",
    dumpOf({ ...SYSTEM, 592: { 0: 1n }, 608: { 0: at(0x261, P | RW | USER) }, 609: { 300: at(0x300) } }),
  );

  it("has every space, with both roots, and no data", async () => {
    const path = output();
    await run(["reduce", system, "-o", path, ...REGISTERS]);
    await same(system, path, "spaces", ...REGISTERS);
    expect((await run(["maps", path, ...REGISTERS, "--half", "user", "--wx", "-q"])).stdout).toContain(" uwx ");
    const page = await run(["read", path, "0", "8", ...REGISTERS, "-q"]);
    expect(page).toMatchObject({ code: 1, stdout: "0000000000000000  8 bytes: not in the dump\n" });
    // A program is told of each target, people once.
    const { stdout } = await run(["maps", path, ...REGISTERS, "-q", "--user", "--json"]);
    expect(JSON.parse(stdout.split("\n")[0]!)).toMatchObject({ presence: "absent" });
    expect((await run(["maps", path, ...REGISTERS, "-q", "--all"])).stdout).not.toContain("absent");
  });

  it("has the registers' root alone with --only", async () => {
    const path = output();
    await run(["reduce", system, "-o", path, "--only", ...REGISTERS]);
    expect((await run(["maps", path, ...REGISTERS, "-q"])).code).toBe(0);
    expect((await run(["maps", path, ...REGISTERS, "-q", "--half", "user"])).code).toBe(2);
  });

  it("has the roots of all processors", async () => {
    const notes = [0x1000n, 0x2000n].map((cr3) => qemuNote({ cr3: cr3 + 0x18n, cr4: 0x20n }));
    const tables = [0, 1].map((cpu) => ({
      gpa: BigInt(cpu + 1) << 12n,
      bytes: table64({ 0: (BigInt(cpu + 3) << 12n) | 7n }),
    }));
    const below = [0, 1].map((cpu) => ({ gpa: BigInt(cpu + 3) << 12n, bytes: table64({}) }));
    const both = new Uint8Array(notes[0]!.length * 2);
    both.set(notes[0]!);
    both.set(notes[1]!, notes[0]!.length);
    const file = temporary.file(
      "cpus.elf",
      elfCore({ notes: both, segments: [...tables, ...below, { gpa: 0x9000n, bytes: new Uint8Array(4096) }] }),
    );
    const path = output();
    expect((await run(["reduce", file, "-o", path, "--only"])).stdout).toContain("4 pages of memory");
  });

  it("keeps VMCOREINFO that was found in memory", async () => {
    const text = "OSRELEASE=6.1\nSYMBOL(swapper_pg_dir)=ffffffff81001000\nNUMBER(phys_base)=-16777216\n";
    const page = new Uint8Array(4096);
    page.set(new TextEncoder().encode(text));
    // The root at 0x1000 maps itself where the kernel has it.
    const tables = { 1: { 511: at(2) }, 2: { 510: at(3) }, 3: { 8: at(4) }, 4: { 1: at(1) } };
    const file = temporary.file(
      "ram.lime",
      (() => {
        const elf = dumpOf(tables);
        const bytes = new Uint8Array(0x6000);
        bytes.set(elf.subarray(elf.length - 4 * 4096), 4096);
        bytes.set(page, 0x5000);
        return limeRange(0n, bytes);
      })(),
    );
    const path = output();
    const { stderr, code } = await run(["reduce", file, "-o", path, "--only"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(JSON.parse((await run(["info", path, "--json"])).stdout)).toMatchObject({ release: "6.1" });
    await same(file, path, "maps", "-q");
  });

  it("is refused where there are no tables, and leaves no file", async () => {
    const path = output();
    const empty = temporary.file("empty.lime", limeRange(0n, new Uint8Array(0x2000)));
    const none = await run(["reduce", empty, "-o", path]);
    expect(none).toMatchObject({ code: 2, stdout: "" });
    expect(none.stderr).toContain("no page tables were found, and none are given (--cr3)");
    expect((await run(["reduce", empty, "-o", path, "--only"])).stderr).toMatch(/empty\.lime: .*--cr3/);
    expect(existsSync(path)).toBe(false);
  });
});
