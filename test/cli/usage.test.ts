/** What the command refuses, with which line and which status, and what it accepts. */
import { join } from "node:path";
import { Writable } from "node:stream";
import { describe, expect, it } from "vitest";
import { main } from "../../src/cli/main.js";
import { type CpuRegisters, elfCore, limeRange, page, qemuNote, table32, table64 } from "../dump/builders.js";
import { temporaryFolder } from "../temporary.js";
import { fixture, run } from "./run-main.js";

const { directory, file } = temporaryFolder();

/** A long-mode dump of these tables, by page frame number; the root is at 0x1000. */
function dumpOf(name: string, tables: Record<number, Uint8Array>, registers: CpuRegisters = {}, machine = 62): string {
  const segments = Object.entries(tables).map(([frame, bytes]) => ({ gpa: BigInt(frame) << 12n, bytes }));
  return file(name, elfCore({ machine, notes: qemuNote({ cr3: 0x1000n, cr4: 0x20n, ...registers }), segments }));
}

const toTable = (frame: number) => (BigInt(frame) << 12n) | 7n;
const small = {
  1: table64({ 0: toTable(2) }),
  2: table64({ 0: toTable(3) }),
  3: table64({ 0: toTable(4) }),
  4: table64({ 0: 0x7n, 1: 0x4005n, 2: (1n << 63n) | 0x5_0003n }),
};

describe("bad usage ends with 2 and one line", () => {
  it.each([
    [["unheard-of"], /unknown command 'unheard-of'/],
    [["maps"], /missing required argument 'file'/],
    [["maps", "x", "--bogus"], /unknown option '--bogus'/],
    [["maps", "x", "y"], /too many arguments/],
    [["maps", "x", "--format", "csv"], /Allowed choices are runs, info-tlb, leaves/],
    [["maps", "x", "--cr3", "zz"], /--cr3 <hex>' argument 'zz' is invalid. expected a hexadecimal number/],
    [["maps", "x", "--cr3", "11112222333344445"], /at most 64 bits/],
    [["maps", "x", "--maxphyaddr", "53"], /expected a number from 32 to 52/],
    [["maps", "x", "--max-mappings", "0"], /expected a number from 1/],
    [["maps", "x", "--format", "info-tlb", "--json"], /--json: expected --format runs or leaves/],
    [["walk", "x"], /expected addresses to walk, found none/],
    [["walk", "x", "12g"], /12g: expected a hexadecimal address/],
    [["walk", "x", "0", "--engine", "qemu"], /Allowed choices are wasm, reference/],
    [["walk", fixture("i386-pae"), "0", "--user"], /--user: expected --access with it/],
    [["pte", "0", "--level", "5"], /--level: expected 1 to 4/],
    [["pte", "100000000", "--mode", "32bit"], /expected an entry of 32 bits/],
    [["find", "x"], /missing required argument 'gpa'/],
    [["role", "xyz"], /expected a hexadecimal number/],
    [["role", "encode", "--kernal", "6.1"], /unknown option '--kernal' \(Did you mean --kernel\?\)/],
    [["spte", "0"], /required option .--format/],
  ])("%j", async (args, message) => {
    const { code, stdout, stderr } = await run(args);
    expect(stderr).toMatch(message);
    expect(stderr.trim().split("\n").length).toBe(1);
    expect(stdout).toBe("");
    expect(code).toBe(2);
  });

  it("without a command the help goes to standard error", async () => {
    const { code, stdout, stderr } = await run([]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(/Usage: x86-paging/);
  });

  it.each(
    [
      "info",
      "spaces",
      "walk",
      "maps",
      "read",
      "search",
      "find",
      "shared",
      "convert",
      "reduce",
      "diff",
      "pte",
      "role",
      "spte",
      "tour",
    ].map((name) => [name]),
  )("%s --help shows examples and ends with 0", async (name) => {
    const { code, stdout } = await run([name!, "--help"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/Examples:\n {2}x86-paging/);
  });
});

describe("bad input ends with 2, one line that names the file, and no listing", () => {
  const cases: [string, () => string, RegExp][] = [
    ["no such file", () => join(directory, "none"), /none: cannot be opened: no such file/],
    ["an empty file", () => file("empty", ""), /offset 0x0: expected a memory dump, found an empty file/],
    [
      "a truncated dump",
      () => file("short", elfCore().subarray(0, 1000)),
      /offset 0x40: expected memory segments, found none: all of them lie behind the end of the file/,
    ],
    [
      "something else",
      () => file("text", "hello, world"),
      /expected an ELF core, a kdump, a LiME dump, an AVML dump, .*gzip, xz or zstd/,
    ],
    ["a LiME dump without --cr3", () => file("lime", limeRange(0n, page(0))), /CR3 must be given/],
    ["CR3 outside the dump", () => dumpOf("cr3", small, { cr3: 0x9000n }), /CR3 0x9000 .*not in the dump/],
    [
      "a self-reference",
      () => dumpOf("self", { 1: table64({ 3: toTable(1) }) }),
      /0x1000 contains itself.*entry 3.*--cyclic/,
    ],
    [
      "a cycle",
      () => dumpOf("cycle", { ...small, 3: table64({ 7: toTable(2) }) }),
      /0x2000 contains itself: entry 7 of the level-2 table at 0x3000/,
    ],
    [
      "a missing table",
      () => dumpOf("missing", { ...small, 3: table64({ 0: toTable(4), 1: toTable(9) }) }),
      /level-1 table at 0x9000 is not in the dump: entry 1 .*--partial/,
    ],
    [
      "too many mappings",
      () => {
        const full = (entry: bigint) => table64(Object.fromEntries(Array.from({ length: 512 }, (_, i) => [i, entry])));
        return dumpOf("many", { 1: full(toTable(2)), 2: full(toTable(3)), 3: full(toTable(4)), 4: full(7n) });
      },
      /at most 100000000 mappings, found 68719476736.*--max-mappings/,
    ],
  ];
  it.each(cases)("maps: %s", async (_, path, message) => {
    const commands = [
      ["maps", path()],
      ["maps", path(), "--format", "info-tlb"],
      ["find", path(), "1000"],
    ];
    // The tour shows what there is where no root is known.
    if (!/CR3/.test(message.source)) commands.push(["tour", path()]);
    for (const args of commands) {
      const { code, stdout, stderr } = await run([...args]);
      expect(stderr).toMatch(message);
      expect(
        stderr
          .trim()
          .split("\n")
          .filter((line) => line.startsWith("error: ")).length,
      ).toBe(1);
      expect(stderr).not.toMatch(/^ +at /m);
      expect(stderr).toContain(path());
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    }
  });

  it("walk: an address behind a missing table, before any other address is printed", async () => {
    const path = dumpOf("missing2", { ...small, 3: table64({ 0: toTable(4), 1: toTable(9) }) });
    for (const engine of ["wasm", "reference"]) {
      const { code, stdout, stderr } = await run(["walk", path, "1000", "200000", "--engine", engine, "-q"]);
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
      expect(stderr).toMatch(/0000000000200000: a table is not in the dump, which the entry at 0x3008 points to/);
      const partial = ["walk", path, "1000", "200000", "--partial", "--format", "gva2gpa", "--engine", engine];
      expect((await run(partial)).stdout).toBe("0000000000001000 gpa: 0x4000\n0000000000200000 Unmapped\n");
    }
  });

  it("walk --strict: PDPTEs that no processor loads", async () => {
    const { code, stderr } = await run(["walk", fixture("i386-pae"), "8048000", "--strict"]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/pt\.elf\.gz: .*reserved.* \(without --strict no bit is reserved\)/);
  });

  it("walk: a bad line in a list", async () => {
    const list = file("list", "1000 first\n\n# comment\nnonsense\n");
    const { code, stdout, stderr } = await run(["walk", dumpOf("ok", small), "--from", list]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(/list: line 4: expected a hexadecimal address .* found nonsense/);
    const missing = await run(["walk", dumpOf("ok", small), "--from", join(directory, "none")]);
    expect(missing.code).toBe(2);
    expect(missing.stderr).toMatch(/none: cannot be read: no such file/);
  });
});

describe("walk", () => {
  it("shows each entry decoded and the outcome", async () => {
    const { code, stdout, stderr } = await run(["walk", dumpOf("ok", small), "0x2abc"]);
    expect(code).toBe(0);
    expect(stdout.split("\n")).toEqual([
      "0000000000002abc",
      "  PML4E at 0000000000001000 = 0000000000002007  table 0x2000           P RW US",
      "  PDPTE at 0000000000002000 = 0000000000003007  table 0x3000           P RW US",
      "  PDE   at 0000000000003000 = 0000000000004007  table 0x4000           P RW US",
      "  PTE   at 0000000000004010 = 8000000000050003  4K page 0x50000        P RW XD",
      "  gpa 0x50abc  4K page, supervisor, writable, no-execute",
      "",
    ]);
    expect(stderr).toMatch(/4-level paging; EFER=0xd00 inferred: the ELF machine is x86-64, so LMA=1; NXE assumed/);
  });

  it("takes addresses from arguments, standard input and lists, in this order", async () => {
    const list = file("list2", "1fff x\n");
    const args = ["walk", dumpOf("ok", small), "0x1_000", "-", "--from", list, "--format", "gva2gpa"];
    const { stdout } = await run(args, { stdin: "2000: y\n\n3000\n" });
    expect(stdout).toBe(
      "0000000000001000 gpa: 0x4000\n0000000000002000 gpa: 0x50000\n0000000000003000 Unmapped\n0000000000001fff gpa: 0x4fff\n",
    );
  });

  it("prints guest-physical address 0 as QEMU's %#lx does", async () => {
    const { stdout } = await run(["walk", dumpOf("ok", small), "0", "1", "--format", "gva2gpa"]);
    expect(stdout).toBe("0000000000000000 gpa: 0\n0000000000000001 gpa: 0x1\n");
  });

  it("ignores address bits above 31 in gva2gpa outside long mode, but not for people", async () => {
    const path = dumpOf("legacy", { 1: table32({ 0: 0x2007 }), 2: table32({ 1: 0x7007 }) }, { cr4: 0n }, 3);
    const { stdout } = await run(["walk", path, "500001234", "--format", "gva2gpa"]);
    expect(stdout).toBe("0000000500001234 gpa: 0x7234\n");
    expect((await run(["walk", path, "500001234"])).code).toBe(2);
  });

  it("takes bits 51:0 in gva2gpa with paging off, as QEMU's debug walk does", async () => {
    const path = dumpOf("unpaged", small, { cr0: 0x10n, cr4: 0n }, 3);
    const { stdout } = await run(["walk", path, "1234", "123456789a", "ffff800000000123", "--format", "gva2gpa"]);
    expect(stdout).toBe(
      "0000000000001234 gpa: 0x1234\n000000123456789a gpa: 0x123456789a\nffff800000000123 gpa: 0xf800000000123\n",
    );
    expect((await run(["walk", path, "123456789a"])).code).toBe(2);
  });

  it("checks rights only when asked", async () => {
    const path = dumpOf("smap", small, { cr4: 0x20_0020n });
    expect((await run(["walk", path, "1000"])).code).toBe(0);
    const read = await run(["walk", path, "1000", "--access", "read"]);
    expect(read.code).toBe(1);
    expect(read.stdout).toMatch(
      /not mapped: SMAP: a supervisor access to a user-mode address \(PTE\.US=1, CR4\.SMAP=1, EFLAGS\.AC=0\): page fault, error code 0x1/,
    );
    expect((await run(["walk", path, "1000", "--access", "read", "--user"])).code).toBe(0);
    expect((await run(["walk", path, "1000", "--access", "write", "--user"])).stdout).toMatch(/error code 0x7/);
  });

  it("checks the rights of shadow-stack accesses", async () => {
    const path = dumpOf("stack", { ...small, 4: table64({ 0: 0x7n, 1: 0x4061n, 2: 0x5065n }) });
    const stack = (address: string, kind: string, ...more: string[]) =>
      run(["walk", path, address, "--access", `shadow-stack-${kind}`, ...more]);
    expect((await stack("1000", "read")).code).toBe(0);
    expect((await stack("1000", "write")).code).toBe(0);
    expect((await stack("2000", "write", "--user")).code).toBe(0);
    expect((await stack("0", "read")).stdout).toMatch(
      /not mapped: a shadow-stack access to a page that is none \(PTE\.RW=1, PTE\.D=0\): page fault, error code 0x41/,
    );
    expect((await stack("2000", "write")).stdout).toMatch(
      /a supervisor shadow-stack access to a user-mode address \(PTE\.US=1\): page fault, error code 0x43/,
    );
  });

  it("explains every check and every bit of an error code", async () => {
    const path = dumpOf("explained", small, { cr4: 0x20_0020n });
    const { stdout, code } = await run(["walk", path, "1000", "--access", "write", "--explain"]);
    expect(code).toBe(1);
    expect(stdout).toMatch(/^ {2}ok {2}PML4E: present +PML4E\.P=1$/m);
    expect(stdout).toMatch(/^ {2}NO {2}PTE: SMAP: .* PTE\.US=1 CR4\.SMAP=1 EFLAGS\.AC=0$/m);
    expect(stdout).toMatch(/^ {4}bit {2}1 {2}W=1 +the access is a write$/m);
    const json = await run(["walk", path, "1000", "--access", "write", "--explain", "--json"]);
    const { explanation } = JSON.parse(json.stdout);
    expect(explanation.checks.filter((one: { decides: boolean }) => one.decides)).toMatchObject([
      { check: "smap", passed: false, level: 1, factors: [{ of: "PTE" }, { of: "CR4" }, { of: "EFLAGS" }] },
    ]);
    expect(explanation.errorCode[1]).toMatchObject({ name: "W", bit: 1, set: true });
    expect((await run(["walk", path, "1000", "--explain", "--format", "gva2gpa"])).code).toBe(2);
  });

  it("ends with 1 when no address is mapped, 0 when some are", async () => {
    const path = dumpOf("ok", small);
    expect((await run(["walk", path, "9000"])).code).toBe(1);
    expect((await run(["walk", path, "9000", "1000"])).code).toBe(0);
    expect((await run(["walk", path, "8000000000000000"])).stdout).toMatch(/not canonical/);
  });

  it("prints one JSON object an address", async () => {
    const { stdout } = await run(["walk", dumpOf("ok", small), "1000", "9000", "--json"]);
    const [mapped, not] = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(mapped.result).toMatchObject({ mapped: true, gpa: "0x4000", pageSize: 4096, user: true, writable: false });
    expect(mapped.steps.map((step: { name: string }) => step.name)).toEqual(["PML4E", "PDPTE", "PDE", "PTE"]);
    expect(not.result).toMatchObject({ mapped: false, vector: 14, errorCode: "0x0", level: 1 });
  });
});

describe("maps", () => {
  it("prints ranges, marks what is absent, and says what was inferred", async () => {
    const { code, stdout, stderr } = await run(["maps", dumpOf("full", { ...small, 8: new Uint8Array(4096) })]);
    expect(code).toBe(0);
    expect(stdout.split("\n")).toEqual([
      "start            end                    size page rights physical        ",
      "0000000000000000 0000000000001000      4 KiB   4K uwx    0000000000000000 absent",
      "0000000000001000 0000000000002000      4 KiB   4K u-x    0000000000004000",
      "0000000000002000 0000000000003000      4 KiB   4K -w-    0000000000050000 absent",
      "",
    ]);
    expect(stderr).toMatch(/bit 63 \(XD\) is in use, so NXE=1 holds/);
    expect((await run(["maps", dumpOf("ok", small), "--quiet"])).stderr).toBe("");
  });

  it("says nothing of absent pages where the dump is cut down to page tables", async () => {
    const { stdout } = await run(["maps", dumpOf("ok", small), "--format", "leaves"]);
    expect(stdout).toBe("0000000000000000 0 4K uwx\n0000000000001000 4000 4K u-x\n0000000000002000 50000 4K -w-\n");
    expect((await run(["maps", dumpOf("ok", small)])).stdout).not.toContain("absent");
  });

  it.each(["wasm", "reference"])("goes on with --partial and says what is missing (%s)", async (engine) => {
    const path = dumpOf("partial", { ...small, 3: table64({ 0: toTable(4), 1: toTable(9) }) });
    const { code, stdout, stderr } = await run(["maps", path, "--partial", "--format", "leaves", "--engine", engine]);
    expect(code).toBe(0);
    expect(stdout.trim().split("\n").length).toBe(3);
    expect(stderr).toMatch(/partial: 1 table is not in the dump/);
  });

  it.each(["wasm", "reference"])("follows a self-map when asked (%s)", async (engine) => {
    const path = dumpOf("selfmap", { ...small, 1: table64({ 0: toTable(2), 493: toTable(1) }) });
    const { code, stdout } = await run(["maps", path, "--cyclic", "follow", "--format", "leaves", "--engine", engine]);
    expect(code).toBe(0);
    expect(
      stdout
        .trim()
        .split("\n")
        .map((line) => line.split(" ").slice(0, 2).join(" ")),
    ).toEqual([
      "0000000000000000 0",
      "0000000000001000 4000",
      "0000000000002000 50000",
      "fffff68000000000 4000",
      "fffff6fb40000000 3000",
      "fffff6fb7da00000 2000",
      "fffff6fb7dbed000 1000",
    ]);
  });

  it("ends with 1 where nothing is mapped, or nothing that the filters let through", async () => {
    const empty = await run(["maps", dumpOf("none", { 1: table64({}) })]);
    expect(empty).toMatchObject({ code: 1, stdout: "" });
    const legacy = dumpOf("legacy", { 1: table32({ 0: 0x2007 }), 2: table32({ 1: 0x7005 }) }, { cr4: 0n }, 3);
    expect(await run(["maps", legacy, "--wx"])).toMatchObject({ code: 1, stdout: "" });
    const off = dumpOf("off", { 1: table64({}) }, { cr0: 0x11n });
    expect(await run(["maps", off, "--format", "info-tlb"])).toMatchObject({ code: 1, stdout: "PG disabled\n" });
    expect(await run(["maps", off])).toMatchObject({ code: 1, stdout: "" });
  });

  it("reads raw and LiME dumps with given registers", async () => {
    const memory = new Uint8Array(0x6000);
    for (const [frame, bytes] of Object.entries(small)) memory.set(bytes, Number(frame) * 4096);
    const raw = await run(["maps", file("m.raw", memory), "--raw", "--cr3", "1000", "--format", "leaves"]);
    expect(raw.stdout).toBe(
      "0000000000000000 0 4K uwx\n0000000000001000 4000 4K u-x\n0000000000002000 50000 4K -w- absent\n",
    );
    expect(raw.stderr).toMatch(/CR4=0x20 inferred: the tables look like 4-level paging; EFER=0xd00 inferred/);
    const shifted = file("shifted.raw", memory.subarray(0x1000));
    expect((await run(["maps", shifted, "--offset", "1000", "--cr3", "1000", "--format", "leaves"])).stdout).toBe(
      raw.stdout.replace("0 0 4K uwx", "0 0 4K uwx absent"),
    );
    const lime = file("m.lime", limeRange(0n, memory));
    expect((await run(["maps", lime, "--cr3", "1000", "--format", "leaves"])).stdout).toBe(raw.stdout);
  });

  it("overrides change what is read", async () => {
    const path = dumpOf("two", { ...small, 5: table64({ 0: toTable(2) }), 6: table64({}) });
    expect((await run(["maps", path, "--cr3", "0x5000"])).code).toBe(0);
    expect((await run(["maps", path, "--cr3", "0x6000"])).code).toBe(1);
    expect((await run(["maps", path, "--cr0", "11"])).stderr).toMatch(/paging is off/);
    expect((await run(["maps", path, "--cpu", "1"])).stderr).toMatch(
      /expected a note of processor 1, found notes of 1/,
    );
    const pae = await run(["walk", path, "0", "--efer", "0", "--cr3", "3000", "--partial"]);
    expect(pae.stdout).toMatch(/PDPTE at 0000000000003000/);
  });
});

describe("find", () => {
  it("keeps neighbouring pages apart, and names each address once for each mapping", async () => {
    const tables = { ...small, 4: table64({ 0: 0x4007n, 1: 0x5005n, 9: 0x4003n }) };
    const { stdout } = await run(["find", dumpOf("find", tables), "4fff", "5000", "4000", "5000"]);
    expect(stdout.trim().split("\n")).toEqual([
      "0x4000 0000000000000000 4K uwx",
      "0x4fff 0000000000000fff 4K uwx",
      "0x5000 0000000000001000 4K u-x",
      "0x4000 0000000000009000 4K -wx",
      "0x4fff 0000000000009fff 4K -wx",
    ]);
  });
});

describe("output", () => {
  const colour = "\u001b[";
  it("has colour on a terminal only, and not with NO_COLOR or a dumb terminal", async () => {
    const args = ["walk", dumpOf("ok", small), "1000"];
    expect((await run(args)).stdout).not.toContain(colour);
    expect((await run(args, { terminal: true })).stdout).toContain(colour);
    expect((await run(args, { terminal: true, env: { NO_COLOR: "1" } })).stdout).not.toContain(colour);
    expect((await run(args, { terminal: true, env: { TERM: "dumb" } })).stdout).not.toContain(colour);
  });

  it("shows progress on a terminal while the listing goes elsewhere", async () => {
    const args = ["maps", fixture("i386-pae"), "--quiet"];
    const shown = await run(args, { errorTerminal: true });
    expect(shown.stderr).toMatch(/listing .*0\/3574/);
    expect(shown.stdout).toBe((await run(args)).stdout);
    expect((await run(args)).stderr).toBe("");
    expect((await run(args, { errorTerminal: true, terminal: true })).stderr).toBe("");
  });

  it("ends quietly when its reader goes away", async () => {
    let taken = 0;
    const stdout = new Writable({
      write(_chunk, _encoding, done) {
        taken++;
        done(taken > 2 ? Object.assign(new Error("write EPIPE"), { code: "EPIPE", syscall: "write" }) : null);
      },
    });
    let stderr = "";
    const errors = new Writable({
      write(chunk, _encoding, done) {
        stderr += chunk;
        done();
      },
    });
    const io = { stdin: process.stdin, stdout, stderr: errors, env: {} };
    const code = await main(["maps", fixture("amd64-la57"), "--format", "leaves", "--quiet"], io);
    expect({ code, stderr, taken }).toEqual({ code: 0, stderr: "", taken: 3 });
  });

  it("fails with one line when the output cannot be written", async () => {
    const stdout = new Writable({
      write(_chunk, _encoding, done) {
        done(Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC", syscall: "write" }));
      },
    });
    let stderr = "";
    const errors = new Writable({
      write(chunk, _encoding, done) {
        stderr += chunk;
        done();
      },
    });
    const io = { stdin: process.stdin, stdout, stderr: errors, env: {} };
    expect(await main(["maps", fixture("i386-pae"), "--quiet"], io)).toBe(2);
    expect(stderr).toBe("error: the output cannot be written: ENOSPC: no space left on device, write\n");
  });

  it("waits for a slow reader instead of piling up text", async () => {
    let waiting = 0;
    let most = 0;
    const stdout = new Writable({
      highWaterMark: 1,
      write(chunk: Buffer, _encoding, done) {
        waiting += chunk.length;
        most = Math.max(most, waiting + stdout.writableLength);
        setImmediate(() => {
          waiting -= chunk.length;
          done();
        });
      },
    });
    const stderr = new Writable({ write: (_chunk, _encoding, done) => done() });
    const io = { stdin: process.stdin, stdout, stderr, env: {} };
    expect(await main(["maps", fixture("amd64-la57"), "--format", "info-tlb"], io)).toBe(0);
    expect(most).toBeLessThan(3 * 2 ** 16);
  });
});
