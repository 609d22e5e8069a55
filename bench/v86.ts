/**
 * v86's own Wasm, like for like: 32-bit paging, one call from JavaScript an address, the same tables in both memories.
 * Places in v86's memory are those of its src/cpu.js.
 */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { CoreSpace } from "../src/core/index.js";
import { core } from "./machine.js";
import type { Section } from "./report.js";
import { type Candidate, compare, type RoundOptions } from "./rounds.js";

const RAM = 64 << 20;
const DIRECTORY = 0x1000;
const TABLE = 0x2000;
const PAGES = 1024;
/** CR3 writes in a run, and pages that are touched after each. */
const SWITCHES = 64;
const TOUCHED = 12;
const CONTROL_REGISTERS = 580;
const MEMORY_SIZE = 812;
const REGISTERS = { cr0: 0x80010001, cr3: DIRECTORY, cr4: 0, efer: 0 };

interface V86 {
  readonly memory: WebAssembly.Memory;
  allocate_memory(size: number): number;
  full_clear_tlb(): void;
  /** What its MOV to CR3 calls: entries that are not global go. */
  clear_tlb(): void;
  translate_address_system_read_js(address: number): number;
}

function loadV86(): V86 {
  const root = dirname(createRequire(import.meta.url).resolve("v86/package.json"));
  const module = new WebAssembly.Module(readFileSync(join(root, "build", "v86.wasm")));
  const functions = WebAssembly.Module.imports(module).filter(({ kind }) => kind === "function");
  const nothing = functions.map(({ name }) => [name, () => 0] as const);
  const table = new WebAssembly.Table({ element: "anyfunc", initial: 1924 });
  const env = { ...Object.fromEntries(nothing), __indirect_function_table: table };
  return new WebAssembly.Instance(module, { env }).exports as unknown as V86;
}

/** One level-1 table; `words` is guest RAM. */
function writeTables(words: Int32Array): void {
  words[DIRECTORY >> 2] = TABLE | 0x67;
  for (let page = 0; page < PAGES; page++) words[(TABLE >> 2) + page] = ((page + 64) << 12) | 0x67;
}

// A loop of its own for each, so that each is compiled for what it calls.
function translateAll(translate: (address: number) => number, addresses: Int32Array, count: number): number {
  let sum = 0;
  for (let index = 0; index < count; index++) sum += translate(addresses[index]!);
  return sum;
}

function translateAllCached(space: CoreSpace, addresses: Int32Array, count: number): number {
  let sum = 0;
  for (let index = 0; index < count; index++) sum += space.translateFast32(addresses[index]!, 0);
  return sum;
}

function translateAllByWalks(space: CoreSpace, addresses: Int32Array, count: number): number {
  let sum = 0;
  for (let index = 0; index < count; index++) sum += space.translateFast32(addresses[index]!, 0);
  return sum;
}

/** Accesses of 32-bit paging that read. */
function cachedAccess(space: CoreSpace): (address: number) => number {
  return (address) => space.translateFast32(address, 0);
}

/** CR3 written again and again, a few pages touched in between. */
function switching(
  name: string,
  write: () => void,
  translate: (address: number) => number,
  addresses: Int32Array,
): Candidate {
  let sum = 0;
  const run = () => {
    for (let i = 0; i < SWITCHES; i++) {
      write();
      for (let page = 0; page < TOUCHED; page++) sum += translate(addresses[page]!);
    }
    if (Number.isNaN(sum)) throw new Error("an access gave no number");
  };
  return { name, work: SWITCHES, run };
}

export function measureV86(options: RoundOptions): Section[] {
  const v86 = loadV86();
  const base = v86.allocate_memory(RAM);
  writeTables(new Int32Array(v86.memory.buffer, base, RAM >> 2));
  const control = new Int32Array(v86.memory.buffer, CONTROL_REGISTERS, 8);
  control.set([REGISTERS.cr0 | 0, 0, 0, REGISTERS.cr3, REGISTERS.cr4]);
  new Uint32Array(v86.memory.buffer, MEMORY_SIZE, 1)[0] = RAM;
  v86.full_clear_tlb();

  const memory = core.createMemory({ slots: [{ gpa: 0, size: 1 << 20 }] });
  const tables = new Int32Array((TABLE + 4096) / 4);
  writeTables(tables);
  memory.write(0, new Uint8Array(tables.buffer));
  const plain = core.createAddressSpace(memory, REGISTERS);
  const cached = core.createAddressSpace(memory, { ...REGISTERS, tlbEntries: 4096 });

  const addresses = Int32Array.from({ length: PAGES }, (_, index) => ((index * 7) % PAGES) * 4096 + 8);
  for (const address of addresses) {
    const found = v86.translate_address_system_read_js(address);
    if (found !== plain.translateFast32(address, 0)) throw new Error(`v86 translates ${address} to ${found}`);
  }
  let sum = 0;
  const { translate_address_system_read_js: translate } = v86;
  const loop = (run: () => number) => () => {
    sum += run();
  };
  const hitLoop = loop(() => translateAll(translate, addresses, PAGES));
  const missLoop = loop(() => {
    v86.full_clear_tlb();
    return translateAll(translate, addresses, PAGES);
  });
  const cachedLoop = loop(() => translateAllCached(cached, addresses, PAGES));
  const walkLoop = loop(() => translateAllByWalks(plain, addresses, PAGES));
  const hit: Candidate = { name: "v86, TLB hit", work: PAGES, run: hitLoop };
  const miss: Candidate = { name: "v86, TLB miss", work: PAGES, run: missLoop };
  const ours: Candidate = { name: "core, TLB hit", work: PAGES, run: cachedLoop };
  const walk: Candidate = { name: "core, full walk", work: PAGES, run: walkLoop };
  const switches = compare(
    [
      switching("v86, clear_tlb and its accesses", () => v86.clear_tlb(), translate, addresses),
      switching("core, writeCr3 and its accesses", () => cached.writeCr3(DIRECTORY), cachedAccess(cached), addresses),
      switching("core, no TLB", () => plain.writeCr3(DIRECTORY), cachedAccess(plain), addresses),
    ],
    options,
  );
  return [
    {
      title: `An emulator's day: v86, a CR3 write and ${TOUCHED} accesses`,
      unit: "CR3 write",
      results: switches,
    },
    { title: "v86, its TLB hit", unit: "address", results: compare([hit, ours, walk], options) },
    { title: "v86, its TLB miss", unit: "address", results: compare([miss, walk], options) },
  ].filter(() => !Number.isNaN(sum));
}
