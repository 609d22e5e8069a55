/** Saved states of spaces and memories: what is in them, what they go into, and that damage is refused with nothing changed. */
import { describe, expect, it } from "vitest";
import {
  Access,
  ConfigError,
  type CoreMemory,
  type CoreSpace,
  DisposedError,
  loadSync,
  OutOfMemoryError,
  StateError,
  UnsupportedError,
} from "../../src/index.js";
import { crc32 } from "../../src/state/format/checksum.js";
import {
  createMemory,
  createSpace,
  restoreMemory,
  restoreSpace,
  saveMemory,
  saveSpace,
} from "../../src/state/index.js";
import { configOf, MODES, StateGuest, type Step } from "./state-guest.js";

const core = loadSync();
const bytesOf = (buffer: ArrayBuffer) => new Uint8Array(buffer);

/** A space that has seen something: registers of several settings, a TLB with stale entries. */
function usedSpace(mode: (typeof MODES)[number] = "4level", tlbEntries = 16): CoreSpace {
  const guest = StateGuest.make(core, mode, tlbEntries, false);
  for (let index = 0; index < 60; index++) guest.step([index, index * 7, index * 5, index * 3] as Step);
  return guest.space;
}

/** The same bytes with another one, under a checksum that is right. */
function forged(state: Uint8Array, at: number, byte: number): Uint8Array {
  const copy = state.slice();
  copy[at] = byte;
  const sum = crc32(copy.subarray(32), crc32(copy.subarray(0, 28)));
  new DataView(copy.buffer).setUint32(28, sum, true);
  return copy;
}

describe("reading the registers of a space", () => {
  it("gives what its guest would read, after every kind of write", () => {
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x4000 }] });
    const space = core.createAddressSpace(memory, { cr0: -0x7ffefffe + 1, cr3: 0x1000, cr4: 0x20, efer: 0xd00 });
    expect(space.registers).toEqual({ cr0: 0x8001_0003n, cr3: 0x1000n, cr4: 0x20n, efer: 0xd00n, pkru: 0, pkrs: 0 });
    space.writeCr3(0x2000);
    space.setPkru(5);
    space.setPkrs(-1);
    space.update({ cr4: 0xa0 });
    expect(space.registers).toMatchObject({ cr3: 0x2000n, cr4: 0xa0n, pkru: 5, pkrs: 0xffff_ffff });
    expect(space.pdptes).toBeUndefined();
    expect(space.tlbStatistics).toBeUndefined();
    expect(core.createEpt(memory, { eptp: 0x101e }).registers).toBeUndefined();
  });

  it("gives the latched PDPTEs, not those in memory", () => {
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x4000 }] });
    memory.writeU64(0x1000, 0x2001n);
    const space = core.createAddressSpace(memory, { cr0: 0x8001_0001, cr3: 0x1000, cr4: 0x20, efer: 0 });
    memory.writeU64(0x1000, 0x3001n);
    expect(space.pdptes).toEqual([0x2001n, 0n, 0n, 0n]);
    space.writeCr3(0x1000);
    expect(space.pdptes).toEqual([0x3001n, 0n, 0n, 0n]);
    space.update({ pdptes: "live" });
    expect(space.pdptes).toBeUndefined();
  });

  it("counts what its software TLB did, hits apart", () => {
    const { space } = StateGuest.make(core, "4level", 16, false);
    const counts = () => space.tlbStatistics;
    expect(counts()).toEqual({ entries: 16, fills: 0, flushes: 0, drops: 0 });
    for (let time = 0; time < 3; time++) space.translateFast(0, 0x1000, Access.Read);
    expect(counts()).toMatchObject({ fills: 1 });
    space.invlpg(0x1000);
    space.translateFast(0, 0x1000, Access.Read);
    space.writeCr3(0x1_0000);
    expect(counts()).toEqual({ entries: 16, fills: 2, flushes: 1, drops: 1 });
  });
});

describe("a state of a space", () => {
  it.each(MODES)("is equal when it is saved again, in this core or another: %s", (mode) => {
    const space = usedSpace(mode);
    const state = saveSpace(space);
    expect(bytesOf(saveSpace(space))).toEqual(bytesOf(state));
    restoreSpace(space, state);
    expect(bytesOf(saveSpace(space))).toEqual(bytesOf(state));
    const other = loadSync();
    const memory = createMemory(other, saveMemory(space.memory));
    expect(bytesOf(saveSpace(createSpace(other, memory, state)))).toEqual(bytesOf(state));
  });

  it("keeps the stale translations, their names and the registers that the tables cannot tell", () => {
    const { space, memory } = StateGuest.make(core, "4level", 16, false);
    expect(space.translateFast(0, 0x1000, Access.Read)).toBe(0x1_1000);
    memory.writeU64(0x1_3008, 0n);
    const state = saveSpace(space);
    space.writeCr3(0x1_0000);
    expect(space.translateFast(0, 0x1000, Access.Read)).toBeLessThan(0);
    restoreSpace(space, state);
    expect(space.translateFast(0, 0x1000, Access.Read)).toBe(0x1_1000);
    space.invlpg(0x1000);
    expect(space.translateFast(0, 0x1000, Access.Read)).toBeLessThan(0);
  });

  it("has EPT and NPT, and spaces behind them", () => {
    const guest = StateGuest.make(core, "4level", 0, true);
    const { secondStage } = guest.space.configuration.config as unknown as { secondStage: CoreSpace };
    const state = saveSpace(guest.space);
    const stage = createSpace(core, guest.memory, saveSpace(secondStage));
    expect(stage.configuration).toEqual(secondStage.configuration);
    const again = createSpace(core, guest.memory, state, { secondStage: stage });
    expect(again.translate(0x1000)).toEqual(guest.space.translate(0x1000));
    expect(() => createSpace(core, guest.memory, state)).toThrow(StateError);
    const npt = core.createNpt(guest.memory, { ncr3: 0x1_0000 });
    const other = core.createNpt(guest.memory, { ncr3: 0x2_0000, maxPhysAddr: 40 });
    restoreSpace(other, saveSpace(npt));
    expect(other.configuration).toEqual(npt.configuration);
    expect(other.translate(0x1000)).toEqual(npt.translate(0x1000));
    expect(() => restoreSpace(other, saveSpace(secondStage))).toThrow(StateError);
  });

  it("has what results say besides rights, of both stages", () => {
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x10000 }] });
    for (const table of [0x1000n, 0x2000n, 0x3000n]) memory.writeU64(table, (table + 0x1000n) | 7n);
    for (let page = 0n; page < 16n; page++) memory.writeU64(0x4000n + 8n * page, (page << 12n) | 7n);
    const registers = { cr0: 0x80010001n, cr3: 0x1000n, cr4: 0x20n, efer: 0xd00n };
    const [WB, WT] = [0x06n, 0x04n];
    const mtrrs = { defType: WB | 0x800n, variable: [{ base: WT | 0x8000n, mask: 0xffff_ffff_f800n | 0x800n }] };
    const npt = core.createNpt(memory, { ncr3: 0x1000n, pat: WB, mtrrs });
    const config = { ...registers, pat: WB, memoryEncryption: { kind: "sev", cBit: 51 } } as const;
    const space = core.createAddressSpace(memory, { ...config, secondStage: npt });
    const wanted = space.translate(0x8000);
    expect(wanted).toMatchObject({ effectiveMemoryType: "WT", shared: true });
    const stage = core.createNpt(memory, { ncr3: 0x1000n });
    const other = core.createAddressSpace(memory, { ...registers, secondStage: stage });
    expect(other.translate(0x8000)).not.toHaveProperty("shared");
    restoreSpace(other, saveSpace(space));
    expect(other.translate(0x8000)).not.toHaveProperty("effectiveMemoryType");
    restoreSpace(stage, saveSpace(npt));
    expect(other.translate(0x8000)).toEqual(wanted);
    expect(createSpace(core, memory, saveSpace(space), { secondStage: npt }).translate(0x8000)).toEqual(wanted);

    const empty = core.createMemory({ slots: [{ gpa: 0, size: 0x2000 }] });
    const ept = core.createEpt(empty, { eptp: 0x101en, violationExceptions: true, advancedExitInformation: true });
    const plain = core.createEpt(empty, { eptp: 0x101en });
    expect(plain.translate(0)).not.toHaveProperty("convertible");
    restoreSpace(plain, saveSpace(ept));
    expect(plain.translate(0)).toEqual(ept.translate(0));
    expect(plain.translate(0)).toMatchObject({ convertible: true });
  });

  it("makes a space of PDPTEs without looking at their table", () => {
    const { space } = StateGuest.make(core, "pae", 16, false);
    const empty = core.createMemory({ slots: [{ gpa: 0, size: 0x4_0000 }] });
    const again = createSpace(core, empty, saveSpace(space));
    expect(again.pdptes).toEqual(space.pdptes);
    expect(bytesOf(saveSpace(again))).toEqual(bytesOf(saveSpace(space)));
  });

  it("is taken from every kind of buffer, and from nothing else", () => {
    const space = usedSpace();
    const state = saveSpace(space);
    const shared = new Uint8Array(new SharedArrayBuffer(state.byteLength + 8), 8);
    shared.set(bytesOf(state));
    for (const one of [state, bytesOf(state), new DataView(state), shared]) restoreSpace(space, one);
    for (const wrong of [undefined, null, "", {}, [], 5]) {
      expect(() => restoreSpace(space, wrong as never)).toThrow(TypeError);
      expect(() => saveSpace(wrong as never)).toThrow(ConfigError);
      expect(() => saveMemory(wrong as never)).toThrow(ConfigError);
    }
    space.dispose();
    expect(() => saveSpace(space)).toThrow(DisposedError);
    expect(() => restoreSpace(space, state)).toThrow(DisposedError);
  });

  it("goes into a space of the same kind with the same TLB only", () => {
    const state = saveSpace(usedSpace("4level", 16));
    const { memory } = StateGuest.make(core, "4level", 0, false);
    for (const tlbEntries of [0, 32]) {
      const space = core.createAddressSpace(memory, configOf("4level", tlbEntries));
      expect(() => restoreSpace(space, state)).toThrow(/TLB of 16 entries, expected/);
    }
    expect(() => restoreSpace(core.createEpt(memory, { eptp: 0x101e }), state)).toThrow(StateError);
    expect(() => restoreSpace(usedSpace(), saveMemory(memory))).toThrow(/a memory, expected an address space/);
    expect(() => createMemory(core, state)).toThrow(/an address space, expected a memory/);
  });
});

describe("a damaged state is refused with nothing changed", () => {
  const target = usedSpace();
  const before = saveSpace(target);
  const state = bytesOf(saveSpace(usedSpace("pae", 16)));
  const memory = core.createMemory({
    slots: [
      { gpa: 0, size: 0x4000 },
      { gpa: 0x8000, size: 0x1000, readOnly: true },
    ],
  });
  const memoryState = bytesOf(saveMemory(memory, { ram: true }));
  const refuses = (damaged: Uint8Array) => expect(() => restoreSpace(target, damaged)).toThrow(StateError);

  it("cut at any length, or longer", () => {
    for (let length = 0; length < state.length; length++) refuses(state.slice(0, length));
    refuses(Uint8Array.of(...state, 0));
    for (let length = 0; length < memoryState.length; length += 1 + (length >> 6)) {
      expect(() => restoreMemory(memory, memoryState.slice(0, length))).toThrow(StateError);
    }
    expect(bytesOf(saveSpace(target))).toEqual(bytesOf(before));
    expect(bytesOf(saveMemory(memory, { ram: true }))).toEqual(memoryState);
  });

  it("with any byte changed", () => {
    for (let at = 0; at < state.length; at++) {
      for (const flip of [1, 0x80]) {
        const copy = state.slice();
        copy[at] = copy[at]! ^ flip;
        refuses(copy);
      }
    }
    expect(bytesOf(saveSpace(target))).toEqual(bytesOf(before));
  });

  it.each([
    [8, "format"],
    [12, "layout"],
    [16, "kind"],
    [20, "kernel"],
  ])("of another version: byte %i is the %s", (at, what) => {
    expect(() => restoreSpace(target, forged(state, at, 0xee))).toThrow(what);
    expect(bytesOf(saveSpace(target))).toEqual(bytesOf(before));
  });

  it("or taken as one that could be, whatever single byte a forger writes", () => {
    const kinds = (["pae", "4level", "lenient"] as const).map((mode) => usedSpace(mode));
    for (const [number, space] of kinds.entries()) {
      const good = saveSpace(space);
      const bytes = bytesOf(good);
      for (let at = 32; at < bytes.length; at++) {
        tryForged(space, forged(bytes, at, [0, 1, 0x7f, 0x80, 0xff][(at + number) % 5]!));
      }
      restoreSpace(space, good);
      expect(bytesOf(saveSpace(space))).toEqual(bytes);
    }
  });

  it("or several bytes", () => {
    const random = generator(7);
    for (const space of MODES.map((mode) => usedSpace(mode))) {
      const bytes = bytesOf(saveSpace(space));
      for (let run = 0; run < 150; run++) {
        let copy: Uint8Array = bytes;
        for (let count = random(6); count >= 0; count--) {
          copy = forged(copy, 32 + random(bytes.length - 32), random(3) === 0 ? 0xff : random(256));
        }
        tryForged(space, copy);
      }
    }
  });

  /** Refused with nothing changed, or taken; then it is used, and everything of the core is where it was. */
  function tryForged(space: CoreSpace, state: Uint8Array): void {
    const now = bytesOf(saveSpace(space));
    const neighbour = core.internals().linear.u8.slice(memory.pointer, memory.pointer + 64);
    try {
      restoreSpace(space, state);
    } catch (error) {
      expect(error).toBeInstanceOf(StateError);
      expect(bytesOf(saveSpace(space))).toEqual(now);
      return;
    }
    for (const address of [0, 0x1000, 0x9000]) space.translateFast(0, address, Access.Write);
    for (const pcid of [1, 2, 3]) space.invpcid.call(space, 2, 0, pcid);
    space.setPkru(0);
    expect(core.internals().linear.u8.slice(memory.pointer, memory.pointer + 64)).toEqual(neighbour);
    expect(memory.slots).toHaveLength(2);
  }
});

describe("a state of a memory", () => {
  const own = new WebAssembly.Memory({ initial: 64 });
  const region = { base: 0x10000, size: 0x10_0000 };
  const embedded = loadSync(undefined, { memory: own, region });

  it("has its slots and the gate, and bytes only of RAM that it made, if asked for", () => {
    const slots = [
      { gpa: 0, size: 0x4000 },
      { gpa: 0x10_0000, size: 0x1000, linear: 0x20_0000, readOnly: true },
    ];
    const memory = embedded.createMemory({ slots, a20: false });
    memory.writeU64(0x1000, 5n);
    memory.writeU64(0x10_0000, 6n);
    const [without, withRam] = [saveMemory(memory), saveMemory(memory, { ram: true })];
    expect(withRam.byteLength - without.byteLength).toBeLessThan(4096 + 64);
    for (const [state, value] of [
      [without, 0n],
      [withRam, 5n],
    ] as const) {
      const again = createMemory(embedded, state);
      expect(again.a20).toBe(false);
      expect(again.slots.map(({ gpa, size, readOnly }) => ({ gpa, size, readOnly }))).toEqual(
        memory.slots.map(({ gpa, size, readOnly }) => ({ gpa, size, readOnly })),
      );
      expect(again.readU64(0x1000)).toBe(value);
      expect(again.readU64(0x10_0000)).toBe(6n);
      expect(bytesOf(saveMemory(again, { ram: state === withRam }))).toEqual(bytesOf(state));
      again.dispose();
    }
    memory.dispose();
  });

  it("brings slots back in place, and keeps the bytes of those that are the same", () => {
    const memory = core.createMemory({
      slots: [
        { gpa: 0, size: 0x2000 },
        { gpa: 0x10000, size: 0x1000 },
      ],
    });
    memory.writeU64(0, 1n);
    const state = saveMemory(memory);
    memory.writeU64(8, 2n);
    memory.removeSlot(0x10000);
    memory.addSlot({ gpa: 0x20000, size: 0x1000 });
    memory.a20 = false;
    restoreMemory(memory, state);
    expect(memory.slots.map(({ gpa }) => gpa)).toEqual([0n, 0x10000n]);
    expect([memory.readU64(0), memory.readU64(8), memory.a20]).toEqual([1n, 2n, true]);
  });

  it("needs a source where there was one, and reads it anew", () => {
    let value = 1;
    const source = {
      readPage: (_gfn: bigint, into: Uint8Array) => {
        into.fill(value);
        return true;
      },
    };
    const memory = core.createMemory({ source, cachedPages: 100 });
    const state = saveMemory(memory);
    expect(() => createMemory(core, state)).toThrow(/with a source/);
    expect(() => restoreMemory(core.createMemory({}), state)).toThrow(/100 pages kept, expected no source/);
    expect(() => restoreMemory(core.createMemory({ source }), state)).toThrow(StateError);
    value = 2;
    restoreMemory(memory, state);
    expect(createMemory(core, state, { source }).read(0, 1)).toEqual(Uint8Array.of(2));
  });

  it("is refused where its RAM is not the host's here, is too much, or would be a window", () => {
    const memory = embedded.createMemory({ slots: [{ gpa: 0, size: 0x1000, linear: 0x20_0000 }] });
    const state = saveMemory(memory);
    memory.dispose();
    const elsewhere = new WebAssembly.Memory({ initial: 64 });
    const other = loadSync(undefined, { memory: elsewhere, region: { base: 0x20_0000, size: 0x10_0000 } });
    expect(() => createMemory(other, state)).toThrow(StateError);
    const large = core.createMemory({ slots: [{ gpa: 0, size: 0x20_0000 }] });
    expect(() => createMemory(embedded, saveMemory(large))).toThrow(OutOfMemoryError);
    const window = core.createMemory({ slots: [{ gpa: 0, size: 0x1000, linear: 0, window: true }] });
    expect(() => saveMemory(window)).toThrow(UnsupportedError);
  });

  it("is refused with nothing changed, whatever byte a forger writes", () => {
    const memory: CoreMemory = core.createMemory({
      slots: [
        { gpa: 0, size: 0x1000 },
        { gpa: 0x4000, size: 0x2000 },
      ],
    });
    const state = bytesOf(saveMemory(memory));
    for (let at = 32; at < state.length; at++) {
      for (const byte of [at % 2 === 0 ? 1 : 0x80]) {
        const before = bytesOf(saveMemory(memory));
        try {
          restoreMemory(memory, forged(state, at, byte));
        } catch (error) {
          expect(error instanceof StateError || error instanceof OutOfMemoryError).toBe(true);
          expect(bytesOf(saveMemory(memory))).toEqual(before);
        }
      }
    }
  });
});

function generator(seed: number): (most: number) => number {
  let state = seed;
  return (most) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % most;
  };
}
