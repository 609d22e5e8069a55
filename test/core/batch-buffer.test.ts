/** Batches whose arrays lie in the core's own memory. */
import { describe, expect, it } from "vitest";
import type { PageSource } from "../../src/api.js";
import { type Core, type CoreSpace, loadSync } from "../../src/core/index.js";
import { ConfigError, OutOfMemoryError } from "../../src/errors.js";

const REGISTERS = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 };

/** Pages 0 to 255 of 512 are mapped, page n at frame n + 0x100. */
function tables(): Uint8Array {
  const words = new BigUint64Array(0x5000 / 8);
  for (const table of [1, 2, 3]) words[table * 512] = BigInt((table + 1) << 12) | 0x67n;
  for (let page = 0; page < 256; page++) words[4 * 512 + page] = BigInt((page + 0x100) << 12) | 0x67n;
  return new Uint8Array(words.buffer);
}

function guest(core: Core): CoreSpace {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x5000 }] });
  memory.write(0, tables());
  return core.createAddressSpace(memory, REGISTERS);
}

const pages = (count: number) => BigUint64Array.from({ length: count }, (_, page) => BigInt(page * 4096 + 0x18));

describe("batches in the core's memory", () => {
  it.each(["auto", "scalar", "phases"] as const)("give what copied ones give, kernel %s", (kernel) => {
    const core = loadSync();
    const space = guest(core);
    const buffer = core.allocateBatch(512);
    buffer.input.set(pages(512));
    const copied = new BigUint64Array(512);
    expect(space.translateBatch(pages(512), copied, 0, kernel)).toBe(256);
    expect(space.translateBuffer(buffer, 0, kernel)).toBe(256);
    expect([...buffer.output]).toEqual([...copied]);
    expect([...buffer.input]).toEqual([...pages(512)]);
  });

  it("take only the first addresses where a count is given", () => {
    const core = loadSync();
    const buffer = core.allocateBatch(8);
    buffer.input.set(pages(8));
    buffer.output.fill(7n);
    expect(guest(core).translateBuffer(buffer, 0, "auto", 3)).toBe(0);
    expect([...buffer.output]).toEqual([0x100018n, 0x101018n, 0x102018n, 7n, 7n, 7n, 7n, 7n]);
    for (const count of [-1, 9, 1.5]) {
      expect(() => guest(core).translateBuffer(buffer, 0, "auto", count)).toThrow(RangeError);
    }
  });

  it("outlive the growth of the memory, also in the middle of a batch", () => {
    const core = loadSync();
    const bytes = tables();
    const read: bigint[] = [];
    const source: PageSource = {
      readPage(gfn, into) {
        read.push(gfn);
        core.linearMemory.grow(1);
        into.set(bytes.subarray(Number(gfn) * 4096, Number(gfn) * 4096 + 4096));
        return true;
      },
    };
    const space = core.createAddressSpace(core.createMemory({ source }), REGISTERS);
    const buffer = core.allocateBatch(300);
    buffer.input.set(pages(300));
    const old = buffer.input;
    expect(space.translateBuffer(buffer)).toBe(44);
    expect(read).toEqual([1n, 2n, 3n, 4n]);
    expect(old.length).toBe(0);
    expect([buffer.input[5], buffer.output[5]]).toEqual([0x5018n, 0x105018n]);
  });

  it("keep their views as long as the memory stays", () => {
    const buffer = loadSync().allocateBatch(4);
    expect(buffer.input).toBe(buffer.input);
    expect(buffer.output).toBe(buffer.output);
  });

  it("give their memory back once, and are refused afterwards", () => {
    const core = loadSync();
    const space = guest(core);
    const { linear } = core.internals();
    const before = linear.freeBytes;
    const buffer = core.allocateBatch(100);
    expect(linear.freeBytes).toBeLessThan(before);
    buffer.dispose();
    buffer.dispose();
    expect(linear.freeBytes).toBe(before);
    expect(() => space.translateBuffer(buffer)).toThrow(ConfigError);
    expect(() => buffer.input).toThrow(ConfigError);
    expect(() => buffer.output).toThrow(ConfigError);
  });

  it("are refused by another core, and where their length is none", () => {
    const core = loadSync();
    expect(() => guest(core).translateBuffer(loadSync().allocateBatch(1))).toThrow(ConfigError);
    for (const length of [0, -1, 1.5, Number.NaN, 2 ** 29])
      expect(() => core.allocateBatch(length)).toThrow(RangeError);
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
    const small = loadSync(undefined, { memory, region: { base: 0, size: 32768 } });
    expect(() => small.allocateBatch(65536)).toThrow(OutOfMemoryError);
  });

  it("check access and kernel as copied ones do", () => {
    const core = loadSync();
    const buffer = core.allocateBatch(1);
    expect(() => guest(core).translateBuffer(buffer, 0x12)).toThrow(RangeError);
    expect(() => guest(core).translateBuffer(buffer, 0, "other" as never)).toThrow(RangeError);
  });
});

describe("batches from and to views of the core's memory, which growing empties", () => {
  const LENGTH = 2 ** 18;

  it("are translated all the same", () => {
    const core = loadSync();
    const space = guest(core);
    const buffer = core.allocateBatch(LENGTH);
    const input = buffer.input.fill(0x1018n);
    input[3] = 0x1ff000n;
    const output = new BigUint64Array(LENGTH);
    expect(space.translateBatch(input, output)).toBe(1);
    // The copy took more memory than there was.
    expect(input).toHaveLength(0);
    expect([output[0], output[3]! >> 63n, output[LENGTH - 1]]).toEqual([0x101018n, 1n, 0x101018n]);
    const view = core.allocateBatch(2 * LENGTH).output;
    expect(space.translateBatch(new BigUint64Array(2 * LENGTH).fill(0x2018n), view)).toBe(0);
    expect(view).toHaveLength(0);
    const again = new BigUint64Array(core.linearMemory.buffer, view.byteOffset, 1);
    expect(again[0]).toBeDefined();
  });
});
