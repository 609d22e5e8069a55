/** Slots that come, go, move, grow and change while spaces live, and pages of a source that are read again. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Access, Status } from "../../src/abi/index.js";
import { type CoreMemory, type CoreSpace, loadSync } from "../../src/core/index.js";
import { ConfigError, DisposedError, MemoryRangeError, OutOfMemoryError } from "../../src/errors.js";

const core = loadSync();
const ALL = 0x67n;
const PAGE = 4096;
const LONG = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 };
const NARROW = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x10, efer: 0 };

const fast = (space: CoreSpace, address: number) => space.translateFast(0, address, Access.Read);

/** Tables in the slot at 0x1000 that map page n of the first 2 MiB to frame 0x100 + n. */
function fill(memory: CoreMemory, base = 0x1000n): void {
  for (let level = 0n; level < 3n; level++)
    memory.writeU64(base + level * 0x1000n, (base + (level + 1n) * 0x1000n) | ALL);
  for (let page = 0; page < 512; page++)
    memory.writeU64(base + 0x3000n + BigInt(8 * page), (BigInt(0x100 + page) << 12n) | ALL);
}

describe.each([0, 64])("slots under a space with a TLB of %s entries", (tlbEntries) => {
  const made = () => {
    const memory = core.createMemory({ slots: [{ gpa: 0x1000, size: 0x4000 }] });
    fill(memory);
    return { memory, space: core.createAddressSpace(memory, { ...LONG, tlbEntries }) };
  };

  it("that go take translations with them, and bring them back", () => {
    const { memory, space } = made();
    for (let again = 0; again < 2; again++) expect(fast(space, 0x5000)).toBe(0x10_5000);
    memory.removeSlot(0x1000);
    expect(space.translate(0x5000).status).toBe(Status.OutsideMemory);
    expect(() => memory.read(0x1000, 8)).toThrow(MemoryRangeError);
    memory.addSlot({ gpa: 0, size: 0x8000 });
    expect(space.translate(0x5000).status).toBe(Status.PageFault);
    fill(memory);
    for (let again = 0; again < 2; again++) expect(fast(space, 0x5000)).toBe(0x10_5000);
    memory.dispose();
  });

  it("that move are found where they are", () => {
    const { memory, space } = made();
    expect(fast(space, 0x5000)).toBe(0x10_5000);
    memory.changeSlot(0x1000, { gpa: 0x9000 });
    expect(space.translate(0x5000).status).toBe(Status.OutsideMemory);
    memory.addSlot({ gpa: 0x1000, size: 0x4000 });
    memory.writeU64(0x1000, 0x2000n | ALL);
    memory.writeU64(0x2000, 0x3000n | ALL);
    // The level-1 table is the one that has moved.
    memory.writeU64(0x3000, 0xc000n | ALL);
    expect(fast(space, 0x5000)).toBe(0x10_5000);
    memory.dispose();
  });

  it("that are protected keep their accessed and dirty flags as they are", () => {
    const { memory, space } = made();
    const leaf = 0x4028;
    memory.writeU64(leaf, 0x10_5007n);
    memory.changeSlot(0x1000, { readOnly: true });
    expect(fast(space, 0x5000)).toBe(0x10_5000);
    expect(memory.readU64(leaf)).toBe(0x10_5007n);
    memory.changeSlot(0x1000, { readOnly: false });
    expect(fast(space, 0x5000)).toBe(0x10_5000);
    expect(memory.readU64(leaf)).toBe(0x10_5027n);
    memory.dispose();
  });

  it("that get other RAM show what is there", () => {
    const { linear } = core.internals();
    const ram = linear.lend(0x4000, PAGE);
    const { memory, space } = made();
    const other = core.createMemory({ slots: [{ gpa: 0x1000, size: 0x4000, linear: ram }] });
    fill(other);
    other.writeU64(0x4028, 0x77_7000n | ALL);
    expect(fast(space, 0x5000)).toBe(0x10_5000);
    memory.changeSlot(0x1000, { linear: ram });
    expect(fast(space, 0x5000)).toBe(0x77_7000);
    expect(memory.slots).toEqual([{ gpa: 0x1000n, size: 0x4000, linear: ram, readOnly: false, window: false }]);
    memory.dispose();
    // It was lent: it does not go with the slot.
    expect(other.readU64(0x4028)).toBe(0x77_7067n);
    other.dispose();
    linear.takeBack(ram, 0x4000);
  });
});

describe("RAM of a slot", () => {
  it("keeps its bytes where the slot moves and grows, has zeros beyond them, and is given back", () => {
    const { linear } = core.internals();
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 2 * PAGE }] });
    const free = linear.freeBytes;
    memory.write(0, new Uint8Array(2 * PAGE).fill(7));
    memory.changeSlot(0, { gpa: 0x10000, size: 4 * PAGE });
    expect(memory.read(0x10000, 4 * PAGE)).toEqual(new Uint8Array(4 * PAGE).fill(7, 0, 2 * PAGE));
    memory.changeSlot(0x10000, { size: PAGE });
    expect(memory.read(0x10000, PAGE)).toEqual(new Uint8Array(PAGE).fill(7));
    expect(() => memory.read(0x10000, PAGE + 1)).toThrow(MemoryRangeError);
    memory.changeSlot(0x10000, { gpa: 0, size: 2 * PAGE });
    expect(linear.freeBytes).toBe(free);
    memory.removeSlot(0);
    memory.addSlot({ gpa: 0, size: 2 * PAGE });
    expect(memory.read(0, 2 * PAGE)).toEqual(new Uint8Array(2 * PAGE));
    expect(linear.freeBytes).toBe(free);
    memory.dispose();
  });

  it.each<[string, new () => Error, (memory: CoreMemory) => void]>([
    ["overlaps another", ConfigError, (memory) => memory.addSlot({ gpa: 0x1000, size: PAGE })],
    ["moves onto another", ConfigError, (memory) => memory.changeSlot(0, { gpa: 0x7000 })],
    ["grows into another", ConfigError, (memory) => memory.changeSlot(0, { size: 0x9000 })],
    ["is not aligned", ConfigError, (memory) => memory.changeSlot(0, { gpa: 0x123 })],
    ["does not begin there", ConfigError, (memory) => memory.changeSlot(0x1000, { size: PAGE })],
    ["is not there to be removed", ConfigError, (memory) => memory.removeSlot(0x1000)],
    ["has an option that is none", ConfigError, (memory) => memory.changeSlot(0, { flags: 1 } as never)],
    ["lies over the core's own records", ConfigError, (memory) => memory.changeSlot(0, { linear: 0 })],
    ["does not fit", OutOfMemoryError as never, (memory) => memory.addSlot({ gpa: 2 ** 40, size: 2 ** 33 })],
  ])("that %s is refused, with nothing changed", (_name, type, action) => {
    const memory = core.createMemory({
      slots: [
        { gpa: 0, size: 0x4000 },
        { gpa: 0x8000, size: 0x1000 },
      ],
    });
    memory.write(0, new Uint8Array([1, 2, 3]));
    const before = [memory.slots, core.internals().linear.freeBytes];
    expect(() => action(memory)).toThrow(type);
    const after = [memory.slots, core.internals().linear.freeBytes];
    if ((type as unknown) === ConfigError) expect(after).toEqual(before);
    else expect(after[0]).toEqual(before[0]);
    expect(memory.read(0, 3)).toEqual(new Uint8Array([1, 2, 3]));
    memory.dispose();
    expect(() => action(memory)).toThrow(DisposedError);
  });
});

/** Slots at addresses of every magnitude, and probes around their ends. */
const layouts = fc.uniqueArray(
  fc.tuple(fc.nat(39), fc.nat(255), fc.integer({ min: 1, max: 4 })).map(([shift, low, pages]) => ({
    gpa: (BigInt(low) << BigInt(shift)) & ((1n << 40n) - 1n),
    pages,
  })),
  { maxLength: 60, selector: ({ gpa }) => gpa / 4n },
);

describe("many slots", () => {
  it("are found at every address of theirs and at no other", { timeout: 60_000 }, () => {
    const data = core.internals().linear.lend(4 * PAGE, PAGE);
    fc.assert(
      fc.property(layouts, fc.array(fc.nat(63), { maxLength: 12 }), (drawn, changes) => {
        const taken = new Map<bigint, number>();
        const memory = core.createMemory({});
        const space = core.createAddressSpace(memory, { cr0: 1, cr3: 0, cr4: 0, efer: 0 });
        const add = ({ gpa, pages }: { gpa: bigint; pages: number }) => {
          const at = gpa << 12n;
          const free = [...taken].every(
            ([base, size]) => at + BigInt(pages * PAGE) <= base || at >= base + BigInt(size),
          );
          const config = { gpa: at, size: pages * PAGE, linear: data };
          if (!free || at + BigInt(pages * PAGE) > 1n << 52n) expect(() => memory.addSlot(config)).toThrow(ConfigError);
          else {
            memory.addSlot(config);
            taken.set(at, pages * PAGE);
          }
        };
        drawn.forEach(add);
        for (const change of changes) {
          const [base] = [...taken][change % Math.max(taken.size, 1)] ?? [];
          if (base === undefined) continue;
          memory.removeSlot(base);
          taken.delete(base);
        }
        const has = (gpa: bigint) => [...taken].some(([base, size]) => gpa >= base && gpa < base + BigInt(size));
        // A table there, or nowhere: a space whose root is at the address.
        const probe = (gpa: bigint) => {
          const tables = core.createAddressSpace(memory, { ...LONG, cr3: gpa & ~0xfffn });
          const found = tables.translate(0).status !== Status.OutsideMemory;
          tables.dispose();
          return found;
        };
        for (const [base, size] of taken) {
          for (const gpa of [base, base + BigInt(size) - 4096n, base + BigInt(size), base - 4096n, base * 2n]) {
            if (gpa >= 0n && gpa < 1n << 52n) expect(probe(gpa)).toBe(has(gpa));
          }
        }
        space.dispose();
        memory.dispose();
      }),
      { numRuns: 300 },
    );
    core.internals().linear.takeBack(data, 4 * PAGE);
  });
});

it("a 32-bit space follows the slot of its tables, which its plans name", () => {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x4000 }] });
  memory.writeU32(0x1000, 0x2067);
  memory.writeU32(0x2004, 0x12_3067);
  const space = core.createAddressSpace(memory, NARROW);
  expect(space.translateFast32(0x1000, Access.Read)).toBe(0x12_3000);
  memory.changeSlot(0, { size: 0x2000 });
  expect(space.translate(0x1000).status).toBe(Status.OutsideMemory);
  memory.changeSlot(0, { size: 0x8000 });
  memory.writeU32(0x2004, 0x45_6067);
  expect(space.translateFast32(0x1000, Access.Read)).toBe(0x45_6000);
  // The same RAM behind another address.
  memory.writeU32(0x1000, 0x10_2067);
  memory.changeSlot(0, { gpa: 0x10_0000 });
  space.writeCr3(0x10_1000);
  expect(space.translateFast32(0x1000, Access.Read)).toBe(0x45_6000);
  memory.dispose();
});

it("a second stage follows its slots, and so does the first", () => {
  const memory = core.createMemory({
    slots: [
      { gpa: 0x1000, size: 0x4000 },
      { gpa: 0x10000, size: 0x4000 },
    ],
  });
  fill(memory);
  memory.writeU64(0x10000, 0x11007n);
  memory.writeU64(0x11000, 0x12007n);
  memory.writeU64(0x12000, 0xb7n);
  const second = core.createEpt(memory, { eptp: 0x1001e });
  const space = core.createAddressSpace(memory, { ...LONG, secondStage: second });
  expect(space.translate(0x5000)).toMatchObject({ ok: true, pa: 0x10_5000n });
  memory.removeSlot(0x10000);
  expect(space.translate(0x5000)).toMatchObject({ ok: false, status: Status.OutsideMemory, stage: "second" });
  memory.dispose();
});

describe("pages of a source", () => {
  it("are read again once they are said to be others, and only they", () => {
    const pages = new Map<bigint, bigint>([
      [1n, 0x2067n],
      [2n, 0x3067n],
      [3n, 0x4067n],
      [4n, 0x12_3067n],
    ]);
    const asked: bigint[] = [];
    const source = {
      readPage(gfn: bigint, into: Uint8Array): boolean {
        asked.push(gfn);
        new DataView(into.buffer, into.byteOffset).setBigUint64(0, pages.get(gfn) ?? 0n, true);
        return pages.has(gfn);
      },
    };
    const memory = core.createMemory({ source });
    const space = core.createAddressSpace(memory, { ...LONG, tlbEntries: 64 });
    expect(fast(space, 0)).toBe(0x12_3000);
    pages.set(4n, 0x45_6067n);
    expect(fast(space, 0)).toBe(0x12_3000);
    asked.length = 0;
    memory.invalidatePage(4);
    expect(fast(space, 0)).toBe(0x45_6000);
    expect(asked).toEqual([4n]);
    // A page that is gone, and one that comes; pages that were never read need nothing.
    pages.delete(4n);
    memory.invalidatePage(4n);
    memory.invalidatePage(99n);
    expect(space.translate(0).status).toBe(Status.OutsideMemory);
    pages.set(4n, 0x78_9067n);
    expect(space.translate(0).status).toBe(Status.OutsideMemory);
    memory.invalidatePage(4n);
    expect(fast(space, 0)).toBe(0x78_9000);
    for (let round = 0; round < 20_000; round++) {
      pages.set(4n, (BigInt(round) << 12n) | ALL);
      memory.invalidatePage(4n);
      if (fast(space, 0) !== round * 4096) expect(fast(space, 0)).toBe(round * 4096);
    }
    memory.dispose();
  });

  it("may change the slots while they are read", () => {
    let memory: CoreMemory | undefined;
    const source = {
      readPage(gfn: bigint): boolean {
        if (gfn === 8n) {
          memory!.changeSlot(0, { size: 4 * PAGE });
          return true;
        }
        return false;
      },
    };
    memory = core.createMemory({ slots: [{ gpa: 0, size: 8 * PAGE }], source });
    memory.write(0, new Uint8Array(8 * PAGE).fill(5));
    expect(() => memory!.read(7 * PAGE, 2 * PAGE)).toThrow(MemoryRangeError);
    memory.dispose();
  });
});
