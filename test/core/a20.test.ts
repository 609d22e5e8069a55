/** Address line 20 held low: MiB 2n + 1 is MiB 2n, for tables and for what they lead to. */
import { describe, expect, it } from "vitest";
import { loadSync } from "../../src/core/index.js";
import { Access, ConfigError } from "../../src/index.js";

const MIB = 0x100000;
const REAL = { cr0: 0, cr3: 0, cr4: 0, efer: 0 };
const LONG = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 };
const core = loadSync();

describe("a memory without address line 20", () => {
  it("wraps at 1 MiB in real mode, and shows the third MiB as the fourth", () => {
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 4 * MIB }], a20: false });
    memory.writeU32(0x10, 0x1111);
    memory.writeU32(MIB + 0x10, 0x2222);
    memory.writeU32(3 * MIB + 0x10, 0x4444);
    const { data } = core.createAddressSpace(memory, REAL);
    expect(data.readU32(MIB + 0x10)).toEqual({ ok: true, value: 0x1111 });
    expect(data.readU32(3 * MIB + 0x10)).toEqual({ ok: true, value: 0 });
    expect(data.writeU32(3 * MIB + 0x10, 0x3333)).toEqual({ ok: true, done: 4 });
    expect(data.readU32(2 * MIB + 0x10)).toEqual({ ok: true, value: 0x3333 });
    // FFFF:0010 on a PC.
    expect(data.write(MIB - 2, Uint8Array.of(1, 2, 3, 4))).toEqual({ ok: true, done: 4 });
    expect([...memory.read(MIB - 2, 2), ...memory.read(0, 2)]).toEqual([1, 2, 3, 4]);
    // The memory itself is RAM as it is.
    expect([memory.readU32(MIB + 0x10), memory.readU32(3 * MIB + 0x10)]).toEqual([0x2222, 0x4444]);
    memory.dispose();
  });

  it("masks the addresses of tables, fast and slow, and sets accessed and dirty bits where they really lie", () => {
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 16 * MIB }], a20: false });
    // CR3 and every entry name the odd MiB.
    for (let table = 1n; table <= 3n; table++) memory.writeU64(table << 12n, ((table + 1n) << 12n) | 0x100007n);
    memory.writeU64(0x4000, 0x105007n);
    memory.writeU32(0x5010, 0x1234);
    const space = core.createAddressSpace(memory, { ...LONG, cr3: MIB + 0x1000 });
    // The address that paging gives, in front of the gate.
    expect(space.translateFast(0, 0x10, Access.Write)).toBe(0x105010);
    expect(space.translate(0x10, Access.Read)).toMatchObject({ ok: true, pa: 0x105010n });
    expect(memory.readU64(0x4000)).toBe(0x105067n);
    expect(memory.readU64(MIB + 0x4000)).toBe(0n);
    expect(space.data.readU32(0x10)).toEqual({ ok: true, value: 0x1234 });
    memory.dispose();
  });

  it("leaves holes holes, read-only slots read-only, and names addresses as the bus gets them", () => {
    const slots = [
      { gpa: MIB / 2, size: MIB / 2 + 0x1000 },
      { gpa: 2 * MIB, size: 0x1000, readOnly: true },
    ];
    const memory = core.createMemory({ slots, a20: false });
    const { data } = core.createAddressSpace(memory, REAL);
    expect(data.readU8(0x10)).toMatchObject({ reason: "unbacked", pa: 0x10n });
    expect(data.readU8(MIB + 0x10)).toMatchObject({ reason: "unbacked", address: 0x100010n, pa: 0x10n });
    expect(data.read(MIB + 0x10, 4)).toMatchObject({ reason: "unbacked", pa: 0x10n });
    expect(data.writeU8(MIB + MIB / 2, 5)).toEqual({ ok: true, done: 1 });
    expect(memory.readU8(MIB / 2)).toBe(5);
    expect(data.writeU8(3 * MIB, 5)).toMatchObject({ reason: "read-only", pa: 0x200000n });
    memory.dispose();
  });

  it("shows several slots of one MiB in their order", () => {
    const slots = [0, 0x2000, 0x4000, 0x6000, 0x8000].map((gpa) => ({ gpa, size: 0x1000 }));
    const memory = core.createMemory({ slots, a20: false });
    const { data } = core.createAddressSpace(memory, REAL);
    for (const { gpa } of slots) {
      memory.writeU8(gpa, 1 + gpa / 0x1000);
      for (const at of [gpa, MIB + gpa]) expect(data.readU8(at)).toEqual({ ok: true, value: 1 + gpa / 0x1000 });
    }
    memory.dispose();
  });

  it("asks a source for the page of the even MiB, for tables and for data", () => {
    const asked: bigint[] = [];
    const source = {
      readPage(gfn: bigint, into: Uint8Array) {
        asked.push(gfn);
        const view = new DataView(into.buffer, into.byteOffset);
        if (gfn >= 1n && gfn <= 4n) view.setBigUint64(0, ((gfn + 1n) << 12n) | 0x100067n, true);
        else into.fill(7);
        return true;
      },
    };
    const memory = core.createMemory({ source, a20: false });
    const space = core.createAddressSpace(memory, { ...LONG, cr3: MIB + 0x1000 });
    expect(space.data.readU8(0x10)).toEqual({ ok: true, value: 7 });
    expect(asked).toEqual([1n, 2n, 3n, 4n, 5n]);
    memory.dispose();
  });

  it("may get it back and lose it again, at once for spaces, their TLBs and pages that were read", () => {
    const source = {
      readPage(gfn: bigint, into: Uint8Array) {
        into.fill(0);
        // Tables at 4 MiB that map page 0 to itself, others at 5 MiB that map page 0 to page 1.
        const low = Number(gfn & 0xffn);
        const entry = low === 3 ? (gfn < 0x500n ? 0x67n : 0x1067n) : (gfn + 1n) << 12n;
        if (low < 4) new DataView(into.buffer, into.byteOffset).setBigUint64(0, entry | 0x67n, true);
        return gfn >= 0x400n;
      },
    };
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 2 * MIB }], source });
    memory.write(0, Uint8Array.of(1));
    memory.write(0x1000, Uint8Array.of(2));
    const dump = core.createAddressSpace(memory, { ...LONG, cr3: 5 * MIB, tlbEntries: 16 });
    const real = core.createAddressSpace(memory, REAL);
    expect(memory.a20).toBe(true);
    expect(dump.data.readU8(0)).toEqual({ ok: true, value: 2 });
    expect(real.data.readU8(MIB)).toEqual({ ok: true, value: 0 });
    memory.a20 = false;
    expect(dump.data.readU8(0)).toEqual({ ok: true, value: 1 });
    expect(real.data.readU8(MIB)).toEqual({ ok: true, value: 1 });
    memory.a20 = true;
    expect(dump.data.readU8(0)).toEqual({ ok: true, value: 2 });
    expect(real.data.readU8(MIB)).toEqual({ ok: true, value: 0 });
    expect([...memory.read(0, 1), ...memory.read(0x1000, 1)]).toEqual([1, 2]);
    memory.dispose();
  });

  it("may be lost while a page is read, which is read again then", () => {
    let turns = true;
    const source = {
      readPage(gfn: bigint, into: Uint8Array) {
        if (turns) memory.a20 = false;
        turns = false;
        into.fill(0);
        if (gfn < 3n) new DataView(into.buffer, into.byteOffset).setBigUint64(0, ((gfn + 1n) << 12n) | 0x67n, true);
        if (gfn === 3n) new DataView(into.buffer, into.byteOffset).setBigUint64(0, 0x9067n, true);
        return true;
      },
    };
    const memory = core.createMemory({ source });
    const space = core.createAddressSpace(memory, { ...LONG, cr3: MIB });
    // Frame 0x100 has no such entry.
    expect(space.translateFast(0, 0x10, Access.Read)).toBe(0x9010);
    memory.dispose();
  });

  it("is asked for by a boolean", () => {
    expect(() => core.createMemory({ a20: 0 as unknown as boolean })).toThrow(ConfigError);
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 2 * MIB }], a20: true });
    expect(() => {
      memory.a20 = "on" as unknown as boolean;
    }).toThrow(ConfigError);
    memory.writeU8(MIB, 9);
    expect(core.createAddressSpace(memory, REAL).data.readU8(MIB)).toEqual({ ok: true, value: 9 });
    memory.dispose();
  });
});
