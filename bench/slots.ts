/** What the number of slots costs: the same tables, in RAM of one slot and of many. */
import type { CoreSpace } from "../src/core/index.js";
import { addresses, build, core } from "./machine.js";
import type { Section } from "./report.js";
import { type Candidate, compare, type RoundOptions } from "./rounds.js";

const COUNTS = [1, 16, 1024] as const;
const WORK = 1024;
const sink = new Float64Array(1);

function candidate(space: CoreSpace, slots: number, halves: Uint32Array): Candidate {
  const run = () => {
    let sum = 0;
    for (let i = 0; i < halves.length; i += 2) sum += space.translateFast(halves[i + 1]!, halves[i]!, 0);
    sink[0] = sum;
  };
  return { name: `${slots} ${slots === 1 ? "slot" : "slots"}`, work: WORK, run };
}

export function measureSlots(options: RoundOptions): Section[] {
  const machine = build({ tables: 1000, regions: 8 });
  const { ramLinear, ramSize, space } = machine;
  const { config } = space.configuration as { config: { cr0: number; cr3: number; cr4: number; efer: number } };
  const halves = new Uint32Array(addresses(machine, "random", WORK).buffer);
  const made = COUNTS.map((count) => {
    const size = ramSize / count;
    const slots = Array.from({ length: count }, (_, i) => ({ gpa: i * size, size, linear: ramLinear + i * size }));
    const memory = core.createMemory({ slots });
    const { cr0, cr3, cr4, efer } = config;
    return { count, memory, space: core.createAddressSpace(memory, { cr0, cr3, cr4, efer }) };
  });
  const results = compare(
    made.map((one) => candidate(one.space, one.count, halves)),
    options,
  );
  for (const { memory } of made) memory.dispose();
  machine.dispose();
  return [{ title: "Slots that the tables lie in", unit: "address", results }];
}
