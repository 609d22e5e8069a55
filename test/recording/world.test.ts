/** What the replayer makes of a recording's events: registers, addresses, memory, results. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/access.js";
import type { RecordedEvent } from "../../src/recording/format/events.js";
import { mergeRanges } from "../../src/recording/format/ranges.js";
import type { GuestStep, Recording } from "../../src/recording/format/recording.js";
import type { FaultOutcome } from "../../src/recording/format/state.js";
import { CpuTracker } from "../../src/recording/world/cpu-tracker.js";
import { pferrOfQualification } from "../../src/recording/world/error-code.js";
import { faultResults } from "../../src/recording/world/fault-result.js";
import { plainWriteOf } from "../../src/recording/world/guest-memory.js";
import { invalidatedPcid } from "../../src/recording/world/hidden-operands.js";
import { fromBytes, HostMemory, toBytes } from "../../src/recording/world/host-memory.js";
import { locate } from "../../src/recording/world/locate.js";
import { RecordedHost } from "../../src/recording/world/recorded-host.js";
import { SlotTable } from "../../src/recording/world/slot-table.js";
import { createReference } from "../../src/reference/index.js";

/** A page of 64-bit and one of 32-bit entries, by index. */
function table64(entries: Readonly<Record<number, bigint>>): Uint8Array {
  const words = new BigUint64Array(512);
  for (const [index, entry] of Object.entries(entries)) words[Number(index)] = entry;
  return new Uint8Array(words.buffer);
}
function table32(entries: Readonly<Record<number, number>>): Uint8Array {
  const words = new Uint32Array(1024);
  for (const [index, entry] of Object.entries(entries)) words[Number(index)] = entry;
  return new Uint8Array(words.buffer);
}

const LONG = { cr0: 0x8000_0011n, cr3: 0x1000n, cr4: 0x20n, efer: 0xd00n };
const events = (...list: object[]) => list as unknown as RecordedEvent[];

describe("host memory", () => {
  it("holds what was written last, across pages too, and zeros elsewhere", () => {
    const write = fc.record({ at: fc.nat(0x2800), bytes: fc.uint8Array({ minLength: 1, maxLength: 0x1800 }) });
    fc.assert(
      fc.property(fc.array(write, { maxLength: 6 }), (writes) => {
        const memory = new HostMemory();
        const model = new Uint8Array(0x5000);
        for (const { at, bytes } of writes) {
          memory.write(0x7f00_0000_0000n + BigInt(at), bytes);
          model.set(bytes, at);
        }
        expect(Buffer.compare(memory.read(0x7f00_0000_0000n, model.length), model)).toBe(0);
        expect(Buffer.compare(memory.read(0x7f00_0000_0ffdn, 0x2007), model.subarray(0xffd, 0xffd + 0x2007))).toBe(0);
      }),
      { numRuns: 50 },
    );
  });

  it("has integers as little-endian bytes", () => {
    expect([...toBytes(0x1122_3344_5566_7788n, 8)]).toEqual([0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
    expect([...toBytes(0x1_ffffn, 2)]).toEqual([0xff, 0xff]);
    fc.assert(
      fc.property(fc.bigInt(0n, (1n << 64n) - 1n), (value) => {
        expect(fromBytes(toBytes(value, 8))).toBe(value);
      }),
    );
  });
});

describe("ranges of host memory", () => {
  it("are merged to ascending ones that do not touch, with the same bytes and nothing empty", () => {
    const range = fc.record({ hva: fc.nat(20).map(BigInt), size: fc.nat(5).map(BigInt) });
    fc.assert(
      fc.property(fc.array(range, { maxLength: 8 }), (ranges) => {
        const merged = mergeRanges(ranges);
        for (const [index, { hva, size }] of merged.entries()) {
          expect(size).toBeGreaterThan(0n);
          if (index > 0) expect(hva).toBeGreaterThan(merged[index - 1]!.hva + merged[index - 1]!.size);
        }
        for (let at = 0n; at < 30n; at++) {
          const holds = (list: typeof ranges) => list.some(({ hva, size }) => at >= hva && at < hva + size);
          expect(holds(merged)).toBe(holds(ranges));
        }
      }),
    );
  });
});

describe("where a write went", () => {
  const modes = [
    ["no paging", { ...LONG, cr0: 1n, cr4: 0n, efer: 0n }, {}],
    ["32-bit", { ...LONG, cr4: 0n, efer: 0n }, { 1: table32({ 1: 0x2007 }), 2: table32({ 3: 0x5007 }) }],
    [
      "32-bit, PS without CR4.PSE",
      { ...LONG, cr4: 0n, efer: 0n },
      { 1: table32({ 1: 0x2087 }), 2: table32({ 3: 0x5007 }) },
    ],
    ["PSE-36", { ...LONG, cr4: 0x10n, efer: 0n }, { 1: table32({ 1: 0x0040_2087 }) }],
    [
      "PAE",
      { ...LONG, cr3: 0x1020n, efer: 0x800n },
      { 1: table64({ 4: 0x2001n, 5: 0x2001n }), 2: table64({ 2: 0x3007n, 3: 0x60_0087n }), 3: table64({ 3: 0x5007n }) },
    ],
    [
      "4-level",
      LONG,
      {
        1: table64({ 0: 0x2007n }),
        2: table64({ 0: 0x3007n, 1: 0x4000_0087n }),
        3: table64({ 2: 0x4007n, 3: 0x60_0087n }),
        4: table64({ 3: 0x5007n }),
      },
    ],
    [
      "5-level",
      { ...LONG, cr4: 0x1020n },
      {
        1: table64({ 0: 0x2007n }),
        2: table64({ 0: 0x3007n }),
        3: table64({ 0: 0x4007n }),
        4: table64({ 2: 0x5007n }),
        5: table64({ 3: 0x6007n }),
      },
    ],
  ] as const;

  it.each(modes)("is what the reference translates to (%s)", (_, registers, tables) => {
    const engine = createReference();
    const memory = engine.createMemory({ slots: [{ gpa: 0, size: 0x8000 }] });
    for (const [frame, bytes] of Object.entries(tables)) memory.write(Number(frame) << 12, bytes as Uint8Array);
    const space = engine.createAddressSpace(memory, registers);
    const found = [0x40_3123n, 0x40_4123n, 0x62_3456n, 0x4012_3456n, 0x1_0040_3123n].map((gva) => {
      const wide = registers.efer & 0x400n;
      if (!wide && gva >> 32n !== 0n) return undefined;
      const result = space.translate(gva, Access.Write | Access.Probe | Access.Ac);
      const at = locate(registers, gva, (gpa, length) => memory.read(gpa, length));
      expect(at, gva.toString(16)).toBe(result.ok ? result.pa : undefined);
      return at;
    });
    expect(found.some((at) => at !== undefined)).toBe(true);
  });

  it("is known of what the guest's program does, by the size of its operand", () => {
    const step = { result: "ok", mmio: [], op: "poke", value: 0x1122_3344n } as unknown as GuestStep;
    expect(plainWriteOf({ ...step, size: 2 })).toEqual(Uint8Array.of(0x44, 0x33));
    expect(plainWriteOf({ ...step, size: undefined })).toHaveLength(8);
    expect(plainWriteOf({ ...step, op: "write" })).toEqual(Uint8Array.of(0x44));
    for (const change of [{ op: "read" }, { result: "exception" }, { mmio: [0n] }]) {
      expect(plainWriteOf({ ...step, ...change } as GuestStep)).toBeUndefined();
    }
  });
});

describe("a vCPU's registers", () => {
  /** The registers after these events, of a step that begins with `pre`. */
  function registersAfter(list: RecordedEvent[], pre = LONG, smi = false) {
    const tracker = new CpuTracker((_, length) => new Uint8Array(length));
    if (smi) tracker.vmmStep({ inputs: [{ kind: "smi" }] } as never);
    const step = { kind: "guest", vcpu: 0, pre, post: pre, events: list } as unknown as GuestStep;
    tracker.beginStep(step);
    list.forEach((event, index) => {
      tracker.event(step, event, index);
    });
    return tracker.effective(0);
  }

  it("follow what is written to them", () => {
    expect(registersAfter(events({ ev: "set_cr3", cr3: (1n << 63n) | 0x2003n })).cr3).toBe(0x2003n);
    expect(registersAfter(events({ ev: "set_cr4", cr4: 0xa0n })).cr4).toBe(0xa0n);
    // LMA is the processor's: it follows CR0.PG, and no write of EFER.
    expect(registersAfter(events({ ev: "set_cr0", cr0: 0x11n })).efer).toBe(0x900n);
    expect(
      registersAfter(events({ ev: "set_cr0", cr0: 0x8000_0011n }), { ...LONG, cr0: 0x11n, efer: 0x100n }).efer,
    ).toBe(0x500n);
    expect(registersAfter(events({ ev: "set_cr0", cr0: 0x8000_0011n }), { ...LONG, cr0: 0x11n, efer: 0n }).efer).toBe(
      0n,
    );
    const msr = (write: number, ecx: number, data: bigint) => events({ ev: "kvm_msr", write, ecx, data, exception: 0 });
    expect(registersAfter(msr(1, 0xc000_0080, 0x100n)).efer).toBe(0x500n);
    expect(registersAfter(msr(1, 0xc000_0080, 0xd00n), { ...LONG, efer: 0x100n }).efer).toBe(0x900n);
    expect(registersAfter(msr(0, 0xc000_0080, 0n)).efer).toBe(LONG.efer);
    expect(registersAfter(msr(1, 0xc000_0081, 0n)).efer).toBe(LONG.efer);
  });

  it("are those of SMM after the second reset behind an SMI, until RSM", () => {
    const reset = { ev: "reset_context", vcpu: 0n };
    const rsm = { ev: "kvm_emulate_insn", insn: "0faa", failed: 0 };
    const smm = { cr0: 0x10n, cr3: 0x1000n, cr4: 0n, efer: 0n };
    const pre = { ...LONG, cr0: LONG.cr0 | 0xcn };
    expect(registersAfter(events(reset, reset), pre)).toEqual(pre);
    expect(registersAfter(events(reset), pre, true)).toEqual(pre);
    expect(registersAfter(events(reset, reset), pre, true)).toEqual(smm);
    expect(registersAfter(events(reset, reset, reset), pre, true)).toEqual(smm);
    expect(registersAfter(events(reset, reset, { ...rsm, insn: "90" }), pre, true)).toEqual(smm);
    expect(registersAfter(events(reset, reset, rsm), pre, true)).toEqual(pre);
    const written = { ev: "set_cr3", cr3: 0x5000n };
    expect(registersAfter(events(reset, reset, rsm, written, rsm), pre, true).cr3).toBe(0x5000n);
  });
});

describe("the error code of an EPT violation", () => {
  it.each([
    ["a read of what is not present", 0x81n, 0x2_0000_0004n],
    ["a write", 0x82n, 0x2_0000_0002n],
    ["a fetch at the final address, of what is readable", 0x18cn, 0x1_0000_0011n],
    ["of what is only executable", 0x1a1n, 0x1_0000_0005n],
    ["of what is only writable", 0x191n, 0x1_0000_0005n],
  ])("is KVM's for %s", (_, qualification, code) => {
    for (const kernel of ["6.1", "6.12"] as const) expect(pferrOfQualification(qualification, kernel)).toBe(code);
  });

  it("says nothing of the stage without a linear address, from Linux 6.12 on", () => {
    expect([pferrOfQualification(1n, "6.1"), pferrOfQualification(1n, "6.12")]).toEqual([0x2_0000_0004n, 4n]);
  });
});

describe("what a page fault ended with", () => {
  const pairs = (outcome: FaultOutcome, list: RecordedEvent[], kernel: "6.1" | "6.12" = "6.1", delivering?: number) =>
    faultResults(outcome, list, { kernel, delivering }).map(({ recorded, replayed }) => [recorded, replayed]);
  const ret = (code: number) => ({ ev: "p64_pf_ret", ret: code });
  const exception = (vector: number, code = 0, reinjected = 0) => ({
    ...{ ev: "kvm_inj_exception", exception: vector, has_error: 1, error_code: code, reinjected },
  });
  const exit = (code: number, info: bigint) => ({ ev: "kvm_nested_vmexit_inject", exit_code: code, exit_info1: info });
  const inject = { result: "inject", errorCode: 7, address: 0n, exitInfo: 0x182n } as const;

  it("is the handler's return, by the numbers of its kernel", () => {
    expect(pairs({ result: "fixed" }, events(ret(4)))).toEqual([["fixed", "fixed"]]);
    expect(pairs({ result: "fixed" }, events(ret(5)), "6.12")).toEqual([["fixed", "fixed"]]);
    expect(pairs({ result: "spurious" }, events(ret(6)), "6.12")).toEqual([["spurious", "spurious"]]);
    const stopped = { result: "emulate", writeProtected: true } as const;
    expect(pairs(stopped, events(ret(3)), "6.12")).toEqual([["write-protected", "write-protected"]]);
    expect(pairs({ result: "mmio" }, [])).toEqual([["emulate", "emulate"]]);
    expect(pairs({ result: "fixed" }, events(ret(99)))).toEqual([["99", "fixed"]]);
  });

  it("is an injected fault where there is one that is new", () => {
    expect(pairs(inject, events(ret(1), exception(14, 7)))[1]).toEqual(["#PF(0x7)", "#PF(0x7)"]);
    expect(pairs({ result: "retry" }, events(ret(1), exception(14, 7, 1)))[1]).toEqual(["none", "none"]);
    expect(pairs(inject, events(ret(1), exception(14, 7, 1)))[1]).toEqual(["none", "#PF(0x7)"]);
    expect(pairs({ result: "retry" }, events(ret(1), exception(13)))[1]).toEqual(["none", "none"]);
  });

  it("is #DF behind a #PF, and a shutdown behind that", () => {
    expect(pairs(inject, events(ret(1), exception(8)), "6.1", 14)[1]).toEqual(["#DF", "#DF"]);
    expect(pairs(inject, events(ret(1)), "6.1", 8)[1]).toEqual(["none", "none"]);
    expect(pairs(inject, events(ret(1), exception(14, 7)), "6.1", 13)[1]).toEqual(["#PF(0x7)", "#PF(0x7)"]);
  });

  it("is L1's exit where L1 intercepts it, with what it says of a fault of the second stage", () => {
    const intercepted = ["intercepted by L1", "intercepted by L1"];
    expect(pairs(inject, events(ret(1), exit(0x30, 0x181n))).slice(1)).toEqual([intercepted, ["0x181", "0x182"]]);
    expect(pairs(inject, events(ret(1), exit(0x400, 0x182n))).slice(1)).toEqual([intercepted, ["0x182", "0x182"]]);
    const { exitInfo: _, ...bare } = inject;
    expect(pairs(bare, events(ret(1), exit(0x31, 5n))).slice(1)).toEqual([
      intercepted,
      ["no information", "no information"],
    ]);
    expect(pairs(inject, events(ret(1), exit(0x4e, 5n))).slice(1)).toEqual([intercepted]);
  });
});

describe("the PCID that an INVPCID names", () => {
  const previous = [0x1001n, 0x2002n, 0x3003n].map((pgd) => ({ pgd }));
  it("is that of the previous root that it freed, else the current one where that was synchronised", () => {
    const freed = (roots: bigint) => events({ ev: "free_roots", mmu: 0n, roots });
    expect([2n, 4n, 8n].map((roots) => invalidatedPcid(freed(roots), previous, 0x9009n))).toEqual([1, 2, 3]);
    expect(invalidatedPcid(events({ ev: "sync_roots", vcpu: 0n }), previous, 0x9009n)).toBe(9);
    expect(invalidatedPcid(freed(1n), previous, 0x9009n)).toBeUndefined();
  });
});

describe("the host's pages", () => {
  const HVA = 0x7f00_0000_0000n;
  const slot = { addressSpace: 0, id: 0, gpa: 0n, size: 0x40_0000n, hva: HVA, flags: 0 };
  function host(changes: { backing?: object[]; pfnMap?: object[] } = {}, step: object = {}) {
    const slots = new SlotTable();
    slots.set(slot);
    const config = { backing: changes.backing ?? [], kernel: "6.1" };
    const recording = { config, slots: [slot], pfnMap: changes.pfnMap ?? [], steps: [] } as unknown as Recording;
    const made = new RecordedHost(recording, slots, { notifierInFault: () => {}, injectPageFault: () => {} });
    made.beginStep({ events: [], pfnMaps: [], ...step } as never);
    return made;
  }
  const run = (gfn: bigint, pfn: bigint, count: number) => ({ gfn, pfn, count });

  it("are as large as what backs them, up to its end", () => {
    const backing = [
      { hva: HVA, size: 1n << 21n, pageSize: 1n << 21n },
      { hva: HVA + (1n << 21n), size: 1n << 21n, pageSize: 4096n },
      { hva: HVA + (1n << 30n), size: 1n << 30n, pageSize: 1n << 30n },
    ];
    const made = host({ backing });
    const at = [-1n, 0n, (1n << 21n) - 1n, 1n << 21n, 1n << 30n, (2n << 30n) - 1n, 2n << 30n];
    expect(at.map((offset) => made.mappingLevel(HVA + offset))).toEqual([1, 2, 2, 1, 3, 3, 1]);
  });

  it("that lie at several addresses are read-only until a write copies them", () => {
    const made = host({ pfnMap: [run(0n, 7n, 1), run(1n, 7n, 1), run(2n, 8n, 1)] });
    expect([0n, 1n, 2n].map((gfn) => made.pinAtomic(HVA + gfn * 4096n))).toEqual([undefined, undefined, 8n]);
    expect(made.pin(HVA, false)).toEqual({ pfn: 7n, writable: false });
    expect(made.pin(HVA + 0x2000n, false)).toEqual({ pfn: 8n, writable: true });
    expect(made.pin(HVA, true)).toEqual({ pfn: 7n, writable: true });
  });

  it("are those that the kernel found in the fault, and else those that were there", () => {
    const requested = { ev: "kvm_mmu_spte_requested", gfn: 0n, pfn: 9n, level: 1 };
    const pfnMap = [run(0n, 7n, 1)];
    expect(host({ pfnMap }, { events: [requested] }).pin(HVA, false)).toMatchObject({ pfn: 9n });
    expect(host({ pfnMap }, { events: [{ ev: "page_fault_ret", ret: 0 }, requested] }).pin(HVA, false)).toMatchObject({
      pfn: 7n,
    });
    expect(host({ pfnMap }, { events: [{ ...requested, gfn: 1n }] }).pin(HVA, false)).toMatchObject({ pfn: 7n });
    expect(host().pin(HVA, false)).toBeUndefined();
  });

  it("are no more than a map that is read again says", () => {
    const made = host({ pfnMap: [run(0n, 7n, 2)] });
    made.endStep({ pfnMaps: [[run(1n, 8n, 1)]] } as never);
    expect([0n, 1n].map((gfn) => made.pinAtomic(HVA + gfn * 4096n))).toEqual([undefined, 8n]);
    expect(made.current(HVA)).toBeUndefined();
  });
});
