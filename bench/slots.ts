/** What the number of slots costs: the same tables, in RAM of one slot and of many, side by side in linear memory or not. */
import type { CoreSlotConfig, CoreSpace } from "../src/core/index.js";
import { addresses, build, core } from "./machine.js";
import type { Section } from "./report.js";
import { type Candidate, compare, type RoundOptions } from "./rounds.js";

const COUNTS = [1, 16, 1024] as const;
/** As many slots, but each neighbour lies elsewhere in linear memory. */
const APART = [16, 1024] as const;
const WORK = 1024;
const sink = new Float64Array(1);

function candidate(space: CoreSpace, name: string, halves: Uint32Array): Candidate {
  const run = () => {
    let sum = 0;
    for (let i = 0; i < halves.length; i += 2) sum += space.translateFast(halves[i + 1]!, halves[i]!, 0);
    sink[0] = sum;
  };
  return { name, work: WORK, run };
}

export function measureSlots(options: RoundOptions): Section[] {
  const machine = build({ tables: 1000, regions: 8 });
  const { ramLinear, ramSize, space } = machine;
  const { config } = space.configuration as { config: { cr0: number; cr3: number; cr4: number; efer: number } };
  const halves = new Uint32Array(addresses(machine, "random", WORK).buffer);
  const { linear } = core.internals();
  const { cr0, cr3, cr4, efer } = config;
  const over = (name: string, slots: readonly CoreSlotConfig[]) => {
    const memory = core.createMemory({ slots });
    return { name, memory, space: core.createAddressSpace(memory, { cr0, cr3, cr4, efer }) };
  };
  const cut = (count: number, placeOf: (index: number, size: number) => number) => {
    const size = ramSize / count;
    return Array.from({ length: count }, (_, i) => ({ gpa: i * size, size, linear: placeOf(i, size) }));
  };
  const lent: number[] = [];
  const apart = (count: number) => {
    const copy = linear.lend(ramSize, 4096);
    lent.push(copy);
    return cut(count, (i, size) => {
      const place = copy + (count - 1 - i) * size;
      linear.u8.copyWithin(place, ramLinear + i * size, ramLinear + (i + 1) * size);
      return place;
    });
  };
  const made = [
    ...COUNTS.map((count) =>
      over(
        `${count} ${count === 1 ? "slot" : "slots"}`,
        cut(count, (i, size) => ramLinear + i * size),
      ),
    ),
    ...APART.map((count) => over(`${count} slots, apart`, apart(count))),
  ];
  const results = compare(
    made.map((one) => candidate(one.space, one.name, halves)),
    options,
  );
  for (const { memory } of made) memory.dispose();
  for (const place of lent) linear.takeBack(place, ramSize);
  machine.dispose();
  return [{ title: "Slots that the tables lie in", unit: "address", results }];
}
