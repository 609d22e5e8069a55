/** A page source is a callback: it may use the core itself, and its answers are looked at. */
import { describe, expect, it } from "vitest";
import { loadSync } from "../../src/core/index.js";
import { Access, type PageSource, PageSourceError } from "../../src/index.js";

const LONG = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 };
const PAE = { cr0: 0x80010001, cr3: 0x10000, cr4: 0x20, efer: 0 };

/**
 * Tables in pages 1 to 4, PDPTEs of PAE in page 0x10, that map linear page n to physical page 0x20 + n. `before` runs before
 * each page is read.
 */
function source(before: (gfn: bigint) => void): PageSource {
  return {
    readPage(gfn, into) {
      before(gfn);
      into.fill(0);
      const view = new DataView(into.buffer);
      if (gfn >= 1n && gfn <= 3n) view.setBigUint64(0, ((gfn + 1n) << 12n) | 0x27n, true);
      if (gfn === 0x10n) view.setBigUint64(0, 0x3001n, true);
      if (gfn === 4n) for (let n = 0; n < 512; n++) view.setBigUint64(n * 8, BigInt((0x20 + n) << 12) | 0x65n, true);
      return true;
    },
  };
}

/** What each way of translating 0x1234 gives, whatever `before` does while pages are read. */
function results(core: ReturnType<typeof loadSync>, before: (gfn: bigint) => void) {
  const fresh = (registers: { cr3: number }) =>
    core.createAddressSpace(core.createMemory({ source: source(before) }), registers as typeof LONG);
  const output = new BigUint64Array(2);
  fresh(LONG).translateBatch(BigUint64Array.of(0x1234n, 0x2345n), output);
  return {
    fast: fresh(LONG).translateFast(0, 0x1234, Access.Read),
    fast32: fresh(LONG).translateFast32(0x1234, Access.Read),
    full: fresh(LONG).translate(0x1234),
    walk: fresh(LONG).walk(0x1234),
    leaves: [...fresh(LONG).leaves()].length,
    batch: [...output],
    pae: fresh(PAE).translate(0x1234).ok,
  };
}

describe("a source that translates by the same core", () => {
  const quiet = results(loadSync(), () => {});

  it("changes nothing of what the caller gets, in every way of translating", () => {
    const core = loadSync();
    expect(quiet.fast).toBe(0x21234);
    const ram = core.createMemory({ slots: [{ gpa: 0, size: 0x10000 }] });
    for (const table of [1n, 2n, 3n]) ram.writeU64(table << 12n, ((table + 1n) << 12n) | 7n);
    ram.writeU64(0x4000 + 8 * 9, 0x29007n);
    const other = core.createAddressSpace(ram, LONG);
    // The other space's own walks fault and succeed, over memory and over a source of its own.
    let depth = 0;
    const before = () => {
      expect(other.translate(0x9abc, Access.Write | Access.User)).toMatchObject({ ok: true, pa: 0x29abcn });
      expect(other.translateFast(0, 0xffff000, Access.Write)).toBeLessThan(0);
      if (depth++ === 0) {
        const nested = core.createAddressSpace(core.createMemory({ source: source(() => {}) }), LONG);
        expect(nested.translateFast(0, 0x9abc, Access.Read)).toBe(0x29abc);
      }
      depth--;
    };
    expect(results(core, before)).toEqual(quiet);
  });

  it("may read other pages of the same memory by the very space that asks", () => {
    const core = loadSync();
    let depth = 0;
    const memory = core.createMemory({
      source: source(() => {
        if (depth > 0) return;
        depth++;
        // Reads every table but the one that is being read: this one is not asked for again.
        expect(() => space.translate(0x9000)).toThrow(PageSourceError);
        memory.read(0x5000, 8);
        depth--;
      }),
      cachedPages: 64,
    });
    const space = core.createAddressSpace(memory, LONG);
    expect(space.translateFast(0, 0x1234, Access.Read)).toBe(0x21234);
    expect(space.translate(0x2345)).toMatchObject({ ok: true, pa: 0x22345n });
  });

  it("may change the registers of the space that asks: what it loaded is what is changed", () => {
    const core = loadSync();
    let nested = false;
    const memory = core.createMemory({
      source: source((gfn) => {
        if (gfn !== 0x10n || nested) return;
        nested = true;
        space.update({ cr0: 0x80000001 });
      }),
    });
    const space = core.createAddressSpace(memory, LONG);
    space.update({ cr3: PAE.cr3, efer: PAE.efer });
    expect(nested).toBe(true);
    expect(space.mode).toBe("pae");
    // CR0.WP is off: what the source loaded meanwhile stays.
    expect(space.translate(0x1234, Access.Write)).toMatchObject({ ok: true });
  });
});

describe("an answer that is none", () => {
  it.each([
    ["a promise", Promise.resolve(true)],
    ["nothing", undefined],
    ["a number", 4096],
  ])("%s is refused, not taken for a page of zeros", (_, answer) => {
    const core = loadSync();
    const memory = core.createMemory({ source: { readPage: () => answer as unknown as boolean } });
    const space = core.createAddressSpace(memory, LONG);
    expect(() => space.translate(0)).toThrow(PageSourceError);
    expect(() => space.translateFast(0, 0, Access.Read)).toThrow(PageSourceError);
    expect(() => memory.read(0, 8)).toThrow(/readPage\(0x0n\)/);
  });

  it("an error of the source reaches the caller, and the page can be asked for again", () => {
    const core = loadSync();
    let broken = true;
    const memory = core.createMemory({
      source: source(() => {
        if (broken) throw new Error("the disk is gone");
      }),
    });
    const space = core.createAddressSpace(memory, LONG);
    expect(() => space.translateFast(0, 0x1234, Access.Read)).toThrow("the disk is gone");
    expect(() => space.update(PAE)).toThrow("the disk is gone");
    expect(space.mode).toBe("4level");
    broken = false;
    expect(space.translateFast(0, 0x1234, Access.Read)).toBe(0x21234);
  });
});

it("a cache that grew gives back each of its tables, as large as they were", () => {
  const core = loadSync();
  const { linear } = core.internals();
  const pages = 600;
  const round = () => {
    const memory = core.createMemory({ source: { readPage: () => true } });
    const space = core.createAddressSpace(memory, { ...LONG, lenient: true });
    for (let page = 0; page < pages; page++) {
      space.update({ cr3: page * 4096 });
      space.translate(0);
    }
    memory.dispose();
  };
  round();
  const free = linear.freeBytes;
  for (let i = 0; i < 3; i++) round();
  expect(linear.freeBytes).toBe(free);
});
