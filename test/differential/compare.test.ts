/** The comparison of two engines by a scenario, with engines that are wrong on purpose. */
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/access.js";
import type { AddressSpace, Leaf, PagingEngine } from "../../src/api.js";
import { loadSync } from "../../src/core/index.js";
import { ConfigError, PdpteLoadError, UnsupportedError } from "../../src/errors.js";
import { compareEngines, formatScenario, fuzzRound, runScenario, type Scenario } from "../../src/fuzz/index.js";
import { createReference } from "../../src/reference/index.js";

const LONG = { cr0: 0x8001_0001n, cr3: 0x1000n, cr4: 0x20n, efer: 0xd00n };

/** Long mode: the page at 0 is 0x5000; the last entry of the only slot is none of the walk's. */
const scenario: Scenario = {
  slots: [{ gpa: 0n, size: 0x8000, readOnly: false }],
  entries: [
    { address: 0x1000n, value: 0x2007n, bytes: 8 },
    { address: 0x2000n, value: 0x3007n, bytes: 8 },
    { address: 0x3000n, value: 0x4007n, bytes: 8 },
    { address: 0x4000n, value: 0x5007n, bytes: 8 },
    { address: 0x7ff8n, value: 0x77n, bytes: 8 },
  ],
  guest: LONG,
  second: undefined,
  accesses: [{ address: 0x123n, access: Access.Write }],
};

/** The same behind an NPT of one 2 MiB page, which leads to itself. */
const nested: Scenario = {
  ...scenario,
  entries: [
    ...scenario.entries.slice(0, 4),
    { address: 0x6000n, value: 0x7007n, bytes: 8 },
    { address: 0x7000n, value: 0x67n, bytes: 8 },
  ],
  second: { kind: "npt", config: { ncr3: 0x6000n, cr4: 0x20n } },
};

/** The reference, its spaces and what makes them changed. */
function bent(change: (space: AddressSpace) => Partial<AddressSpace>, make: () => void = () => {}): PagingEngine {
  const engine = createReference();
  return {
    createMemory: (config) => engine.createMemory(config),
    createEpt: (memory, config) => engine.createEpt(memory, config),
    createNpt: (memory, config) => engine.createNpt(memory, config),
    createAddressSpace: (memory, config) => {
      make();
      const space = engine.createAddressSpace(memory, config);
      return {
        mode: space.mode,
        translate: (address, access) => space.translate(address, access),
        walk: (address, access) => space.walk(address, access),
        leaves: () => space.leaves(),
        ...change(space),
      };
    },
  };
}

const right = () => bent(() => ({}));
const refusing = (error: Error) =>
  bent(
    () => ({}),
    () => {
      throw error;
    },
  );
const leaf = (space: AddressSpace) => [...space.leaves()][0]!;
const fault = (level: number) => ({ ok: false, status: 1, errorCode: 0n, level }) as never;

describe("two engines", () => {
  it("that agree have no differences, however they run", () => {
    for (const one of [scenario, nested]) {
      expect(compareEngines(createReference(), loadSync(), one)).toEqual([]);
      expect(compareEngines(right(), createReference(), one)).toEqual([]);
    }
  });

  it.each<[string, PagingEngine]>([
    ["creation", refusing(new ConfigError("no"))],
    ["modes", bent(() => ({ mode: "pae" }))],
    [
      "translations",
      bent((space) => ({ translate: (at) => ({ ...space.translate(at, Access.Write), pa: 1n }) as never })),
    ],
    ["translations", bent(() => ({ translate: () => { throw new ConfigError("no"); } }))], // biome-ignore format: one line
    ["walks", bent((space) => ({ walk: (at, access) => ({ ...space.walk(at, access), steps: [] }) }))],
    ["leaves", bent(() => ({ leaves: () => [][Symbol.iterator]() as IterableIterator<Leaf> }))],
    ["leaves", bent((space) => ({ leaves: () => [leaf(space), leaf(space)].values() as IterableIterator<Leaf> }))],
    ["leaves", bent(() => ({ leaves: () => { throw new UnsupportedError("no"); } }))], // biome-ignore format: one line
    // Accessed and dirty bits are set by nobody.
    [
      "memory",
      bent((space) => ({
        translate: (at, access = 0) => space.translate(at, access | Access.Probe),
        walk: (at, access = 0) => space.walk(at, access | Access.Probe),
      })),
    ],
  ])("that differ in %s are told apart, whichever is wrong", (part, wrong) => {
    for (const differences of [compareEngines(wrong, right(), scenario), compareEngines(right(), wrong, scenario)]) {
      expect(differences.some((line) => line.startsWith(part))).toBe(true);
    }
  });

  it("that refuse a scenario for different reasons are told apart", () => {
    const reasons = [
      new ConfigError("one"),
      new UnsupportedError("two"),
      new PdpteLoadError("three", fault(2)),
      new PdpteLoadError("four", fault(3)),
    ];
    for (const [i, a] of reasons.entries()) {
      for (const [j, b] of reasons.entries()) {
        expect(compareEngines(refusing(a), refusing(b), scenario)).toHaveLength(i === j ? 0 : 1);
      }
    }
    expect(compareEngines(refusing(new ConfigError("a")), refusing(new ConfigError("b")), scenario)).toEqual([]);
  });

  it("pass an error through that is none of this package's", () => {
    const broken = bent(() => ({
      translate: () => {
        throw new TypeError("a bug");
      },
    }));
    expect(() => compareEngines(right(), broken, scenario)).toThrow("a bug");
  });
});

describe("running a scenario", () => {
  it("places every entry that lies in a slot, the last one too, and shows what became of it", () => {
    const { memory } = runScenario(createReference(), scenario);
    expect(memory).toEqual(["1000=2027", "2000=3027", "3000=4027", "4000=5067", "7ff8=77"]);
    const outside = { address: 0x7ffcn, value: 1n, bytes: 8 } as const;
    const more = { ...scenario, entries: [...scenario.entries, outside, { ...outside, address: 0x8000n }] };
    expect(runScenario(createReference(), more).memory).toEqual(memory);
  });

  it("goes through both stages", () => {
    const { modes, translations, refused } = runScenario(createReference(), nested);
    expect([modes, refused]).toEqual([["4level", "4level"], undefined]);
    // The second stage has nothing at the guest's root table.
    expect(JSON.parse(translations[0]!)).toMatchObject({ ok: false, stage: "second" });
    const direct = runScenario(createReference(), { ...nested, guest: undefined });
    expect(direct.modes).toEqual(["4level"]);
  });

  it("gives back all memory, of refused scenarios too", () => {
    const core = loadSync();
    const { linear } = core.internals();
    runScenario(core, nested);
    const free = linear.freeBytes;
    for (const one of [scenario, nested, { ...nested, guest: { ...LONG, maxPhysAddr: 99 } }]) runScenario(core, one);
    expect(linear.freeBytes).toBe(free);
  });

  it("is written down so that it can be run again", () => {
    const text = formatScenario(nested);
    expect(new Function(`return ${text}`)()).toEqual(nested);
    expect(text).toContain("0x8000");
  });
});

describe("a round of scenarios", () => {
  const wrong = () => bent((space) => ({ mode: space.mode === "pae" ? "4level" : space.mode }));

  it("finds the first difference, shrunk, and the same one from the same seed", () => {
    const [first, again, other] = [5, 5, 6].map((seed) => fuzzRound(right(), wrong(), seed, 200));
    expect(first!.differences.length).toBeGreaterThan(0);
    expect(first!.differences).toEqual(compareEngines(right(), wrong(), first!.scenario));
    expect(again).toEqual(first);
    expect([first!.seed, other!.seed]).toEqual([5, 6]);
    expect(other!.path).not.toBe(first!.path);
  });

  it("finds none between engines that agree", () => {
    expect(fuzzRound(createReference(), right(), 5, 50)).toBeUndefined();
  });
});
