/** The engines of `conform --kernel`: it is the fast way's own answer that vectors judge, and ways that disagree are told. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { type KernelName, kernelEngine } from "../../src/cli/kernel-engine.js";
import { CoreSpace } from "../../src/core/index.js";

/** An address whose page of 1 GiB lies at itself. */
const GVA = 0x1_0000_1234n;

function spaceOf(kernel: KernelName) {
  const engine = kernelEngine(kernel);
  const memory = engine.createMemory({ slots: [{ gpa: 0, size: 1 << 16 }] });
  memory.writeU64(0x1000, 0x2007n);
  memory.writeU64(0x2000, 0x87n);
  memory.writeU64(0x2020, 0x1_0000_0087n);
  return engine.createAddressSpace(memory, { cr0: 0x8001_0001, cr3: 0x1000, cr4: 0x20, efer: 0xd00 });
}

afterEach(() => {
  vi.restoreAllMocks();
});

const FAST = ["single", "tlb", "batch-scalar", "batch-phases"] as const;

describe("the fast ways of the core", () => {
  it.each(FAST)("%s: translates and faults like a full walk", (kernel) => {
    const space = spaceOf(kernel);
    expect(space.translate(GVA)).toMatchObject({ ok: true, pa: GVA, pageSize: 2 ** 30 });
    expect(space.translate(0x234n)).toMatchObject({ ok: true, pa: 0x234n });
    expect(space.translate(1n << 39n)).toMatchObject({ ok: false, vector: 14, errorCode: 0n, level: 4 });
    expect(space.translate(1n << 60n)).toMatchObject({ ok: false, vector: 13 });
  });

  it.each([
    ["single", 1],
    ["tlb", 2],
  ] as const)("%s: is asked %i times, so that the software TLB answers the second time", (kernel, times) => {
    const asked = vi.spyOn(CoreSpace.prototype, "translateFast");
    spaceOf(kernel).translate(GVA);
    expect(asked).toHaveBeenCalledTimes(times);
  });

  it.each(["single", "tlb"] as const)("%s: its own answer counts", (kernel) => {
    const space = spaceOf(kernel);
    const asked = vi.spyOn(CoreSpace.prototype, "translateFast").mockReturnValue(0x777);
    expect(space.translate(GVA)).toMatchObject({ ok: true, pa: 0x777n });
    expect(() => space.translate(1n << 39n)).toThrow(/translates to 0x777, the full walk faults/);
    expect(() => space.translate(0x234n)).toThrow(/translateFast gives 1911, translateFast32 564/);
    // A page fault of error code 5, and an address that is not canonical.
    asked.mockReturnValue(-1 - ((1 << 16) | 5));
    expect(() => space.translate(GVA)).toThrow(/ends with status 1, the full walk succeeds/);
    expect(space.translate(1n << 39n)).toMatchObject({ ok: false, errorCode: 5n });
    asked.mockReturnValue(-1 - (2 << 16));
    expect(() => space.translate(1n << 39n)).toThrow(/ends with status 2, the full walk 1/);
  });

  it.each(["batch-scalar", "batch-phases"] as const)("%s: each lane has to say the same", (kernel) => {
    const space = spaceOf(kernel);
    const answers = vi.spyOn(CoreSpace.prototype, "translateBatch");
    answers.mockImplementation((_, output) => {
      output.fill(0x777n);
      return 0;
    });
    expect(space.translate(GVA)).toMatchObject({ ok: true, pa: 0x777n });
    expect(answers.mock.calls[0]![3]).toBe(kernel.slice("batch-".length));
    answers.mockImplementation((_, output) => {
      output.fill(0x777n);
      output[output.length - 1] = 0x778n;
      return 0;
    });
    expect(() => space.translate(GVA)).toThrow(/lane 299 gives 0x778, lane 0 0x777/);
  });
});
