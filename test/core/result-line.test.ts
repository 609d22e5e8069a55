/** The result line against `translate`, for every mode, stage and access; and what its flags promise. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Access, Status } from "../../src/abi/index.js";
import type { Translation } from "../../src/api.js";
import { type CoreSpace, loadSync, ResultFlag, ResultLine } from "../../src/core/index.js";
import { ConfigError, DisposedError } from "../../src/errors.js";
import { scenarios, withScenario } from "../../src/fuzz/index.js";

const core = loadSync();

const word = (name: keyof typeof ResultLine) => core.resultLine[ResultLine[name]]! >>> 0;
const both = (low: keyof typeof ResultLine, high: keyof typeof ResultLine) =>
  (BigInt(word(high)) << 32n) | BigInt(word(low));

/** Both halves of an address as the fast calls take them. */
const halves = (address: bigint) => [Number(address >> 32n), Number(address & 0xffff_ffffn)] as const;

function rightsOf(found: Translation & { ok: true }, ept: boolean): number {
  const { read, write, execute, user, userExecute } = found.rights;
  return (execute ? 1 : 0) | (write ? 2 : 0) | ((ept ? read : user) ? 4 : 0) | (userExecute ? 8 : 0);
}

/** What the line says of an access, against what `translate` says of it. */
function compare(space: CoreSpace, address: bigint, access: number, found: Translation): void {
  expect(space.translateLine(...halves(address), access)).toBe(found.status);
  expect(word("status")).toBe(found.status);
  expect(both("linearLow", "linearHigh")).toBe(address);
  if (!found.ok) {
    expect(word("level")).toBe(found.level);
    expect(word("stage")).toBe(found.stage === "second" ? 1 : 0);
    expect(both("codeLow", "codeHigh")).toBe(found.errorCode);
    expect(both("gpaLow", "gpaHigh")).toBe(found.stage === "second" ? found.address : 0n);
    return;
  }
  const ept = space.mode.startsWith("ept");
  const rights = ept ? 15 : 7;
  const levelBits = space.mode === "32bit" ? 10 : 9;
  expect(both("paLow", "paHigh")).toBe(found.pa);
  expect(both("gpaLow", "gpaHigh")).toBe(found.gpa);
  expect(word("rights") & rights).toBe(rightsOf(found, ept) & rights);
  expect(word("key")).toBe(found.protectionKey);
  expect(word("memoryType")).toBe(found.memoryType);
  if (space.mode === "none") expect(word("level")).toBe(0);
  else expect(2 ** (12 + (word("level") - 1) * levelBits)).toBe(found.pageSize);
  const { kind, config } = space.configuration;
  if (kind === "guest" && config.secondStage !== undefined) {
    expect(2 ** word("pageShift")).toBeLessThanOrEqual(found.pageSize);
  } else {
    expect(2 ** word("pageShift")).toBe(found.pageSize);
    expect(word("secondRights")).toBe(15);
  }
}

describe("the result line", () => {
  it("says what translate says, over random tables, registers, stages and accesses", { timeout: 120_000 }, () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(scenarios, (scenario) => {
        withScenario(core, scenario, ({ spaces, refused }) => {
          const space = spaces.at(-1) as CoreSpace | undefined;
          if (refused !== undefined || space === undefined) return;
          for (const { address: given, access: kind } of scenario.accesses) {
            const [address, access] = [BigInt(given), kind | Access.Probe];
            let found: Translation;
            try {
              found = space.translate(address, access);
            } catch (error) {
              expect(error).toBeInstanceOf(ConfigError);
              expect(() => space.translateLine(...halves(address), access)).toThrow(ConfigError);
              continue;
            }
            compare(space, address, access, found);
            seen.add(`${space.mode} ${found.status}`);
          }
        });
      }),
      { numRuns: 2000, seed: 7 },
    );
    for (const mode of ["none", "32bit", "pae", "4level", "5level"]) expect(seen).toContain(`${mode} ${Status.Ok}`);
    for (const status of [Status.PageFault, Status.NonCanonical]) expect(seen).toContain(`4level ${status}`);
    expect([...seen].some((one) => one.endsWith(` ${Status.EptViolation}`))).toBe(true);
  });

  const LONG = { cr0: 0x80010001, cr3: 0x1000, cr4: 0xa0, efer: 0xd00 };
  /** Page n at frame 0x100 + n, with flags of its own; a 2 MiB page behind them. */
  function guest(leaf: bigint, options: object = {}) {
    const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x8000 }] });
    memory.writeU64(0x1000, 0x2027n);
    memory.writeU64(0x2000, 0x3027n);
    memory.writeU64(0x3000, 0x4027n);
    memory.writeU64(0x3008, 0x60_00a7n | (leaf & 0x140n));
    for (let page = 0; page < 8; page++) memory.writeU64(0x4000 + 8 * page, (BigInt(0x100 + page) << 12n) | leaf);
    return { memory, space: core.createAddressSpace(memory, { ...LONG, ...options }) };
  }

  it.each([0, 64])(
    "sets accessed and dirty flags as translate does, and says whether a write still has to (TLB %s)",
    (tlbEntries) => {
      const { memory, space } = guest(0x7n, { tlbEntries });
      for (const at of [0, 0x20_0000]) {
        const entry = at === 0 ? 0x4000 : 0x3008;
        expect(space.translateLine(0, at, Access.Read)).toBe(0);
        expect(word("flags")).toBe(0);
        expect(memory.readU64(entry) & 0x60n).toBe(0x20n);
        expect(space.translateLine(0, at, Access.Write | Access.Probe)).toBe(0);
        expect(word("flags")).toBe(0);
        expect(space.translateLine(0, at, Access.Write)).toBe(0);
        expect(word("flags")).toBe(ResultFlag.dirty);
        expect(memory.readU64(entry) & 0x60n).toBe(0x60n);
        expect(space.translateLine(0, at, Access.Read)).toBe(0);
        expect(word("flags")).toBe(ResultFlag.dirty);
      }
      memory.dispose();
    },
  );

  it("calls a page global where CR4.PGE makes it so", () => {
    const { memory, space } = guest(0x167n);
    for (const at of [0, 0x20_0000]) {
      space.translateLine(0, at, Access.Read);
      expect(word("flags")).toBe(ResultFlag.global | ResultFlag.dirty);
    }
    space.update({ cr4: 0x20 });
    for (const at of [0, 0x20_0000]) {
      space.translateLine(0, at, Access.Read);
      expect(word("flags")).toBe(ResultFlag.dirty);
    }
    memory.dispose();
  });

  it("is of both stages: the smaller page, each one's rights, dirty in both", () => {
    const { memory } = guest(0x67n);
    const map = (entry: number, value: bigint) => memory.writeU64(entry, value);
    // EPT with accessed and dirty flags: the first 2 MiB one to one, 0x600000 read-only and small.
    map(0x5000, 0x6007n);
    map(0x6000, 0x7007n);
    map(0x7000, 0xb7n | 0x100n);
    map(0x7018, 0xb1n | 0x60_0000n | 0x100n);
    const second = core.createEpt(memory, { eptp: 0x505en });
    const space = core.createAddressSpace(memory, { ...LONG, secondStage: second });
    expect(space.translateLine(0, 0x3123, Access.Read)).toBe(0);
    expect([both("paLow", "paHigh"), word("pageShift"), word("rights"), word("secondRights") & 7]).toEqual([
      0x10_3123n,
      12,
      7,
      7,
    ]);
    // The tables lie in the same 2 MiB: setting their flags has made it dirty.
    expect(word("flags")).toBe(ResultFlag.dirty);
    expect(space.translateLine(0, 0x20_0123, Access.Read)).toBe(0);
    expect([both("paLow", "paHigh"), word("pageShift"), word("rights"), word("secondRights") & 7]).toEqual([
      0x60_0123n,
      21,
      7,
      4,
    ]);
    expect(word("flags")).toBe(0);
    // What L1 would be told, all 64 bits of it.
    expect(space.translateLine(0, 0x20_0123, Access.Write)).toBe(Status.EptViolation);
    const found = space.translate(0x20_0123, Access.Write);
    expect(both("codeLow", "codeHigh")).toBe(found.ok ? 0n : found.errorCode);
    expect(both("gpaLow", "gpaHigh")).toBe(0x60_0123n);
    const { cr0, cr4, efer } = LONG;
    const npt = core.createAddressSpace(memory, {
      ...LONG,
      secondStage: core.createNpt(memory, { ncr3: 0x7000, cr0, cr4, efer }),
    });
    const refused = npt.translate(0x1000);
    expect(refused.ok).toBe(false);
    npt.translateLine(0, 0x1000, Access.Read);
    expect(both("codeLow", "codeHigh")).toBe(refused.ok ? 0n : refused.errorCode);
    expect(word("codeHigh")).not.toBe(0);
    memory.dispose();
  });

  it("fills the software TLB as the other calls do", () => {
    const { memory, space } = guest(0x67n, { tlbEntries: 64 });
    space.translateLine(0, 0x3000, Access.Read);
    memory.writeU64(0x4018, 0n);
    expect(space.translateFast(0, 0x3000, Access.Read)).toBe(0x10_3000);
    memory.dispose();
  });

  it("reads pages of a source, and is found again after the memory has grown", () => {
    const pages = new Map<bigint, bigint>([
      [1n, 0x2027n],
      [2n, 0x3027n],
      [3n, 0x4027n],
      [4n, 0x12_3067n],
    ]);
    const source = {
      readPage(gfn: bigint, into: Uint8Array): boolean {
        new DataView(into.buffer, into.byteOffset).setBigUint64(0, pages.get(gfn) ?? 0n, true);
        return pages.has(gfn);
      },
    };
    const space = core.createAddressSpace(core.createMemory({ source }), LONG);
    const before = core.resultLine;
    expect(space.translateLine(0, 0x18, Access.Read)).toBe(0);
    expect(both("paLow", "paHigh")).toBe(0x12_3018n);
    core.linearMemory.grow(1);
    expect(before.length).toBe(0);
    expect(space.translateLine(0, 0x1000, Access.Read)).toBe(Status.PageFault);
    expect(word("status")).toBe(Status.PageFault);
  });

  it("is refused as other calls are: addresses of another width, a space that is gone", () => {
    const { memory, space } = guest(0x67n, { cr4: 0x10, efer: 0 });
    expect(() => space.translateLine(1, 0, Access.Read)).toThrow(ConfigError);
    expect(() => space.translateLine(-1, -4096, Access.Read)).toThrow(ConfigError);
    memory.dispose();
    expect(() => space.translateLine(0, 0, Access.Read)).toThrow(DisposedError);
  });
});
