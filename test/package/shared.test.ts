/**
 * x86-paging/shared: threads that walk, and set flags in, the same tables. TRIES in the environment asks for more exchanges of
 * entries than the 200,000 of a short run.
 */
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { entryFile, ROOT } from "./packed.js";

const ENTRY = pathToFileURL(`${ROOT}/${entryFile("x86-paging/shared")}`).href;
const TRIES = Number(process.env.TRIES ?? 200_000);
/** Frames are numbered up to this in one run. */
const MOST_FRAMES = 0x10_0000;
const PAGES = 8;
const RAM = { linear: 0x10_0000, size: 0x8000 };
const STOP = 0x8_0000;
const FLAGS = 0x27n;

type Shared = typeof import("../../src/core/shared.js");

const shared = () => import(/* @vite-ignore */ ENTRY) as Promise<Shared>;
const makeMemory = () => new WebAssembly.Memory({ initial: 32, maximum: 32, shared: true });
const module = async () => {
  const { readFileSync } = await import("node:fs");
  return new WebAssembly.Module(readFileSync(`${ROOT}/dist/core.shared.wasm`));
};

/** Page n of the first at frame `first` + n, neither accessed nor dirty but for the tables. */
function fill(memory: WebAssembly.Memory, pages: number, first: number): BigUint64Array {
  const words = new BigUint64Array(memory.buffer, RAM.linear, RAM.size / 8);
  words.fill(0n);
  for (let level = 1n; level < 4n; level++) words[Number(level) * 512] = ((level + 1n) << 12n) | FLAGS;
  for (let page = 0; page < pages; page++) words[4 * 512 + page] = (BigInt(first + page) << 12n) | FLAGS;
  return words.subarray(4 * 512, 4 * 512 + pages);
}

/** Runs the jobs at once, each in a thread with a region of its own. */
async function runAll<T>(memory: WebAssembly.Memory, jobs: readonly object[]): Promise<T[]> {
  const compiled = await module();
  const threads = jobs.map((job, index) => {
    const region = { base: 0x1_0000 + index * 0x1_0000, size: 0x1_0000 };
    const workerData = {
      entry: ENTRY,
      module: compiled,
      memory,
      region,
      ram: RAM,
      job: { stop: STOP, threads: jobs.length, ...job },
    };
    return new Worker(new URL("shared-worker.mjs", import.meta.url), { workerData });
  });
  const answers = threads.map((thread) => {
    return new Promise<T>((resolve, reject) => {
      thread.on("message", resolve);
      thread.on("error", reject);
    });
  });
  try {
    return await Promise.all(answers);
  } finally {
    await Promise.all(threads.map((thread) => thread.terminate()));
  }
}

describe("the core over a shared memory", () => {
  it("loads the package's own file, and works as the other does", async () => {
    const { Access, loadShared } = await shared();
    const memory = makeMemory();
    fill(memory, PAGES, 7);
    const core = await loadShared(undefined, { memory, region: { base: 0x1_0000, size: 0x1_0000 } });
    const guest = core.createMemory({ slots: [{ gpa: 0, size: RAM.size, linear: RAM.linear }] });
    const registers = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00, tlbEntries: 64 };
    const space = core.createAddressSpace(guest, registers);
    expect(space.translate(0x1008, Access.Write)).toMatchObject({ ok: true, pa: 0x8008n });
    for (let again = 0; again < 3; again++) expect(space.translateFast(0, 0x1008, Access.Write)).toBe(0x8008);
    expect(guest.readU64(0x4008)).toBe((8n << 12n) | FLAGS | 0x40n);
    expect([...space.leaves()]).toHaveLength(PAGES);
  });

  it("is refused a memory that is not shared", async () => {
    const { ConfigError, loadShared } = await shared();
    const memory = new WebAssembly.Memory({ initial: 4, maximum: 4 });
    const region = { base: 0, size: 0x1_0000 };
    await expect(loadShared(undefined, { memory, region })).rejects.toThrow(ConfigError);
    await expect(loadShared(undefined, undefined as never)).rejects.toThrow(ConfigError);
    await expect(loadShared(undefined, { memory: makeMemory(), region, tlb: 1 } as never)).rejects.toThrow(/tlb/);
  });

  it("loses no dirty flag, and no entry that the guest writes, while threads race", {
    timeout: 3_600_000,
  }, async () => {
    for (let done = 0; done < TRIES; done += MOST_FRAMES) {
      const frames = Math.min(MOST_FRAMES, TRIES - done);
      const memory = makeMemory();
      const entries = fill(memory, PAGES, 0);
      const job = { pages: PAGES, frames };
      const [kernel, ...walkers] = await runAll<{
        lost?: number;
        dirty?: Uint8Array;
        seen?: Uint8Array;
        tries?: number;
      }>(memory, [
        { name: "remap", ...job },
        { name: "writeAll", ...job },
        { name: "writeAll", ...job },
      ]);
      const { dirty, lost } = kernel!;
      expect(lost).toBe(0);
      for (const value of entries) if (value & 0x40n) dirty![Number((value >> 12n) & 0xfffffn)] = 1;
      for (const { seen, tries } of walkers) {
        expect(tries).toBeGreaterThan(PAGES);
        // They have really raced.
        expect(seen!.reduce((count, was) => count + was, 0)).toBeGreaterThan(frames / 100);
        const unnoticed = seen!.reduce((count, was, frame) => count + (was && !dirty![frame] ? 1 : 0), 0);
        expect(unnoticed).toBe(0);
      }
    }
  });

  it("gives no page the rights of another that took its place", { timeout: 600_000 }, async () => {
    const memory = makeMemory();
    fill(memory, PAGES, 0);
    // All but the leaf grant everything.
    const words = new BigUint64Array(memory.buffer, RAM.linear, RAM.size / 8);
    for (let level = 1; level < 4; level++) words[level * 512]! |= 0x47n;
    words[4 * 512] = 0x11_1065n;
    const job = { pages: PAGES, frames: TRIES };
    const [, ...inspectors] = await runAll<{ wrong: number; seen: string[] }>(memory, [
      { name: "flip", ...job },
      { name: "inspect", ...job },
    ]);
    for (const { wrong, seen } of inspectors) {
      expect(wrong).toBe(0);
      expect(seen).toEqual(["111000 0", "222000 2"]);
    }
  });

  it("translates batches and lists one space from several threads", async () => {
    const memory = makeMemory();
    fill(memory, 512, 7);
    const jobs = Array.from({ length: 3 }, () => ({ name: "list", pages: 512, rounds: 50 }));
    expect(await runAll(memory, jobs)).toEqual([{ wrong: 0 }, { wrong: 0 }, { wrong: 0 }]);
  });
});
