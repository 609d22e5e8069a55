/** What threads add: each with a core of its own over one guest in shared memory, all doing the same number of walks. */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { Section } from "./report.js";
import { type Candidate, compare, type RoundOptions } from "./rounds.js";

/** Tables and, behind them, a core's region for each thread; all in bytes. */
const RAM = { linear: 1 << 20, size: 4 << 20 };
const REGION = 1 << 19;
const FIRST_REGION = 8 << 20;
/** Words of the first page: the round that runs, the threads that are ready or done with it, whether to end. */
const CONTROL = { offset: 4096, round: 0, done: 1, end: 2, words: 4 };
const TABLES = 512;
const PRESENT = 0x67n;
/** Walks that each thread does in a run. */
const WORK = 20_000;

interface Given {
  readonly entry: string;
  readonly memory: WebAssembly.Memory;
  readonly index: number;
}

/** A thread: its source goes to the worker as text, so it names nothing of this module. */
async function thread(
  { entry, memory, index }: Given,
  places: {
    RAM: typeof RAM;
    REGION: number;
    FIRST_REGION: number;
    CONTROL: typeof CONTROL;
    TABLES: number;
    WORK: number;
  },
): Promise<void> {
  const { loadShared } = (await import(entry)) as typeof import("../src/core/shared.js");
  const region = { base: places.FIRST_REGION + index * places.REGION, size: places.REGION };
  const core = await loadShared(undefined, { memory, region });
  const guest = core.createMemory({ slots: [{ gpa: 0, size: places.RAM.size, linear: places.RAM.linear }] });
  const space = core.createAddressSpace(guest, { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 });
  const control = new Int32Array(memory.buffer, places.CONTROL.offset, places.CONTROL.words);
  const pages = places.TABLES * 512;
  let at = index * 977;
  for (let round = 0; ; round++) {
    Atomics.add(control, places.CONTROL.done, 1);
    Atomics.notify(control, places.CONTROL.done);
    Atomics.wait(control, places.CONTROL.round, round);
    if (Atomics.load(control, places.CONTROL.end) !== 0) return;
    for (let i = 0; i < places.WORK; i++) {
      at = (at + 4099) % pages;
      if (space.translateFast(0, at << 12, 2) < 0) throw new Error("an access faults");
    }
  }
}

/** So many threads, which wait for a run. */
class Threads {
  readonly #control: Int32Array;
  readonly #workers: readonly Worker[];

  constructor(count: number, entry: string) {
    const size = (FIRST_REGION + count * REGION) >> 16;
    const memory = new WebAssembly.Memory({ initial: size, maximum: size, shared: true });
    this.#control = new Int32Array(memory.buffer, CONTROL.offset, CONTROL.words);
    const words = new BigUint64Array(memory.buffer, RAM.linear, RAM.size / 8);
    words[512] = 0x2000n | PRESENT;
    words[2 * 512] = 0x3000n | PRESENT;
    for (let table = 0; table < TABLES; table++) {
      words[3 * 512 + table] = (BigInt(4 + table) << 12n) | PRESENT;
      for (let i = 0; i < 512; i++) words[(4 + table) * 512 + i] = (BigInt(i) << 12n) | PRESENT;
    }
    const places = JSON.stringify({ RAM, REGION, FIRST_REGION, CONTROL, TABLES, WORK });
    const source = `(${thread})(require("node:worker_threads").workerData, ${places})`;
    this.#workers = Array.from(
      { length: count },
      (_, index) => new Worker(source, { eval: true, workerData: { entry, memory, index } satisfies Given }),
    );
    for (const worker of this.#workers) worker.unref();
    this.#wait();
  }

  run(): void {
    Atomics.store(this.#control, CONTROL.done, 0);
    Atomics.add(this.#control, CONTROL.round, 1);
    Atomics.notify(this.#control, CONTROL.round);
    this.#wait();
  }

  end(): void {
    Atomics.store(this.#control, CONTROL.end, 1);
    Atomics.add(this.#control, CONTROL.round, 1);
    Atomics.notify(this.#control, CONTROL.round);
  }

  /** Until every thread is done. */
  #wait(): void {
    for (;;) {
      const done = Atomics.load(this.#control, CONTROL.done);
      if (done === this.#workers.length) return;
      Atomics.wait(this.#control, CONTROL.done, done, 1000);
    }
  }
}

/** `entry` is the URL of x86-paging/shared. */
export function measureThreads(entry: string, options: RoundOptions): Section[] {
  const counts = [...new Set([1, 2, availableParallelism()])].filter((count) => count <= availableParallelism());
  const made = counts.map((count) => ({ count, threads: new Threads(count, entry) }));
  const candidates: Candidate[] = made.map(({ count, threads }) => ({
    name: `${count} ${count === 1 ? "thread" : "threads"}`,
    work: WORK * count,
    run: () => threads.run(),
  }));
  const results = compare(candidates, options);
  for (const { threads } of made) threads.end();
  return [{ title: "An emulator's day: walks of several threads", unit: "address", results }];
}
