/** The command `trace`: what it prints of a trace, and how it ends. */
import { execFileSync, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { temporaryFolder } from "../temporary.js";
import * as t from "../trace/writers/script.js";
import { TraceScript } from "../trace/writers/script.js";
import { openPaths, run } from "./run-main.js";

const G3 = fileURLToPath(new URL("../fixtures/recordings/g3_nested_32/npt1-tdp0/trace.txt.gz", import.meta.url));
const { folder } = temporaryFolder();

function file(content: string | Uint8Array, name = "trace.txt"): string {
  const path = join(folder(), name);
  writeFileSync(path, content);
  return path;
}

const storm = () => new TraceScript().on(0, t.entry()).times(40, (script) => script.on(0, t.zapAll(100)));

describe("trace", () => {
  it("says where a trace is from and what went on, and ends with 0 where nothing is found", async () => {
    const { code, stdout, stderr } = await run(["trace", G3]);
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toContain(`${G3}: tracing/trace, gzip; Linux 6.1 to 6.13.2 (`);
    expect(stdout).toContain("969 events of KVM in 2,120 lines, 1,139 others; 73.952310 to 74.233026 s");
    expect(stdout).toMatch(/npt write, present +6 +3/);
    expect(stdout).toContain("32 enter L2, 32 exit to L1");
    expect(stdout).toMatch(/l2 4-byte q0 wux !nxe ad +3 +29 +2 +0 +0 +1 +0\n/);
    expect(stdout.trimEnd().split("\n").at(-1)).toBe("no findings");
    expect(openPaths()).not.toContain(G3);
  });

  it("shows findings with their lines, and ends with 1", async () => {
    const { code, stdout } = await run(["trace", file(storm().text)]);
    expect(code).toBe(1);
    expect(stdout).toContain("zap-all-storm: 40 zap-alls, up to 40 within 2 s\n    4000 shadow pages were in use");
    expect(stdout).toContain(
      "    4: CPU 0/KVM-4000    [000] d..1.   100.000020: kvm_mmu_zap_all_fast: kvm-mmu-valid-gen 0 used_pages 64\n",
    );
  });

  it("takes words of a role that some kernel prints, and no others", async () => {
    const { code, stderr } = await run(["trace", G3, "--role", "l4 foo"]);
    expect(code).toBe(2);
    expect(stderr).toContain(
      '--role: expected words of a role as traces print it ("l4 8-byte q0 direct wux nxe ad"), found "foo"',
    );
    expect((await run(["trace", G3, "--role", "l1 pae q1 rw-x !nxe !ad"])).code).toBe(0);
  });

  it("leaves findings out where they are not wanted", async () => {
    const { code, stdout } = await run(["trace", file(storm().text), "--no-findings"]);
    expect([code, stdout.includes("zap-all-storm")]).toEqual([0, false]);
  });

  it("prints one JSON object", async () => {
    const { stdout } = await run(["trace", G3, "--json", "--pages"]);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ format: "tracing/trace", packed: true, events: 969, lost: 0, findings: [] });
    expect(report.summary.switches).toEqual({ "enter L2": 32, "exit to L1": 32 });
    expect(report.pages.find((page: { gfn: string; role: string }) => page.role.startsWith("l4"))).toMatchObject({
      gfn: "0x0",
      live: 1,
    });
  });

  it("shows what concerns a frame, a role, a time", async () => {
    const { stdout } = await run(["trace", G3, "--gfn", "104", "--role", "l1 4-byte"]);
    expect(stdout).toContain("  104  l1 4-byte q0 wux !nxe ad  gone");
    expect(stdout).toMatch(/events: \d+\n {2}\d+: init-1 .* gfn 104 l1 4-byte/);
    const part = JSON.parse((await run(["trace", G3, "--json", "--since", "74", "--until", "74.1"])).stdout);
    expect(part.from).toBeGreaterThanOrEqual(74);
    expect(part.to).toBeLessThanOrEqual(74.1);
    const few = await run(["trace", G3, "--role", "l2", "--show", "3"]);
    expect(few.stdout).toMatch(/ {2}\.\.\. \d+ more\n$/);
  });

  it("reads a pipe, and does not wait for one that nobody writes to", async () => {
    const fifo = join(folder(), "fifo");
    execFileSync("mkfifo", [fifo]);
    expect(await run(["trace", fifo])).toMatchObject({ code: 2, stdout: "" });
    const writer = spawn("sh", ["-c", `cat '${file(storm().text)}' > '${fifo}'`]);
    await setTimeout(200);
    const { code, stdout } = await run(["trace", fifo]);
    writer.kill();
    expect(code).toBe(1);
    expect(stdout).toContain("41 events of KVM");
  });

  it("shows control characters of a trace, and does not send them to the terminal", async () => {
    const text = storm().text.replaceAll("CPU 0/KVM", "\u001b[31mKVM\u0007");
    const { stdout } = await run(["trace", file(text)], { terminal: true, env: { NO_COLOR: "1" } });
    expect(stdout).toContain("\\u001b[31mKVM\\u0007-4000");
    expect(stdout.includes("\u001b")).toBe(false);
  });

  it.each([
    ["no such file", ["/nowhere/trace.txt"], "/nowhere/trace.txt: cannot be read: no such file or directory"],
    ["a folder", ["/"], "/: cannot be read: expected a file, found a folder"],
    ["a kernel that is not known", [G3, "--kernel", "2.6"], "no SPTE layout is known for kernel 2.6"],
    ["a time that is none", [G3, "--since", "soon"], "expected seconds, such as 249.187935."],
    [
      "times the wrong way round",
      [G3, "--since", "5", "--until", "4"],
      "--until 4: expected a time that is not before --since 5",
    ],
    ["a frame number that is none", [G3, "--gfn", "fffffffffffffff"], "--gfn: expected at most 52 bits"],
  ])("refuses %s in one line", async (_, args, message) => {
    const { code, stdout, stderr } = await run(["trace", ...args]);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toContain(message);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });

  it("refuses what is no trace", async () => {
    const { code, stderr } = await run(["trace", file("hello\n")]);
    expect(code).toBe(2);
    expect(stderr).toContain(
      "expected events of KVM (text of tracing/trace, trace-cmd report or perf script, or a trace.dat file), found none",
    );
    const xz = await run(["trace", file(Uint8Array.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0), "t.xz")]);
    expect(xz.stderr).toContain("found xz: unpack it first (xz -d)");
  });

  it("reads what there is of a file that breaks off, and says so", async () => {
    const packed = gzipSync(storm().text);
    const { stdout } = await run(["trace", file(packed.subarray(0, packed.length - 20), "t.gz")]);
    expect(stdout).toContain("warning: the gzip data break off or are damaged, or something else follows them");
  });
});
