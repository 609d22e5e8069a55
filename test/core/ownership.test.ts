/** Who owns which bytes of the linear memory: the core its region or what it grew itself, the embedder the rest. */
import { describe, expect, it } from "vitest";
import { type CoreOptions, loadSync } from "../../src/core/index.js";
import { Access, ConfigError } from "../../src/index.js";
import { VirtualMachine } from "../../src/mmu/index.js";

const LONG = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 };
const PAGE = 65536;

describe("an embedder that grows the core's memory", () => {
  it("keeps what it added, whatever the core takes afterwards, and may have RAM there", () => {
    const core = loadSync();
    const mine: [number, number][] = [];
    const memories = [];
    for (let round = 0; round < 12; round++) {
      const start = core.linearMemory.grow(3) * PAGE;
      mine.push([start, 3 * PAGE]);
      new Uint8Array(core.linearMemory.buffer, start, 3 * PAGE).fill(0xa0 + round);
      memories.push(core.createMemory({ slots: [{ gpa: 0, size: (round + 1) * 40960 }] }));
    }
    for (const memory of memories) memory.write(0, new Uint8Array(40960).fill(0xff));
    mine.forEach(([start, size], round) => {
      const bytes = new Uint8Array(core.linearMemory.buffer, start, size);
      expect(bytes.every((byte) => byte === 0xa0 + round)).toBe(true);
    });

    const [start] = mine[3]!;
    const words = new BigUint64Array(core.linearMemory.buffer, start, 8192);
    words.fill(0n);
    for (const table of [1, 2, 3, 4]) words[table * 512] = BigInt((table + 1) << 12) | 7n;
    const shared = core.createMemory({ slots: [{ gpa: 0, size: PAGE, linear: start }] });
    expect(core.createAddressSpace(shared, LONG).translateFast(0, 0x123, Access.Read)).toBe(0x5123);
  });
});

describe("a slot over the core's own records", () => {
  const core = loadSync();
  core.createMemory({ slots: [{ gpa: 0, size: PAGE }] });

  it("is refused", () => {
    for (const linear of [0, 4096, PAGE]) {
      expect(() => core.createMemory({ slots: [{ gpa: 0, size: 4096, linear }] })).toThrow(ConfigError);
    }
  });

  it("is refused where it only reaches into a region", () => {
    const memory = new WebAssembly.Memory({ initial: 32 });
    const embedded = loadSync(undefined, { memory, region: { base: 8 * PAGE, size: 8 * PAGE } });
    const at = (linear: number, size: number) => () => embedded.createMemory({ slots: [{ gpa: 0, size, linear }] });
    expect(at(7 * PAGE, PAGE + 4096)).toThrow(ConfigError);
    expect(at(16 * PAGE - 4096, 8192)).toThrow(ConfigError);
    expect(at(0, 32 * PAGE)).toThrow(ConfigError);
    at(7 * PAGE, PAGE)();
    at(16 * PAGE, PAGE)();
  });

  it("is a window where that is asked for: walks set bits there, writes are refused", () => {
    const vm = new VirtualMachine(core, {});
    const ram = vm.createRam(PAGE);
    new BigUint64Array(core.linearMemory.buffer, ram + 0x1000, 1)[0] = 0x83n;
    const size = core.linearMemory.buffer.byteLength;
    const window = core.createMemory({ slots: [{ gpa: 0, size, linear: 0, window: true }] });
    expect(() => window.write(ram, new Uint8Array(1))).toThrow(/is not backed/);
    expect(window.readU64(ram + 0x1000)).toBe(0x83n);
    // The VM's RAM is the caller's: another memory may have it as a slot.
    core.createMemory({ slots: [{ gpa: 0, size: PAGE, linear: ram }] }).writeU64(0x1000, 0x87n);
    expect(window.readU64(ram + 0x1000)).toBe(0x87n);
    expect(() => core.createMemory({ slots: [{ gpa: 0, size: 2 * PAGE, linear: ram }] })).toThrow(ConfigError);
    vm.dispose();
    expect(() => core.createMemory({ slots: [{ gpa: 0, size: PAGE, linear: ram }] })).toThrow(ConfigError);
  });
});

describe("options of the core", () => {
  const memory = new WebAssembly.Memory({ initial: 4 });
  it.each<[string, object]>([
    ["an unknown option", { shared: true }],
    ["a memory that is none", { memory: new ArrayBuffer(65536), region: { base: 0, size: 65536 } }],
    ["a memory without a region", { memory }],
    ["a region without a memory", { region: { base: 0, size: 65536 } }],
    ["a region that begins nowhere", { memory, region: { base: Number.NaN, size: 4096 } }],
    ["a region that ends nowhere", { memory, region: { base: 0, size: Number.NaN } }],
    ["a region of half bytes", { memory, region: { base: 0.5, size: 4096 } }],
    ["a region below the memory", { memory, region: { base: -4096, size: 8192 } }],
    ["a region beyond the memory", { memory, region: { base: 4096, size: 4 * 65536 } }],
    ["a region with a negative size", { memory, region: { base: 4096, size: -1 } }],
    ["an unknown option of the region", { memory, region: { base: 0, size: 65536, end: 65536 } }],
  ])("%s is refused", (_, options) => {
    expect(() => loadSync(undefined, options as CoreOptions)).toThrow(ConfigError);
  });
});
