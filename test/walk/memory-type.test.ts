/** Effective memory types: IA32_PAT, the MTRRs, CR0.CD, and what EPT and NPT add. */
import { describe, expect, it } from "vitest";
import type { AddressSpaceConfig, MtrrConfig, NptConfig } from "../../src/api.js";
import { ConfigError } from "../../src/errors.js";
import {
  CR0,
  CR4,
  chain,
  EFER,
  EPT_PD,
  EPT_PT,
  engine,
  eptIdentity,
  eptLeafOf,
  eptSpace,
  longMode,
  machine,
  mapped,
  nptIdentity,
  nptSpace,
  P,
  PAGE,
  PD,
  PDPT,
  PS,
  PT,
  RWX,
  ram,
  U,
  W,
} from "./build.js";

const NUMBERS = { UC: 0, WC: 1, WT: 4, WP: 5, WB: 6, "UC-": 7 } as const;
type Pat = keyof typeof NUMBERS;
const MTRR_NAMES = ["UC", "WC", "WT", "WB", "WP"] as const;
const CD = 1n << 30n;
const [PWT, PCD, IPAT] = [1n << 3n, 1n << 4n, 1n << 6n];
const E = 1n << 11n;
const FE = 1n << 10n;
const V = 1n << 11n;

/** IA32_PAT with these types, the rest UC. */
function pat(...types: Pat[]): bigint {
  return types.reduceRight((word, type) => (word << 8n) | BigInt(NUMBERS[type]), 0n);
}

/** MTRRs that give everything one type. */
const all = (type: (typeof MTRR_NAMES)[number]): MtrrConfig => ({ defType: BigInt(NUMBERS[type]) | E });

/** The type of linear address 0, one stage. */
function type(changes: Partial<AddressSpaceConfig>, leaf = 0n): string | undefined {
  const { space } = machine(changes, (memory) => memory.writeU64(PT, PAGE | P | W | U | leaf));
  const result = mapped(space.translate(0));
  expect(mapped(space.walk(0).result)).toEqual(result);
  return result.effectiveMemoryType;
}

describe('SDM "Selecting Memory Types for Pentium III and More Recent Processor Families"', () => {
  // By MTRR type: what each PAT type becomes.
  const TABLE: Record<(typeof MTRR_NAMES)[number], Record<Pat, string>> = {
    UC: { UC: "UC", "UC-": "UC", WC: "WC", WT: "UC", WB: "UC", WP: "UC" },
    WC: { UC: "UC", "UC-": "WC", WC: "WC", WT: "UC", WB: "WC", WP: "UC" },
    WT: { UC: "UC", "UC-": "UC", WC: "WC", WT: "WT", WB: "WT", WP: "WP" },
    WB: { UC: "UC", "UC-": "UC", WC: "WC", WT: "WT", WB: "WB", WP: "WP" },
    WP: { UC: "UC", "UC-": "WC", WC: "WC", WT: "WT", WB: "WP", WP: "WP" },
  };

  it("combines IA32_PAT and the MTRRs", () => {
    for (const mtrr of MTRR_NAMES) {
      for (const entry of Object.keys(NUMBERS) as Pat[]) {
        expect(type({ pat: pat(entry), mtrrs: all(mtrr) }), `${mtrr} ${entry}`).toBe(TABLE[mtrr][entry]);
      }
    }
  });

  it("takes memory without MTRRs for write-back, and disabled ones for uncacheable", () => {
    expect(type({ pat: pat("WT") })).toBe("WT");
    expect(type({ pat: pat("WT"), mtrrs: { defType: NUMBERS.WB } })).toBe("UC");
    expect(type({ pat: pat("WC"), mtrrs: { defType: NUMBERS.WB } })).toBe("WC");
  });

  it("is uncacheable with CR0.CD=1", () => {
    expect(type({ pat: pat("WB"), cr0: CR0.base | CD })).toBe("UC");
    expect(type({ pat: pat("WC"), cr0: CR0.base | CD })).toBe("UC");
  });

  it("is there with a pat only, in the results of translate and walk", () => {
    expect(mapped(machine({ mtrrs: all("WB") }).space.translate(0))).not.toHaveProperty("effectiveMemoryType");
    expect(mapped(machine().space.translate(0))).not.toHaveProperty("effectiveMemoryType");
  });
});

describe('SDM "Selecting a Memory Type from the PAT"', () => {
  const eight = pat("WB", "WT", "UC-", "UC", "WC", "WP", "WT", "WB");
  const want = ["WB", "WT", "UC", "UC", "WC", "WP", "WT", "WB"];

  it("goes by PAT, PCD and PWT of the leaf", () => {
    want.forEach((expected, index) => {
      const leaf = (index & 1 ? PWT : 0n) | (index & 2 ? PCD : 0n) | (index & 4 ? PS : 0n);
      expect(type({ pat: eight }, leaf)).toBe(expected);
    });
  });

  it("finds the PAT bit of a large page at bit 12", () => {
    for (const table of [PD, PDPT]) {
      const { space } = machine({ pat: eight }, (memory) => memory.writeU64(table, P | W | U | PS | (1n << 12n) | PWT));
      expect(mapped(space.translate(0)).effectiveMemoryType).toBe("WP");
    }
  });

  it("is as if write-back without paging", () => {
    const config = { cr0: 1n, cr3: 0n, cr4: 0n, efer: 0n, pat: pat("UC") };
    expect(mapped(engine.createAddressSpace(ram(), config).translate(0)).effectiveMemoryType).toBe("WB");
    const through = engine.createAddressSpace(ram(), { ...config, mtrrs: all("WT") });
    expect(mapped(through.translate(0)).effectiveMemoryType).toBe("WT");
  });
});

describe('SDM "Memory Type Range Registers (MTRRs)"', () => {
  const range = (type: Pat, base: bigint, size: bigint) => ({
    base: base | BigInt(NUMBERS[type]),
    mask: (((1n << 52n) - 1n) & ~(size - 1n)) | V,
  });
  const through = (mtrrs: MtrrConfig) => type({ pat: pat("WB"), mtrrs });

  it("maps what the bits under a mask say", () => {
    const variable = [range("WT", 0x5000n, 0x1000n)];
    expect(through({ defType: BigInt(NUMBERS.WB) | E, variable })).toBe("WT");
    expect(through({ defType: BigInt(NUMBERS.WB) | E, variable: [range("WT", 0x6000n, 0x1000n)] })).toBe("WB");
    expect(through({ defType: BigInt(NUMBERS.WB) | E, variable: [range("WT", 0x6000n, 0x4000n)] })).toBe("WT");
    const off = variable.map(({ base, mask }) => ({ base, mask: mask & ~V }));
    expect(through({ defType: BigInt(NUMBERS.WB) | E, variable: off })).toBe("WB");
    // The base has more bits than the mask asks for.
    expect(through({ defType: BigInt(NUMBERS.WB) | E, variable: [range("WP", 0x7000n, 0x4000n)] })).toBe("WP");
  });

  it("prefers UC, then WT over WB, and leaves the rest open", () => {
    const both = (...types: Pat[]) =>
      through({ defType: BigInt(NUMBERS.WP) | E, variable: types.map((one) => range(one, 0n, 1n << 20n)) });
    expect(both("WB", "UC")).toBe("UC");
    expect(both("WC", "WP", "UC")).toBe("UC");
    expect(both("WB", "WT")).toBe("WT");
    expect(both("WT", "WB", "WT")).toBe("WT");
    expect(both("WB", "WB")).toBe("WB");
    expect(both("WB", "WC")).toBeUndefined();
    expect(both("WT", "WP")).toBeUndefined();
    expect(both("WB", "WT", "WP")).toBeUndefined();
  });

  it("has fixed ranges for the first MiB, which come first", () => {
    const at = (page: bigint, fixed: bigint[], defType = BigInt(NUMBERS.WB) | E | FE) => {
      const memory = ram(2 << 20);
      chain(memory);
      memory.writeU64(PT, page | P | W | U);
      const mtrrs = { defType, fixed, variable: [range("WP", 0n, 1n << 40n)] };
      const space = engine.createAddressSpace(memory, longMode({ pat: pat("WB"), mtrrs }));
      return mapped(space.translate(0)).effectiveMemoryType;
    };
    const uncacheable = Array<bigint>(11).fill(0n);
    const only = (register: number, byte: number) =>
      uncacheable.map((value, index) => (index === register ? 4n << BigInt(8 * byte) : value));
    const places: [bigint, bigint, number, number][] = [
      [0x0n, 0xf000n, 0, 0],
      [0x70000n, 0x7f000n, 0, 7],
      [0x80000n, 0x83000n, 1, 0],
      [0x9c000n, 0x9f000n, 1, 7],
      [0xa0000n, 0xa3000n, 2, 0],
      [0xbc000n, 0xbf000n, 2, 7],
      [0xc0000n, 0xc0000n, 3, 0],
      [0xc8000n, 0xc8000n, 4, 0],
      [0xff000n, 0xff000n, 10, 7],
    ];
    for (const [first, last, register, byte] of places) {
      expect(at(first, only(register, byte))).toBe("WT");
      expect(at(last, only(register, byte))).toBe("WT");
      expect(at(last + 0x1000n, only(register, byte))).not.toBe("WT");
      expect(at(first, uncacheable)).toBe("UC");
    }
    expect(at(0x100000n, uncacheable)).toBe("WP");
    expect(at(0x0n, uncacheable, BigInt(NUMBERS.WB) | E)).toBe("WP");
    expect(at(0x0n, uncacheable, BigInt(NUMBERS.WB) | FE)).toBe("UC");
  });

  it.each<[string, Partial<AddressSpaceConfig>]>([
    ["a type of IA32_PAT", { pat: 2n }],
    ["a type of IA32_PAT above 7", { pat: 8n << 56n }],
    ["IA32_PAT", { pat: -1n }],
    ["the default type", { mtrrs: { defType: 7n } }],
    ["the type of a range", { mtrrs: { defType: E, variable: [{ base: 2n, mask: V }] } }],
    ["the type of a fixed range", { mtrrs: { defType: E, fixed: Array<bigint>(11).fill(7n) } }],
    ["missing fixed ranges", { mtrrs: { defType: E | FE } }],
    ["too few fixed ranges", { mtrrs: { defType: E, fixed: [0n] } }],
    ["no list of ranges", { mtrrs: { defType: E, variable: {} as never } }],
    ["an unknown option", { mtrrs: { defType: E, fixd: [] } as never }],
    ["an unknown option of a range", { mtrrs: { defType: E, variable: [{ base: 0n, mask: V, type: 6 } as never] } }],
    ["no flag", { cpu: { amdMemoryTypes: 1 as never } }],
  ])("refuses %s that no processor takes", (_what, changes) => {
    expect(() => machine(changes)).toThrow(ConfigError);
  });
});

describe('SDM "Memory Type Used for Translated Guest-Physical Addresses"', () => {
  function ept(entry: bigint, changes: Partial<AddressSpaceConfig>, large = false): string | undefined {
    const memory = ram();
    chain(memory);
    eptIdentity(memory);
    if (large) memory.writeU64(EPT_PD, RWX | PS | entry);
    else memory.writeU64(eptLeafOf(PAGE), PAGE | RWX | entry);
    const space = engine.createAddressSpace(memory, longMode({ secondStage: eptSpace(memory), ...changes }));
    return mapped(space.translate(0)).effectiveMemoryType;
  }
  const memtype = (type: (typeof MTRR_NAMES)[number]) => BigInt(NUMBERS[type]) << 3n;

  it("takes the EPT entry's type in the place of the MTRRs'", () => {
    expect(ept(memtype("WB"), { pat: pat("WT") })).toBe("WT");
    expect(ept(memtype("UC"), { pat: pat("WB") })).toBe("UC");
    expect(ept(memtype("UC"), { pat: pat("WC") })).toBe("WC");
    expect(ept(memtype("WP"), { pat: pat("UC-") })).toBe("WC");
    expect(ept(memtype("WT"), { pat: pat("WP") })).toBe("WP");
    expect(ept(memtype("WC"), { pat: pat("WB") }, true)).toBe("WC");
  });

  it("ignores IA32_PAT with bit 6 of the entry", () => {
    for (const one of MTRR_NAMES) {
      expect(ept(memtype(one) | IPAT, { pat: pat("UC") })).toBe(one);
      expect(ept(memtype(one) | IPAT, { pat: pat("WC") }, true)).toBe(one);
    }
  });

  it("is uncacheable with CR0.CD=1, whatever the entry", () => {
    expect(ept(memtype("WB") | IPAT, { pat: pat("WB"), cr0: CR0.base | CD })).toBe("UC");
    expect(ept(memtype("WC"), { pat: pat("WC"), cr0: CR0.base | CD })).toBe("UC");
  });

  it("does not ask the MTRRs, and without paging takes IA32_PAT for write-back", () => {
    expect(ept(memtype("WB"), { pat: pat("WB"), mtrrs: all("UC") })).toBe("WB");
    const memory = ram();
    eptIdentity(memory);
    memory.writeU64(EPT_PT, RWX | memtype("WT"));
    const config = { cr0: 1n, cr3: 0n, cr4: 0n, efer: 0n, pat: pat("UC"), secondStage: eptSpace(memory) };
    expect(mapped(engine.createAddressSpace(memory, config).translate(0)).effectiveMemoryType).toBe("WT");
  });
});

describe('APM vol. 2, "Combining Memory Types, MTRRs"', () => {
  function npt(
    guest: Pat,
    host: Pat,
    changes: Partial<NptConfig> = {},
    own: Partial<AddressSpaceConfig> = {},
  ): string | undefined {
    const memory = ram();
    chain(memory);
    nptIdentity(memory);
    // The nested leaf has PAT index 1, the guest's 2.
    memory.writeU64(eptLeafOf(PAGE), PAGE | P | W | U | PWT);
    memory.writeU64(PT, PAGE | P | W | U | PCD);
    const secondStage = nptSpace(memory, { pat: pat("UC", host), ...changes });
    const space = engine.createAddressSpace(memory, longMode({ pat: pat("UC", "UC", guest), secondStage, ...own }));
    return mapped(space.translate(0)).effectiveMemoryType;
  }
  const HOSTS = ["UC", "UC-", "WC", "WP", "WT", "WB"] as const;

  it("combines guest and host PAT types", () => {
    // With MTRRs of WB what is UC by both is CD.
    const rows: Record<Pat, string> = {
      UC: "CD CD CD CD CD CD",
      "UC-": "CD CD WC CD CD CD",
      WC: "WC WC WC WC+ WC+ WC+",
      WP: "CD CD CD WP CD WP",
      WT: "CD CD CD CD WT WT",
      WB: "CD CD WC WP WT WB",
    };
    for (const guest of HOSTS) expect(HOSTS.map((host) => npt(guest, host)).join(" ")).toBe(rows[guest]);
  });

  it("combines that with the host's MTRRs, at the system-physical address", () => {
    const columns = ["UC", "WC", "WP", "WT", "WB"] as const;
    const row = (guest: Pat, host: Pat) => columns.map((one) => npt(guest, host, { mtrrs: all(one) })).join(" ");
    expect(row("UC", "WB")).toBe("UC CD CD CD CD");
    expect(row("UC-", "UC-")).toBe("UC WC CD CD CD");
    expect(row("WC", "WC")).toBe("WC WC WC WC WC");
    expect(row("WC", "WB")).toBe("WC WC WC+ WC+ WC+");
    expect(row("WP", "WB")).toBe("UC CD WP CD WP");
    expect(row("WT", "WB")).toBe("UC CD CD WT WT");
    expect(row("WB", "WB")).toBe("UC WC WP WT WB");
    // The guest's have no effect.
    expect(npt("WB", "WB", {}, { mtrrs: all("UC") })).toBe("WB");
  });

  it("has no caches where CR0.CD of guest or host says so", () => {
    expect(npt("WB", "WB", { cr0: CR0.base | CD })).toBe("CD");
    expect(npt("WB", "WT", {}, { cr0: CR0.base | CD })).toBe("CD");
    expect(npt("WC", "WB", {}, { cr0: CR0.base | CD })).toBe("WC+");
    expect(npt("WC", "WC", { cr0: CR0.base | CD })).toBe("WC");
  });

  it("is not known without the host's IA32_PAT, or without paging in either", () => {
    const memory = ram();
    chain(memory);
    nptIdentity(memory);
    const of = (npt: Partial<NptConfig>, guest: Partial<AddressSpaceConfig>) => {
      const space = engine.createAddressSpace(memory, longMode({ secondStage: nptSpace(memory, npt), ...guest }));
      return mapped(space.translate(0)).effectiveMemoryType;
    };
    expect(of({ pat: pat("WB") }, { pat: pat("WB") })).toBe("WB");
    expect(of({}, { pat: pat("WB") })).toBeUndefined();
    expect(of({ pat: pat("WB") }, {})).toBeUndefined();
    expect(of({ pat: pat("WB"), cr0: 1n, cr4: 0n, efer: 0n }, { pat: pat("WB") })).toBeUndefined();
    expect(of({ pat: pat("WB") }, { pat: pat("WB"), cr0: 1n, cr4: 0n, efer: 0n })).toBeUndefined();
    expect(() => nptSpace(memory, { pat: 3n })).toThrow(ConfigError);
    expect(() => nptSpace(memory, { mtrrs: { defType: 3n } })).toThrow(ConfigError);
  });

  it("is the same for one stage of such a processor", () => {
    const amd = { cpu: { amdMemoryTypes: true } };
    expect(type({ ...amd, pat: pat("UC"), mtrrs: all("WB") })).toBe("CD");
    expect(type({ ...amd, pat: pat("UC"), mtrrs: all("UC") })).toBe("UC");
    expect(type({ ...amd, pat: pat("WT"), mtrrs: all("WP") })).toBe("CD");
    expect(type({ ...amd, pat: pat("WB"), mtrrs: all("WB"), cr0: CR0.base | CD })).toBe("CD");
    expect(type({ ...amd, pat: pat("WC"), mtrrs: all("WB"), cr0: CR0.base | CD })).toBe("WC");
  });
});

it("other modes have their PAT index", () => {
  const legacy = ram();
  legacy.writeU32(0x1000, 0x2007);
  legacy.writeU32(0x2000, 0x5007 | Number(PCD));
  const config = { cr0: CR0.base, cr3: 0x1000n, cr4: CR4.pse, efer: 0n, pat: pat("WB", "WB", "WT", "WB") };
  expect(mapped(engine.createAddressSpace(legacy, config).translate(0)).effectiveMemoryType).toBe("WT");
  const { space } = machine({ cr3: PDPT, cr4: CR4.pae, efer: EFER.nxe, pat: config.pat }, (memory) => {
    memory.writeU64(PDPT, PD | P);
    memory.writeU64(PT, PAGE | P | W | U | PCD);
  });
  expect(mapped(space.translate(0)).effectiveMemoryType).toBe("WT");
});
