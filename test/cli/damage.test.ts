/** Damaged and sparse dumps: the command ends in a listing or in one line, never in half a listing. */
import { openSync, readFileSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { elfCore, qemuNote, table64 } from "../dump/builders.js";
import { temporaryFolder } from "../temporary.js";
import { fixture, run } from "./run-main.js";

const { directory } = temporaryFolder();

/** A small generator (mulberry32): the same damage in every run. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

async function expectSound(path: string, what: string): Promise<number> {
  const { code, stdout, stderr } = await run([
    "maps",
    path,
    "--quiet",
    "--format",
    "leaves",
    "--max-mappings",
    "20000",
  ]);
  expect([0, 1, 2], what).toContain(code);
  expect(stderr, what).not.toMatch(/^ +at |TypeError|RangeError|undefined/m);
  if (code === 2) {
    expect(stdout, what).toBe("");
    expect(stderr.trim().split("\n").length, what).toBe(1);
    expect(stderr, what).toContain(path);
  }
  return code;
}

describe("a damaged dump ends in a listing or in one line, never in half a listing", () => {
  const whole = gunzipSync(readFileSync(fixture("i386-pae")));

  it("bytes changed in the headers and notes", async () => {
    const random = randomNumbers(1);
    const codes = new Set<number>();
    for (let i = 0; i < 150; i++) {
      const bytes = Uint8Array.from(whole);
      for (let n = random(3); n >= 0; n--) bytes[random(0x6a0)] = random(256);
      const path = join(directory, "headers.elf");
      writeFileSync(path, bytes);
      codes.add(await expectSound(path, `case ${i}`));
    }
    expect(codes.has(0) && codes.has(2)).toBe(true);
  });

  it("entries changed in the tables", async () => {
    const random = randomNumbers(2);
    const codes = new Set<number>();
    for (let i = 0; i < 60; i++) {
      const bytes = Uint8Array.from(whole);
      for (let n = 0; n < 20; n++) bytes[0x6a0 + random(bytes.length - 0x6a0)] = random(256);
      const path = join(directory, "tables.elf");
      writeFileSync(path, bytes);
      codes.add(await expectSound(path, `case ${i}`));
    }
    expect(codes.has(0) && codes.has(2)).toBe(true);
  });

  it("a gzip file cut off anywhere", async () => {
    const packed = readFileSync(fixture("i386-pae"));
    const path = join(directory, "cut.gz");
    for (let length = 2; length < packed.length; length += 211) {
      writeFileSync(path, packed.subarray(0, length));
      expect(await expectSound(path, `${length} bytes`)).toBe(2);
    }
  });
});

describe("a sparse 64 GiB dump", () => {
  it("is opened and walked in less than half a second", async () => {
    const size = 2 ** 36;
    const root = size - 0x10000;
    const path = join(directory, "sparse.elf");
    const notes = qemuNote({ cr3: BigInt(root), cr4: 0x20n });
    writeFileSync(path, elfCore({ notes, segments: [{ gpa: 0n, offset: 0x1000n, filesz: BigInt(size) }] }));
    truncateSync(path, 0x1000 + size);
    const descriptor = openSync(path, "r+");
    for (let level = 0; level < 4; level++) {
      const table = table64({ 5: BigInt(root + (level + 1) * 4096) | 7n });
      writeSync(descriptor, table, 0, 4096, 0x1000 + root + level * 4096);
    }
    const start = performance.now();
    const { stdout } = await run(["walk", path, "28140a05123", "--format", "gva2gpa"]);
    expect(performance.now() - start).toBeLessThan(500);
    expect(stdout).toBe(`0000028140a05123 gpa: 0x${(root + 4 * 4096 + 0x123).toString(16)}\n`);
  });
});
