/** Runs of mappings, as the core lists them. */
import { describe, expect, it } from "vitest";
import { loadSync } from "../../src/core/index.js";
import { ConfigError, UnsupportedError } from "../../src/errors.js";

const core = loadSync();
const memory = core.createMemory({ slots: [{ gpa: 0, size: 0x20000 }] });
const put = (address: number, ...entries: bigint[]) => {
  entries.forEach((entry, index) => {
    memory.writeU64(address + index * 8, entry);
  });
};
put(0x1000, 0x2007n);
put(0x2000, 0x3007n);
put(0x3000, 0x4007n, 0x200087n, 0x400085n);
put(0x4000, 0x10007n, 0x11007n, 0x13007n, 0n, 0x14007n, 0x15003n);
const space = core.createAddressSpace(memory, { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 });

it("end where the paging mode changes under the one who lists", () => {
  const own = core.createAddressSpace(memory, { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 });
  const leaves = own.leaves();
  expect(leaves.next().done).toBe(false);
  own.writeCr3(0x1000);
  expect(leaves.next().done).toBe(false);
  own.update({ cr0: 1, efer: 0 });
  expect(() => leaves.next()).toThrow(ConfigError);
  own.dispose();
});

describe("mappings", () => {
  it("join neighbours with the same distance, rights and page size, and nothing else", () => {
    const runs = [...space.mappings()].map(({ va, pa, size, pageSize, rights }) => [
      va,
      pa,
      size,
      pageSize,
      `${rights.user ? "u" : "-"}${rights.write ? "w" : "-"}`,
    ]);
    expect(runs).toEqual([
      [0x0n, 0x10000n, 0x2000n, 0x1000n, "uw"],
      [0x2000n, 0x13000n, 0x1000n, 0x1000n, "uw"],
      [0x4000n, 0x14000n, 0x1000n, 0x1000n, "uw"],
      [0x5000n, 0x15000n, 0x1000n, 0x1000n, "-w"],
      [0x200000n, 0x200000n, 0x200000n, 0x200000n, "uw"],
      [0x400000n, 0x400000n, 0x200000n, 0x200000n, "u-"],
    ]);
  });

  it("keep EPT runs of different read and user-execute rights apart", () => {
    put(0x8000, 0x9407n);
    put(0x9000, 0xa407n);
    put(0xa000, 0xb407n);
    put(0xb000, 0x10437n, 0x11037n, 0x12034n, 0x13034n);
    const ept = core.createEpt(memory, { eptp: 0x801e, modeBasedExecute: true });
    expect([...ept.mappings()].map((run) => [run.va, run.size])).toEqual([
      [0n, 0x1000n],
      [0x1000n, 0x1000n],
      [0x2000n, 0x2000n],
    ]);
  });

  it("of a space with two stages are refused at once", () => {
    const secondStage = core.createEpt(memory, { eptp: 0x801e });
    const nested = core.createAddressSpace(memory, { cr0: 0x80010001, cr3: 0, cr4: 0x20, efer: 0xd00, secondStage });
    expect(() => nested.mappings()).toThrow(UnsupportedError);
  });
});
