/** Where the command reads and writes: long lists, pipes, files that change, outputs that fail. */
import { execFileSync } from "node:child_process";
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { Readable, Writable } from "node:stream";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { linesOf } from "../../src/cli/lines.js";
import { main } from "../../src/cli/main.js";
import { temporaryFolder } from "../temporary.js";
import { fixture, openPaths, run } from "./run-main.js";

const { directory } = temporaryFolder();

interface Streams {
  readonly stdin?: Iterable<string>;
  /** Called with the text of each write; may return an error. */
  readonly onWrite?: (text: string) => Error | undefined;
}

async function runOver(args: readonly string[], { stdin = [], onWrite }: Streams) {
  let written = "";
  let stderr = "";
  const stdout = new Writable({
    write(chunk, _encoding, done) {
      const error = onWrite?.(String(chunk));
      if (error === undefined) written += chunk;
      done(error);
    },
  });
  const errors = new Writable({
    write(chunk, _encoding, done) {
      stderr += chunk;
      done();
    },
  });
  const code = await main(args, { stdin: Readable.from(stdin), stdout, stderr: errors, env: {} });
  return { code, stdout: written, stderr };
}

const full = () =>
  Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC", syscall: "write" });

describe("an output that cannot be written ends with 2 and one line", () => {
  it.each([
    ["--help"],
    ["walk", "--help"],
    ["help", "walk"],
    ["--version"],
    ["pte", "80"],
    ["role", "3713"],
    ["role", "encode", "level=4"],
    ["role", "convert", "3704", "--to", "project"],
    ["spte", "3", "--format", "ept"],
    ["tour", fixture("i386-pae")],
    ["find", fixture("i386-pae"), "1000", "-q"],
    ["walk", fixture("i386-pae"), "c1000123", "-q"],
    ["conform", new URL("../fixtures/walk/pae.ndjson.gz", import.meta.url).pathname],
    ["replay", new URL("../fixtures/recordings/e1_lm4_mmio_slots", import.meta.url).pathname],
    // So much that it is written before the end, by a command that does not wait.
    ["role", ...Array.from({ length: 2000 }, () => "3713")],
  ])("%s %s", async (...args) => {
    const { code, stderr } = await runOver(args, { onWrite: full });
    expect(stderr).toBe("error: the output cannot be written: ENOSPC: no space left on device, write\n");
    expect(code).toBe(2);
  });

  it("and says that what is there is not complete", async () => {
    let writes = 0;
    const { code, stdout, stderr } = await runOver(["maps", fixture("amd64-la57"), "--format", "leaves", "-q"], {
      onWrite: () => (++writes > 2 ? full() : undefined),
    });
    expect(code).toBe(2);
    expect(stdout).not.toBe("");
    expect(stderr).toMatch(/ENOSPC.* \(what was printed before is not complete\)\n$/);
  });
});

describe("a dump that becomes shorter while it is read", () => {
  const whole = gunzipSync(readFileSync(fixture("amd64-la57")));
  const dump = () => {
    const path = join(directory, "shrinking.elf");
    writeFileSync(path, whole);
    return path;
  };
  const gone =
    /^error: .*shrinking\.elf: offset 0x\w+: expected memory at 0x\w+ \(4096 bytes\), but only \d+ could be read/;

  it.each([["leaves"], ["info-tlb"]])("ends maps --format %s with 2", async (format) => {
    const path = dump();
    const { code, stdout, stderr } = await runOver(["maps", path, "--format", format, "-q"], {
      onWrite: () => {
        truncateSync(path, 0x2000);
        return undefined;
      },
    });
    expect(stderr).toMatch(gone);
    expect(stderr).toContain("(what was printed before is not complete)");
    expect(stdout).not.toBe("");
    expect(code).toBe(2);
  });

  it.each(["wasm", "reference"])("ends walk with 2, and prints nothing of a short list (%s)", async (engine) => {
    const path = dump();
    const addresses = function* () {
      yield "ffffffff81000000\n";
      truncateSync(path, 0x2000);
      yield "7f0000000000\n400000\nffff888000000000\n";
    };
    const args = ["walk", path, "-", "-q", "--partial", "--engine", engine];
    const { code, stdout, stderr } = await runOver(args, { stdin: addresses() });
    expect(stderr).toMatch(gone);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  });

  it("ends find with 2", async () => {
    const path = dump();
    truncateSync(path, whole.length);
    const open = run(["find", path, "1000", "-q"]);
    // The file is opened and its headers read before this goes on.
    truncateSync(path, 0x2000);
    const { code, stdout, stderr } = await open;
    expect(stderr).toMatch(gone);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  });
});

describe("lists of addresses", () => {
  const walk = ["walk", fixture("i386-pae"), "-q", "--format", "gva2gpa"];

  it("are walked while they are read", async () => {
    let written = 0;
    let seen = 0;
    const addresses = function* () {
      for (let i = 0; i < 40; i++) {
        yield "c1000123\n".repeat(1000);
        if (written > 0 && seen === 0) seen = i;
      }
    };
    const { code, stdout } = await runOver([...walk, "-"], {
      stdin: addresses(),
      onWrite: (text) => {
        written += text.length;
        return undefined;
      },
    });
    expect(code).toBe(0);
    expect(stdout).toBe("00000000c1000123 gpa: 0x1000123\n".repeat(40_000));
    expect(seen).toBeGreaterThan(0);
  });

  it("may be longer than the arguments of a call can be", async () => {
    const path = join(directory, "long");
    writeFileSync(path, "1000\n".repeat(200_000));
    const { stdout } = await run([...walk, "--from", path]);
    expect(stdout.length).toBe("0000000000001000 Unmapped\n".length * 200_000);
  });

  it("have lines of a limited length, whether they end or not", async () => {
    const path = join(directory, "line");
    writeFileSync(path, `1000\n${"1".repeat(2 ** 20 + 1)}`);
    for (const from of [path, "/dev/zero"]) {
      const { code, stdout, stderr } = await run([...walk, "--from", from]);
      expect(stderr).toMatch(/: line [12]: expected at most 1048576 characters, found more\n$/);
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    }
  });

  it("come from a pipe with a writer, but a pipe without one is not waited for", async () => {
    const pipe = join(directory, "pipe");
    execFileSync("mkfifo", [pipe]);
    const { code, stderr } = await run([...walk, "--from", pipe]);
    expect(stderr).toMatch(/pipe: expected data, found a pipe that nobody writes to\n$/);
    expect(code).toBe(2);
    const descriptor = openSync(pipe, "r+");
    writeSync(descriptor, "c1000123\n");
    const reading = run([...walk, "--from", pipe]);
    // The last writer goes away once the reader is there.
    await new Promise((resolve) => setTimeout(resolve, 300));
    execFileSync("sh", ["-c", 'echo c1000124 > "$0"', pipe]);
    closeSync(descriptor);
    expect((await reading).stdout).toBe("00000000c1000123 gpa: 0x1000123\n00000000c1000124 gpa: 0x1000124\n");
  });

  it("leave no pipe open, whether it had a writer or not", async () => {
    const pipe = join(directory, "closed-pipe");
    execFileSync("mkfifo", [pipe]);
    expect((await run([...walk, "--from", pipe])).code).toBe(2);
    expect(openPaths()).not.toContain(pipe);
    const descriptor = openSync(pipe, "r+");
    writeSync(descriptor, "c1000123\n");
    const reading = run([...walk, "--from", pipe]);
    await new Promise((resolve) => setTimeout(resolve, 300));
    execFileSync("sh", ["-c", ': > "$0"', pipe]);
    closeSync(descriptor);
    expect((await reading).code).toBe(0);
    expect(openPaths()).not.toContain(pipe);
  });

  it("may have lines as long as lines may be", async () => {
    const path = join(directory, "longest");
    writeFileSync(path, `c1000123 ${" ".repeat(2 ** 20 - 9)}\nc1000124`);
    expect((await run([...walk, "--from", path])).stdout.split("\n")).toHaveLength(3);
    writeFileSync(path, `c1000123 ${" ".repeat(2 ** 20 - 8)}\n`);
    expect((await run([...walk, "--from", path])).code).toBe(2);
  });

  it("are no folders", async () => {
    const { code, stderr } = await run([...walk, "--from", directory]);
    expect(stderr).toMatch(/expected a file, found a folder\n$/);
    expect(code).toBe(2);
  });
});

it("cuts lines the same wherever the pieces of the text end", async () => {
  const bytes = new TextEncoder().encode(`\na\r\nüber\n\n€\n${"long".repeat(50)}`);
  const lines = async (size: number) => {
    const pieces = function* () {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
    };
    const found: string[] = [];
    for await (const line of linesOf(Readable.from(pieces()), "x")) found.push(line);
    return found;
  };
  const expected = ["", "a\r", "über", "", "€", "long".repeat(50)];
  for (const size of [1, 2, 3, 7, 1000]) expect(await lines(size)).toEqual(expected);
});
