/** Shadow stacks (CET): shadow-stack pages, whose they are, and what EPT and NPT make of the accesses. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/access.js";
import { Status } from "../../src/abi/status.js";
import type { AddressSpaceConfig, EptConfig, NptConfig, Translation } from "../../src/api.js";
import {
  A,
  CR0,
  CR4,
  chain,
  D,
  EA,
  ED,
  EFER,
  EPT_PD,
  EPT_PT,
  EPT_ROOT,
  EPTP,
  EPTP_AD,
  EW,
  engine,
  eptIdentity,
  eptLeafOf,
  eptSpace,
  fault,
  longMode,
  machine,
  mapped,
  nptIdentity,
  nptSpace,
  P,
  PAGE,
  PD,
  PDPT,
  PML4,
  PML5,
  PS,
  PT,
  pkey,
  R,
  RWX,
  ram,
  U,
  W,
  WB,
  X,
  XD,
} from "./build.js";

const { Read, Write, User, Fetch, Implicit, Ac, Probe, ShadowStack } = Access;
type Ram = ReturnType<typeof ram>;
const CET = { cr4: CR4.pae | CR4.cet };
/** SS, P and the like, of a page-fault error code. */
const SS = 0x40;
/** Exit qualification: a shadow-stack access, and a leaf with bit 60. */
const QSS = 1n << 13n;
const QSSS = 1n << 14n;
/** EXITINFO1 bit 37. */
const NSSS = 1n << 37n;
/** Bit 60 of an EPT leaf, bit 7 of an EPTP. */
const SSS = 1n << 60n;
const CONTROL = 1n << 7n;

/** Error code of an access to the leaf with these bits, 0 where it is allowed. */
function access(word: number, leaf: bigint, changes: Partial<AddressSpaceConfig> = {}, edit?: (memory: Ram) => void) {
  const { space } = machine({ ...CET, ...changes }, (memory) => {
    memory.writeU64(PT, PAGE | P | leaf);
    edit?.(memory);
  });
  return codeOf(space.translate(0, word));
}

function codeOf(result: Translation): number {
  return result.ok ? 0 : Number(result.errorCode);
}

describe('SDM "Determination of Access Rights": shadow-stack addresses', () => {
  it("have R/W=0 and D=1 in the leaf", () => {
    for (const [kind, w] of [
      [ShadowStack, 0],
      [ShadowStack | Write, 2],
    ] as const) {
      expect(access(kind, D)).toBe(0);
      expect(access(kind, D | A)).toBe(0);
      expect(access(kind, 0n)).toBe(SS | 1 | w);
      expect(access(kind, W)).toBe(SS | 1 | w);
      expect(access(kind, W | D)).toBe(SS | 1 | w);
      expect(access(kind | User, D | U)).toBe(0);
      expect(access(kind | User, U)).toBe(SS | 5 | w);
      expect(access(kind | User, U | W)).toBe(SS | 5 | w);
      expect(access(kind | User, U | W | D)).toBe(SS | 5 | w);
    }
  });

  it("have R/W=1 in every entry above the leaf", () => {
    for (const table of [PML4, PDPT, PD]) {
      const readOnly = (memory: Ram) => memory.writeU64(table, memory.readU64(table) & ~W);
      expect(access(ShadowStack, D, {}, readOnly)).toBe(SS | 1);
      expect(access(ShadowStack | User | Write, D | U, {}, readOnly)).toBe(SS | 7);
      // D of an entry that maps no page says nothing.
      const dirty = (memory: Ram) => memory.writeU64(table, memory.readU64(table) | D);
      expect(access(ShadowStack, D, {}, dirty)).toBe(0);
    }
  });

  it("are for accesses of their own mode only, whatever SMAP and EFLAGS.AC", () => {
    expect(access(ShadowStack, D | U)).toBe(SS | 1);
    expect(access(ShadowStack | Ac, D | U)).toBe(SS | 1);
    expect(access(ShadowStack | Write | Ac, D | U, { cr4: CET.cr4 | CR4.smap })).toBe(SS | 3);
    expect(access(ShadowStack | User, D)).toBe(SS | 5);
    expect(access(ShadowStack | User | Write, D)).toBe(SS | 7);
    expect(access(ShadowStack | User, D | U, { cr4: CET.cr4 | CR4.smap | CR4.smep })).toBe(0);
    // One entry without U/S makes it a supervisor-mode address.
    const supervisor = (memory: Ram) => memory.writeU64(PD, memory.readU64(PD) & ~U);
    expect(access(ShadowStack, D | U, {}, supervisor)).toBe(0);
    expect(access(ShadowStack | User, D | U, {}, supervisor)).toBe(SS | 5);
  });

  it("may be execute-disabled", () => {
    expect(access(ShadowStack | Write, D | XD)).toBe(0);
    expect(access(ShadowStack | User, D | U | XD)).toBe(0);
  });

  it("can be read as others, and not written", () => {
    expect(access(Read, D)).toBe(0);
    expect(access(Read | User, D | U)).toBe(0);
    expect(access(Write, D)).toBe(3);
    expect(access(Write | User, D | U)).toBe(7);
    expect(access(Fetch, D)).toBe(0);
  });

  it("have the rights of their entries", () => {
    const { space } = machine(CET, (memory) => memory.writeU64(PT, PAGE | P | D | U));
    expect(mapped(space.translate(0x123, ShadowStack | User | Write))).toMatchObject({
      pa: PAGE | 0x123n,
      rights: { read: true, write: false, user: true, execute: true },
    });
  });

  it("do not exist with paging off, where nothing is checked", () => {
    const space = engine.createAddressSpace(ram(), { cr0: 1n | CR0.wp, cr3: 0n, cr4: CR4.cet, efer: 0n });
    for (const word of [ShadowStack, ShadowStack | User | Write]) {
      expect(mapped(space.translate(0x5123, word)).pa).toBe(0x5123n);
    }
  });
});

describe("shadow stacks in every paging mode", () => {
  it("of 4 KiB and larger pages", () => {
    const at = (level: 2 | 3, leaf: bigint, above = W) =>
      access(ShadowStack, D, {}, (memory) => {
        memory.writeU64(level === 2 ? PD : PDPT, P | PS | leaf);
        memory.writeU64(PML4, PDPT | P | U | above);
      });
    for (const level of [2, 3] as const) {
      expect(at(level, D)).toBe(0);
      expect(at(level, D | W)).toBe(SS | 1);
      expect(at(level, 0n)).toBe(SS | 1);
      expect(at(level, D, 0n)).toBe(SS | 1);
    }
  });

  it("of 5 levels", () => {
    const at = (pml5: bigint) =>
      access(ShadowStack, D, { cr3: PML5, cr4: CET.cr4 | CR4.la57 }, (memory) =>
        memory.writeU64(PML5, PML4 | P | pml5),
      );
    expect(at(W)).toBe(0);
    expect(at(0n)).toBe(SS | 1);
  });

  it("of PAE, whose PDPTEs have no R/W", () => {
    const at = (pd: bigint, pt: bigint) => {
      const memory = ram();
      memory.writeU64(PDPT, PD | P);
      memory.writeU64(PD, PT | P | U | pd);
      memory.writeU64(PT, PAGE | P | pt);
      const space = engine.createAddressSpace(memory, longMode({ ...CET, cr3: PDPT, efer: EFER.nxe }));
      return codeOf(space.translate(0, ShadowStack | Write));
    };
    expect(at(W, D)).toBe(0);
    expect(at(0n, D)).toBe(SS | 3);
    expect(at(W, D | W)).toBe(SS | 3);
    expect(at(W, D | U)).toBe(SS | 3);
  });

  it("of 32-bit paging, 4 MiB pages included", () => {
    const at = (pd: number, pt: number, word: number = ShadowStack) => {
      const memory = ram();
      memory.writeU32(PML4, Number(PT) | 1 | pd);
      memory.writeU32(PT, Number(PAGE) | 1 | pt);
      const space = engine.createAddressSpace(memory, longMode({ cr4: CR4.cet | CR4.pse, efer: 0n }));
      return codeOf(space.translate(0, word));
    };
    expect(at(6, 0x40)).toBe(0);
    expect(at(6, 0x44, ShadowStack | User)).toBe(0);
    expect(at(4, 0x40)).toBe(SS | 1);
    expect(at(6, 0x42)).toBe(SS | 1);
    const large = (pde: number) => {
      const memory = ram();
      memory.writeU32(PML4, 0x81 | pde);
      const space = engine.createAddressSpace(memory, longMode({ cr4: CR4.cet | CR4.pse, efer: 0n }));
      return codeOf(space.translate(0, ShadowStack));
    };
    expect(large(0x40)).toBe(0);
    expect(large(0x42)).toBe(SS | 1);
    expect(large(0)).toBe(SS | 1);
  });
});

describe('SDM "Page-Fault Exceptions": the SS flag', () => {
  it("describes the access, whatever the cause of the fault", () => {
    const at = (word: number, bits: bigint) => access(word, 0n, {}, (memory) => memory.writeU64(PD, PT | bits));
    expect(at(ShadowStack, 0n)).toBe(SS);
    expect(at(ShadowStack | User | Write, 0n)).toBe(SS | 6);
    expect(at(ShadowStack, P | W | (1n << 51n))).toBe(0);
    const reserved = { maxPhysAddr: 40 };
    const code = access(ShadowStack | User, D, reserved, (memory) => memory.writeU64(PD, PT | P | W | (1n << 51n)));
    expect(code).toBe(SS | 0xd);
  });

  it("is not set for other accesses to shadow-stack pages", () => {
    expect(access(Write, D)).toBe(3);
    expect(access(Write | Implicit, D)).toBe(3);
    expect(access(Read | User, D)).toBe(5);
  });
});

describe('SDM "Protection Keys" and shadow stacks', () => {
  const KEY = pkey(3);
  const pku = (pkru: number) => ({ cr4: CET.cr4 | CR4.pke, pkru });
  const pks = (pkrs: number) => ({ cr4: CET.cr4 | CR4.pks, pkrs });

  it("keys concern them as other data accesses", () => {
    expect(access(ShadowStack | User, D | U | KEY, pku(1 << 6))).toBe(SS | 0x25);
    expect(access(ShadowStack | User, D | U | KEY, pku(2 << 6))).toBe(0);
    expect(access(ShadowStack | User | Write, D | U | KEY, pku(2 << 6))).toBe(SS | 0x27);
    expect(access(ShadowStack, D | KEY, pks(1 << 6))).toBe(SS | 0x21);
    expect(access(ShadowStack | Write, D | KEY, pks(2 << 6))).toBe(SS | 0x23);
    expect(access(ShadowStack, D | KEY, pku(1 << 6))).toBe(0);
  });

  it("PK is set beside a denial by rights", () => {
    expect(access(ShadowStack | User, U | KEY, pku(1 << 6))).toBe(SS | 0x25);
    expect(access(ShadowStack, D | U | KEY, pku(1 << 6))).toBe(SS | 0x21);
  });
});

describe('SDM "Accessed and Dirty Flags" and shadow stacks', () => {
  it("a shadow-stack access sets A, and D is there", () => {
    for (const word of [ShadowStack, ShadowStack | Write]) {
      const { memory, space } = machine(CET, (ram) => ram.writeU64(PT, PAGE | P | D));
      mapped(space.translate(0, word | Probe));
      mapped(space.walk(0, word).result);
      expect(memory.readU64(PT)).toBe(PAGE | P | D);
      mapped(space.translate(0, word));
      expect(memory.readU64(PT)).toBe(PAGE | P | D | A);
      expect(memory.readU64(PD) & (A | D)).toBe(A);
    }
  });

  it("no access makes a shadow-stack page of a read-only one", () => {
    for (const word of [Write, Write | User, Write | Implicit, ShadowStack | Write, ShadowStack | Write | User]) {
      for (const leaf of [P, P | U]) {
        const { memory, space } = machine(CET, (ram) => ram.writeU64(PT, PAGE | leaf));
        fault(space.translate(0, word));
        expect(memory.readU64(PT)).toBe(PAGE | leaf);
      }
    }
  });

  it("a refused one sets nothing, or A above where a processor does that", () => {
    for (const accessedOnFault of [false, true]) {
      const { memory, space } = machine({ ...CET, accessedOnFault }, (ram) => ram.writeU64(PT, PAGE | P | W));
      expect(codeOf(space.translate(0, ShadowStack))).toBe(SS | 1);
      expect([PML4, PD, PT].map((table) => memory.readU64(table) & (A | D))).toEqual(
        accessedOnFault ? [A, A, 0n] : [0n, 0n, 0n],
      );
    }
  });
});

describe("the access word of a shadow-stack access", () => {
  it("is no fetch, and has its whole flag", () => {
    const { space } = machine(CET);
    for (const word of [ShadowStack | Fetch, ShadowStack & ~Implicit, (ShadowStack & ~Implicit) | User]) {
      expect(() => space.translate(0, word)).toThrow(RangeError);
      expect(() => space.walk(0, word)).toThrow(RangeError);
    }
  });

  it("is that of a mode: an implicit one is none", () => {
    expect(access(ShadowStack | Implicit | User, D | U)).toBe(0);
    expect(access(ShadowStack | Implicit, D)).toBe(0);
  });

  it("has an address that is not masked", () => {
    const lam = { cr4: CET.cr4 | CR4.lamSup, cr3: PML4 | (1n << 62n) };
    const { space } = machine(lam, (memory) => memory.writeU64(PT, PAGE | P | D | U));
    expect(space.translate(1n << 62n, User).ok).toBe(true);
    expect(space.translate(1n << 62n, ShadowStack | User)).toMatchObject({
      status: Status.NonCanonical,
      errorCode: 0n,
    });
    expect(space.translate(0n, ShadowStack | User).ok).toBe(true);
  });

  it("means nothing to KVM's walk of Linux 6.1, whose accesses are like others", () => {
    const kvm = { rules: "kvm-6.1" } as const;
    expect(access(ShadowStack, D | U, kvm)).toBe(0);
    expect(access(ShadowStack | Write, W, kvm)).toBe(0);
    expect(access(ShadowStack | Write, D, kvm)).toBe(3);
    expect(access(ShadowStack | User, D, kvm)).toBe(5);
  });
});

function overEpt(edit: (memory: Ram) => void, ept: Partial<EptConfig> = {}, guest: Partial<AddressSpaceConfig> = {}) {
  const memory = ram();
  chain(memory);
  memory.writeU64(PT, PAGE | P | D);
  eptIdentity(memory);
  edit(memory);
  const secondStage = eptSpace(memory, ept);
  return { memory, space: engine.createAddressSpace(memory, longMode({ ...CET, ...guest, secondStage })) };
}

describe('SDM "EPT Violations": shadow-stack accesses', () => {
  const user = (memory: Ram) => memory.writeU64(PT, PAGE | P | D | U);
  const controlled = { eptp: EPTP | CONTROL };
  /** The qualification of a violation of the final address, "ok" where there is none. */
  const final = (word: number, leaf: bigint, ept: Partial<EptConfig> = {}, edit: (memory: Ram) => void = () => {}) => {
    const result = overEpt((memory) => {
      memory.writeU64(eptLeafOf(PAGE), PAGE | leaf | WB);
      edit(memory);
    }, ept).space.translate(0, word);
    if (result.ok) return "ok";
    expect(result).toMatchObject({ status: Status.EptViolation, address: PAGE, stage: "second" });
    return result.errorCode;
  };

  it("are reads and writes, and reported, without supervisor shadow-stack control", () => {
    expect(final(ShadowStack, R)).toBe("ok");
    expect(final(ShadowStack, X)).toBe(0x1a1n | QSS);
    expect(final(ShadowStack | Write, R)).toBe(0x18an | QSS);
    expect(final(ShadowStack | Write, R | SSS)).toBe(0x18an | QSS);
    expect(final(ShadowStack | Write, R | EW)).toBe("ok");
    expect(final(ShadowStack | User | Write, R, {}, user)).toBe(0x18an | QSS);
  });

  it("of a supervisor need bit 60 of the leaf with it, and no right to write there", () => {
    for (const word of [ShadowStack, ShadowStack | Write]) {
      const kind = word & Write ? 2n : 1n;
      expect(final(word, R | SSS, controlled)).toBe("ok");
      expect(final(word, RWX | SSS, controlled)).toBe("ok");
      expect(final(word, RWX, controlled)).toBe(0x1b8n | kind | QSS);
      expect(final(word, R | EW, controlled)).toBe(0x198n | kind | QSS);
      expect(final(word, X | SSS, controlled)).toBe(0x1a0n | kind | QSS | QSSS);
      expect(final(word, SSS, controlled)).toBe(0x180n | kind | QSS);
    }
  });

  it("of a supervisor need R and W in the entries above the leaf with it", () => {
    for (const table of [EPT_ROOT, EPT_PD]) {
      for (const word of [ShadowStack, ShadowStack | Write]) {
        // The tables of the guest are found by other entries.
        const { memory, space } = overEpt((ram) => {
          ram.writeU64(PT, (1n << 21n) | P | D);
          ram.writeU64(0x14000, R | SSS | WB);
          ram.writeU64(EPT_PD + 8n, 0x14000n | RWX);
        }, controlled);
        mapped(space.translate(0, word));
        // Reading the guest's tables needs no right to write.
        for (const entry of [table === EPT_PD ? EPT_PD + 8n : table]) {
          memory.writeU64(entry, memory.readU64(entry) & ~EW);
        }
        const kind = word & Write ? 2n : 1n;
        const preset = [PML4, PDPT, PD, PT].map((gpa) => [gpa, memory.readU64(gpa) | A | D] as const);
        for (const [gpa, value] of preset) memory.writeU64(gpa, value);
        expect(fault(space.translate(0, word))).toMatchObject({ errorCode: 0x188n | kind | QSS | QSSS });
      }
    }
  });

  it("of a user are reads and writes with it, too", () => {
    expect(final(ShadowStack | User, R, controlled, user)).toBe("ok");
    expect(final(ShadowStack | User | Write, R | EW, controlled, user)).toBe("ok");
    expect(final(ShadowStack | User | Write, R | SSS, controlled, user)).toBe(0x18an | QSS | QSSS);
  });

  it("with bit 60 other accesses are what they are, and it is reported", () => {
    expect(final(Read, R | SSS, controlled)).toBe("ok");
    expect(final(Fetch, R | SSS, controlled)).toBe(0x18cn | QSSS);
    const writable = (memory: Ram) => memory.writeU64(PT, PAGE | P | W);
    expect(final(Write, R | SSS, controlled, writable)).toBe(0x18an | QSSS);
    expect(final(Write, R | SSS, {}, writable)).toBe(0x18an);
    expect(final(Write, RWX | SSS, controlled, writable)).toBe("ok");
  });

  it("of a guest's tables there are none", () => {
    const { space } = overEpt((memory) => memory.writeU64(eptLeafOf(PD), X), controlled);
    expect(fault(space.translate(0, ShadowStack))).toMatchObject({ errorCode: 0xa1n, address: PD });
    const marked = overEpt((memory) => memory.writeU64(eptLeafOf(PD), PD | X | SSS), controlled);
    expect(fault(marked.space.translate(0, ShadowStack))).toMatchObject({ errorCode: 0xa1n | QSSS, address: PD });
    // Setting a flag of the guest's entry is a write of the table, not of the stack.
    const readOnly = overEpt((memory) => memory.writeU64(eptLeafOf(PT), PT | R | WB), controlled);
    expect(fault(readOnly.space.translate(0, ShadowStack))).toMatchObject({ errorCode: 0x8bn, address: PT });
  });

  it("set EPT's dirty flag where they write, also in a leaf without W", () => {
    for (const [word, expected] of [
      [ShadowStack, EA],
      [ShadowStack | Write, EA | ED],
    ] as const) {
      const { memory, space } = overEpt((ram) => ram.writeU64(eptLeafOf(PAGE), PAGE | R | SSS | WB), {
        eptp: EPTP_AD | CONTROL,
      });
      mapped(space.translate(0, word));
      expect(memory.readU64(eptLeafOf(PAGE)) & (EA | ED)).toBe(expected);
    }
  });

  it("a guest's page fault comes first", () => {
    const { space } = overEpt((memory) => {
      memory.writeU64(PT, PAGE | P | W);
      memory.writeU64(eptLeafOf(PAGE), 0n);
    }, controlled);
    expect(fault(space.translate(0, ShadowStack))).toMatchObject({
      status: Status.PageFault,
      errorCode: BigInt(SS | 1),
    });
  });

  it("with the guest's paging off are still those of a mode", () => {
    const off = { cr0: 1n | CR0.wp, cr4: CR4.cet, efer: 0n };
    const at = (word: number, leaf: bigint) =>
      overEpt((memory) => memory.writeU64(eptLeafOf(PAGE), PAGE | leaf | WB), controlled, off).space.translate(
        PAGE,
        word,
      );
    expect(at(ShadowStack, R | SSS).ok).toBe(true);
    expect(fault(at(ShadowStack, R)).errorCode).toBe(0x189n | QSS);
    expect(at(ShadowStack | User, R).ok).toBe(true);
  });

  it("of guest-physical addresses that are asked for directly", () => {
    const memory = ram();
    eptIdentity(memory);
    memory.writeU64(EPT_PT, R | SSS | WB);
    memory.writeU64(EPT_PT + 8n, 0x1000n | R | WB);
    const space = eptSpace(memory, controlled);
    expect(mapped(space.translate(0x123, ShadowStack | Write)).pa).toBe(0x123n);
    expect(fault(space.translate(0x123, ShadowStack | Write | User)).errorCode).toBe(0xan | QSS | QSSS);
    expect(fault(space.translate(0x1000, ShadowStack)).errorCode).toBe(9n | QSS);
    expect(mapped(space.translate(0x1000, ShadowStack | User)).pa).toBe(0x1000n);
    expect(fault(space.translate(1n << 48n, ShadowStack)).errorCode).toBe(1n | QSS);
  });

  it("to KVM's walk of EPT are like others", () => {
    expect(final(ShadowStack | Write, R | SSS, { rules: "kvm-6.1" })).toBe(0x18an);
    expect(final(ShadowStack, R, { rules: "kvm-6.1" })).toBe("ok");
  });
});

function overNpt(edit: (memory: Ram) => void, npt: Partial<NptConfig> = {}, guest: Partial<AddressSpaceConfig> = {}) {
  const memory = ram();
  chain(memory);
  memory.writeU64(PT, PAGE | P | D);
  nptIdentity(memory);
  edit(memory);
  const secondStage = nptSpace(memory, npt);
  return { memory, space: engine.createAddressSpace(memory, longMode({ ...CET, ...guest, secondStage })) };
}

describe('APM "Supervisor Shadow Stacks"', () => {
  const checked = { shadowStackCheck: true };
  const FINAL = 1n << 32n;
  const user = (memory: Ram) => memory.writeU64(PT, PAGE | P | D | U);
  const final = (word: number, leaf: bigint, npt: Partial<NptConfig> = {}, edit: (memory: Ram) => void = () => {}) => {
    const result = overNpt((memory) => {
      memory.writeU64(eptLeafOf(PAGE), PAGE | leaf);
      edit(memory);
    }, npt).space.translate(0, word);
    if (result.ok) return "ok";
    expect(result).toMatchObject({ status: Status.NestedPageFault, address: PAGE, stage: "second" });
    return result.errorCode ^ FINAL;
  };

  it("without checks shadow-stack accesses are reads and writes, and reported", () => {
    expect(final(ShadowStack, P | U)).toBe("ok");
    expect(final(ShadowStack, P)).toBe(0x45n);
    expect(final(ShadowStack, 0n)).toBe(0x44n);
    expect(final(ShadowStack | Write, P | U)).toBe(0x47n);
    expect(final(ShadowStack | Write, P | U | W)).toBe("ok");
    expect(final(ShadowStack, P | XD)).toBe(0x45n);
    expect(final(ShadowStack | User | Write, P | U, {}, user)).toBe(0x47n);
    expect(final(ShadowStack, P | U, { shadowStackCheck: false })).toBe("ok");
  });

  it("with checks supervisor ones need NX=1 and U/S=0 in the leaf, and no right to write there", () => {
    for (const word of [ShadowStack, ShadowStack | Write]) {
      const w = word & Write ? 2n : 0n;
      expect(final(word, P | XD, checked)).toBe("ok");
      expect(final(word, P | XD | W, checked)).toBe("ok");
      expect(final(word, P | XD | U, checked)).toBe(0x45n | w);
      expect(final(word, P, checked)).toBe(0x45n | w);
      expect(final(word, P | W | U, checked)).toBe(0x45n | w);
      expect(final(word, XD, checked)).toBe(0x44n | w);
    }
  });

  it("with checks supervisor ones need R/W=1 in the nested entries above the leaf", () => {
    const at = (bits: bigint) => {
      const { memory, space } = overNpt((ram) => {
        ram.writeU64(PT, (1n << 21n) | P | D);
        ram.writeU64(0x14000, P | XD);
        ram.writeU64(EPT_PD + 8n, 0x14000n | bits);
      }, checked);
      const result = space.translate(0, ShadowStack);
      expect(memory.readU64(0x14000) & A).toBe(result.ok ? A : 0n);
      return result.ok ? "ok" : result.errorCode ^ FINAL;
    };
    expect(at(P | U | W)).toBe("ok");
    expect(at(P | U)).toBe(0x45n | NSSS);
    // U/S and NX count in the leaf only.
    expect(at(P | W)).toBe("ok");
    expect(at(P | W | XD)).toBe("ok");
  });

  it("user ones are reads and writes with checks, too", () => {
    expect(final(ShadowStack | User, P | U, checked, user)).toBe("ok");
    expect(final(ShadowStack | User | Write, P | U | W, checked, user)).toBe("ok");
    expect(final(ShadowStack | User, P | XD, checked, user)).toBe(0x45n | NSSS);
  });

  it("other accesses are what they are, and a page of the kind is reported in bit 37", () => {
    expect(final(Fetch, P | XD, checked)).toBe(0x15n | NSSS);
    expect(final(Fetch, P | XD | U, checked)).toBe(0x15n);
    expect(final(Read, P | XD, checked)).toBe(5n | NSSS);
    expect(final(Read, P | XD, {})).toBe(5n);
    expect(final(Read, XD, checked)).toBe(4n);
    const { space } = overNpt((memory) => memory.writeU64(eptLeafOf(PD), PD | P | W | XD), checked);
    expect(fault(space.translate(0, ShadowStack))).toMatchObject({
      status: Status.NestedPageFault,
      errorCode: (1n << 33n) | 7n | NSSS,
      address: PD,
    });
    const reserved = { ...checked, maxPhysAddr: 40 };
    expect(final(ShadowStack, P | XD | (1n << 51n), reserved)).toBe(0x4dn);
  });

  it("are checked in hosts with PAE and NXE only", () => {
    expect(final(ShadowStack, P | U, { ...checked, efer: EFER.long })).toBe("ok");
    const narrow = (npt: Partial<NptConfig>) => {
      const memory = ram();
      // 4 MiB at 0, for a user.
      memory.writeU32(EPT_ROOT, 0x87);
      return engine
        .createNpt(memory, { ncr3: EPT_ROOT, cr4: CR4.pse, efer: EFER.nxe, ...npt })
        .translate(0x5123, ShadowStack);
    };
    expect(narrow(checked).ok).toBe(true);
    const pae = (leaf: bigint) => {
      const memory = ram();
      memory.writeU64(EPT_ROOT, EPT_PD | P);
      memory.writeU64(EPT_PD, EPT_PT | P | W | U);
      memory.writeU64(EPT_PT, leaf);
      const space = engine.createNpt(memory, { ncr3: EPT_ROOT, efer: EFER.nxe, ...checked });
      return codeOf(space.translate(0x123, ShadowStack | Write)) & 0xff;
    };
    expect(pae(P | XD)).toBe(0);
    expect(pae(P | U | W)).toBe(0x47);
  });

  it("mark the leaf dirty where they write, although it has no R/W", () => {
    for (const [word, expected] of [
      [ShadowStack, A],
      [ShadowStack | Write, A | D],
    ] as const) {
      const { memory, space } = overNpt((ram) => ram.writeU64(eptLeafOf(PAGE), PAGE | P | XD), checked);
      mapped(space.translate(0, word));
      expect(memory.readU64(eptLeafOf(PAGE)) & (A | D)).toBe(expected);
    }
  });

  it("mean nothing to KVM's walk of NPT in Linux 6.1", () => {
    const kvm = { ...checked, rules: "kvm-6.1" } as const;
    expect(final(ShadowStack, P | U, kvm)).toBe("ok");
    expect(final(ShadowStack, P | XD, kvm)).toBe(5n);
    expect(fault(nptSpace(ram(), kvm).translate(1n << 48n, ShadowStack))).toMatchObject({ errorCode: FINAL | 4n });
  });
});
