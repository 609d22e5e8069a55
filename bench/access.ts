/** Reading and writing guest memory through an address space. */
import type { CoreMemory, CoreSpace } from "../src/core/index.js";
import { core } from "./machine.js";
import type { Section } from "./report.js";
import { type Candidate, compare, type RoundOptions } from "./rounds.js";

/** Operations in a run. */
const WORK = 1024;
const READ = 0;
const WRITE = 2;
const PAGES = 64;
const PAGE_BYTES = 4096;
/** Behind the tables. */
const FIRST = 16 * PAGE_BYTES;
const PRESENT = 0x67n; // P, RW, US, A, D

/** Where results go, so that nothing is left out. */
const sink = new Float64Array(1);

/** Tables for the first 2 MiB, as they are. */
interface Guest {
  readonly memory: CoreMemory;
  readonly space: CoreSpace;
  readonly lows: Uint32Array;
}

/** `offset`: where in their pages the accesses are. */
function guestWith(tlbEntries: number, offset: (i: number) => number): Guest {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 2 << 20 }] });
  for (let level = 1n; level <= 3n; level++) memory.writeU64(level << 12n, ((level + 1n) << 12n) | PRESENT);
  for (let page = 0n; page < 512n; page++) memory.writeU64((4n << 12n) + page * 8n, (page << 12n) | PRESENT);
  const registers = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 };
  const space = core.createAddressSpace(memory, tlbEntries ? { ...registers, tlbEntries } : registers);
  const lows = Uint32Array.from({ length: WORK }, (_, i) => FIRST + ((i * 7) % PAGES) * PAGE_BYTES + offset(i));
  return { memory, space, lows };
}

function translations(name: string, { space, lows }: Guest, access: number): Candidate {
  const run = () => {
    let sum = 0;
    for (let i = 0; i < WORK; i++) sum += space.translateFast(0, lows[i]!, access);
    sink[0] = sum;
  };
  return { name, work: WORK, run };
}

function reads(name: string, { space, lows }: Guest): Candidate {
  const { fast } = space.data;
  const run = () => {
    let sum = 0;
    for (let i = 0; i < WORK; i++) sum += fast.readU32(0, lows[i]!, READ);
    sink[0] = sum;
  };
  return { name, work: WORK, run };
}

function writes(name: string, { space, lows }: Guest): Candidate {
  const { fast } = space.data;
  const run = () => {
    let sum = 0;
    for (let i = 0; i < WORK; i++) sum += fast.writeU32(0, lows[i]!, i, WRITE);
    sink[0] = sum;
  };
  return { name, work: WORK, run };
}

function values(name: string, { space, lows }: Guest): Candidate {
  const { data } = space;
  const run = () => {
    let sum = 0;
    for (let i = 0; i < WORK; i++) {
      const result = data.readU32(lows[i]!);
      if (result.ok) sum += result.value;
    }
    sink[0] = sum;
  };
  return { name, work: WORK, run };
}

/** `count` bytes a time, in one buffer. */
function copies(name: string, { space }: Guest, count: number, writing: boolean): Candidate {
  const { data } = space;
  const bytes = new Uint8Array(count);
  const runs = Math.max(1, Math.floor((PAGES * PAGE_BYTES) / count / 4));
  const run = () => {
    let sum = 0;
    for (let i = 0; i < runs; i++) {
      const at = FIRST + i * count;
      sum += (writing ? data.write(at, bytes) : data.readInto(at, bytes)).done;
    }
    sink[0] = sum;
  };
  return { name, work: (runs * count) / PAGE_BYTES, run };
}

export function measureAccess(options: RoundOptions): Section[] {
  const aligned = (i: number) => (i * 12) & 0xffc;
  const plain = guestWith(0, aligned);
  const cached = guestWith(1024, aligned);
  const crossing = guestWith(0, () => 0xffe);
  const scalars = [
    translations("translateFast, no TLB", plain, READ),
    reads("readU32, no TLB", plain),
    reads("readU32 across two pages, no TLB", crossing),
    values("checked readU32, with a result", plain),
    translations("translateFast for a write, no TLB", plain, WRITE),
    writes("writeU32, no TLB", plain),
    translations("translateFast, TLB of 1,024", cached, READ),
    reads("readU32, TLB of 1,024", cached),
    writes("writeU32, TLB of 1,024", cached),
  ];
  const bulk = [
    copies("readInto, 4 KiB a time", plain, PAGE_BYTES, false),
    copies("readInto, 64 KiB a time", plain, 16 * PAGE_BYTES, false),
    copies("write, 4 KiB a time", plain, PAGE_BYTES, true),
    copies("write, 64 KiB a time", plain, 16 * PAGE_BYTES, true),
  ];
  const sections = [
    { title: "Memory access: values of 32 bits", unit: "access", results: compare(scalars, options) },
    { title: "Memory access: bytes", unit: "page of 4 KiB", results: compare(bulk, options) },
  ];
  for (const { memory } of [plain, cached, crossing]) memory.dispose();
  return sections;
}
