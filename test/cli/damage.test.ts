/** Damaged and sparse dumps: the command ends in a listing or in one line, never in half a listing. */
import { openSync, readFileSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { concat, elfCore, limeRange, qemuNote, table64 } from "../dump/builders.js";
import { avmlRange } from "../dump/writers/avml.js";
import { kdump } from "../dump/writers/kdump.js";
import { msDump } from "../dump/writers/ms-dump.js";
import { vboxCoreNote, vboxCpuNote } from "../dump/writers/vbox.js";
import { crTags, regionTags, vmss } from "../dump/writers/vmss.js";
import { xenCore } from "../dump/writers/xen.js";
import { randomNumbers } from "../random-numbers.js";
import { temporaryFolder } from "../temporary.js";
import { fixture, run } from "./run-main.js";

const { directory } = temporaryFolder();

/** How often each format is damaged: as often as is said. */
const CASES = Number(process.env.DAMAGES ?? 60);

async function expectSound(path: string, what: string, args: readonly string[] = []): Promise<number> {
  const { code, stdout, stderr } = await run([
    "maps",
    path,
    "--quiet",
    "--format",
    "leaves",
    "--max-mappings",
    "20000",
    ...args,
  ]);
  expect([0, 1, 2], what).toContain(code);
  expect(stderr, what).not.toMatch(/^ +at |TypeError|RangeError|undefined/m);
  // What is missing is said, and the rest is one line.
  for (const line of stderr.trim().split("\n"))
    if (line !== "") expect(line, what).toMatch(/^(warning|error): |: partial: |nothing is mapped/);
  if (code === 2) {
    expect(stdout, what).toBe("");
    expect(stderr.trim().split("\n").length, what).toBe(1);
    expect(stderr, what).toContain(directory);
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

  it("a gzip file cut off anywhere: no table is taken as empty", async () => {
    const packed = readFileSync(fixture("i386-pae"));
    const path = join(directory, "cut.gz");
    for (let length = 2; length < packed.length - 8; length += 211) {
      writeFileSync(path, packed.subarray(0, length));
      expect(await expectSound(path, `${length} bytes`)).toBe(2);
    }
  });
});

const kdumps = new URL("../fixtures/kdump/", import.meta.url);
const packs = new URL("../fixtures/packed/", import.meta.url);
/** What the tables of the guest are that all of these have. */
const listing = async (path: string) => (await run(["maps", path, "--quiet", "--format", "leaves"])).stdout;

describe("every format, changed or cut anywhere, lists what it has or says that it cannot", () => {
  const split = (index: number) => {
    const pages = new Map(
      [1, 2, 3, 4].map((frame) => [frame, table64({ 0: BigInt(frame + 1) * 4096n + 7n })] as const),
    );
    const notes = qemuNote({ cr3: 0x1000n, cr4: 0x20n });
    return kdump({ pages, notes, compression: "lzo", split: index === 0 ? [0, 3] : [3, 5] });
  };
  const ram = () => {
    const bytes = new Uint8Array(0x6000);
    for (const frame of [1, 2, 3, 4]) bytes.set(table64({ 0: BigInt(frame + 1) * 4096n + 7n }), frame * 4096);
    return bytes;
  };
  const vmwareState = () => {
    const regions = [
      { file: 0, memory: 0, pages: 3 },
      { file: 3, memory: 3, pages: 3 },
    ];
    return vmss({ cpu: crTags(0, [0x8001_0033n, 0n, 0n, 0x1000n, 0x20n]), memory: regionTags(regions) });
  };
  const framesOf = (bytes: Uint8Array) =>
    Array.from(
      { length: bytes.length / 4096 },
      (_, i) => [BigInt(i), bytes.subarray(i * 4096, (i + 1) * 4096)] as const,
    );
  const avml = () =>
    concat(avmlRange(0n, ram().subarray(0, 0x3000), { chunk: 5000 }), avmlRange(0x3000n, ram().subarray(0x3000)));
  const FORMATS: [string, () => Uint8Array, ...string[]][] = [
    ...["zlib.kdump", "lzo.kdump", "snappy.kdump", "zstd.kdump", "lzo.flattened"].map(
      (name): [string, () => Uint8Array] => [name, () => readFileSync(new URL(name, kdumps))],
    ),
    ...["i386-nopae.elf.xz", "blocks.elf.xz", "i386-nopae.elf.zst", "frames.elf.zst"].map(
      (name): [string, () => Uint8Array] => [name, () => readFileSync(new URL(name, packs))],
    ),
    ["a part of a split kdump", () => split(0), "--part", "other"],
    ["AVML", avml, "--cr3", "1000"],
    ["a complete crash dump", () => msDump({ runs: [[0n, 6n]], pages: ram(), cr3: 0x1000n })],
    [
      "a crash dump with a bitmap",
      () => msDump({ type: 6, frames: [0, 1, 2, 3, 4, 5], pages: ram(), cr3: 0x1000n, runs: [[0n, 9n]] }),
    ],
    ["a VMware state file", vmwareState, "--part", "vmem"],
    ["a VMware memory file", ram, "--part", "state"],
    ["a Xen core", () => xenCore({ pages: framesOf(ram()), vcpus: [{ cr3: 0x1000n }] })],
    [
      "a Xen core of a paravirtualized guest",
      () => xenCore({ pages: framesOf(ram()), paravirtual: true, vcpus: [{ cr3: 0x1000n }] }),
    ],
    [
      "VirtualBox's core",
      () => {
        const notes = concat(vboxCoreNote(1), vboxCpuNote({ cr3: 0x1000n }, 512));
        return elfCore({ notes, segments: [{ gpa: 0n, bytes: ram() }] });
      },
    ],
    ["raw ranges", ram, "--range", "0:8K@0", "--range", "2000:16K@2000", "--cr3", "1000"],
    ["LiME", () => limeRange(0n, new Uint8Array(0x6000)), "--cr3", "1000"],
  ];

  it.each(FORMATS)("%s", async (name, build, ...options) => {
    const whole = build();
    const others: Record<string, () => Uint8Array> = { other: () => split(1), vmem: ram, state: vmwareState };
    const args = options.map((option) => {
      if (others[option] === undefined) return option;
      writeFileSync(join(directory, option), others[option]());
      return join(directory, option);
    });
    const path = join(directory, "damaged");
    writeFileSync(path, whole);
    const sound = await listing(path);
    const random = randomNumbers(name.length);
    for (let i = 0; i < CASES; i++) {
      const bytes = Uint8Array.from(whole);
      // Most bytes of a file are not what decides: half of the damage is at its front.
      const where = i % 2 === 0 ? Math.min(0x4000, bytes.length) : bytes.length;
      for (let n = random(3); n >= 0; n--)
        bytes[random(where)] = i % 4 < 2 ? random(256) : [0, 0xff, 1, 0x80][random(4)]!;
      const cut = i % 5 === 0 ? bytes.subarray(0, random(bytes.length)) : bytes;
      writeFileSync(path, cut);
      const code = await expectSound(path, `${name}, case ${i}`, args);
      // What has a checksum is listed as it was, or not at all.
      if (code === 0 && cut === bytes && /\.(xz|zst)$/.test(name)) {
        expect(await listing(path), `${name}, case ${i}`).toBe(sound);
      }
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
