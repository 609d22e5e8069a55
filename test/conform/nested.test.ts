/** Vectors with several accesses and with a second stage, which every engine must pass, and what a wrong one is told. */
import { describe, expect, it } from "vitest";
import { parseVector, runVector } from "../../src/conform/index.js";
import { VectorError } from "../../src/conform/vector-error.js";
import { createEngine } from "../engine.js";
import { sampleVector } from "./sample.js";

const judge = (vector: Record<string, unknown>) =>
  runVector(createEngine(), parseVector(JSON.stringify(vector), 1)).differences;

const read = (gva: string, pa: string) => ({ access: { kind: "read", cpl: 0 }, ac: 0, gva, result: { ok: true, pa } });

describe("several accesses", () => {
  it("are made in order, and each is judged", () => {
    expect(judge({ ...sampleVector(), further: [read("0x456", "0x5456"), read("0x789", "0x5789")] })).toEqual([]);
    expect(judge({ ...sampleVector(), further: [read("0x456", "0x5456"), read("0x789", "0x5788")] })).toEqual([
      "access 3: result: pa 0x5789, expected pa 0x5788",
    ]);
  });

  it("leave entries behind as they are after the last", () => {
    const entries = (sampleVector().entries as { after: string }[]).map((entry, index) =>
      index === 3 ? { ...entry, after: "0x5027" } : entry,
    );
    const first = { ...sampleVector(), entries, access: { kind: "read", cpl: 3 } };
    expect(judge(first)).toEqual([]);
    const write = { ...read("0x1", "0x5001"), access: { kind: "write", cpl: 3 } };
    expect(judge({ ...first, further: [write] })).toEqual(["level 1 entry at 0x4000: 0x5067, expected 0x5027"]);
  });
});

/** The sample's tables, 2 MiB higher in memory than in the guest, behind EPT or NPT tables of 2 MiB pages. */
function nested(secondStage: Record<string, unknown>, changes: Record<string, unknown> = {}): Record<string, unknown> {
  const entries = (sampleVector().entries as { gpa: string }[]).map((entry) => {
    return { ...entry, hpa: `0x${(BigInt(entry.gpa) + 0x20_0000n).toString(16)}` };
  });
  const result = { ok: true, pa: "0x205123" };
  return { ...sampleVector(), entries, result, secondStage: { maxphyaddr: 40, ...secondStage }, ...changes };
}

const table = (bits: bigint, leaf: bigint, leafAfter: bigint) => [
  { level: 4, gpa: "0x10000", before: `0x${(0x11000n | bits).toString(16)}`, after: "0x0" },
  { level: 3, gpa: "0x11000", before: `0x${(0x12000n | bits).toString(16)}`, after: "0x0" },
  { level: 2, gpa: "0x12000", before: `0x${leaf.toString(16)}`, after: `0x${leafAfter.toString(16)}` },
];
const ept = (leaf: bigint, more: Record<string, unknown> = {}) => ({
  ...{ kind: "ept", eptp: "0x1001e" },
  entries: table(7n, leaf, leaf).map((entry, index) => (index < 2 ? { ...entry, after: entry.before } : entry)),
  ...more,
});
const npt = (leaf: bigint, after: bigint) => ({
  ...{ kind: "npt", ncr3: "0x10000", cr4: "0x20", efer: "0xd00" },
  entries: table(7n, leaf, after).map((entry, index) =>
    index < 2 ? { ...entry, after: `0x${(BigInt(entry.before) | 0x20n).toString(16)}` } : entry,
  ),
});

describe("a second stage", () => {
  it("translates tables and data", () => {
    expect(judge(nested(ept(0x2000b7n)))).toEqual([]);
    // The processor writes accessed flags into the guest's tables: NPT's leaf is dirty.
    expect(judge(nested(npt(0x200087n, 0x2000e7n)))).toEqual([]);
  });

  it("has entries of its own that are judged", () => {
    expect(judge(nested(npt(0x200087n, 0x200087n)))).toEqual([
      "second stage: level 2 entry at 0x12000: 0x2000e7, expected 0x200087",
    ]);
  });

  it.each([
    // The guest's root is not readable.
    ["a violation", nested(ept(0x2000b0n)), "ept-violation(0x81) at 0x1000"],
    ["a misconfiguration", nested(ept(0x200092n | 7n)), "ept-misconfiguration(0x0) at 0x1000"],
    ["a nested page fault", nested(npt(0x200083n, 0x200083n)), "npf(0x200000007) at 0x1000"],
  ])("gives %s", (_, vector, found) => {
    const [difference] = judge(vector);
    expect(difference).toBe(`result: ${found}, expected pa 0x205123`);
    const [, exit, code, gpa] = /^([\w-]+)\((0x\w+)\) at (0x\w+)$/.exec(found)!;
    const entries = (vector.entries as { before: string }[]).map((entry) => ({ ...entry, after: entry.before }));
    const second = vector.secondStage as { entries: { before: string; after: string }[] };
    const unchanged = { ...second, entries: second.entries.map((one) => ({ ...one, afterAlt: one.before })) };
    expect(judge({ ...vector, entries, secondStage: unchanged, result: { ok: false, exit, code, gpa } })).toEqual([]);
  });

  it("that leads to where the vector has nothing is told so", () => {
    const lost = nested(ept(0x2000b7n)) as { entries: { hpa?: string }[] };
    for (const entry of lost.entries) delete entry.hpa;
    expect(judge(lost as never)[0]).toMatch(
      /^result: an entry at 0x\w+ that no entry's page has, expected pa 0x205123$/,
    );
  });

  it("of one kind has no exits of the other", () => {
    const exit = { ok: false, exit: "npf", code: "0x0", gpa: "0x0" };
    expect(() => judge(nested(ept(0x2000b7n), { result: exit }))).toThrow(VectorError);
    expect(() => judge({ ...sampleVector(), result: exit })).toThrow(/vector/);
  });

  it("is checked where it is read", () => {
    expect(() => judge(nested({ ...ept(0x2000b7n), kind: "tdp" }))).toThrow(/secondStage\.kind/);
    expect(() => judge(nested({ ...ept(0x2000b7n), eptp: "0x1002e" }))).toThrow(/cannot be set up/);
    expect(() => judge({ ...sampleVector(), further: [{ gva: "0x0" }] })).toThrow(/further\[0\]/);
  });
});
