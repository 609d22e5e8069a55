/** Damaged dumps under the commands that look through all address spaces or write files: no crash, no hang, nothing in part that looks whole. */
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { at, dumpOf, P, RW, SYSTEM, USER } from "../dump/isolated-guest.js";
import { randomNumbers } from "../random-numbers.js";
import { temporaryFolder } from "../temporary.js";
import { fixture, run } from "./run-main.js";

const { directory } = temporaryFolder();
/** How often each dump is damaged: as often as is said. */
const CASES = Math.ceil(Number(process.env.DAMAGES ?? 60) / 3);
/** Longer takes nothing, however it is crafted. */
const MOST_SECONDS = 10;

const path = join(directory, "damaged");
const output = join(directory, "output");
const REGISTERS = ["--cr4", "20", "--cr0", "80010001", "--efer", "d00", "--cr3", "220000"];

const COMMANDS: readonly (readonly string[])[] = [
  ["spaces", path],
  ["spaces", path, "--json"],
  ["read", path, "ffff960000050000", "64K"],
  ["find", path, "250000", "1000", "--all"],
  ["search", path, "needle", "--all", "--limit", "20"],
  ["search", path, "--regex", "[a-z]{6,}", "--physical", "--all", "--limit", "20"],
  ["search", path, "--hex", "6e ?? 65"],
  ["maps", path, "--all", "--wx"],
  ["maps", path, "--merge", "--csv", "--max-mappings", "100000"],
  ["maps", path, "--not-present", "linux"],
  ["shared", path],
  ["diff", path, path, "--b-half", "user"],
  ["info", path, "--json"],
  ["convert", path, "-o", output],
  ["reduce", path, "-o", output],
];

/** Runs a command on the damaged file. Returns its exit code. */
async function expectSound(args: readonly string[], what: string): Promise<number> {
  rmSync(output, { force: true });
  const start = performance.now();
  const { code, stdout, stderr } = await run(args);
  const name = `${what}: ${args.join(" ")}`;
  expect((performance.now() - start) / 1000, name).toBeLessThan(MOST_SECONDS);
  expect([0, 1, 2], name).toContain(code);
  expect(stderr, name).not.toMatch(/^ +at |TypeError|RangeError|undefined|\bNaN\b/m);
  expect(stdout, name).not.toMatch(/undefined|NaN/);
  if (args[1] === path && args[2] === "--json") for (const line of stdout.split("\n")) if (line) JSON.parse(line);
  if (code === 2) {
    const last = stderr.trimEnd().split("\n").at(-1)!;
    expect(last, name).toMatch(/^error: /);
    // What was printed before is not whole, and said to be so.
    if (stdout !== "") expect(last, name).toContain("what was printed before is not complete");
    expect(existsSync(output), name).toBe(false);
  }
  if (code === 0 && args.includes(output)) expect((await run(["info", output])).code, name).toBe(0);
  return code;
}

async function campaign(whole: Uint8Array, extra: readonly string[], seed: number): Promise<Set<number>> {
  const random = randomNumbers(seed);
  const codes = new Set<number>();
  for (let i = 0; i < CASES; i++) {
    const bytes = Uint8Array.from(whole);
    // Half of the damage is at the front, where headers, notes and roots are, and entries are mixed up as well as bytes.
    const where = i % 2 === 0 ? Math.min(0x4000, bytes.length) : bytes.length;
    for (let n = random(6); n >= 0; n--) {
      if (i % 3 === 0) bytes.copyWithin(random(where) & ~7, random(bytes.length) & ~7, random(bytes.length));
      else bytes[random(where)] = i % 4 < 2 ? random(256) : [0, 0xff, 1, 0x80][random(4)]!;
    }
    writeFileSync(path, i % 5 === 0 ? bytes.subarray(0, random(bytes.length)) : bytes);
    for (const command of COMMANDS) {
      const args = /^(convert)$/.test(command[0]!) ? command : [...command, ...extra];
      codes.add(await expectSound(args, `seed ${seed}, case ${i}`));
    }
  }
  return codes;
}

describe("damaged dumps", () => {
  it("of a made system with page-table isolation", async () => {
    const frame = { 1: 0x656c_6465_656en };
    const two = {
      ...SYSTEM,
      592: frame,
      608: { 0: at(0x270, P | RW | USER), 300: at(0x300) },
      609: { 0: at(0x270, P | RW | USER), 511: at(0x301) },
      624: { 0: at(0x271, P | RW | USER) },
      625: { 0: at(0x272, P | RW | USER) },
      626: { 0: at(0x250, P | RW | USER), 3: at(0x251, P | RW | USER), 5: 0x7ff_ffff_fff0_0e00n },
    };
    const codes = await campaign(dumpOf(two), REGISTERS, 1);
    expect([...codes].sort()).toEqual([0, 1, 2]);
  }, 300_000);

  it("of real guests", async () => {
    for (const [seed, name] of ["i386-pae", "i386-nopae"].entries()) {
      const codes = await campaign(gunzipSync(readFileSync(fixture(name))).subarray(0), [], 10 + seed);
      expect(codes.has(0) && codes.has(2)).toBe(true);
    }
  }, 600_000);
});
