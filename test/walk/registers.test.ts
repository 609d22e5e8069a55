/** Which registers a processor takes (SDM vol. 3, "Control Registers"; "Checks on Guest Control Registers"), for both engines. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/access.js";
import { Status } from "../../src/abi/status.js";
import type { AddressSpaceConfig } from "../../src/api.js";
import { ConfigError, GeneralProtectionError, VmEntryError } from "../../src/errors.js";
import {
  A,
  CR0,
  CR4,
  chain,
  EPT_ROOT,
  EPTP,
  engine,
  eptIdentity,
  eptLeafOf,
  eptSpace,
  errorCode,
  longMode,
  machine,
  P,
  PAGE,
  PD,
  PDPT,
  PML4,
  PT,
  RWX,
  ram,
  U,
  W,
} from "./build.js";

const bit = (n: number) => 1n << BigInt(n);
const PCIDE = bit(17);
const LAM_SUP = bit(28);
const LA57 = bit(12);
const create = (changes: Partial<AddressSpaceConfig>) => {
  const memory = ram();
  chain(memory);
  return engine.createAddressSpace(memory, longMode(changes));
};

describe("CR3 that MOV loads", () => {
  it("has no bits at or above MAXPHYADDR in long mode", () => {
    for (const n of [40, 51, 52, 60]) {
      expect(() => create({ cr3: PML4 | bit(n), maxPhysAddr: 40 }), `bit ${n}`).toThrow(GeneralProtectionError);
    }
    expect(create({ cr3: PML4 | bit(45), maxPhysAddr: 40, encryptionMask: bit(45) }).translate(0).ok).toBe(true);
    expect(create({ cr3: PML4 | bit(45) | bit(63), maxPhysAddr: 40, lenient: true }).mode).toBe("4level");
  });

  it("has bits 62:61 where the processor has LAM", () => {
    for (const n of [61, 62]) {
      expect(create({ cr3: PML4 | bit(n) }).translate(0).ok).toBe(true);
      expect(create({ cr3: PML4 | bit(n), cpu: { lam: true } }).translate(bit(62)).ok).toBe(true);
      expect(() => create({ cr3: PML4 | bit(n), cpu: { lam: false } }), `bit ${n}`).toThrow(GeneralProtectionError);
      const lenient = create({ cr3: PML4 | bit(n), cpu: { lam: false }, lenient: true });
      expect(lenient.translate(bit(62))).toMatchObject({ status: Status.NonCanonical });
    }
    const supervisor = create({ cr4: CR4.pae | LAM_SUP, cpu: { lam: false }, lenient: true });
    expect(supervisor.translate(bit(63))).toMatchObject({ status: Status.NonCanonical });
  });

  it("has bit 63 with CR4.PCIDE only", () => {
    expect(create({ cr3: PML4 | bit(63), cr4: CR4.pae | PCIDE }).translate(0).ok).toBe(true);
    expect(() => create({ cr3: PML4 | bit(63) })).toThrow(GeneralProtectionError);
  });

  it("has 32 bits outside long mode: what is above them is nobody's", () => {
    for (const cr4 of [0n, CR4.pae]) {
      const memory = ram();
      memory.writeU64(PDPT, PD | P);
      const space = engine.createAddressSpace(memory, {
        ...longMode({ cr4, efer: 0n }),
        cr3: PDPT | bit(45) | bit(63),
        maxPhysAddr: 40,
      });
      expect(space.mode).toBe(cr4 === 0n ? "32bit" : "pae");
    }
  });
});

describe("CR3 at VM entry", () => {
  it.each<[string, Partial<AddressSpaceConfig>]>([
    ["without paging", { cr0: 1n, cr4: 0n, efer: 0n }],
    ["in 32-bit paging", { cr4: 0n, efer: 0n }],
    ["in PAE paging", { efer: 0n }],
    ["in 4-level paging", {}],
  ])("is refused with bits at or above MAXPHYADDR %s", (_, mode) => {
    const enter = (cr3: bigint, changes: Partial<AddressSpaceConfig> = {}) =>
      create({ ...mode, cr3, maxPhysAddr: 40, loadedBy: "vm-entry", ...changes });
    for (const n of [40, 51, 60, 63]) expect(() => enter(PDPT | bit(n)), `bit ${n}`).toThrow(VmEntryError);
    expect(() => enter(PDPT | bit(61), { cpu: { lam: false } })).toThrow(VmEntryError);
    const pdpteValues = mode.efer === 0n ? ([0n, 0n, 0n, 0n] as const) : undefined;
    const values = pdpteValues === undefined ? {} : { pdpteValues };
    expect(() => enter(PDPT | bit(39), values)).not.toThrow();
    expect(() => enter(PDPT | bit(61), values)).not.toThrow();
  });

  it("knows no order in bit 63, whatever CR4.PCIDE", () => {
    const cr4 = CR4.pae | PCIDE;
    expect(() => create({ cr3: PML4 | bit(63), cr4, loadedBy: "vm-entry" })).toThrow(VmEntryError);
  });
});

describe("CR4", () => {
  it("has PCIDE in long mode only", () => {
    for (const mode of [{ cr0: 1n, efer: 0n }, { efer: 0n }]) {
      expect(() => create({ ...mode, cr4: CR4.pae | PCIDE })).toThrow(ConfigError);
    }
  });

  it("has LAM_SUP and LA57 where the processor has them", () => {
    expect(() => create({ cr4: CR4.pae | LAM_SUP, cpu: { lam: false } })).toThrow(GeneralProtectionError);
    expect(() => create({ cr4: CR4.pae | LA57, cpu: { la57: false } })).toThrow(GeneralProtectionError);
    expect(create({ cr4: CR4.pae | LA57 }).mode).toBe("5level");
    expect(create({ cr4: CR4.pae, cpu: { la57: false, lam: false } }).mode).toBe("4level");
  });

  it("has CET where the processor has it, and with CR0.WP only", () => {
    const cr4 = CR4.pae | CR4.cet;
    expect(create({ cr4 }).translate(0).ok).toBe(true);
    expect(() => create({ cr4, cpu: { cet: false } })).toThrow(GeneralProtectionError);
    expect(create({ cpu: { cet: false } }).mode).toBe("4level");
    expect(() => create({ cr4, cr0: CR0.base })).toThrow(GeneralProtectionError);
    expect(() => create({ cr4, cr0: CR0.base, loadedBy: "vm-entry" })).toThrow(VmEntryError);
    expect(create({ cr4, cr0: CR0.base, lenient: true }).mode).toBe("4level");
    expect(create({ cr4, cr0: CR0.base, cpu: { cet: false }, lenient: true }).mode).toBe("4level");
  });
});

describe("an EPTP", () => {
  it.each([8, 9, 10, 11])("has no bit %i", (n) => {
    expect(() => eptSpace(ram(), { eptp: EPTP | bit(n) })).toThrow(ConfigError);
  });

  it("has bit 7 where the processor has supervisor shadow-stack control, and none for KVM's guests", () => {
    const eptp = EPTP | bit(7);
    expect(() => eptSpace(ram(), { eptp })).not.toThrow();
    expect(() => eptSpace(ram(), { eptp, shadowStackControl: false })).toThrow(ConfigError);
    expect(() => eptSpace(ram(), { eptp, rules: "kvm-6.1" })).toThrow(ConfigError);
    expect(() => eptSpace(ram(), { shadowStackControl: false })).not.toThrow();
  });

  it("takes bit 6, memory types 0 and 6, and 4 or 5 levels", () => {
    for (const eptp of [EPTP | bit(6), EPTP & ~7n, EPT_ROOT | (4n << 3n) | 6n]) {
      expect(() => eptSpace(ram(), { eptp })).not.toThrow();
    }
  });
});

describe('SDM "Accessed and Dirty Flags": an access that ends in a page fault', () => {
  const tables = [PML4, PDPT, PD, PT];
  const flags = (memory: { readU64(gpa: bigint): bigint }) => tables.map((table) => memory.readU64(table) & A);

  it("sets no flag, or those above the entry at fault", () => {
    const cases: [string, number, number, (memory: ReturnType<typeof ram>) => void, bigint[]][] = [
      ["not present", 2, Access.Read, (memory) => memory.writeU64(PD, PT | W | U), [A, A, 0n, 0n]],
      ["reserved", 3, Access.Read, (memory) => memory.writeU64(PDPT, PD | P | W | U | bit(51)), [A, 0n, 0n, 0n]],
      ["rights", 1, Access.User, (memory) => memory.writeU64(PT, PAGE | P), [A, A, A, 0n]],
    ];
    for (const [name, level, access, edit, set] of cases) {
      for (const accessedOnFault of [undefined, false, true]) {
        const changes = accessedOnFault === undefined ? {} : { accessedOnFault };
        const { space, memory } = machine({ ...changes, maxPhysAddr: 40 }, edit);
        expect(space.translate(0, access | Access.Probe), name).toMatchObject({ ok: false, level });
        expect(space.walk(0, access).result, name).toMatchObject({ ok: false, level });
        expect(flags(memory), name).toEqual([0n, 0n, 0n, 0n]);
        expect(space.translate(0, access), name).toMatchObject({ ok: false, level });
        expect(flags(memory), name).toEqual(accessedOnFault ? set : [0n, 0n, 0n, 0n]);
      }
    }
  });

  it("sets them through the second stage, which may refuse that first", () => {
    const build = (leafRights: bigint) => {
      const memory = ram();
      eptIdentity(memory);
      chain(memory);
      memory.writeU64(PD, PT | W | U);
      memory.writeU64(eptLeafOf(PDPT), PDPT | leafRights | (6n << 3n));
      const secondStage = eptSpace(memory);
      const space = engine.createAddressSpace(memory, longMode({ secondStage, accessedOnFault: true }));
      return { space, memory };
    };
    const open = build(RWX);
    expect(errorCode(open.space.translate(0))).toBe(0);
    expect(flags(open.memory)).toEqual([A, A, 0n, 0n]);
    const closed = build(5n);
    expect(closed.space.translate(0)).toMatchObject({ status: Status.EptViolation, address: PDPT, stage: "second" });
    expect(flags(closed.memory)).toEqual([0n, 0n, 0n, 0n]);
  });

  it("leaves other faults alone", () => {
    const memory = ram();
    eptIdentity(memory);
    chain(memory);
    memory.writeU64(eptLeafOf(PAGE), 0n);
    const secondStage = eptSpace(memory);
    const space = engine.createAddressSpace(memory, longMode({ secondStage, accessedOnFault: true }));
    expect(space.translate(0)).toMatchObject({ status: Status.EptViolation });
    expect(flags(memory)).toEqual([0n, 0n, 0n, 0n]);
  });
});
