/** What a vector judges an engine by, with engines that are wrong on purpose. */
import { describe, expect, it } from "vitest";
import type { AddressSpace, GuestMemory, PagingEngine, Translation } from "../../src/api.js";
import { parseVector, runVector, runVectors } from "../../src/conform/index.js";
import { createEngine } from "../engine.js";
import { faultingVector, sampleVector } from "./sample.js";

const parse = (vector: Record<string, unknown>) => parseVector(JSON.stringify(vector), 1);

/** The reference with its answers and effects bent. */
function bent(change: (result: Translation, memory: GuestMemory) => Translation): PagingEngine {
  const engine = createEngine();
  return {
    createMemory: (config) => engine.createMemory(config),
    createEpt: (memory, config) => engine.createEpt(memory, config),
    createNpt: (memory, config) => engine.createNpt(memory, config),
    createAddressSpace: (memory, config): AddressSpace => {
      const space = engine.createAddressSpace(memory, config);
      return {
        mode: space.mode,
        translate: (address, access) => change(space.translate(address, access), memory),
        walk: (address, access) => space.walk(address, access),
        leaves: () => space.leaves(),
      };
    },
  };
}

describe("an engine is judged by", () => {
  it("passing when everything agrees", () => {
    expect(runVector(createEngine(), parse(sampleVector()))).toMatchObject({ passed: true, differences: [] });
    expect(runVector(createEngine(), parse(faultingVector()))).toMatchObject({ passed: true, differences: [] });
  });

  it("the physical address", () => {
    const outcome = runVector(
      bent((result) => (result.ok ? { ...result, pa: result.pa + 1n } : result)),
      parse(sampleVector()),
    );
    expect(outcome).toMatchObject({ passed: false, differences: ["result: pa 0x5124, expected pa 0x5123"] });
  });

  it("the error code and CR2", () => {
    const code = runVector(
      bent((result) => (result.ok ? result : { ...result, errorCode: 5n })),
      parse(faultingVector()),
    );
    expect(code.differences).toEqual(["result: #PF(0x5) at 0x123, expected #PF(0x7) at 0x123"]);
    const cr2 = runVector(
      bent((result) => (result.ok ? result : { ...result, address: 0n })),
      parse(faultingVector()),
    );
    expect(cr2.differences).toEqual(["result: #PF(0x7) at 0x0, expected #PF(0x7) at 0x123"]);
  });

  it("the flags of every entry after a success", () => {
    const outcome = runVector(
      bent((result, memory) => {
        memory.writeU64(0x3000n, 0x4007n);
        return result;
      }),
      parse(sampleVector()),
    );
    expect(outcome.differences).toEqual(["level 2 entry at 0x3000: 0x4007, expected 0x4027"]);
  });

  it("entries that change on a fault, unless a processor may do that", () => {
    const engine = bent((result, memory) => {
      memory.writeU64(0x1000n, 0x2027n);
      return result;
    });
    expect(runVector(engine, parse(faultingVector())).differences).toEqual([
      "level 4 entry at 0x1000: 0x2027, expected 0x2007",
    ]);
    const tolerant = faultingVector();
    (tolerant.entries as Record<string, unknown>[])[0]!.afterAlt = "0x2027";
    expect(runVector(engine, parse(tolerant)).passed).toBe(true);
  });

  it("a fault that sets nothing, though a recorded processor set accessed bits on its way", () => {
    const vector = faultingVector();
    const [top, ...below] = vector.entries as { before: string; after: string }[];
    vector.entries = [{ ...top, after: "0x2027" }, ...below];
    expect(runVector(createEngine(), parse(vector))).toMatchObject({ passed: true, differences: [] });
  });

  it("the paging mode that the registers select", () => {
    const outcome = runVector(createEngine(), parse({ ...sampleVector(), mode: "5level" }));
    expect(outcome.differences).toContain("mode: 4level, expected 5level");
  });

  it("`expected`, with what was recorded of the entries left aside", () => {
    const vector = faultingVector();
    vector.expected = vector.result;
    vector.result = { ok: true, pa: "0x5123" };
    (vector.entries as Record<string, unknown>[])[0]!.after = "0x2027";
    expect(runVector(createEngine(), parse(vector)).passed).toBe(true);
  });

  it("`expected` alone where it is a fault: entries may not become what a processor left behind", () => {
    const vector = faultingVector();
    vector.expected = vector.result;
    (vector.entries as Record<string, unknown>[])[0]!.after = "0x2027";
    const engine = bent((result, memory) => {
      memory.writeU64(0x1000n, 0x2027n);
      return result;
    });
    expect(runVector(engine, parse(vector)).differences).toEqual(["level 4 entry at 0x1000: 0x2027, expected 0x2007"]);
  });

  it("the privilege level: of 0 to 3 only 3 is a user's", () => {
    const vector = sampleVector();
    const entries = (vector.entries as Record<string, string>[]).map(({ before, after, ...entry }) => {
      return {
        ...entry,
        before: `0x${(BigInt(before!) & ~4n).toString(16)}`,
        after: `0x${(BigInt(after!) & ~4n).toString(16)}`,
      };
    });
    const passed = [0, 1, 2, 3].map((cpl) => {
      return runVector(createEngine(), parse({ ...vector, entries, access: { kind: "write", cpl } })).passed;
    });
    expect(passed).toEqual([true, true, true, false]);
    const smap = { ...vector, cr4: "0x200020", access: { kind: "write", cpl: 1 } };
    expect([0, 1].map((ac) => runVector(createEngine(), parse({ ...smap, ac })).passed)).toEqual([false, true]);
  });

  it("#GP at MOV CR3 for reserved bits of a PDPTE", () => {
    const vector = {
      ...sampleVector(),
      mode: "pae",
      efer: "0x0",
      pdptes: ["0x2003", "0x0", "0x0", "0x0"],
      entries: [{ level: 3, gpa: "0x1000", before: "0x2003", after: "0x2003" }],
      result: { ok: false, vector: 13, errorCode: "0x0" },
    };
    expect(runVector(createEngine(), parse(vector)).passed).toBe(true);
    const loaded = { ...vector, result: { ok: false, vector: 14, errorCode: "0x6", cr2: "0x123" } };
    expect(runVector(createEngine(), parse(loaded)).differences[0]).toContain("#GP when registers are loaded");
    const valid = {
      ...vector,
      pdptes: ["0x0", "0x0", "0x0", "0x0"],
      entries: [{ level: 3, gpa: "0x1000", before: "0x0", after: "0x0" }],
    };
    expect(runVector(createEngine(), parse(valid)).differences).toEqual([
      "result: the PDPTEs were loaded, expected #GP(0) at MOV CR3",
    ]);
  });

  it("#GP(0) for an address that is not canonical", () => {
    const vector = { ...faultingVector(), gva: "0x800000000000", result: { ok: false, vector: 13, errorCode: "0x0" } };
    expect(runVector(createEngine(), parse(vector)).passed).toBe(true);
  });

  it("what it throws", () => {
    const outcome = runVector(
      bent(() => {
        throw new RangeError("trap");
      }),
      parse(sampleVector()),
    );
    expect(outcome.differences).toEqual(["the engine threw RangeError: trap"]);
  });
});

describe("a known exception", () => {
  const vector = (changes: Record<string, unknown> = {}, result: Record<string, unknown> = {}) => ({
    ...faultingVector(),
    cr4: "0x1000020",
    pkrs: "0x1",
    entries: [
      { level: 4, gpa: "0x1000", before: "0x2007", after: "0x2007" },
      { level: 3, gpa: "0x2000", before: "0x3007", after: "0x3007" },
      { level: 2, gpa: "0x3000", before: "0x4007", after: "0x4007" },
      { level: 1, gpa: "0x4000", before: "0x5003", after: "0x5003" },
    ],
    ...changes,
    result: { ok: false, vector: 14, errorCode: "0x7", cr2: "0x123", ...result },
  });

  it("excuses what it describes, and nothing beside it", () => {
    const judge = (value: Record<string, unknown>) => runVector(createEngine(), parse(value));
    expect(judge(vector())).toMatchObject({ passed: true, exception: "pkrs-user-access" });
    expect(judge(vector({}, { errorCode: "0x27" })).exception).toBeUndefined();
    expect(judge(vector({}, { errorCode: "0x27" })).passed).toBe(true);
    expect(judge(vector({}, { errorCode: "0x5" })).passed).toBe(false);
    expect(judge(vector({}, { cr2: "0x124" })).passed).toBe(false);
    expect(judge(vector({ access: { kind: "write", cpl: 0 } }, { errorCode: "0x3" })).passed).toBe(false);
  });

  it("is counted each time", async () => {
    const { passed, failed, exceptions } = await runVectors(
      createEngine(),
      [vector(), sampleVector(), vector()].map(parse),
    );
    expect([passed, failed, [...exceptions]]).toEqual([3, 0, [["pkrs-user-access", 2]]]);
  });
});

describe("running many vectors", () => {
  it("counts, keeps the first failures and goes on counting", async () => {
    const wrong = { ...sampleVector(), result: { ok: true, pa: "0x0" } };
    const vectors = [sampleVector(), wrong, wrong, wrong].map(parse);
    const progress: number[] = [];
    const summary = await runVectors(createEngine(), vectors, {
      keepFailures: 2,
      onVector: ({ passed, failed }) => progress.push(passed + failed),
    });
    expect(summary).toMatchObject({ passed: 1, failed: 3 });
    expect(summary.failures).toHaveLength(2);
    expect(progress).toEqual([1, 2, 3, 4]);
    expect(await runVectors(createEngine(), vectors, { into: summary })).toMatchObject({ passed: 2, failed: 6 });
  });

  it("gives back every memory and space, also when the engine throws", () => {
    let live = 0;
    const engine = createEngine();
    const counting: PagingEngine = {
      ...bent((result) => result),
      createMemory: (config) => {
        live++;
        return Object.assign(engine.createMemory(config), { dispose: () => live-- });
      },
      createAddressSpace: (memory, config) => {
        if (config.cr3 !== 0x1000n) throw new Error("no");
        live++;
        return Object.assign(engine.createAddressSpace(memory, config), { dispose: () => live-- });
      },
    };
    runVector(counting, parse(sampleVector()));
    runVector(counting, parse({ ...sampleVector(), cr3: "0x2000" }));
    expect(live).toBe(0);
  });
});
