/** The entry and the register bit that an explanation names, rule by rule. */
import { describe, expect, it } from "vitest";
import type { AddressSpace, AddressSpaceConfig, GuestMemory } from "../../src/api.js";
import { loadSync } from "../../src/core/index.js";
import { UnsupportedError } from "../../src/errors.js";
import { type Explanation, explain, factorText } from "../../src/explain/index.js";
import { Access } from "../../src/index.js";

const { Read, Write, User, Fetch, Ac, Implicit, ShadowStack } = Access;
const core = loadSync();
const [PML4, PDPT, PD, PT] = [0x1000n, 0x2000n, 0x3000n, 0x4000n] as const;
const LONG = { cr0: 0x80010001n, cr3: PML4, cr4: 0x20n, efer: 0xd00n, maxPhysAddr: 40 };
const SMEP = 1n << 20n;
const SMAP = 1n << 21n;
const PKE = 1n << 22n;
const PKS = 1n << 24n;
const LASS = 1n << 27n;
const XD = 1n << 63n;

function space(changes: Partial<AddressSpaceConfig>, edit?: (memory: GuestMemory) => void): AddressSpace {
  const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x40000 }] });
  [PML4, PDPT, PD, PT].forEach((table, index) => {
    memory.writeU64(table, (BigInt(index + 2) * 0x1000n) | 7n);
  });
  edit?.(memory);
  return core.createAddressSpace(memory, { ...LONG, ...changes });
}

/** The deciding check as text: its name, where it is made, and what decides. */
function decided({ deciding }: Explanation): string {
  if (deciding === undefined) return "mapped";
  const { name, level, factors } = deciding;
  return `${name} at ${level}: ${factors.map(factorText).join(" ")}`;
}

const entry = (table: bigint, value: bigint) => (memory: GuestMemory) => memory.writeU64(table, value);

describe("the deciding check names its entry and register bits", () => {
  it.each<[string, number, Partial<AddressSpaceConfig>, ((memory: GuestMemory) => void) | undefined, string]>([
    ["nothing", User | Write, {}, undefined, "mapped"],
    ["P", Read, {}, entry(PD, 0x4006n), "present at 2: PDE.P=0"],
    [
      "an address bit",
      Read,
      {},
      entry(PD, 0x4007n | (1n << 45n)),
      "reserved at 2: PDE.reserved=0x200000000000 CPU.MAXPHYADDR=0x28",
    ],
    [
      "XD",
      Read,
      { efer: 0x500n },
      entry(PT, 0x5007n | XD),
      "reserved at 1: PTE.reserved=0x8000000000000000 EFER.NXE=0",
    ],
    ["PS", Read, { cpu: { page1g: false } }, entry(PDPT, 0x87n), "reserved at 3: PDPTE.reserved=0x80 CPU.PAGE1GB=0"],
    ["U/S far above", User, {}, entry(PDPT, 0x3003n), "user at 1: PDPTE.US=0"],
    ["R/W of a user", User | Write, {}, entry(PML4, 0x2005n), "write at 1: PML4E.RW=0"],
    ["R/W and WP", Write, {}, entry(PT, 0x5005n), "write at 1: PTE.RW=0 CR0.WP=1"],
    ["R/W without WP", Write, { cr0: 0x80000001n }, entry(PT, 0x5005n), "mapped"],
    ["LASS of a fetch", Fetch, { cr4: 0x20n | LASS }, undefined, "separation at 0: CR4.LASS=1"],
    [
      "LASS and SMAP",
      Read,
      { cr4: 0x20n | LASS | SMAP },
      undefined,
      "separation at 0: CR4.LASS=1 CR4.SMAP=1 EFLAGS.AC=0",
    ],
    ["R/W and D of a shadow stack", ShadowStack, {}, entry(PT, 0x5003n), "shadow stack at 1: PTE.RW=1 PTE.D=0"],
    ["R/W above a shadow stack", ShadowStack, {}, entry(PDPT, 0x3005n), "shadow stack at 1: PDPTE.RW=0"],
    ["U/S of a shadow stack", ShadowStack, {}, entry(PT, 0x5045n), "supervisor at 1: PTE.US=1"],
    ["U/S of a user's", ShadowStack | User, {}, entry(PT, 0x5041n), "user at 1: PTE.US=0"],
    ["a shadow stack", ShadowStack | User | Write, {}, entry(PT, 0x5045n), "mapped"],
    ["XD of a fetch", Fetch, {}, entry(PD, 0x4007n | XD), "execute at 1: PDE.XD=1 EFER.NXE=1"],
    ["SMEP", Fetch, { cr4: 0x20n | SMEP }, undefined, "smep at 1: PTE.US=1 CR4.SMEP=1"],
    ["SMAP", Read, { cr4: 0x20n | SMAP }, undefined, "smap at 1: PTE.US=1 CR4.SMAP=1 EFLAGS.AC=0"],
    ["SMAP with AC", Read | Ac, { cr4: 0x20n | SMAP }, undefined, "mapped"],
    ["SMAP, implicit", Implicit | Ac, { cr4: 0x20n | SMAP }, undefined, "smap at 1: PTE.US=1 CR4.SMAP=1"],
    [
      "PKRU",
      Read,
      { cr4: 0x20n | PKE, pkru: 0x40 },
      entry(PT, 0x5007n | (3n << 59n)),
      "protection key at 1: PTE.PKEY=3 CR4.PKE=1 PKRU.AD3=1",
    ],
    [
      "PKRU of a write",
      User | Write,
      { cr4: 0x20n | PKE, pkru: 2 },
      undefined,
      "protection key at 1: PTE.PKEY=0 CR4.PKE=1 PKRU.AD0=0 PKRU.WD0=1",
    ],
    [
      "PKRS",
      Write,
      { cr4: 0x20n | PKS, pkrs: 2 },
      entry(PT, 0x5003n),
      "protection key at 1: PTE.PKEY=0 CR4.PKS=1 PKRS.AD0=0 PKRS.WD0=1 CR0.WP=1",
    ],
  ])("%s", (_, access, changes, edit, expected) => {
    expect(decided(explain(space(changes, edit), 0x123, access))).toBe(expected);
  });

  it("addresses that are not canonical, with what masks them", () => {
    expect(decided(explain(space({}), 1n << 47n))).toBe("canonical at 0: CR4.LA57=0");
    const masked = space({ cr3: PML4 | (1n << 61n) });
    expect(decided(explain(masked, 1n << 56n))).toBe("canonical at 0: CR4.LA57=0 CR3.LAM_U57=1");
  });

  it("tables that the memory does not have", () => {
    expect(decided(explain(space({}, entry(PD, 0x80_0007n)), 0))).toBe("memory at 1: ");
  });

  it("a second stage's entry, for a table and for the final address", () => {
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x40000 }] });
    [PML4, PDPT, PD, PT].forEach((table, index) => {
      memory.writeU64(table, (BigInt(index + 2) * 0x1000n) | 7n);
    });
    memory.writeU64(0x10000n, 0x11007n);
    memory.writeU64(0x11000n, 0x12007n);
    memory.writeU64(0x12000n, 0x13007n);
    for (let page = 0n; page < 64n; page++) memory.writeU64(0x13000n + 8n * page, (page << 12n) | 0x37n);
    const ept = (value: bigint) => core.createEpt(memory, { eptp: value });
    const guest = (secondStage: AddressSpace) => core.createAddressSpace(memory, { ...LONG, secondStage });
    const plain = guest(ept(0x1001en));
    memory.writeU64(0x13000n + 8n * 2n, 0x2000n | 0x35n);
    expect(decided(explain(plain, 0))).toBe("flags at 3: PDPTE.A=0 PTE.W=0");
    expect(explain(plain, 0).code.find(({ name }) => name === "WRITE")).toMatchObject({
      set: true,
      reason: "a flag of the guest's entry is to be set",
    });
    expect(decided(explain(plain, 0, Read | Access.Probe))).toBe("mapped");
    expect(decided(explain(guest(ept(0x1005en)), 0))).toBe("write at 1: PTE.W=0 EPTP.AD=1");
    memory.writeU64(0x13000n + 8n * 2n, 0x2037n);
    memory.writeU64(0x13000n + 8n * 5n, 0x5000n | 0x33n);
    expect(decided(explain(plain, 0, Fetch))).toBe("execute at 1: PTE.X=0");
    memory.writeU64(0x12000n, 0x13002n);
    expect(decided(explain(plain, 0))).toBe("configuration at 2: PDE.R=0 PDE.W=1");
    memory.writeU64(0x12000n, 0n);
    expect(decided(explain(plain, 0))).toBe("present at 2: PDE.R=0 PDE.W=0 PDE.X=0");
    expect(decided(explain(ept(0x1001en), 1n << 48n))).toBe("width at 0: EPTP.WALK_LENGTH=3");
    const npt = core.createNpt(memory, { ncr3: PML4 });
    memory.writeU64(PT, 0x5005n);
    expect(decided(explain(npt, 0, Write))).toBe("write at 1: PTE.RW=0");
  });

  it("of supervisor shadow stacks in a second stage", () => {
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x40000 }] });
    const put = (table: bigint, value: bigint) => memory.writeU64(table, value);
    [PML4, PDPT, PD].forEach((table, index) => {
      put(table, (BigInt(index + 2) * 0x1000n) | 7n);
    });
    const of = (space: AddressSpace) => decided(explain(space, 0, ShadowStack));
    const marked = (1n << 60n) | 0x31n;
    const controlled = core.createEpt(memory, { eptp: PML4 | 0x9en });
    put(PT, 0x37n);
    expect(of(controlled)).toBe("shadow stack at 1: EPTP.SSS=1 PTE.SSS=0");
    put(PT, marked);
    expect(of(controlled)).toBe("mapped");
    put(PD, PT | 5n);
    expect(of(controlled)).toBe("shadow stack at 1: EPTP.SSS=1 PDE.W=0");
    put(PT, (1n << 60n) | 0x34n);
    expect(of(controlled)).toBe("shadow stack at 1: EPTP.SSS=1 PTE.R=0 PDE.W=0");
    expect(of(core.createEpt(memory, { eptp: PML4 | 0x1en }))).toBe("read at 1: PTE.R=0");

    const checked = core.createNpt(memory, { ncr3: PML4, shadowStackCheck: true });
    put(PD, PT | 7n);
    put(PT, 7n);
    expect(of(checked)).toBe("shadow stack at 1: PTE.XD=0 PTE.US=1");
    put(PT, XD | 1n);
    expect(of(checked)).toBe("mapped");
    put(PDPT, PD | 5n);
    expect(of(checked)).toBe("shadow stack at 1: PDPTE.RW=0");
    expect(of(core.createNpt(memory, { ncr3: PML4 }))).toBe("user at 1: PTE.US=0");
  });

  it("of guest mode execute trap", () => {
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x40000 }] });
    [PML4, PDPT, PD, PT].forEach((table, index) => {
      memory.writeU64(table, (BigInt(index + 2) * 0x1000n) | 7n);
    });
    const trap = core.createNpt(memory, { ncr3: PML4, guestModeExecuteTrap: true, efer: 0x500n });
    const refused = explain(trap, 0, Fetch);
    expect(decided(refused)).toBe("gmet at 1: PTE.US=1 VMCB.GMET=1");
    expect(refused.code.find(({ name }) => name === "U")?.reason).toBe("a supervisor-mode access");
    expect(refused.code.find(({ name }) => name === "I")?.reason).toBe("a fetch, reported with GMET");
    expect(decided(explain(trap, 0, Fetch | User))).toBe("mapped");
    memory.writeU64(PD, PT | 3n);
    expect(decided(explain(trap, 0, Fetch))).toBe("mapped");
    expect(decided(explain(trap, 0, User))).toBe("mapped");
    memory.writeU64(PT, 1n);
    expect(decided(explain(trap, 0, Write))).toBe("write at 1: PTE.RW=0");
  });
});

describe("the bits of an error code", () => {
  const reasons = (explanation: Explanation) =>
    Object.fromEntries(explanation.code.map(({ name, set, reason }) => [`${name}=${set ? 1 : 0}`, reason]));

  it("have their reasons", () => {
    const keyed = { cr4: 0x20n | PKE, pkru: 1 };
    expect(reasons(explain(space(keyed, entry(PT, 0x5003n)), 0, User | Write))).toEqual({
      "P=1": "every entry that was read is present",
      "W=1": "the access is a write",
      "U=1": "a user-mode access",
      "RSVD=0": "no reserved bit is set",
      "I=0": "the access is no fetch",
      "PK=0": "no protection key is asked",
      "SS=0": "no shadow-stack access",
    });
    expect(reasons(explain(space(keyed), 0, Implicit))["PK=1"]).toBe("key 0 of the PTE denies it");
    expect(reasons(explain(space(keyed), 0, Implicit))["U=0"]).toBe("an implicit access is a supervisor-mode one");
    expect(reasons(explain(space({}, entry(PD, 0n)), 0))["P=0"]).toBe("the PDE is not present");
    expect(reasons(explain(space({}, entry(PD, 0n)), 0, Fetch))["I=1"]).toBe("a fetch, reported with EFER.NXE=1");
    const silent = space({ efer: 0x500n }, entry(PD, 0n));
    expect(reasons(explain(silent, 0, Fetch))["I=0"]).toBe("a fetch, which is reported with CR4.SMEP or EFER.NXE only");
  });

  it("tell of shadow stacks", () => {
    expect(reasons(explain(space({}, entry(PT, 0x5001n)), 0, ShadowStack))["SS=1"]).toBe("a shadow-stack access");
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x40000 }] });
    [PML4, PDPT, PD].forEach((table, index) => {
      memory.writeU64(table, (BigInt(index + 2) * 0x1000n) | 7n);
    });
    memory.writeU64(PT, (1n << 60n) | 0x31n);
    const controlled = core.createEpt(memory, { eptp: PML4 | 0x9en });
    const ept = reasons(explain(controlled, 0, ShadowStack | User | Write));
    expect(ept["SHADOW_STACK=1"]).toBe("a shadow-stack access");
    expect(ept["SSS=1"]).toBe("the leaf marks a supervisor shadow-stack page");
    expect(reasons(explain(controlled, 0, Write))["SHADOW_STACK=0"]).toBe("no shadow-stack access");
    const npt = core.createNpt(memory, { ncr3: PML4, shadowStackCheck: true });
    memory.writeU64(PT, XD | 1n);
    expect(reasons(explain(npt, 0, Fetch))["SSS=1"]).toBe("the leaf marks a supervisor shadow-stack page");
    memory.writeU64(PT, 1n);
    expect(reasons(explain(npt, 0, ShadowStack))["SSS=0"]).toBe("no such mark in a leaf, or nothing that looks for it");
  });

  it("are none where the fault has none", () => {
    expect(explain(space({}), 1n << 47n).code).toEqual([]);
    expect(explain(space({}), 0).code).toEqual([]);
  });
});

it("a space that does not tell its configuration is refused, before it is walked", () => {
  const bare: AddressSpace = {
    mode: "4level",
    translate: () => expect.fail("walked"),
    walk: () => expect.fail("walked"),
    leaves: () => [][Symbol.iterator](),
  };
  expect(() => explain(bare, 0)).toThrow(UnsupportedError);
});
