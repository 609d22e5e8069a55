/** Every batch kernel against `translate` over random scenarios. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Access } from "../../src/abi/index.js";
import type { PageSource } from "../../src/api.js";
import {
  type Core,
  type CoreMemory,
  type CoreSlotConfig,
  type CoreSpace,
  decodeFault,
  loadSync,
} from "../../src/core/index.js";
import { PagingError } from "../../src/errors.js";
import { type AccessStep, type Scenario, scenarios } from "../../src/fuzz/index.js";

const core = loadSync();
const HIGH = 1n << 63n;
const PAGE = 4096;

interface Built {
  readonly memory: CoreMemory;
  readonly spaces: CoreSpace[];
  dispose(): void;
}

/**
 * The slots of a scenario a page each, neighbours in reverse order in linear memory: hardly two tables lie in one slot then.
 * Gives them back with where they lie.
 */
function cutSlots(engine: Core, { slots }: Scenario): { slots: CoreSlotConfig[]; dispose(): void } {
  const { linear } = engine.internals();
  const bytes = slots.reduce((sum, { size }) => sum + size, 0);
  const lent = linear.lend(bytes, PAGE);
  linear.u8.fill(0, lent, lent + bytes);
  let end = lent + bytes;
  const pieces = slots.flatMap(({ gpa, size, readOnly }) =>
    Array.from({ length: size / PAGE }, (_, index) => {
      end -= PAGE;
      return { gpa: gpa + BigInt(index * PAGE), size: PAGE, readOnly, linear: end };
    }),
  );
  return { slots: pieces, dispose: () => linear.takeBack(lent, bytes) };
}

/** A scenario's memory and the space that its accesses go to; undefined where the registers are refused. */
function build(engine: Core, scenario: Scenario, apart = false): Built | undefined {
  const cut = apart ? cutSlots(engine, scenario) : undefined;
  const memory = engine.createMemory({ slots: cut?.slots ?? scenario.slots });
  for (const entry of scenario.entries) {
    if (!scenario.slots.some((slot) => entry.address >= slot.gpa && entry.address < slot.gpa + BigInt(slot.size)))
      continue;
    if (entry.bytes === 4) memory.writeU32(entry.address, Number(entry.value));
    else memory.writeU64(entry.address, entry.value);
  }
  const spaces = createSpaces(engine, memory, scenario);
  const dispose = () => {
    memory.dispose();
    cut?.dispose();
  };
  if (spaces === undefined) dispose();
  return spaces && { memory, spaces, dispose };
}

function createSpaces(engine: Core, memory: CoreMemory, { second, guest }: Scenario): CoreSpace[] | undefined {
  const spaces: CoreSpace[] = [];
  try {
    if (second?.kind === "ept") spaces.push(engine.createEpt(memory, second.config));
    if (second?.kind === "npt") spaces.push(engine.createNpt(memory, second.config));
    const secondStage = spaces[0];
    if (guest) spaces.push(engine.createAddressSpace(memory, secondStage ? { ...guest, secondStage } : guest));
    return spaces;
  } catch (error) {
    for (const space of spaces) space.dispose();
    if (error instanceof PagingError) return undefined;
    throw error;
  }
}

/** More addresses around one that the mode of a space has, so that blocks share some levels of their walks. */
function nearby({ mode }: CoreSpace, address: bigint): bigint[] {
  const offsets = [0n, 8n, 0x1000n, 0x7ff8n, 0x200000n, 0x40000000n, 0x8000000000n, 0x40010n];
  const bits = mode === "none" || mode === "32bit" || mode === "pae" ? 32 : 64;
  return offsets.map((offset) => BigInt.asUintN(bits, address + offset));
}

/** What `translate` says, in the form of the fast calls. */
function packed(space: CoreSpace, step: AccessStep): bigint {
  const result = space.translate(step.address, step.access);
  return result.ok ? result.pa : HIGH | (BigInt(result.status) << 16n) | (result.errorCode & 0xffffn);
}

/** What became of the entries that the scenario placed. */
function entriesOf(memory: CoreMemory, { entries }: Scenario): string[] {
  return entries.map(({ address, bytes }) => {
    try {
      return Buffer.from(memory.read(address, bytes)).toString("hex");
    } catch {
      return "outside";
    }
  });
}

/**
 * Does the same to two copies of a scenario, by translate and by another kernel, and compares the memory afterwards. The other
 * copy's memory has one slot for each page in half of them.
 */
function besideTranslate(
  runs: number,
  check: (expected: CoreSpace, kernel: CoreSpace, steps: readonly AccessStep[]) => void,
): void {
  const property = fc.property(scenarios, fc.boolean(), (scenario, apart) => {
    const copies = [build(core, scenario), build(core, scenario, apart)];
    const [one, other] = copies;
    try {
      if (one === undefined || other === undefined) return;
      check(one.spaces.at(-1)!, other.spaces.at(-1)!, scenario.accesses);
      expect(entriesOf(other.memory, scenario)).toEqual(entriesOf(one.memory, scenario));
    } finally {
      for (const copy of copies) copy?.dispose();
    }
  });
  fc.assert(property, { seed: 77, numRuns: runs });
}

describe("every kernel gives what translate gives, and sets the same bits", () => {
  it("translateFast", { timeout: 60_000 }, () => {
    besideTranslate(4000, (expected, kernel, steps) => {
      for (const step of steps) {
        // Twice: the second time the accessed bits are set, which the fast walk asks for.
        for (const one of [step, { ...step, access: step.access ^ Access.Write }, step]) {
          if ((one.access & Access.Write) !== 0 && (one.access & Access.Fetch) !== 0) continue;
          const fast = kernel.translateFast(Number(one.address >> 32n), Number(one.address & 0xffffffffn), one.access);
          const fault = decodeFault(fast);
          const got = fast >= 0 ? BigInt(fast) : HIGH | (BigInt(fault.status) << 16n) | BigInt(fault.errorCode);
          expect(got).toBe(packed(expected, one));
        }
      }
    });
  });

  it("translateFast32", { timeout: 60_000 }, () => {
    besideTranslate(4000, (expected, kernel, steps) => {
      for (const { address, access } of steps) {
        for (const low of [Number(address & 0xffffffffn), Number(address & 0xfffffn)]) {
          const fast = kernel.translateFast32(low, access);
          const fault = decodeFault(fast);
          const got = fast >= 0 ? BigInt(fast) : HIGH | (BigInt(fault.status) << 16n) | BigInt(fault.errorCode);
          expect(got).toBe(packed(expected, { address: BigInt(low), access }));
        }
      }
    });
  });

  it.each(["auto", "scalar", "phases"] as const)("translateBatch, kernel %s", { timeout: 60_000 }, (name) => {
    besideTranslate(4000, (expected, kernel, steps) => {
      for (const { access } of [steps[0]!, steps.at(-1)!]) {
        const input = BigUint64Array.from(steps.flatMap((step) => nearby(expected, step.address)));
        const output = new BigUint64Array(input.length);
        const wanted = Array.from(input, (address) => packed(expected, { address, access }));
        const faults = kernel.translateBatch(input, output, access, name);
        expect([...output]).toEqual(wanted);
        expect(faults).toBe(wanted.filter((result) => result >= HIGH).length);
      }
    });
  });
});

describe("pages that a source supplies on demand", () => {
  it("give the same walks as slots, and are never written", { timeout: 60_000 }, () => {
    const property = fc.property(scenarios, (scenario) => {
      const built = build(core, scenario);
      if (built === undefined) return;
      const source: PageSource = {
        readPage(gfn, into) {
          try {
            into.set(built.memory.read(gfn << 12n, 4096));
            return true;
          } catch {
            return false;
          }
        },
      };
      const sparse = core.createMemory({ source, cachedPages: 64 });
      const spaces = createSpaces(core, sparse, scenario)!;
      const before = scenario.slots.map((slot) => sparse.read(slot.gpa, slot.size));
      for (const step of scenario.accesses) {
        const probe = step.access | Access.Probe;
        const expected = built.spaces.at(-1)!.walk(step.address, probe);
        expect(spaces.at(-1)!.walk(step.address, probe)).toEqual(expected);
        expect(spaces.at(-1)!.translate(step.address, probe)).toEqual(expected.result);
        spaces.at(-1)!.translate(step.address, step.access);
      }
      scenario.slots.forEach((slot, index) => {
        expect(Buffer.compare(sparse.read(slot.gpa, slot.size), before[index]!)).toBe(0);
      });
      sparse.dispose();
      built.dispose();
    });
    fc.assert(property, { seed: 78, numRuns: 1500 });
  });
});
