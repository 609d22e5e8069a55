/** Reading and writing guest memory through an address space: each rule by itself. */
import { describe, expect, it, vi } from "vitest";
import { FastAccess, loadSync, NO_MEMORY } from "../../src/core/index.js";
import { Access, ConfigError, DisposedError, type PageSource, Status } from "../../src/index.js";

const LONG = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 };
const A = 0x20n;
const D = 0x40n;
const core = loadSync();

/**
 * Leaves of linear pages 0 to 15: RAM at 0x20000, not in order; 4 and 5 are not present, 6 a hole, 7 read-only RAM, 8 a
 * source's.
 */
const FRAMES = [
  0x20,
  0x25,
  0x22,
  0x23,
  undefined,
  undefined,
  0x80,
  0x40,
  0x60,
  0x26,
  0x27,
  0x28,
  0x29,
  0x2a,
  0x2b,
  0x2c,
];

/** Behind the slots: byte n of frame 0x60 is n. */
const counting: PageSource = {
  readPage(gfn, into) {
    if (gfn !== 0x60n) return false;
    for (let n = 0; n < into.length; n++) into[n] = n;
    return true;
  },
};

/** The last page of the lower half is mapped too, and the last of all. */
function guest(source: PageSource = counting, more: object = {}) {
  const memory = core.createMemory({
    slots: [
      { gpa: 0, size: 0x30000 },
      { gpa: 0x40000, size: 0x1000, readOnly: true },
    ],
    source,
  });
  for (const table of [1, 2, 3]) {
    for (const index of [0, 255, 511]) memory.writeU64(table * 4096 + index * 8, BigInt((table + 1) << 12) | 7n);
    memory.writeU64(table * 4096 + 511 * 8, BigInt((table + 1) << 12) | 7n);
  }
  FRAMES.forEach((frame, page) => {
    if (frame !== undefined) memory.writeU64(0x4000 + page * 8, BigInt(frame << 12) | 7n);
  });
  memory.writeU64(0x4ff8, 0x2e007n);
  const space = core.createAddressSpace(memory, { ...LONG, ...more });
  const leaf = (page: number) => memory.readU64(0x4000 + page * 8) & (A | D);
  return { memory, space, data: space.data, fast: space.data.fast, leaf };
}

const PAGE_FAULT = { ok: false, reason: "fault", done: 0 };

describe("a value across two pages", () => {
  it("faults as its second page does, with that page's first byte as address, and writes nothing", () => {
    const { memory, space, data, leaf } = guest();
    expect(data.writeU32(0x3ffe, 0x11223344, Access.User)).toEqual({
      ...PAGE_FAULT,
      address: 0x4000n,
      fault: space.translate(0x4000, Access.Write | Access.User),
    });
    expect(memory.readU32(0x23ffc)).toBe(0);
    // The first page was translated for the write.
    expect(leaf(3)).toBe(A | D);
    expect(data.readU64(0x3ff9)).toMatchObject({ ...PAGE_FAULT, address: 0x4000n, fault: { errorCode: 0n } });
  });

  it("faults as its first page does where both would", () => {
    const { data } = guest();
    expect(data.readU32(0x4ffe)).toMatchObject({ ...PAGE_FAULT, address: 0x4ffen, fault: { address: 0x4ffen } });
  });

  it("is put together from both, wherever they lie, each byte in its place", () => {
    const { memory, data, fast } = guest();
    memory.write(0x20ff9, Uint8Array.of(1, 2, 3, 4, 5, 6, 7));
    memory.write(0x25000, Uint8Array.of(8, 9, 10, 11, 12, 13, 14));
    expect(data.readU16(0xfff)).toEqual({ ok: true, value: 0x0807 });
    expect(data.readU32(0xffd)).toEqual({ ok: true, value: 0x08070605 });
    expect(data.readU64(0xff9)).toEqual({ ok: true, value: 0x0807060504030201n });
    expect(data.readU64(0xfff)).toEqual({ ok: true, value: 0x0e0d0c0b0a090807n });
    expect(fast.writeU64(0, 0xffb, 0xa8a7a6a5, 0xa4a3a2a1, Access.Write)).toBe(0);
    expect([...memory.read(0x20ffa, 6), ...memory.read(0x25000, 4)]).toEqual([
      ...[2, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5],
      ...[0xa6, 0xa7, 0xa8, 11],
    ]);
    expect(data.writeU16(0xfff, 0xbbaa)).toEqual({ ok: true, done: 2 });
    expect([memory.readU8(0x20fff), memory.readU8(0x25000)]).toEqual([0xaa, 0xbb]);
  });

  it.each([1, 2, 4, 8] as const)("of %i bytes is right at every offset", (size) => {
    const { memory, fast } = guest();
    const value = Uint8Array.from({ length: size }, (_, n) => 0xf1 + n);
    const whole = value.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
    const [upper, lower] = [Number(whole >> 32n), Number(whole & 0xffff_ffffn)];
    for (let offset = 0xff0; offset < 0x1000; offset++) {
      const [first, second] = [Math.min(size, 0x1000 - offset), Math.max(0, offset + size - 0x1000)];
      memory.write(0x20000, new Uint8Array(0x3000));
      memory.write(0x25000, new Uint8Array(0x1000));
      if (size === 1) fast.writeU8(0, offset, lower, Access.Write);
      if (size === 2) fast.writeU16(0, offset, lower, Access.Write);
      if (size === 4) fast.writeU32(0, offset, lower, Access.Write);
      if (size === 8) fast.writeU64(0, offset, upper, lower, Access.Write);
      const expected = new Uint8Array(0x3000);
      expected.set(value.subarray(0, first), offset);
      expect(Buffer.compare(memory.read(0x20000, 0x3000), expected)).toBe(0);
      expect([...memory.read(0x25000, second)]).toEqual([...value.subarray(first)]);
      expect(memory.readU8(0x25000 + second)).toBe(0);
      const name = `readU${size * 8}` as "readU8" | "readU16" | "readU32" | "readU64";
      expect(fast[name](0, offset, Access.Read)).toBe(lower);
      if (size === 8) expect(fast.upperHalf).toBe(upper);
    }
  });

  it("faults before a device on its first page is asked", () => {
    const { memory, data, fast, leaf } = guest();
    memory.writeU64(0x4000 + 7 * 8, 0n);
    expect(data.readU32(0x6ffe)).toMatchObject({ reason: "fault", address: 0x7000n });
    expect(fast.readU32(0, 0x6ffe, Access.Read)).toBeGreaterThan(NO_MEMORY);
    expect(leaf(6)).toBe(A);
    // Bytes go in order.
    expect(data.read(0x6ffe, 4)).toMatchObject({ reason: "unbacked", done: 0, address: 0x6ffen, pa: 0x80ffen });
  });

  it("goes on at 0 after the last linear address, of 32 or of 64 bits", () => {
    const { memory, data } = guest();
    memory.writeU16(0x2effe, 0x2211);
    memory.writeU16(0x20000, 0x4433);
    expect(data.readU32(0xffff_ffff_ffff_fffen)).toEqual({ ok: true, value: 0x44332211 });
    const ram = core.createMemory({
      slots: [
        { gpa: 0, size: 0x1000 },
        { gpa: 0xffff_f000, size: 0x1000 },
      ],
    });
    const flat = core.createAddressSpace(ram, { cr0: 1, cr3: 0, cr4: 0, efer: 0 });
    expect(flat.data.write(0xffff_fffe, Uint8Array.of(1, 2, 3, 4))).toEqual({ ok: true, done: 4 });
    expect(flat.data.readU32(0xffff_fffe)).toEqual({ ok: true, value: 0x04030201 });
    expect([...ram.read(0, 3)]).toEqual([3, 4, 0]);
    expect(flat.data.fast.readU16(0, -1, Access.Read)).toBe(0x0302);
  });

  it("fails at address 0 where that is what it goes on at", () => {
    const { data } = guest();
    const { memory } = guest();
    memory.writeU64(0x4000, 0n);
    const without = core.createAddressSpace(memory, LONG).data;
    expect(data.readU16(2n ** 64n - 1n)).toMatchObject({ ok: true });
    expect(without.readU16(2n ** 64n - 1n)).toMatchObject({ reason: "fault", address: 0n, fault: { address: 0n } });
    const ram = core.createMemory({ slots: [{ gpa: 0xffff_f000, size: 0x1000 }] });
    const flat = core.createAddressSpace(ram, { cr0: 1, cr3: 0, cr4: 0, efer: 0 });
    expect(flat.data.writeU32(0xffff_fffd, 1)).toMatchObject({ reason: "unbacked", address: 0n, pa: 0n });
    expect(flat.data.read(0xffff_fffd, 4)).toMatchObject({ reason: "unbacked", done: 3, address: 0n });
  });

  it("is not canonical where its second page is not", () => {
    const { data } = guest();
    const fault = { status: Status.NonCanonical, vector: 13, address: 0x8000_0000_0000n };
    expect(data.writeU32(0x7fff_ffff_fffen, 1)).toMatchObject({ ...PAGE_FAULT, address: 0x8000_0000_0000n, fault });
    expect(data.read(0x7fff_ffff_f000n, 8192)).toMatchObject({ ok: false, done: 4096, fault });
  });
});

describe("what is translated and is no RAM", () => {
  it("is a result of its own, with the physical address of the byte that failed", () => {
    const { data, fast } = guest();
    expect(data.readU32(0x6008)).toEqual({ ok: false, reason: "unbacked", done: 0, address: 0x6008n, pa: 0x80008n });
    expect(data.writeU8(0x6008, 1)).toMatchObject({ reason: "unbacked", pa: 0x80008n });
    expect(fast.readU16(0, 0x6010, Access.Read)).toBe(NO_MEMORY);
    expect([fast.failedPa, fast.failedOffset]).toEqual([0x80010, 0]);
    expect(data.read(0x5ffe, 4)).toMatchObject({ reason: "fault", done: 0 });
    const { memory } = guest();
    expect(memory.readU64(0x4000 + 6 * 8) & A).toBe(0n);
  });

  it("may be on the second page only", () => {
    const { memory, data, fast } = guest();
    memory.writeU64(0x4000 + 5 * 8, 0x24007n);
    expect(fast.readU32(0, 0x5ffd, Access.Read)).toBe(NO_MEMORY);
    expect([fast.failedPa, fast.failedOffset]).toEqual([0x80000, 3]);
    expect(fast.failure).toEqual({ ok: false, reason: "unbacked", done: 0, address: 0x6000n, pa: 0x80000n });
    expect(data.writeU64(0x5ffd, 0x1122334455667788n)).toMatchObject({ reason: "unbacked", address: 0x6000n });
    expect(memory.readU32(0x24ffc)).toBe(0);
  });

  it.each([
    ["a read-only slot", 0x7010, 0x40010n],
    ["a page of the source", 0x8010, 0x60010n],
  ])("%s is read and not written", (_, at, pa) => {
    const { memory, data, fast } = guest();
    const before = memory.read(pa, 8);
    const refused = { ok: false, reason: "read-only", done: 0, address: BigInt(at), pa };
    expect(data.readU32(at).ok).toBe(true);
    expect(data.write(at, Uint8Array.of(1))).toEqual(refused);
    expect(data.writeU64(at, 1)).toEqual(refused);
    expect(fast.writeU8(0, at, 1, Access.Write)).toBe(NO_MEMORY);
    expect(fast.failure).toEqual(refused);
    expect(memory.read(pa, 8)).toEqual(before);
  });

  it("begins right behind a slot, and is at an offset of a source's page", () => {
    const { data } = guest();
    expect(data.read(0x8123, 2).bytes).toEqual(Uint8Array.of(0x23, 0x24));
    expect(data.write(0x3000, new Uint8Array(0x1000)).done).toBe(0x1000);
    const ram = core.createMemory({ slots: [{ gpa: 0, size: 0x1000 }] });
    const flat = core.createAddressSpace(ram, { cr0: 1, cr3: 0, cr4: 0, efer: 0 });
    expect(flat.data.readU8(0x1000)).toMatchObject({ reason: "unbacked" });
    expect(flat.data.write(0xff0, new Uint8Array(32))).toMatchObject({ reason: "unbacked", done: 0, address: 0x1000n });
    const ept = core.createEpt(ram, { eptp: 0x1e });
    expect(ept.data.readU16(0xffff_ffff)).toMatchObject({ reason: "fault", address: 0xffff_ffffn });
    expect(ept.isNarrow).toBe(false);
  });

  it("a window on what the core keeps is not written", () => {
    const { linear } = core.internals();
    const at = linear.allocate(4096, 4096);
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 4096, linear: at, window: true }] });
    const { data } = core.createAddressSpace(memory, { cr0: 1, cr3: 0, cr4: 0, efer: 0 });
    expect(data.readU8(0)).toEqual({ ok: true, value: 0 });
    expect(data.writeU8(0, 1)).toMatchObject({ reason: "read-only" });
    expect(data.write(0, new Uint8Array(8))).toMatchObject({ reason: "read-only" });
    memory.dispose();
    linear.free(at, 4096);
  });
});

describe("a long write", () => {
  it("stores nothing unless every page takes it, and has marked the pages in front of the one that does not", () => {
    const { memory, data, leaf } = guest();
    const bytes = new Uint8Array(0x4000).fill(0xaa);
    expect(data.write(0x800, bytes)).toMatchObject({ ok: false, reason: "fault", done: 0, address: 0x4000n });
    expect(memory.read(0x20000, 0x6000).every((byte) => byte === 0)).toBe(true);
    expect([0, 1, 2, 3].map(leaf)).toEqual([A | D, A | D, A | D, A | D]);
    expect(data.write(0x800, bytes.subarray(0, 0x3800))).toEqual({ ok: true, done: 0x3800 });
    expect(data.read(0x7fe, 4).bytes).toEqual(Uint8Array.of(0, 0, 0xaa, 0xaa));
    expect(memory.readU8(0x25fff)).toBe(0xaa);
    expect(memory.readU8(0x21000)).toBe(0);
  });

  it("takes any view's bytes, also those of RAM that it overwrites itself", () => {
    const { memory, data } = guest();
    data.write(0x10, Uint16Array.of(0x0201, 0x0403));
    expect(data.read(0x10, 4).bytes).toEqual(Uint8Array.of(1, 2, 3, 4));
    // Pages 1 and 2 lie in frames 0x25 and 0x22; the bytes are those of 0x24 and 0x25, in linear memory.
    memory.write(
      0x24000,
      Uint8Array.from({ length: 0x2000 }, (_, n) => (n >> 6) + 1),
    );
    const before = memory.read(0x24000, 0x2000);
    expect(memory.ram.find(0x24000)).toBe(true);
    const from = new Uint8Array(core.linearMemory.buffer, memory.ram.linear - memory.ram.base + 0x24000, 0x2000);
    expect(data.write(0x1000, from)).toEqual({ ok: true, done: 0x2000 });
    expect(Buffer.compare(data.read(0x1000, 0x2000).bytes, before)).toBe(0);
  });

  it("of nothing touches nothing", () => {
    const { data, leaf } = guest();
    expect(data.write(0x4000, new Uint8Array(0))).toEqual({ ok: true, done: 0 });
    expect(data.read(0x4000, 0)).toEqual({ ok: true, done: 0, bytes: new Uint8Array(0) });
    expect(leaf(0)).toBe(0n);
  });
});

describe("accesses", () => {
  it("mark what they use as accessed, as written only what they write, and with Probe nothing", () => {
    const { data, fast, leaf } = guest();
    data.read(0, 0x1001, Access.Probe);
    data.readU32(0, Access.Probe);
    data.readString(0, 4, Access.Probe);
    expect(data.writeU8(0, 1, Access.Probe)).toEqual({ ok: true, done: 1 });
    expect(data.readU8(0, Access.Probe)).toEqual({ ok: true, value: 1 });
    expect([leaf(0), leaf(1)]).toEqual([0n, 0n]);
    data.readU32(0);
    data.readU8(0x1000, Access.Write);
    fast.writeU16(0, 0x2000, 1, Access.Read);
    expect([leaf(0), leaf(1), leaf(2)]).toEqual([A, A | D, A | D]);
  });

  it("are checked for their rights: user, fetch, SMAP", () => {
    const { memory, data, space } = guest();
    memory.writeU64(0x4000, 0x20003n | (1n << 63n));
    expect(data.readU8(0, Access.User)).toMatchObject({ fault: { errorCode: 5n } });
    expect(data.readU8(0, Access.Fetch)).toMatchObject({ fault: { errorCode: 0x11n } });
    space.update({ cr4: 0x200020 });
    expect(data.read(0x1000, 1)).toMatchObject({ ok: false, fault: { errorCode: 1n } });
    expect(data.read(0x1000, 1, Access.Ac)).toMatchObject({ ok: true });
  });

  it("of guest-physical addresses go through EPT alone, those of its guest through both", () => {
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x20000 }] });
    for (let table = 1n; table <= 4n; table++) memory.writeU64(table << 12n, ((table + 1n) << 12n) | 7n);
    for (let table = 0x10n; table <= 0x12n; table++) memory.writeU64(table << 12n, ((table + 1n) << 12n) | 7n);
    for (let page = 0n; page < 6n; page++) memory.writeU64(0x13000n + 8n * page, (page << 12n) | 0x37n);
    memory.writeU64(0x13028, 0x1f035n);
    const secondStage = core.createEpt(memory, { eptp: 0x1001e });
    const { data } = core.createAddressSpace(memory, { ...LONG, secondStage });
    memory.writeU32(0x1f010, 0x1234);
    expect(data.readU32(0x10)).toEqual({ ok: true, value: 0x1234 });
    expect(secondStage.data.readU32(0x5010)).toEqual({ ok: true, value: 0x1234 });
    const fault = { status: Status.EptViolation, stage: "second", address: 0x5010n };
    expect(data.writeU8(0x10, 1)).toMatchObject({ reason: "fault", address: 0x10n, fault });
    expect(secondStage.data.writeU8(0x5010, 1)).toMatchObject({ address: 0x5010n, fault });
    expect(secondStage.data.read(0x5ff8, 16)).toMatchObject({ done: 8, fault: { address: 0x6000n } });
    memory.dispose();
  });

  it("are by the software TLB where there is one", () => {
    const { memory, data } = guest(counting, { tlbEntries: 16 });
    expect(data.readU8(0)).toEqual({ ok: true, value: 0 });
    memory.writeU64(0x4000, 0n);
    expect(data.readU8(0)).toEqual({ ok: true, value: 0 });
  });

  it("refuse what is no address, no access, no length, no value", () => {
    const { data } = guest();
    const bytes = new Uint8Array(1);
    for (const bad of [-1, -1n, 1n << 64n, 0.5, 2 ** 53, Number.NaN]) {
      for (const use of [
        () => data.read(bad, 1),
        () => data.readInto(bad, bytes),
        () => data.readString(bad, 1),
        () => data.write(bad, bytes),
        () => data.readU8(bad),
        () => data.readU16(bad),
        () => data.readU32(bad),
        () => data.readU64(bad),
        () => data.writeU8(bad, 1),
        () => data.writeU16(bad, 1),
        () => data.writeU32(bad, 1),
        () => data.writeU64(bad, 1),
      ])
        expect(use).toThrow(RangeError);
    }
    for (const bad of [1, -2, 0.5, Access.Write | Access.Fetch]) {
      expect(() => data.readU32(0, bad)).toThrow(RangeError);
      expect(() => data.read(0, 1, bad)).toThrow(RangeError);
    }
    expect(() => data.writeU8(0, 1, Access.Fetch)).toThrow(RangeError);
    expect(() => data.writeU8(0, 1, 0.5)).toThrow(RangeError);
    expect(() => data.write(0, bytes, Access.Fetch)).toThrow(RangeError);
    for (const bad of [-1, 0.5, 2 ** 30 + 1, 2 ** 40, Number.POSITIVE_INFINITY]) {
      expect(() => data.read(0, bad)).toThrow(RangeError);
      expect(() => data.readString(0, bad)).toThrow(RangeError);
    }
    expect(() => data.writeU8(0, 256)).toThrow(RangeError);
    expect(() => data.writeU16(0, 65536)).toThrow(RangeError);
    expect(() => data.writeU32(0, 2 ** 32)).toThrow(RangeError);
    expect(() => data.writeU64(0, 1n << 64n)).toThrow(RangeError);
    expect(() => data.write(0, "text" as unknown as Uint8Array)).toThrow(TypeError);
    expect(() => data.readInto(0, [] as unknown as Uint8Array)).toThrow(TypeError);
    const flat = core.createAddressSpace(core.createMemory({}), { cr0: 1, cr3: 0, cr4: 0, efer: 0 });
    expect(() => flat.data.readU32(2 ** 32)).toThrow(ConfigError);
    expect(() => flat.data.read(2 ** 32, 1)).toThrow(ConfigError);
  });

  it("take no room for what is not there", () => {
    const { data } = guest();
    const before = process.memoryUsage().arrayBuffers;
    const result = data.read(0x4000, 2 ** 30);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 24);
    expect(result).toMatchObject({ ok: false, done: 0 });
    expect(result.bytes.buffer.byteLength).toBe(0);
    expect(data.read(0x2000, 2 ** 30)).toMatchObject({ done: 0x2000, bytes: { length: 0x2000 } });
  });

  it("of more than the first buffer come whole", () => {
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x50000 }] });
    const bytes = Uint8Array.from({ length: 0x4f001 }, (_, n) => (n * 7 + (n >> 8)) & 0xff);
    memory.write(0x800, bytes);
    const { data } = core.createAddressSpace(memory, { cr0: 1, cr3: 0, cr4: 0, efer: 0 });
    const result = data.read(0x800, bytes.length);
    expect(Buffer.compare(result.bytes, bytes)).toBe(0);
    expect(result.bytes.buffer.byteLength).toBe(bytes.length);
  });
});

describe("a string", () => {
  it("ends at its NUL, whose page is the last that is touched", () => {
    const { memory, data, leaf } = guest();
    data.write(0xffa, new TextEncoder().encode("\ufeffäbc"), Access.Probe);
    expect(data.readString(0xffa, 100)).toEqual({
      ok: true,
      done: 8,
      text: "\ufeffäbc",
      bytes: new TextEncoder().encode("\ufeffäbc"),
      terminated: true,
    });
    expect([leaf(1), leaf(2)]).toEqual([A, 0n]);
    memory.writeU8(0x23ffe, 0x41);
    expect(data.readString(0x3ffe, 100)).toMatchObject({ ok: true, text: "A", done: 2, terminated: true });
  });

  it("may be longer than is asked for, or end in a fault", () => {
    const { memory, data } = guest();
    memory.write(0x23ffc, Uint8Array.of(0x41, 0x42, 0x43, 0xff));
    expect(data.readString(0x3ffc, 3)).toMatchObject({ ok: true, text: "ABC", done: 3, terminated: false });
    expect(data.readString(0x3ffc, 3).bytes.length).toBe(3);
    const broken = data.readString(0x3ffc, 100);
    expect(broken).toMatchObject({ ok: false, reason: "fault", address: 0x4000n, done: 4, terminated: false });
    expect(broken.text).toBe("ABC\ufffd");
    expect(data.readString(0x3ffc, 0)).toMatchObject({ ok: true, done: 0, text: "" });
  });
});

describe("views of linear memory", () => {
  it("may go away between accesses", () => {
    const { data, fast } = guest();
    const steps = [
      () => expect(fast.writeU32(0, 0x10, 0x01020304, Access.Write)).toBe(0),
      () => expect(fast.readU32(0, 0x10, Access.Read)).toBe(0x01020304),
      () => expect(fast.readU32(0, 0x11, Access.Read)).toBe(0x00010203),
      () => expect(fast.writeU16(0, 0xfff, 0x0605, Access.Write)).toBe(0),
      () => expect(fast.readU16(0, 0xfff, Access.Read)).toBe(0x0605),
      () => expect(fast.readU64(0, 0x10, Access.Read)).toBe(0x01020304),
      () => expect(data.read(0x10, 2).bytes).toEqual(Uint8Array.of(4, 3)),
      () => expect(data.write(0x20, Uint8Array.of(9))).toEqual({ ok: true, done: 1 }),
      () => expect(data.readU8(0x20)).toEqual({ ok: true, value: 9 }),
    ];
    for (const step of steps) {
      core.linearMemory.grow(1);
      step();
    }
  });

  it("that a caller gave may go away while a source reads", () => {
    const own = loadSync();
    let grows = true;
    const source: PageSource = {
      readPage(gfn, into) {
        if (grows) own.linearMemory.grow(1);
        into.fill(Number(gfn));
        return gfn < 0x100n;
      },
    };
    const { linear } = own.internals();
    const at = linear.allocate(0x2000, 16);
    const memory = own.createMemory({ slots: [{ gpa: 0x3000, size: 0x1000 }], source });
    const { data } = own.createAddressSpace(memory, { cr0: 1, cr3: 0, cr4: 0, efer: 0 });
    const into = new Uint8Array(own.linearMemory.buffer, at, 0x1800);
    expect(data.readInto(0x1800, into)).toEqual({ ok: true, done: 0x1800 });
    expect([...linear.u8.subarray(at + 0x7ff, at + 0x801)]).toEqual([1, 2]);
    expect(() => memory.readInto(0x1800, new Uint8Array(own.linearMemory.buffer, at, 0x1800))).not.toThrow();
    grows = false;
    expect(data.write(0x3000, new Uint8Array(own.linearMemory.buffer, at + 0x7ff, 2))).toEqual({ ok: true, done: 2 });
    expect([...memory.read(0x3000, 2)]).toEqual([1, 2]);
    expect(data.write(0x2fff, Uint8Array.of(1, 2))).toMatchObject({ reason: "read-only", address: 0x2fffn });
  });
});

describe("a source", () => {
  it("may use the very accesses that need it", () => {
    let depth = 0;
    const { memory, fast, data } = guest({
      readPage(gfn, into) {
        counting.readPage(gfn, into);
        if (depth++ === 0 && gfn === 0x60n) {
          expect(fast.readU64(0, 0x2ffc, Access.Read)).toBe(0x0b0a0908);
          expect(fast.readU32(0, 0x6000, Access.Read)).toBe(NO_MEMORY);
        }
        depth--;
        return gfn === 0x60n;
      },
    });
    memory.write(0x20ffc, Uint8Array.of(1, 2, 3, 4));
    memory.write(0x22ffc, Uint8Array.of(8, 9, 10, 11));
    memory.writeU64(0x4000 + 7 * 8, 0x20007n);
    expect(data.readU64(0x7ffc)).toEqual({ ok: true, value: 0x0302010004030201n });
    expect(data.read(0x7ffe, 4).bytes).toEqual(Uint8Array.of(3, 4, 0, 1));
  });

  it("may dispose of everything", () => {
    const make = () => {
      const made = guest({
        readPage() {
          made.memory.dispose();
          return true;
        },
      });
      return made;
    };
    expect(() => make().data.read(0x8000, 4)).toThrow(DisposedError);
    expect(() => make().data.readU32(0x8000)).toThrow(DisposedError);
    expect(() => make().data.writeU32(0x8000, 1)).toThrow(DisposedError);
    expect(() => make().data.readString(0x8000, 4)).toThrow(DisposedError);
  });

  it("may change slots: what was found before is looked for again", () => {
    // Tables in pages of the source: what is on either side of 2 MiB has a table of its own.
    const tables = guest();
    tables.memory.writeU64(0x3008, 0x5007n);
    tables.memory.writeU64(0x5000, 0x22007n);
    let change = () => {};
    const memory = core.createMemory({
      slots: [
        { gpa: 0x2e000, size: 0x1000 },
        { gpa: 0x22000, size: 0x1000 },
      ],
      source: {
        readPage(gfn, into) {
          if (gfn === 5n) change();
          into.set(tables.memory.read(gfn << 12n, 4096));
          return gfn < 0x10n;
        },
      },
    });
    const { data } = core.createAddressSpace(memory, LONG);
    expect(data.writeU32(0x1f_fffe, 0x04030201)).toEqual({ ok: true, done: 4 });
    const { linear } = core.internals();
    const before = memory.slots.find(({ gpa }) => gpa === 0x2e000n)!.linear;
    memory.invalidatePage(5);
    change = () => {
      change = () => {};
      core.linearMemory.grow(1);
      memory.removeSlot(0x2e000);
      memory.addSlot({ gpa: 0x2e000, size: 0x2000 });
    };
    // The first page lies elsewhere when the second one has been translated.
    const bytes = linear.allocate(16);
    linear.u8.set([5, 6, 7, 8], bytes);
    const given = new Uint8Array(core.linearMemory.buffer, bytes, 4);
    expect(data.write(0x1f_fffe, given)).toEqual({ ok: true, done: 4 });
    expect([...memory.read(0x2effe, 2), ...memory.read(0x22000, 2)]).toEqual([5, 6, 7, 8]);
    expect(memory.slots.find(({ gpa }) => gpa === 0x2e000n)!.linear).not.toBe(before);
    expect(linear.u8[before + 0xffe]).not.toBe(5);
    memory.removeSlot(0x22000);
    expect(data.fast.readU8(0, 0x20_0000, Access.Read)).toBe(NO_MEMORY);
    memory.changeSlot(0x2e000, { readOnly: true });
    expect(data.writeU8(0x1f_f000, 1)).toMatchObject({ reason: "read-only" });
    memory.dispose();
  });

  it("is read anew each time", () => {
    let byte = 1;
    const { data } = guest({
      readPage(gfn, into) {
        into.fill(byte);
        return gfn === 0x60n;
      },
    });
    expect(data.readU8(0x8000)).toEqual({ ok: true, value: 1 });
    byte = 2;
    expect(data.readU8(0x8000)).toEqual({ ok: true, value: 2 });
  });
});

it("a failure whose cause has gone is what is left of it", () => {
  const { memory, space } = guest();
  const packed = (Status.NestedPageFault << 16) | 6;
  const fast = new FastAccess({
    memory,
    isNarrow: false,
    lastPageBytes: () => 4096,
    translateFast: () => -1 - packed,
    translate: () => space.translate(0),
  });
  expect(fast.failure).toBeUndefined();
  expect(fast.readU32(0, 0x123, Access.Read)).toBe(-1 - packed);
  expect(fast.failure).toMatchObject({
    reason: "fault",
    fault: { status: 5, errorCode: 6n, stage: "second", level: 0 },
  });
});

it("no fault is as low as what says that there is no memory", () => {
  expect(-1 - ((0xff << 16) | 0xffff)).toBeGreaterThan(NO_MEMORY);
});

describe("a range", () => {
  it("is merged over pages, and ends with the fault", () => {
    const { space, leaf } = guest();
    expect([...space.translateRange(0x2800, 0x4000, Access.Probe)]).toEqual([
      { ok: true, address: 0x2800n, pa: 0x22800n, length: 0x1800n },
      { ok: false, address: 0x4000n, left: 0x2800n, fault: space.translate(0x4000) },
    ]);
    expect(leaf(2)).toBe(0n);
    expect([...space.translateRange(0x800, 0x1000)].map((run) => run.ok && run.pa)).toEqual([0x20800n, 0x25000n]);
    expect([leaf(0), leaf(1)]).toEqual([A, A]);
    expect([...space.translateRange(0, 0)]).toEqual([]);
  });

  it("takes a step for each page, of whatever size, and as it is asked for", () => {
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x10000 }] });
    memory.writeU64(0x1000, 0x2007n);
    for (let index = 0; index < 512; index++) memory.writeU64(0x2000 + index * 8, (BigInt(index) << 30n) | 0x87n);
    const space = core.createAddressSpace(memory, LONG);
    const translate = vi.spyOn(space, "translate");
    expect([...space.translateRange(0x123, 2n ** 39n - 0x123n)]).toEqual([
      { ok: true, address: 0x123n, pa: 0x123n, length: 2n ** 39n - 0x123n },
    ]);
    expect(translate).toHaveBeenCalledTimes(512);
    const lazy = space.translateRange(0, 2n ** 64n - 1n);
    expect(translate).toHaveBeenCalledTimes(512);
    expect(lazy.next().value).toMatchObject({ length: 2n ** 39n });
    expect(lazy.next().value).toMatchObject({ ok: false, address: 2n ** 39n, left: 2n ** 64n - 1n - 2n ** 39n });
    memory.dispose();
  });

  it("without paging is one step; it wraps, which ends a run", () => {
    const space = core.createAddressSpace(core.createMemory({}), { cr0: 1, cr3: 0, cr4: 0, efer: 0 });
    const translate = vi.spyOn(space, "translate");
    expect([...space.translateRange(0x1000, 2 ** 32)]).toEqual([
      { ok: true, address: 0x1000n, pa: 0x1000n, length: 0xffff_f000n },
      { ok: true, address: 0n, pa: 0n, length: 0x1000n },
    ]);
    expect(translate).toHaveBeenCalledTimes(2);
  });

  it("through two stages goes by the smaller page", () => {
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x10000 }] });
    // Guest: 1 GiB at 0. EPT: 2 MiB pages, the second of them elsewhere.
    memory.writeU64(0x1000, 0x2007n);
    memory.writeU64(0x2000, 0x87n);
    memory.writeU64(0x4000, 0x5007n);
    memory.writeU64(0x5000, 0x6007n);
    for (let index = 0; index < 512; index++) memory.writeU64(0x6000 + index * 8, (BigInt(index) << 21n) | 0xb7n);
    memory.writeU64(0x6008, (9n << 21n) | 0xb7n);
    const secondStage = core.createEpt(memory, { eptp: 0x401e });
    const space = core.createAddressSpace(memory, { ...LONG, secondStage });
    const translate = vi.spyOn(space, "translate");
    expect([...space.translateRange(0x1ff000, 0x40_2000)].map((run) => run.ok && [run.pa, run.length])).toEqual([
      [0x1ff000n, 0x1000n],
      [9n << 21n, 0x20_0000n],
      [0x40_0000n, 0x20_1000n],
    ]);
    expect(translate).toHaveBeenCalledTimes(4);
    memory.dispose();
  });

  it("that goes on at 0 ends a run, wherever it leads", () => {
    const { memory, space } = guest();
    memory.writeU64(0x4ff8, 0x1f007n);
    expect([...space.translateRange(2n ** 64n - 4096n, 8192)].map((run) => run.ok && run.address)).toEqual([
      2n ** 64n - 4096n,
      0n,
    ]);
  });

  it("refuses what is no range", () => {
    const { space } = guest();
    expect(() => space.translateRange(-1, 1)).toThrow(RangeError);
    expect(() => space.translateRange(0, -1)).toThrow(RangeError);
    expect(() => space.translateRange(0, 1, 1)).toThrow(RangeError);
  });
});
