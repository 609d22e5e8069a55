/** Rights: U/S, R/W, XD, SMEP, SMAP, protection keys. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/access.js";
import type { AddressSpaceConfig } from "../../src/api.js";
import {
  CR0,
  CR4,
  EFER,
  engine,
  longMode,
  machine,
  mapped,
  P,
  PAGE,
  PD,
  PML4,
  PT,
  pkey,
  ram,
  U,
  W,
  XD,
} from "./build.js";

const { Read, Write, User, Fetch, Implicit, Ac } = Access;

/** Error code of an access to the leaf with these bits, 0 where it is allowed. */
function access(word: number, leaf: bigint, changes: Partial<AddressSpaceConfig> = {}): number {
  const { space } = machine(changes, (memory) => memory.writeU64(PT, PAGE | P | leaf));
  const result = space.translate(0, word);
  return result.ok ? 0 : Number(result.errorCode);
}

describe('SDM "Determination of Access Rights"', () => {
  it("user accesses need U, writes W, fetches no XD", () => {
    expect(access(User, U)).toBe(0);
    expect(access(User, W)).toBe(5);
    expect(access(User | Write, U)).toBe(7);
    expect(access(User | Write, U | W)).toBe(0);
    expect(access(User | Fetch, U)).toBe(0);
    expect(access(User | Fetch, U | XD)).toBe(0x15);
    expect(access(User | Fetch, 0n)).toBe(0x15);
  });

  it("supervisor writes need W only while CR0.WP is 1", () => {
    expect(access(Write, 0n)).toBe(3);
    expect(access(Write, 0n, { cr0: CR0.base })).toBe(0);
    expect(access(Write | User, U, { cr0: CR0.base })).toBe(7);
  });

  it("supervisor fetches need no XD, and SMEP forbids those from user pages", () => {
    expect(access(Fetch, U)).toBe(0);
    expect(access(Fetch, XD)).toBe(0x11);
    expect(access(Fetch, U, { cr4: CR4.pae | CR4.smep })).toBe(0x11);
    expect(access(Fetch, 0n, { cr4: CR4.pae | CR4.smep })).toBe(0);
    expect(access(Fetch | User, U, { cr4: CR4.pae | CR4.smep })).toBe(0);
    expect(access(Read, U, { cr4: CR4.pae | CR4.smep })).toBe(0);
  });

  it("SMAP forbids explicit supervisor data accesses to user pages unless AC is 1", () => {
    const smap = { cr4: CR4.pae | CR4.smap };
    expect(access(Read, U, smap)).toBe(1);
    expect(access(Write, U | W, smap)).toBe(3);
    expect(access(Read | Ac, U, smap)).toBe(0);
    expect(access(Write | Ac, U | W, smap)).toBe(0);
    expect(access(Write | Ac, U, smap)).toBe(3);
    expect(access(Write, U, { ...smap, cr0: CR0.base })).toBe(3);
    expect(access(Fetch, U, smap)).toBe(0);
    expect(access(Read, 0n, smap)).toBe(0);
    expect(access(User, U, smap)).toBe(0);
  });

  it("implicit accesses are supervisor ones whatever the CPL, and SMAP binds them whatever AC", () => {
    const smap = { cr4: CR4.pae | CR4.smap };
    expect(access(Implicit | User, 0n)).toBe(0);
    expect(access(Implicit | User, U, smap)).toBe(1);
    expect(access(Implicit | User | Ac, U, smap)).toBe(1);
    expect(access(Implicit | Ac, U, smap)).toBe(1);
    expect(access(Implicit | User | Write, 0n)).toBe(3);
  });

  it("rights are ANDed over the levels", () => {
    for (const [table, bits, expected] of [
      [PML4, P | W, { user: false, write: true }],
      [PD, P | U, { user: true, write: false }],
      [PD, P | U | W | XD, { execute: false, userExecute: false, write: true }],
    ] as const) {
      const { space } = machine({}, (memory) => memory.writeU64(table, (memory.readU64(table) & ~7n) | bits));
      expect(mapped(space.translate(0)).rights).toMatchObject(expected);
    }
  });

  it("rights are the entries' own: CR0.WP does not change them", () => {
    const { space } = machine({ cr0: CR0.base }, (memory) => memory.writeU64(PT, PAGE | P));
    expect(mapped(space.translate(0, Write)).rights).toEqual({
      read: true,
      write: false,
      user: false,
      execute: true,
      userExecute: true,
    });
  });

  it("an access cannot be a write and a fetch", () => {
    const { space } = machine();
    expect(() => space.translate(0, Write | Fetch)).toThrow(RangeError);
    expect(() => space.walk(0, Write | Fetch)).toThrow(RangeError);
  });
});

describe('SDM "Page-Fault Exceptions": the fetch flag', () => {
  const none = (memory: { writeU64(gpa: bigint, value: bigint): void }) => memory.writeU64(PT, 0n);
  it("is reported only with NXE or SMEP", () => {
    const code = (changes: Partial<AddressSpaceConfig>) => {
      const result = machine(changes, none).space.translate(0, Fetch | User);
      return result.ok ? -1 : Number(result.errorCode);
    };
    expect(code({})).toBe(0x14);
    expect(code({ efer: EFER.long })).toBe(4);
    expect(code({ efer: EFER.long, cr4: CR4.pae | CR4.smep })).toBe(0x14);
  });

  it("in 32-bit paging NXE does not count, but in KVM it does", () => {
    const code = (changes: Partial<AddressSpaceConfig>) => {
      const result = engine
        .createAddressSpace(ram(), longMode({ cr4: 0n, efer: EFER.nxe, ...changes }))
        .translate(0, Fetch);
      return result.ok ? -1 : Number(result.errorCode);
    };
    expect(code({})).toBe(0);
    expect(code({ cr4: CR4.smep })).toBe(0x10);
    expect(code({ rules: "kvm-6.1" })).toBe(0x10);
    expect(code({ rules: "kvm-6.1", efer: 0n })).toBe(0);
  });
});

describe('SDM "Protection Keys"', () => {
  const KEY = pkey(3);
  const AD = 1 << 6;
  const WD = 2 << 6;
  const pku = (pkru: number, changes: Partial<AddressSpaceConfig> = {}) => ({
    cr4: CR4.pae | CR4.pke,
    pkru,
    ...changes,
  });
  const pks = (pkrs: number, changes: Partial<AddressSpaceConfig> = {}) => ({
    cr4: CR4.pae | CR4.pks,
    pkrs,
    ...changes,
  });

  it("PKRU governs user-mode addresses for user and supervisor accesses", () => {
    expect(access(User, U | KEY, pku(AD))).toBe(0x25);
    expect(access(Read, U | KEY, pku(AD))).toBe(0x21);
    expect(access(Read, KEY, pku(AD))).toBe(0);
    expect(access(User, U | KEY, { pkru: AD })).toBe(0);
    expect(access(User, U | pkey(2), pku(AD))).toBe(0);
    expect(access(User, U | pkey(15), pku(0x40000000))).toBe(0x25);
  });

  it("write-disable binds user writes, and supervisor writes only with WP", () => {
    expect(access(User | Write, U | W | KEY, pku(WD))).toBe(0x27);
    expect(access(User, U | W | KEY, pku(WD))).toBe(0);
    expect(access(Write, U | W | KEY, pku(WD))).toBe(0x23);
    expect(access(Write, U | W | KEY, pku(WD, { cr0: CR0.base }))).toBe(0);
    expect(access(User | Write, U | W | KEY, pku(WD, { cr0: CR0.base }))).toBe(0x27);
  });

  it("PKRS is reported of user accesses to supervisor-mode addresses, or only where the processor does", () => {
    const silent = { cpu: { pkrsOnUserAccess: false } };
    expect(access(User, KEY, pks(AD))).toBe(0x25);
    expect(access(User, KEY, pks(AD, silent))).toBe(5);
    expect(access(User | Write, W | KEY, pks(WD))).toBe(0x27);
    expect(access(User | Write, W | KEY, pks(WD, { cr0: CR0.base }))).toBe(0x27);
    expect(access(User | Write, W | KEY, pks(WD, silent))).toBe(7);
    expect(access(User, KEY, pks(WD))).toBe(5);
    expect(access(User | Fetch, KEY, pks(AD))).toBe(0x15);
    expect(access(User, U | KEY, pks(AD))).toBe(0);
    expect(access(Read, KEY, pks(AD, silent))).toBe(0x21);
  });

  it("PKRS governs supervisor-mode addresses for supervisor accesses", () => {
    expect(access(Read, KEY, pks(AD))).toBe(0x21);
    expect(access(Implicit | User, KEY, pks(AD))).toBe(0x21);
    expect(access(Read, U | KEY, pks(AD))).toBe(0);
    expect(access(Write, W | KEY, pks(WD))).toBe(0x23);
    expect(access(Write, W | KEY, pks(WD, { cr0: CR0.base }))).toBe(0);
    expect(access(Read, KEY, { pkrs: AD })).toBe(0);
  });

  it("PK is set beside a denial by rights, never for fetches, P=0 or in other modes", () => {
    expect(access(User | Write, U | KEY, pku(WD))).toBe(0x27);
    expect(access(Read, U | KEY, { ...pku(AD), cr4: CR4.pae | CR4.pke | CR4.smap })).toBe(0x21);
    expect(access(User | Fetch, U | KEY, pku(AD))).toBe(0);
    expect(access(User | Fetch, U | XD | KEY, pku(AD))).toBe(0x15);
    expect(access(User, U, { ...pku(1) })).toBe(0x25);
    const { space } = machine(pku(1), (memory) => memory.writeU64(PD, 0n));
    expect(space.translate(0, User)).toMatchObject({ errorCode: 4n });
    const memory = ram();
    memory.writeU32(0x1000, 0x87);
    const legacy = engine.createAddressSpace(memory, longMode({ cr4: CR4.pse | CR4.pke, efer: 0n, pkru: 0xffffffff }));
    expect(mapped(legacy.translate(0, User)).protectionKey).toBe(0);
  });

  it("the leaf's key is reported", () => {
    const { space } = machine({}, (memory) => memory.writeU64(PT, PAGE | P | KEY));
    expect(mapped(space.translate(0)).protectionKey).toBe(3);
  });
});
