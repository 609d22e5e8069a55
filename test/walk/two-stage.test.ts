/** A guest over EPT or NPT: faults of each stage, accessed and dirty flags, PDPTEs. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/access.js";
import { Status } from "../../src/abi/status.js";
import type { AddressSpaceConfig, EptConfig, NptConfig } from "../../src/api.js";
import { PdpteLoadError } from "../../src/errors.js";
import {
  A,
  CR0,
  CR4,
  chain,
  D,
  EA,
  ED,
  EPT_PD,
  EPT_PT,
  EPT_ROOT,
  EPTP_AD,
  EW,
  engine,
  eptIdentity,
  eptLeafOf,
  eptSpace,
  fault,
  longMode,
  mapped,
  nptIdentity,
  nptSpace,
  P,
  PAGE,
  PD,
  PDPT,
  PML4,
  PS,
  PT,
  R,
  RWX,
  ram,
  U,
  W,
  WB,
  X,
  XD,
  XU,
} from "./build.js";

const { Read, Write, User, Fetch, Implicit, Probe } = Access;
type Ram = ReturnType<typeof ram>;
const tables = [PML4, PDPT, PD, PT];
const flags = (memory: Ram) => tables.map((table) => memory.readU64(table) & (A | D));
const preset = (memory: Ram) => {
  for (const table of tables) memory.writeU64(table, memory.readU64(table) | A | D);
};

function overEpt(
  edit: (memory: Ram) => void = () => {},
  ept: Partial<EptConfig> = {},
  guest: Partial<AddressSpaceConfig> = {},
) {
  const memory = ram();
  chain(memory);
  eptIdentity(memory);
  edit(memory);
  return {
    memory,
    space: engine.createAddressSpace(memory, longMode({ ...guest, secondStage: eptSpace(memory, ept) })),
  };
}

function overNpt(
  edit: (memory: Ram) => void = () => {},
  npt: Partial<NptConfig> = {},
  guest: Partial<AddressSpaceConfig> = {},
) {
  const memory = ram();
  chain(memory);
  nptIdentity(memory);
  edit(memory);
  return {
    memory,
    space: engine.createAddressSpace(memory, longMode({ ...guest, secondStage: nptSpace(memory, npt) })),
  };
}

describe("a guest over EPT", () => {
  it("goes through the second stage for every table and the final address", () => {
    // The guest-physical page 0x5000 lies at 0x55000, the level-1 table 0x4000 at 0x44000.
    const { memory, space } = overEpt((ram) => {
      ram.writeU64(eptLeafOf(PAGE), 0x55000n | RWX | WB);
      ram.writeU64(eptLeafOf(PT), 0x44000n | RWX | WB);
      ram.writeU64(0x44000, PAGE | P | W | U);
      ram.writeU64(PT, 0n);
    });
    const { result, steps } = space.walk(0x123, Write | User);
    expect(mapped(result)).toMatchObject({ pa: 0x55123n, gpa: 0x5123n, pageSize: 4096, memoryType: 0 });
    expect(steps.map(({ stage, level }) => `${stage} ${level}`)).toEqual([
      ...[4, 3, 2, 1].flatMap((level) => ["second 4", "second 3", "second 2", "second 1", `guest ${level}`]),
      "second 4",
      "second 3",
      "second 2",
      "second 1",
    ]);
    expect(steps.find((step) => step.stage === "guest" && step.level === 1)?.address).toBe(PT);
    mapped(space.translate(0, Write));
    expect(memory.readU64(0x44000)).toBe(PAGE | 7n | A | D);
    expect(memory.readU64(PT)).toBe(0n);
  });

  it("reports a violation on a table as a read, with bit 7 and not bit 8", () => {
    for (const [index, table] of tables.entries()) {
      const { memory, space } = overEpt((ram) => ram.writeU64(eptLeafOf(table), X));
      expect(fault(space.translate(0, Write))).toEqual({
        ok: false,
        status: Status.EptViolation,
        vector: undefined,
        errorCode: 0x80n | 0x20n | 1n,
        address: table,
        stage: "second",
        level: 1,
        entryAddress: eptLeafOf(table),
        entry: X,
      });
      expect(flags(memory), `${index}`).toEqual([0n, 0n, 0n, 0n]);
    }
  });

  it("reports a violation on the final address with bits 7 and 8", () => {
    const at = (access: number, bits: bigint) =>
      fault(overEpt((ram) => ram.writeU64(eptLeafOf(PAGE), PAGE | bits)).space.translate(0x123, access));
    expect(at(Write, R)).toMatchObject({ errorCode: 0x18an, address: 0x5123n });
    expect(at(Read, 0n)).toMatchObject({ errorCode: 0x181n, address: 0x5123n });
    expect(at(Fetch, R | EW)).toMatchObject({ errorCode: 0x19cn });
    expect(at(Fetch, EW)).toMatchObject({ status: Status.EptMisconfiguration, errorCode: 0n, stage: "second" });
  });

  it("with paging off translates the address itself, as a user-mode one", () => {
    const { space } = overEpt((ram) => ram.writeU64(eptLeafOf(PAGE), 0x55000n | R), {}, { cr0: 1n, cr4: 0n, efer: 0n });
    expect(mapped(space.translate(0x5123))).toMatchObject({ pa: 0x55123n, gpa: 0x5123n });
    expect(fault(space.translate(0x5123, Write)).errorCode).toBe(0x18an);
    const mbec = (bits: bigint) =>
      overEpt(
        (ram) => {
          for (const table of [EPT_ROOT, 0x11000n, EPT_PD]) ram.writeU64(table, ram.readU64(table) | XU);
          ram.writeU64(eptLeafOf(PAGE), PAGE | bits);
        },
        { modeBasedExecute: true },
        { cr0: 1n, cr4: 0n, efer: 0n },
      ).space.translate(0x5000, Fetch);
    expect(mbec(R | XU).ok).toBe(true);
    expect(fault(mbec(R | X)).errorCode).toBe(0x1acn);
  });

  it("judges mode-based execute control by the linear address, not the CPL", () => {
    const fetch = (guest: bigint, leaf: bigint, access: number) =>
      overEpt(
        (ram) => {
          for (const table of [EPT_ROOT, 0x11000n, EPT_PD]) ram.writeU64(table, ram.readU64(table) | XU);
          ram.writeU64(PT, PAGE | P | guest);
          ram.writeU64(eptLeafOf(PAGE), PAGE | leaf);
        },
        { modeBasedExecute: true },
      ).space.translate(0, access).ok;
    expect(fetch(U, R | XU, Fetch)).toBe(true);
    expect(fetch(U, R | X, Fetch)).toBe(false);
    expect(fetch(U, R | XU, Fetch | User)).toBe(true);
    expect(fetch(0n, R | X, Fetch)).toBe(true);
    expect(fetch(0n, R | XU, Fetch)).toBe(false);
  });

  it("a guest fault comes before the final address, which the second stage is not asked for", () => {
    const { memory, space } = overEpt(
      (ram) => {
        ram.writeU64(PT, PAGE | P);
        ram.writeU64(eptLeafOf(PAGE), 0n);
      },
      { eptp: EPTP_AD },
    );
    expect(fault(space.translate(0, Write))).toMatchObject({
      status: Status.PageFault,
      errorCode: 3n,
      stage: "guest",
      entryAddress: PT,
    });
    expect(flags(memory)).toEqual([0n, 0n, 0n, 0n]);
    // The guest's tables were translated all the same, each with a write (SDM "Accessed and Dirty Flags for EPT").
    expect(tables.map((gpa) => memory.readU64(eptLeafOf(gpa)) & (EA | ED))).toEqual(tables.map(() => EA | ED));
    expect(memory.readU64(eptLeafOf(PAGE)) & (EA | ED)).toBe(0n);
    expect(memory.readU64(EPT_ROOT) & EA).toBe(EA);
  });

  describe('sets its own flags for each guest-physical address that it translated (SDM "Accessed and Dirty Flags for EPT")', () => {
    const eptFlags = (memory: Ram) => [...tables, PAGE].map((gpa) => memory.readU64(eptLeafOf(gpa)) & (EA | ED));
    const both = EA | ED;

    it("also where the final address is refused", () => {
      const { memory, space } = overEpt((ram) => ram.writeU64(eptLeafOf(PAGE), PAGE | R | WB), { eptp: EPTP_AD });
      expect(fault(space.translate(0, Write))).toMatchObject({ status: Status.EptViolation, address: PAGE });
      expect(eptFlags(memory)).toEqual([both, both, both, both, 0n]);
      // The guest's own flags wait for the access to succeed.
      expect(flags(memory)).toEqual([0n, 0n, 0n, 0n]);
    });

    it.each(tables.map((_, index) => [index] as const))("up to table %i, whose address is refused", (refused) => {
      const { memory, space } = overEpt((ram) => ram.writeU64(eptLeafOf(tables[refused]!), 0n), { eptp: EPTP_AD });
      expect(fault(space.translate(0))).toMatchObject({ status: Status.EptViolation, address: tables[refused] });
      expect(eptFlags(memory)).toEqual([...tables, PAGE].map((_, index) => (index < refused ? both : 0n)));
    });

    it.each(tables.map((gpa, index) => [index, gpa] as const))(
      "up to guest entry %i, which is not present",
      (at, gpa) => {
        const { memory, space } = overEpt((ram) => ram.writeU64(gpa, 0n), { eptp: EPTP_AD });
        expect(fault(space.translate(0))).toMatchObject({ status: Status.PageFault, entryAddress: gpa });
        expect(eptFlags(memory)).toEqual([...tables, PAGE].map((_, index) => (index <= at ? both : 0n)));
      },
    );

    it("but not for a probe, a walk that is shown, or without EPT's flags", () => {
      const refuse = (ram: Ram) => ram.writeU64(eptLeafOf(PAGE), 0n);
      const none = [0n, 0n, 0n, 0n, 0n];
      const probed = overEpt(refuse, { eptp: EPTP_AD });
      expect(probed.space.translate(0, Access.Probe).ok).toBe(false);
      expect(eptFlags(probed.memory)).toEqual(none);
      expect(probed.space.walk(0).result.ok).toBe(false);
      expect(eptFlags(probed.memory)).toEqual(none);
      const without = overEpt(refuse);
      expect(without.space.translate(0).ok).toBe(false);
      expect(eptFlags(without.memory)).toEqual(none);
    });
  });

  it("a guest table that maps to nothing is outside memory, at its guest-physical address", () => {
    const { space } = overEpt((ram) => ram.writeU64(eptLeafOf(PD), 0x8000000n | RWX));
    expect(fault(space.translate(0x123))).toMatchObject({
      status: Status.OutsideMemory,
      stage: "guest",
      level: 2,
      entryAddress: PD,
      address: 0x123n,
    });
    const tablesGone = overEpt((ram) => ram.writeU64(EPT_PD, 0x8000000n | RWX)).space;
    expect(fault(tablesGone.translate(0x123))).toMatchObject({
      status: Status.OutsideMemory,
      stage: "second",
      address: PML4,
    });
  });
});

describe("with accessed and dirty flags for EPT enabled", () => {
  it("guest-table accesses are writes, reported as read and write", () => {
    for (const access of [Read, Write, Read | Probe]) {
      const { space } = overEpt(
        (ram) => {
          preset(ram);
          ram.writeU64(eptLeafOf(PD), PD | R | X);
        },
        { eptp: EPTP_AD },
      );
      expect(fault(space.translate(0, access))).toMatchObject({ errorCode: 0x80n | 0x28n | 3n, address: PD });
    }
  });

  it("table pages become dirty, the page itself only by a write", () => {
    const { memory, space } = overEpt(() => {}, { eptp: EPTP_AD });
    const of = (gpa: bigint) => memory.readU64(eptLeafOf(gpa)) & (EA | ED);
    mapped(space.translate(0, Write | Probe));
    expect([...tables, PAGE].map(of)).toEqual([0n, 0n, 0n, 0n, 0n]);
    mapped(space.translate(0));
    expect([...tables, PAGE].map(of)).toEqual([EA | ED, EA | ED, EA | ED, EA | ED, EA]);
    mapped(space.translate(0, Write));
    expect(of(PAGE)).toBe(EA | ED);
    expect(memory.readU64(EPT_PD) & (EA | ED)).toBe(EA);
  });
});

describe("with accessed and dirty flags for EPT off", () => {
  const readOnlyTables = (gpa: bigint) => (memory: Ram) => memory.writeU64(eptLeafOf(gpa), gpa | R);

  it("reading guest tables is a read, setting a flag in them is a write", () => {
    for (const table of tables) {
      const { memory, space } = overEpt(readOnlyTables(table));
      expect(fault(space.translate(0))).toMatchObject({
        status: Status.EptViolation,
        errorCode: 0x80n | 8n | 3n,
        address: table,
        level: 1,
        entry: table | R,
      });
      expect(flags(memory)).toEqual([0n, 0n, 0n, 0n]);
      expect(space.walk(0).result.ok).toBe(false);
      expect(space.translate(0, Read | Probe).ok).toBe(true);
      preset(memory);
      expect(space.translate(0, Write).ok).toBe(true);
    }
  });

  it("D of the leaf alone needs the write", () => {
    const { memory, space } = overEpt((ram) => {
      readOnlyTables(PT)(ram);
      ram.writeU64(PT, ram.readU64(PT) | A);
    });
    expect(space.translate(0).ok).toBe(true);
    expect(fault(space.translate(0, Write)).address).toBe(PT);
    expect(memory.readU64(PT) & D).toBe(0n);
  });

  it("this write comes before the access to the final address", () => {
    const { space } = overEpt((ram) => {
      readOnlyTables(PT)(ram);
      ram.writeU64(eptLeafOf(PAGE), 0n);
    });
    expect(fault(space.translate(0)).address).toBe(PT);
    expect(fault(space.translate(0, Probe)).address).toBe(PAGE);
  });
});

describe('a guest over NPT (APM "Nested versus Guest Page Faults")', () => {
  const npf = (edit: (memory: Ram) => void, access: number, npt: Partial<NptConfig> = {}) => {
    const result = fault(overNpt(edit, npt).space.translate(0x123, access));
    expect(result).toMatchObject({ status: Status.NestedPageFault, vector: undefined, stage: "second" });
    return result;
  };

  it("accesses guest tables as a user, writing even to read: bit 33", () => {
    expect(npf((ram) => ram.writeU64(eptLeafOf(PD), PD | P | U), Read)).toMatchObject({
      errorCode: 0x200000007n,
      address: PD,
    });
    expect(npf((ram) => ram.writeU64(eptLeafOf(PD), PD | P | W), Fetch)).toMatchObject({ errorCode: 0x200000007n });
    expect(npf((ram) => ram.writeU64(eptLeafOf(PML4), 0n), Fetch)).toMatchObject({
      errorCode: 0x200000006n,
      address: PML4,
      entry: 0n,
    });
    expect(npf((ram) => ram.writeU64(eptLeafOf(PML4), 0n), Probe)).toMatchObject({ errorCode: 0x200000006n });
  });

  it("accesses the final address as a user: bit 32", () => {
    expect(npf((ram) => ram.writeU64(eptLeafOf(PAGE), PAGE | P | W), Read)).toMatchObject({
      errorCode: 0x100000005n,
      address: 0x5123n,
    });
    expect(npf((ram) => ram.writeU64(eptLeafOf(PAGE), PAGE | P | U), Write)).toMatchObject({ errorCode: 0x100000007n });
    expect(npf((ram) => ram.writeU64(eptLeafOf(PAGE), PAGE | P | U | XD), Fetch | User)).toMatchObject({
      errorCode: 0x100000015n,
    });
    expect(npf((ram) => ram.writeU64(eptLeafOf(PAGE), 0n), Implicit)).toMatchObject({ errorCode: 0x100000004n });
  });

  it("reports reserved bits, and fetches only with NXE", () => {
    expect(
      npf((ram) => ram.writeU64(eptLeafOf(PAGE), PAGE | P | (1n << 45n)), Read, { maxPhysAddr: 40 }),
    ).toMatchObject({ errorCode: 0x10000000dn });
    expect(npf((ram) => ram.writeU64(eptLeafOf(PAGE), 0n), Fetch, { efer: 0x500 })).toMatchObject({
      errorCode: 0x100000004n,
    });
    expect(npf((ram) => ram.writeU64(eptLeafOf(PAGE), PAGE | 7n | XD), Read, { efer: 0x500 })).toMatchObject({
      errorCode: 0x10000000dn,
    });
  });

  it("has neither SMEP, SMAP nor protection keys of the host", () => {
    const cr4 = CR4.pae | CR4.smep | CR4.smap | CR4.pke | CR4.pks;
    const { space } = overNpt(() => {}, { cr4 });
    for (const access of [Read, Write, Fetch, Implicit]) expect(space.translate(0, access).ok).toBe(true);
    const code = (rules: "architecture" | "kvm-6.1") =>
      npf((ram) => ram.writeU64(eptLeafOf(PAGE), 0n), Fetch, { cr4, efer: 0x500, rules }).errorCode;
    expect(code("architecture")).toBe(0x100000004n);
    expect(code("kvm-6.1")).toBe(0x100000014n);
  });

  it("sets the nested flags of tables as for writes, and the guest's flags only on success", () => {
    const { memory, space } = overNpt();
    const of = (gpa: bigint) => memory.readU64(eptLeafOf(gpa)) & (A | D);
    mapped(space.translate(0));
    expect([...tables, PAGE].map(of)).toEqual([A | D, A | D, A | D, A | D, A]);
    expect(flags(memory)).toEqual([A, A, A, A]);
    const failing = overNpt((ram) => ram.writeU64(eptLeafOf(PAGE), 0n));
    expect(failing.space.translate(0, Write).ok).toBe(false);
    expect(flags(failing.memory)).toEqual([0n, 0n, 0n, 0n]);
    expect([...tables, PAGE].map((gpa) => failing.memory.readU64(eptLeafOf(gpa)) & (A | D))).toEqual([
      ...tables.map(() => A | D),
      0n,
    ]);
    const absent = overNpt((ram) => ram.writeU64(PD, 0n));
    expect(fault(absent.space.translate(0)).status).toBe(Status.PageFault);
    expect(tables.map((gpa) => absent.memory.readU64(eptLeafOf(gpa)) & (A | D))).toEqual([A | D, A | D, A | D, 0n]);
  });

  it("a directly used space behaves as the final access of a guest", () => {
    const memory = ram();
    nptIdentity(memory);
    memory.writeU64(EPT_PT + 8n, P | W);
    const space = nptSpace(memory);
    expect(fault(space.translate(0x1000, Write))).toMatchObject({
      status: Status.NestedPageFault,
      errorCode: 0x100000007n,
      level: 1,
    });
    expect(mapped(space.translate(0x2123))).toMatchObject({ pa: 0x2123n, gpa: 0x2123n });
    const wide = fault(space.translate(1n << 48n, Write));
    expect(wide).toMatchObject({
      status: Status.NestedPageFault,
      errorCode: 0x100000006n,
      level: 4,
      entryAddress: 0n,
      entry: 0n,
    });
    expect([...space.leaves()]).toHaveLength(255 + 1);
    memory.writeU64(EPT_ROOT + 8n * 256n, memory.readU64(EPT_ROOT));
    expect([...space.leaves()].at(-1)?.va).toBe((1n << 47n) | 0xff000n);
  });

  it("reads nested PAE PDPTEs live, and reaches 4 GiB with 32-bit formats", () => {
    const memory = ram();
    nptIdentity(memory);
    memory.writeU64(0x11000, 0n);
    const pae = nptSpace(memory, { ncr3: 0x11000n, efer: 0x800 });
    expect(fault(pae.translate(0))).toMatchObject({
      status: Status.NestedPageFault,
      errorCode: 0x100000004n,
      level: 3,
    });
    memory.writeU64(0x11000, EPT_PD | P | 0x20n);
    expect(fault(pae.translate(0))).toMatchObject({ errorCode: 0x10000000dn, level: 3 });
    memory.writeU64(0x11000, EPT_PD | P);
    expect(mapped(pae.translate(0x5123)).pa).toBe(0x5123n);
    expect(fault(pae.translate(1n << 32n))).toMatchObject({
      status: Status.NestedPageFault,
      level: 3,
      entryAddress: 0n,
    });
    const legacy = nptSpace(memory, { cr4: CR4.pse, efer: 0 });
    expect(fault(legacy.translate(1n << 32n))).toMatchObject({ level: 2, errorCode: 0x100000004n });
    const off = nptSpace(memory, { cr0: 1, efer: 0 });
    expect(mapped(off.translate(0xfffff000)).pa).toBe(0xfffff000n);
    expect(fault(off.translate(1n << 32n))).toMatchObject({ level: 0, errorCode: 0x100000004n });
  });

  it("tables outside memory are their own status, in KVM not present", () => {
    const edit = (ram: Ram) => ram.writeU64(EPT_PD, 0x8000000n | P | W | U);
    const gone = (rules: "architecture" | "kvm-6.1") => fault(overNpt(edit, { rules }).space.translate(0));
    expect(gone("architecture")).toMatchObject({
      status: Status.OutsideMemory,
      stage: "second",
      level: 1,
      address: PML4,
    });
    expect(gone("kvm-6.1")).toMatchObject({ status: Status.NestedPageFault, errorCode: 0x200000006n, stage: "second" });
  });
});

describe("PDPTEs of a PAE guest with two stages", () => {
  const guest = { cr3: PDPT, efer: 0n, cr0: CR0.base };
  const pdpte = (memory: Ram) => memory.writeU64(PDPT, PD | P);

  it("are latched through the second stage, as a probe and a read", () => {
    const { memory, space } = overEpt(
      (ram) => {
        pdpte(ram);
        ram.writeU64(eptLeafOf(PDPT), 0x77000n | R);
        ram.writeU64(0x77000, PD | P);
        ram.writeU64(PDPT, 0n);
      },
      { eptp: EPTP_AD },
      guest,
    );
    expect(memory.readU64(EPT_ROOT) & EA).toBe(0n);
    memory.writeU64(eptLeafOf(PDPT), 0n);
    expect(mapped(space.translate(0x123)).pa).toBe(0x5123n);
  });

  it("that the second stage refuses are its fault, without a linear address", () => {
    const refuse = (bits: bigint) => (ram: Ram) => {
      pdpte(ram);
      ram.writeU64(eptLeafOf(PDPT), bits === 0n ? 0n : PDPT | bits);
    };
    const refused = (make: () => unknown) => {
      try {
        make();
      } catch (error) {
        if (error instanceof PdpteLoadError) return error;
        throw error;
      }
      throw new Error("expected the PDPTEs to be refused");
    };
    const violation = refused(() => overEpt(refuse(0n), { eptp: EPTP_AD }, guest));
    expect(violation.message).toContain("0x2000");
    expect(violation.fault).toEqual({
      ok: false,
      status: Status.EptViolation,
      vector: undefined,
      errorCode: 1n,
      address: PDPT,
      stage: "second",
      level: 1,
      entryAddress: eptLeafOf(PDPT),
      entry: 0n,
    });
    expect(refused(() => overEpt(refuse(X | WB), {}, guest)).fault).toMatchObject({ errorCode: 0x21n });
    expect(refused(() => overEpt(refuse(W), {}, guest)).fault).toMatchObject({ status: Status.EptMisconfiguration });
    expect(refused(() => overEpt(refuse(R), {}, { ...guest, rules: "kvm-6.1" })).fault).toMatchObject({
      errorCode: 0xbn,
    });
    expect(refused(() => overNpt(refuse(0n), {}, guest)).fault).toMatchObject({
      status: Status.NestedPageFault,
      errorCode: 0x200000006n,
      address: PDPT,
    });
  });

  it("read live fault like any other table", () => {
    const { space } = overNpt(
      (ram) => {
        pdpte(ram);
        ram.writeU64(eptLeafOf(PDPT), 0n);
      },
      {},
      { ...guest, pdptes: "live" },
    );
    expect(fault(space.translate(0))).toMatchObject({
      status: Status.NestedPageFault,
      errorCode: 0x200000006n,
      address: PDPT,
    });
  });
});

describe("guests of other formats over a second stage", () => {
  it("32-bit paging with a 4 MiB page", () => {
    const { memory, space } = overEpt((ram) => ram.writeU32(0x1000, 0x87), {}, { cr4: CR4.pse, efer: 0n });
    expect(mapped(space.translate(0x5123, Write))).toMatchObject({ pa: 0x5123n, pageSize: 1 << 22 });
    expect(memory.readU32(0x1000)).toBe(0xe7);
  });

  it("large guest pages over small nested ones", () => {
    const { space } = overNpt((ram) => {
      ram.writeU64(PD, P | W | U | PS);
      ram.writeU64(eptLeafOf(0x9000n), 0x99000n | P | W | U);
    });
    expect(mapped(space.translate(0x9123))).toMatchObject({ pa: 0x99123n, gpa: 0x9123n, pageSize: 1 << 21 });
  });
});
