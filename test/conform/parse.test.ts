/** Vectors are read strictly: what is no vector is refused with its place. */
import { describe, expect, it } from "vitest";
import { parseVector, readVectors, VectorError } from "../../src/conform/index.js";
import { sampleVector } from "./sample.js";

function errorOf(text: string, line = 7): VectorError {
  try {
    parseVector(text, line);
  } catch (error) {
    expect(error).toBeInstanceOf(VectorError);
    return error as VectorError;
  }
  throw new Error("no error was thrown");
}

function errorWith(changes: Record<string, unknown>): VectorError {
  return errorOf(JSON.stringify({ ...sampleVector(), ...changes }));
}

describe("a vector is read strictly", () => {
  it("takes a well-formed line", () => {
    const vector = parseVector(JSON.stringify(sampleVector()), 3);
    expect(vector).toMatchObject({
      ...{ line: 3, id: "sample", mode: "4level", secondStage: undefined },
      accesses: [{ kind: "write", cpl: 3, gva: 0x123n, derived: false }],
    });
    expect(vector.entries[3]).toEqual({
      ...{ level: 1, gpa: 0x4000n, hpa: 0x4000n, before: 0x5007n, after: 0x5067n, afterAlt: undefined },
    });
  });

  it("lets `expected` judge where it is present", () => {
    const vector = parseVector(
      JSON.stringify({ ...sampleVector(), expected: { ok: false, vector: 14, errorCode: "0x7", cr2: "0x123" } }),
      1,
    );
    expect(vector.accesses[0]!.derived).toBe(true);
    expect(vector.accesses[0]!.result).toEqual({ ok: false, vector: 14, errorCode: 7n, cr2: 0x123n });
  });

  it.each([
    ["{", "is not JSON"],
    ["", "is not JSON"],
    ["[]", "expected an object"],
    ["null", "expected an object"],
    ["1", "expected an object"],
  ])("refuses the line %j", (text, problem) => {
    const error = errorOf(text);
    expect([error.line, error.field]).toEqual([7, ""]);
    expect(error.message).toContain("line 7");
    expect(error.message).toContain(problem);
  });

  it.each(Object.keys(sampleVector()))("names a missing %s", (field) => {
    const error = errorWith({ [field]: undefined });
    expect([error.line, error.field]).toEqual([7, field]);
    expect(error.message).toContain("missing");
  });

  const entry = { level: 4, gpa: "0x1000", before: "0x0", after: "0x0" };
  it.each([
    ["mode", { mode: "6level" }],
    ["cr3", { cr3: "4096" }],
    ["cr3", { cr3: 4096 }],
    ["cr3", { cr3: "0x10000000000000000" }],
    ["pkru", { pkru: "0x100000000" }],
    ["maxphyaddr", { maxphyaddr: 53 }],
    ["maxphyaddr", { maxphyaddr: 31 }],
    ["ac", { ac: 2 }],
    ["cpu.pdpe1gb", { cpu: { variant: "x", pse36: true } }],
    ["access.kind", { access: { kind: "execute", cpl: 0 } }],
    ["access.cpl", { access: { kind: "read", cpl: 4 } }],
    ["access.implicit", { access: { kind: "read", cpl: 0, implicit: 1 } }],
    ["pdptes", { mode: "pae", entries: [] }],
    ["pdptes", { mode: "pae", entries: [], pdptes: ["0x0"] }],
    ["entries", { entries: {} }],
    ["entries[0]", { entries: [3] }],
    ["entries[0].gpa", { entries: [{ ...entry, gpa: "0x1004" }] }],
    ["entries[0].gpa", { entries: [{ ...entry, gpa: "0x10000000000000" }] }],
    ["entries[1].level", { entries: [entry, { ...entry, gpa: "0x2000", level: 5 }] }],
    ["entries[1].before", { entries: [entry, { ...entry, before: "0x1" }] }],
    ["entries[0].before", { mode: "32bit", entries: [{ ...entry, level: 2, before: "0x100000000" }] }],
    ["entries[0].afterAlt", { entries: [{ ...entry, afterAlt: 1 }] }],
    ["result.ok", { result: {} }],
    ["result.pa", { result: { ok: true } }],
    ["result.vector", { result: { ok: false, vector: 12, errorCode: "0x0" } }],
    ["result.cr2", { result: { ok: false, vector: 14, errorCode: "0x0" } }],
    ["expected", { expected: 1 }],
  ])("names %s in %j", (field, changes) => {
    const error = errorWith(changes);
    expect([error.line, error.field]).toEqual([7, field]);
  });

  it("counts lines, empty ones included", async () => {
    const lines = [JSON.stringify(sampleVector()), "", "  ", "{"];
    const seen: number[] = [];
    const reading = (async () => {
      for await (const vector of readVectors(lines)) seen.push(vector.line);
    })();
    await expect(reading).rejects.toMatchObject({ name: "VectorError", line: 4 });
    expect(seen).toEqual([1]);
  });
});
