/** A thread of shared.test.ts: a core of its own over the shared memory, and one of the jobs of the test. */
import { parentPort, workerData } from "node:worker_threads";

const { entry, module, memory, region, ram, job } = workerData;
const { Access, loadShared } = await import(entry);
const core = await loadShared(module, { memory, region });
const guest = core.createMemory({ slots: [{ gpa: 0, size: ram.size, linear: ram.linear }] });
const space = core.createAddressSpace(guest, { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 });
const stop = new Int32Array(memory.buffer, job.stop, 1);

/** Passes that writers have made over the pages: the kernel goes on when there is another one, and so not alone. */
const passes = new Int32Array(memory.buffer, job.stop + 8, 1);

/** Nobody begins before all are here. */
const arrived = new Int32Array(memory.buffer, job.stop + 4, 1);
Atomics.add(arrived, 0, 1);
while (Atomics.load(arrived, 0) < job.threads);

/** Writes to every page until told to stop; notes each frame that a write went to. */
function writeAll() {
  const seen = new Uint8Array(job.frames);
  let tries = 0;
  while (Atomics.load(stop, 0) === 0) {
    for (let page = 0; page < job.pages; page++) {
      const found = space.translateFast(0, page << 12, Access.Write);
      if (found < 0) throw new Error(`page ${page} faults: ${found}`);
      seen[found / 4096] = 1;
    }
    tries += job.pages;
    Atomics.add(passes, 0, 1);
    Atomics.notify(passes, 0);
  }
  return { tries, seen };
}

/** The guest's kernel: gives each page one frame after the other, and takes the dirty flag of the old entry with it. */
function remap() {
  const entries = new BigUint64Array(memory.buffer, ram.linear + 0x4000, job.pages);
  const dirty = new Uint8Array(job.frames);
  const frames = Array.from(entries, (value) => Number(value >> 12n));
  let lost = 0;
  let pass = 0;
  for (let frame = job.pages; frame < job.frames; frame++) {
    const page = frame % job.pages;
    if (page === 0) {
      Atomics.wait(passes, 0, pass, 1);
      pass = Atomics.load(passes, 0);
    }
    const old = Atomics.exchange(entries, page, (BigInt(frame) << 12n) | 0x27n);
    if (Number((old >> 12n) & 0xfffffn) !== frames[page]) lost++;
    if (old & 0x40n) dirty[frames[page]] = 1;
    frames[page] = frame;
  }
  Atomics.store(stop, 0, 1);
  return { lost, dirty };
}

/** Translates a batch of every mapped page, and lists the space. */
function list() {
  const input = BigUint64Array.from({ length: job.pages }, (_, page) => BigInt(page) << 12n);
  const output = new BigUint64Array(job.pages);
  let wrong = 0;
  for (let round = 0; round < job.rounds; round++) {
    if (space.translateBatch(input, output, Access.Read) !== 0) wrong++;
    for (let page = 0; page < job.pages; page++) if (output[page] !== BigInt(page + 7) << 12n) wrong++;
    if ([...space.leaves()].length !== job.pages) wrong++;
  }
  return { wrong };
}

parentPort.postMessage({ writeAll, remap, list }[job.name]());
