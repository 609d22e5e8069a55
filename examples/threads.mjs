/**
 * An emulator with a thread for each processor over x86-paging/shared: they walk the same tables with TLBs of their own, while
 * the guest's kernel moves pages to other frames. A frame is used again only when every thread has invalidated the page (a TLB
 * shoot-down); until then a thread may write to it. Prints how many translations a second one thread does, and all at once.
 */
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { setTimeout } from "node:timers/promises";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { Access, loadShared } from "x86-paging/shared";

const PAGES = 256;
const RAM = { linear: 0x20_0000, size: 0x20_0000 };
/** Where the first frame of the pages is: tables lie below. */
const FIRST_FRAME = 8;
/** What fills a frame that no page may lead to. */
const FREE = 0xff;
/** Words that the threads share: the shoot-down asked for last, its page, whether to stop, and what each thread has done. */
const CONTROL = 0x8000;
const [ASKED, PAGE, STOP, DONE] = [0, 1, 2, 3];
const MILLISECONDS = 250;

/** One processor: runs until told to stop, and looks for shoot-downs between its blocks of accesses. */
async function processor({ memory, index }) {
  const region = { base: 0x1_0000 * (index + 1), size: 0x1_0000 };
  const core = await loadShared(undefined, { memory, region });
  const guest = core.createMemory({ slots: [{ gpa: 0, size: RAM.size, linear: RAM.linear }] });
  const registers = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00, tlbEntries: 512 };
  const space = core.createAddressSpace(guest, registers);
  const control = new Int32Array(memory.buffer, CONTROL);
  const ram = new Uint8Array(memory.buffer, RAM.linear, RAM.size);
  parentPort.postMessage("ready");
  let [random, done, translations, stale] = [index + 1, 0, 0, 0];
  while (Atomics.load(control, STOP) === 0) {
    for (let access = 0; access < 1000; access++) {
      random = (Math.imul(random, 1664525) + 1013904223) | 0;
      const address = (random >>> 24) * 4096;
      const pa = space.translateFast(0, address, random & 0x100 ? Access.Write : Access.Read);
      if (pa < 0) throw new Error(`0x${address.toString(16)} faults`);
      if (ram[pa] === FREE) stale++;
    }
    translations += 1000;
    const asked = Atomics.load(control, ASKED);
    if (asked === done) continue;
    space.invlpg(control[PAGE] * 4096);
    done = asked;
    Atomics.store(control, DONE + index, done);
  }
  parentPort.postMessage({ translations, stale });
}

/** Runs so many processors over one guest, and moves its pages while they run. */
async function run(count) {
  const memory = new WebAssembly.Memory({ initial: 64, maximum: 64, shared: true });
  const control = new Int32Array(memory.buffer, CONTROL);
  const ram = new Uint8Array(memory.buffer, RAM.linear, RAM.size);
  const words = new BigUint64Array(memory.buffer, RAM.linear, RAM.size / 8);
  for (let level = 1; level < 4; level++) words[level * 512] = (BigInt(level + 1) << 12n) | 7n;
  const frames = Array.from({ length: PAGES }, (_, page) => FIRST_FRAME + page);
  for (let page = 0; page < PAGES; page++) words[4 * 512 + page] = (BigInt(frames[page]) << 12n) | 7n;
  let free = FIRST_FRAME + PAGES;
  ram.fill(FREE, free * 4096, (free + 1) * 4096);

  const threads = Array.from({ length: count }, (_, index) => {
    return new Worker(new URL(import.meta.url), { workerData: { memory, index } });
  });
  await Promise.all(threads.map((thread) => once(thread, "message")));
  const answers = Promise.all(threads.map((thread) => once(thread, "message")));
  const start = performance.now();
  let moves = 0;
  while (performance.now() - start < MILLISECONDS) {
    const page = (moves++ * 7) % PAGES;
    ram.fill(0, free * 4096, (free + 1) * 4096);
    // The guest's store: a thread that sets a flag of the old entry at this moment does not lose the new one.
    Atomics.store(words, 4 * 512 + page, (BigInt(free) << 12n) | 7n);
    control[PAGE] = page;
    const asked = Atomics.add(control, ASKED, 1) + 1;
    while (threads.some((_, index) => Atomics.load(control, DONE + index) !== asked)) await setTimeout(1);
    [frames[page], free] = [free, frames[page]];
    ram.fill(FREE, free * 4096, (free + 1) * 4096);
  }
  Atomics.store(control, STOP, 1);
  const found = (await answers).map(([answer]) => answer);
  const seconds = (performance.now() - start) / 1000;
  const sum = (name) => found.reduce((total, answer) => total + answer[name], 0);
  return { rate: sum("translations") / seconds / 1e6, moves, stale: sum("stale") };
}

async function demonstrate() {
  const all = Math.max(2, availableParallelism());
  let one;
  for (const count of [1, all]) {
    const { rate, moves, stale } = await run(count);
    one ??= rate;
    const threads = `${count} ${count === 1 ? "thread" : "threads"}`;
    console.log(
      `${threads}: ${rate.toFixed(1)} million translations/s (${(rate / one).toFixed(2)} of one thread's), ` +
        `${moves} pages moved, ${stale} stale accesses`,
    );
  }
}

await (isMainThread ? demonstrate() : processor(workerData));
