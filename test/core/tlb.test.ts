/** The software TLB: what it keeps, and what each architected event invalidates. */
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { Access } from "../../src/abi/index.js";
import type { AddressSpaceConfig } from "../../src/api.js";
import { type CoreMemory, type CoreSpace, loadSync } from "../../src/core/index.js";
import { ConfigError, GeneralProtectionError } from "../../src/errors.js";

const core = loadSync();
const RAM = 0x20000;
/** Two roots over one level-3, level-2 and level-1 table each. */
const ROOTS = [0x1000n, 0x5000n] as const;
const P = 0x27n; // P, RW, US, A: dirty is set by writes
const DIRTY = 0x40n;
const GLOBAL = 0x100n;
const PS = 0x80n;
const CR4 = {
  pae: 0x20n,
  pge: 0x80n,
  pcide: 0x20000n,
  smep: 0x100000n,
  smap: 0x200000n,
  pke: 0x400000n,
  lass: 0x8000000n,
};
const REGISTERS = {
  cr0: 0x80010001n,
  cr3: ROOTS[0],
  cr4: CR4.pae | CR4.pge | CR4.pcide,
  efer: 0xd00n,
} satisfies AddressSpaceConfig;
const NO_FLUSH = 1n << 63n;

function tables(): CoreMemory {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: RAM }] });
  for (const root of ROOTS) {
    memory.writeU64(root, (root + 0x1000n) | P);
    memory.writeU64(root + 0x1000n, (root + 0x2000n) | P);
    memory.writeU64(root + 0x2000n, (root + 0x3000n) | P);
  }
  return memory;
}

/** The level-1 entry of page `page` under root `root`. */
const leafAt = (root: bigint, page: number) => root + 0x3000n + BigInt(page * 8);
/** The level-2 entry that may map 2 MiB at 0x200000. */
const largeAt = (root: bigint) => root + 0x2008n;

function access(space: CoreSpace, address: bigint, kind: number = Access.Read): number {
  return space.translateFast(Number(address >> 32n), Number(address & 0xffffffffn), kind);
}

describe("the software TLB", () => {
  let memory: CoreMemory;
  let space: CoreSpace;
  const map = (page: number, frame: bigint, bits = 0n, root: bigint = ROOTS[0]) =>
    memory.writeU64(leafAt(root, page), (frame << 12n) | P | bits);
  const at = (page: number, kind: number = Access.Read) => access(space, BigInt(page) << 12n, kind);
  const make = (changes: Partial<AddressSpaceConfig> = {}) => {
    space = core.createAddressSpace(memory, { ...REGISTERS, tlbEntries: 64, ...changes });
  };

  beforeEach(() => {
    memory = tables();
    make();
    map(0, 0x100n);
    expect(at(0)).toBe(0x100000);
    map(0, 0x200n);
  });

  it.each<[string, Partial<AddressSpaceConfig>]>([
    ["maxPhysAddr", { maxPhysAddr: 45 }],
    ["cpu", { cpu: { page1g: false } }],
    ["rules", { rules: "kvm-6.1" }],
    ["encryptionMask", { encryptionMask: 1n << 39n }],
    ["memoryEncryption", { memoryEncryption: { kind: "sev", cBit: 39 } }],
    ["lenient", { lenient: true }],
  ])("drops everything where %s becomes another, which no processor can do", (_, change) => {
    expect(at(0)).toBe(0x100000);
    space.update(change);
    expect(at(0)).toBe(0x200000);
  });

  it("keeps a translation until it is invalidated", () => {
    expect(at(0)).toBe(0x100000);
    space.invlpg(0x123n);
    expect(at(0)).toBe(0x200000);
  });

  it("is not there by default", () => {
    make({ tlbEntries: 0 });
    expect(at(0)).toBe(0x200000);
    map(0, 0x300n);
    expect(at(0)).toBe(0x300000);
  });

  it("CR3 writes drop the new PCID's entries, with bit 63 none", () => {
    space.writeCr3(ROOTS[0] | NO_FLUSH);
    expect(at(0)).toBe(0x100000);
    space.writeCr3(ROOTS[0] | 1n);
    space.writeCr3(ROOTS[0] | NO_FLUSH);
    expect(at(0)).toBe(0x100000);
    space.writeCr3(ROOTS[0]);
    expect(at(0)).toBe(0x200000);
  });

  it("entries of one PCID are not used in another", () => {
    space.writeCr3(ROOTS[0] | 5n | NO_FLUSH);
    expect(at(0)).toBe(0x200000);
  });

  it("bit 63 without PCIDs is #GP, and changes nothing", () => {
    make({ cr4: CR4.pae });
    expect(() => space.writeCr3(ROOTS[1] | NO_FLUSH)).toThrow(GeneralProtectionError);
    expect(at(0)).toBe(0x200000);
  });

  it("global pages outlive CR3 writes, are seen by every PCID, and go by INVLPG", () => {
    map(1, 0x101n, GLOBAL);
    at(1);
    map(1, 0x201n, GLOBAL);
    space.writeCr3(ROOTS[0] | 3n);
    expect(at(1)).toBe(0x101000);
    space.invlpg(0x1000n);
    expect(at(1)).toBe(0x201000);
  });

  it("the global bit means nothing with CR4.PGE clear", () => {
    make({ cr4: CR4.pae | CR4.pcide });
    map(1, 0x101n, GLOBAL);
    at(1);
    map(1, 0x201n, GLOBAL);
    space.writeCr3(ROOTS[0]);
    expect(at(1)).toBe(0x201000);
  });

  it("INVLPG drops a larger page by any of its addresses", () => {
    memory.writeU64(largeAt(ROOTS[0]), 0x400000n | P | PS);
    expect([0x200000n, 0x3ff000n].map((one) => access(space, one))).toEqual([0x400000, 0x5ff000]);
    memory.writeU64(largeAt(ROOTS[0]), 0x800000n | P | PS);
    expect(access(space, 0x200000n)).toBe(0x400000);
    space.invlpg(0x2ab000n);
    expect([0x200000n, 0x3ff000n].map((one) => access(space, one))).toEqual([0x800000, 0x9ff000]);
  });

  it.each([
    ["0, the address in the PCID", 0, 0, 0n, [true, false, false]],
    ["0, in another PCID", 0, 1, 0n, [false, false, false]],
    ["0, a global page", 0, 0, 0x1000n, [false, false, false]],
    ["1, the PCID", 1, 0, 0n, [true, false, true]],
    ["1, another PCID", 1, 1, 0n, [false, false, false]],
    ["2, everything", 2, 0, 0n, [true, true, true]],
    ["3, everything but global pages", 3, 0, 0n, [true, false, true]],
  ] as const)("INVPCID type %s", (_, type, pcid, address, dropped) => {
    map(0, 0x100n);
    map(1, 0x101n, GLOBAL);
    map(2, 0x102n);
    space.invpcid(2, 0);
    for (const page of [0, 1, 2]) at(page);
    map(0, 0x200n);
    map(1, 0x201n, GLOBAL);
    map(2, 0x202n);
    space.invpcid(type, pcid, address);
    const fresh = [0, 1, 2].map((page) => at(page) === (0x200 + page) * 4096);
    expect(fresh).toEqual(dropped);
  });

  it("INVPCID refuses what the instruction does", () => {
    expect(() => space.invpcid(4, 0)).toThrow(GeneralProtectionError);
    expect(() => space.invpcid(1, 4096)).toThrow(GeneralProtectionError);
    expect(() => space.invpcid(0, 0, 1n << 62n)).toThrow(GeneralProtectionError);
    make({ cr4: CR4.pae });
    expect(() => space.invpcid(1, 1)).toThrow(GeneralProtectionError);
  });

  it.each([
    ["CR4.PGE", { cr4: CR4.pae | CR4.pcide }],
    ["CR4.PCIDE", { cr4: CR4.pae | CR4.pge }],
    ["CR4.PSE", { cr4: REGISTERS.cr4 | 0x10n }],
    ["CR4.SMEP from 0 to 1", { cr4: REGISTERS.cr4 | CR4.smep }],
    ["EFER.NXE", { efer: 0x500n }],
  ])("a change of %s drops everything, global pages too", (_, changes) => {
    map(1, 0x101n, GLOBAL);
    at(1);
    map(1, 0x201n, GLOBAL);
    space.update(changes);
    expect([at(0), at(1)]).toEqual([0x200000, 0x201000]);
  });

  it("an update that loads CR3 drops the PCID's translations, the same CR3 too; one that does not keeps them", () => {
    map(1, 0x101n, GLOBAL);
    expect(at(1)).toBe(0x101000);
    map(1, 0x201n, GLOBAL);
    space.update({ pkru: 0 });
    expect([at(0), at(1)]).toEqual([0x100000, 0x101000]);
    space.update({ cr3: REGISTERS.cr3 });
    expect([at(0), at(1)]).toEqual([0x200000, 0x101000]);
  });

  it("a change of CR0.PG and back drops everything", () => {
    map(0, 0x100n);
    make({ cr4: CR4.pae | CR4.pge });
    expect(at(0)).toBe(0x100000);
    map(0, 0x200n);
    const off = { cr0: 0x10001n, efer: 0x800n };
    space.update(off);
    expect(at(0)).toBe(0);
    space.update({ cr0: REGISTERS.cr0, efer: REGISTERS.efer });
    expect(at(0)).toBe(0x200000);
  });

  it("CR0.WP, CR4.SMAP and PKRU are applied at the hit, and drop nothing", () => {
    for (const changes of [{ cr0: 0x80000001n }, { cr4: REGISTERS.cr4 | CR4.smap }]) {
      space.update(changes);
      expect(at(0, Access.User)).toBe(0x100000);
    }
    expect(at(0)).toBeLessThan(0);
    make({ cr4: REGISTERS.cr4 | CR4.pke });
    map(3, 0x103n, (2n << 59n) | DIRTY);
    expect(at(3, Access.User | Access.Write)).toBe(0x103000);
    space.update({ pkru: 2 << 4 });
    expect(at(3, Access.User | Access.Write)).toBeLessThan(0);
    expect(at(3, Access.User)).toBe(0x103000);
  });

  it("CPL and AC are those of the access", () => {
    make({ cr4: REGISTERS.cr4 | CR4.smap });
    map(1, 0x101n);
    expect(at(1, Access.User)).toBe(0x101000);
    expect(at(1)).toBeLessThan(0);
    expect(at(1, Access.Ac)).toBe(0x101000);
  });

  it("linear-address separation is applied at the hit, and leaves the rest to be found", () => {
    const separated = -1 - (8 << 16);
    map(1, 0x101n, DIRTY);
    make({ cr4: REGISTERS.cr4 | CR4.lass | CR4.smap });
    // By the same tables in the upper half.
    memory.writeU64(ROOTS[0] + 0xff8n, memory.readU64(ROOTS[0]));
    const high = 0xffff_ff80_0000_1000n;
    for (const again of [false, true]) {
      expect(at(1, Access.User)).toBe(0x101000);
      expect(at(1, Access.User | Access.Write)).toBe(0x101000);
      expect(at(1, Access.Ac)).toBe(0x101000);
      expect(access(space, high, Access.Ac)).toBe(0x101000);
      expect(at(1)).toBe(separated);
      expect(at(1, Access.Fetch)).toBe(separated);
      expect(at(1, Access.Implicit)).toBe(separated);
      expect(access(space, high, Access.User)).toBe(separated);
      expect(access(space, 1n << 48n)).toBe(separated);
      expect(access(space, 1n << 48n, Access.User)).toBe(-1 - (2 << 16));
      // What was found is found again, though the tables say something else by now.
      if (again) expect(at(1, Access.User)).toBe(0x101000);
      map(1, 0x102n, DIRTY);
    }
    space.update({ cr4: REGISTERS.cr4 | CR4.lass });
    expect(at(1)).toBe(0x101000);
    expect(at(1, Access.Fetch)).toBe(separated);
    space.update({ cr4: REGISTERS.cr4 });
    expect(at(1, Access.Fetch)).toBe(0x101000);
    expect(access(space, high, Access.User)).toBe(0x101000);
    space.update({ cr4: REGISTERS.cr4 | CR4.lass });
    expect(at(1, Access.Fetch)).toBe(separated);
    expect(access(space, high, Access.User)).toBe(separated);
  });

  it("upper address ignore takes tags away before anything is looked up", () => {
    make({ efer: REGISTERS.efer | (1n << 20n) });
    map(1, 0x101n, DIRTY);
    expect(access(space, (5n << 57n) | 0x1234n)).toBe(0x101234);
    map(1, 0x102n, DIRTY);
    expect(at(1)).toBe(0x101000);
    expect(access(space, 0x1234n, Access.OtherSegment)).toBe(0x101234);
    expect(access(space, (5n << 57n) | 0x1234n, Access.OtherSegment)).toBe(-1 - (2 << 16));
    space.invlpg(0x1000n);
    expect(access(space, (5n << 57n) | 0x1234n)).toBe(0x102234);
  });

  it("a write to a page whose dirty bit was clear walks again, and sets it", () => {
    expect(at(0, Access.Write)).toBe(0x200000);
    expect(memory.readU64(leafAt(ROOTS[0], 0)) & DIRTY).toBe(DIRTY);
  });

  it("faults are not kept", () => {
    expect(at(9)).toBeLessThan(0);
    map(9, 0x109n);
    expect(at(9)).toBe(0x109000);
  });

  it("a fault drops what was kept for the page", () => {
    map(0, 0x300n);
    memory.writeU64(leafAt(ROOTS[0], 0), 0n);
    expect(at(0)).toBe(0x100000);
    // The write walks, as D is clear, and faults.
    expect(at(0, Access.Write)).toBeLessThan(0);
    expect(at(0)).toBeLessThan(0);
  });

  it.each(["auto", "scalar", "phases"] as const)("a fault in a batch does too, kernel %s", (kernel) => {
    memory.writeU64(leafAt(ROOTS[0], 0), 0n);
    const input = new BigUint64Array(32);
    expect(space.translateBatch(input, new BigUint64Array(32), Access.Read | Access.Probe, kernel)).toBe(32);
    expect(at(0)).toBe(0x100000);
    expect(space.translateBatch(input, new BigUint64Array(32), Access.Read, kernel)).toBe(32);
    expect(at(0)).toBeLessThan(0);
  });

  it("a probe neither uses nor fills it", () => {
    expect(at(0, Access.Probe)).toBe(0x200000);
    expect(at(0)).toBe(0x100000);
    memory.writeU64(leafAt(ROOTS[0], 4), 0x104007n);
    at(4, Access.Probe);
    at(4);
    expect(memory.readU64(leafAt(ROOTS[0], 4)) & 0x20n).toBe(0x20n);
  });

  it("addresses that are not canonical never hit", () => {
    for (let bit = 48n; bit < 64n; bit++) expect(access(space, 1n << bit)).toBe(-1 - (2 << 16));
  });

  it.each([0.5, 8, 24, 131072])("%s entries are refused", (tlbEntries) => {
    expect(() => make({ tlbEntries })).toThrow(ConfigError);
  });
});

const PAGES = 3;
const page = fc.integer({ min: 0, max: PAGES - 1 });
const pcid = fc.integer({ min: 0, max: 2 });
const rootIndex = fc.integer({ min: 0, max: 1 });
const step = fc.oneof(
  {
    weight: 16,
    arbitrary: fc.record({ op: fc.constant("access" as const), page, kind: fc.integer({ min: 0, max: 5 }) }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constant("edit" as const),
      page,
      root: rootIndex,
      bits: fc.constantFrom(0x27n, 0x67n, 0x127n, 0x67n, 0x167n, 0x25n, 0x23n, 0x0n, 0x7n, 0x163n, 0x27n | (1n << 63n)),
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("cr3" as const), root: rootIndex, pcid, keep: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("invlpg" as const), page }) },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant("invpcid" as const), type: fc.integer({ min: 0, max: 3 }), pcid, page }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant("cr4" as const), bit: fc.constantFrom(CR4.pge, CR4.smep, CR4.smap) }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("wp" as const) }) },
);
const KINDS = [Access.Ac, Access.Write, Access.Fetch, Access.User, Access.User | Access.Write, 0];

/** A time during which tables and root stayed the same: what an entry made then may say. */
interface Epoch {
  readonly pcid: number;
  readonly root: bigint;
  readonly tables: Uint8Array;
  readonly pge: boolean;
}

/** What may be kept, by the architecture: every epoch since the last invalidation that covers a page. */
class Model {
  readonly epochs: Epoch[] = [];
  readonly #single = new Map<string, number>();
  readonly #global = new Map<number, number>();

  /** Invalidates; a new epoch has to be pushed afterwards. */
  drop(pcids: readonly number[], pages: readonly number[], global: boolean): void {
    for (const one of pages) {
      for (const id of pcids) this.#single.set(`${id} ${one}`, this.epochs.length);
      if (global) this.#global.set(one, this.epochs.length);
    }
  }

  /** Epochs whose translation of `page` may still be in use under `id`, and whether only a global one may. */
  *usable(id: number, at: number): Iterable<{ epoch: Epoch; onlyGlobal: boolean }> {
    for (const [index, epoch] of this.epochs.entries()) {
      if (epoch.pcid === id && index >= (this.#single.get(`${id} ${at}`) ?? 0)) yield { epoch, onlyGlobal: false };
      else if (epoch.pge && index >= (this.#global.get(at) ?? 0)) yield { epoch, onlyGlobal: true };
    }
  }
}

describe("random table edits, invalidations and register changes", () => {
  it("never show an entry that the architecture forbids", { timeout: 60_000 }, () => {
    const seen = { stale: 0, fresh: 0 };
    const everyPcid = [0, 1, 2];
    const everyPage = Array.from({ length: PAGES }, (_, index) => index);
    const property = fc.property(fc.array(step, { minLength: 30, maxLength: 90 }), (steps) => {
      const memory = tables();
      for (const root of ROOTS)
        for (const at of everyPage) memory.writeU64(leafAt(root, at), (BigInt(at + 0x80) << 12n) | P);
      const past = core.createMemory({ slots: [{ gpa: 0, size: RAM }] });
      const registers: { cr0: bigint; cr3: bigint; cr4: bigint; efer: bigint } = { ...REGISTERS };
      const space = core.createAddressSpace(memory, { ...registers, tlbEntries: 16 });
      const model = new Model();
      const id = () => Number(registers.cr3 & 0xfffn);
      const push = () =>
        model.epochs.push({
          pcid: id(),
          root: registers.cr3 & ~0xfffn,
          tables: memory.read(0, 0x9000),
          pge: (registers.cr4 & CR4.pge) !== 0n,
        });
      const evaluate = (bytes: Uint8Array, root: bigint, address: number, kind: number) => {
        past.write(0, bytes);
        const fresh = core.createAddressSpace(past, { ...registers, cr3: root });
        const result = fresh.translate(address, kind | Access.Probe);
        fresh.dispose();
        return result;
      };
      push();
      let frame = 0x100n;
      for (const one of steps) {
        if (one.op === "edit") {
          memory.writeU64(leafAt(ROOTS[one.root]!, one.page), (frame++ << 12n) | one.bits);
        } else if (one.op === "cr3") {
          registers.cr3 = ROOTS[one.root]! | BigInt(one.pcid);
          space.writeCr3(registers.cr3 | (one.keep ? NO_FLUSH : 0n));
          if (!one.keep) model.drop([one.pcid], everyPage, false);
        } else if (one.op === "invlpg") {
          space.invlpg(one.page * 4096);
          model.drop([id()], [one.page], true);
        } else if (one.op === "invpcid") {
          space.invpcid(one.type, one.pcid, one.page * 4096);
          if (one.type === 0) model.drop([one.pcid], [one.page], false);
          else model.drop(one.type === 1 ? [one.pcid] : everyPcid, everyPage, one.type === 2);
        } else if (one.op === "cr4") {
          registers.cr4 ^= one.bit;
          space.update({ cr4: registers.cr4 });
          const set = (registers.cr4 & one.bit) !== 0n;
          if (one.bit === CR4.pge || (one.bit === CR4.smep && set)) model.drop(everyPcid, everyPage, true);
        } else if (one.op === "wp") {
          registers.cr0 ^= 0x10000n;
          space.update({ cr0: registers.cr0 });
        } else {
          const kind = KINDS[one.kind]!;
          const address = one.page * 4096 + 0x18;
          const now = evaluate(memory.read(0, 0x9000), registers.cr3 & ~0xfffn, address, kind);
          const got = space.translateFast(0, address, kind);
          if (now.ok ? got === Number(now.pa) : got === -1 - ((now.status << 16) | Number(now.errorCode))) {
            seen.fresh++;
            // A fault drops the page; a walk may have set bits.
            if (!now.ok) model.drop([id()], [one.page], true);
          } else {
            const allowed = [...model.usable(id(), one.page)].some(({ epoch, onlyGlobal }) => {
              const then = evaluate(epoch.tables, epoch.root, address, kind);
              return then.ok && Number(then.pa) === got && (then.global || !onlyGlobal);
            });
            expect(allowed).toBe(true);
            seen.stale++;
          }
        }
        push();
      }
      space.dispose();
      memory.dispose();
      past.dispose();
    });
    fc.assert(property, { seed: 4, numRuns: 400 });
    expect(seen.stale).toBeGreaterThan(100);
    expect(seen.fresh).toBeGreaterThan(1000);
  });
});
