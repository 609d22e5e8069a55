/** Faults of the shadow MMU: one call each, looped inside Wasm, and with hash and rmap in JavaScript Maps. */
import { FAULT_CODE } from "../src/mmu/index.js";
import { core, random } from "./machine.js";
import type { Section } from "./report.js";
import { type Candidate, compare, type RoundOptions } from "./rounds.js";
import { buildShadow, DATA_GFN, type ShadowGuest, type ShadowShape } from "./shadow-guest.js";
import { MapMmu } from "./shadow-maps.js";

/** Faults in a run. */
const FAULTS = 1024;
/** Error codes: a supervisor's write to a page that is not mapped, and its read of one that is. */
const COLD = 2;
const SPURIOUS = 0;

interface Load {
  readonly guest: ShadowGuest;
  readonly high: Uint32Array;
  readonly low: Uint32Array;
  readonly wide: BigUint64Array;
  /** Linear addresses of the addresses and of room for a result each. */
  readonly input: number;
  readonly output: number;
}

/** `count` leaves of a guest, in random order, each once. */
function prepare(guest: ShadowGuest, count: number, step = 1): Load {
  const next = random(3);
  const order = Array.from({ length: count }, (_, i) => i * step);
  for (let i = count - 1; i > 0; i--) {
    const other = Math.floor(next() * (i + 1));
    [order[i], order[other]] = [order[other]!, order[i]!];
  }
  const wide = BigUint64Array.from(order, (index) => BigInt(guest.address(index)));
  const halves = new Uint32Array(wide.buffer);
  const { linear } = core.internals();
  const input = linear.allocate(count * 12, 64);
  linear.u64.set(wide, input / 8);
  return {
    guest,
    low: halves.filter((_, i) => i % 2 === 0),
    high: halves.filter((_, i) => i % 2 === 1),
    wide,
    input,
    output: input + count * 8,
  };
}

function release({ guest, wide, input }: Load): void {
  core.internals().linear.free(input, wide.length * 12);
  guest.dispose();
}

type Setup = { before?: () => void };
const prepared = (before: (() => void) | undefined): Setup => (before === undefined ? {} : { before });

/** The same faults in every way of making them; the loop inside Wasm is the baseline. */
function ways(load: Load, error: number, before?: () => void): Candidate[] {
  const { guest, high, low, wide, input, output } = load;
  const { vm, vcpu } = guest;
  const { exports } = vm;
  const { pointer } = vcpu;
  const work = wide.length;
  const results = new Uint32Array(work);
  const setup = prepared(before);
  return [
    {
      name: "core, looped inside Wasm",
      work,
      ...setup,
      run: () => {
        exports.pageFaultBatch(pointer, input, output, 0, work, error);
      },
    },
    {
      name: "core, vcpu.prefault",
      work,
      ...setup,
      run: () => {
        vcpu.prefault(wide, results, error);
      },
    },
    {
      name: "core, raw export",
      work,
      ...setup,
      run: () => {
        for (let i = 0; i < work; i++) exports.pageFault(pointer, high[i]!, low[i]!, error, 0);
      },
    },
    {
      name: "core, vcpu.fault",
      work,
      ...setup,
      run: () => {
        for (let i = 0; i < work; i++) vcpu.fault(low[i]!, high[i]!, error);
      },
    },
    {
      name: "core, vcpu.pageFault",
      work,
      ...setup,
      run: () => {
        for (let i = 0; i < work; i++) vcpu.pageFault(wide[i]!, error);
      },
    },
  ];
}

function mapsCandidate(load: Load, maps: MapMmu, error: number, before?: () => void): Candidate {
  const { high, low } = load;
  const work = low.length;
  return {
    name: "JavaScript with Maps",
    work,
    ...prepared(before),
    run: () => {
      for (let i = 0; i < work; i++) maps.fault(high[i]! | 0, low[i]! | 0, error);
    },
  };
}

/** Both engines made the same entries, but for the places of their tables. */
function checkSame(load: Load, maps: MapMmu): void {
  const { vm, vcpu } = load.guest;
  const { linear } = vm;
  const root = vm.page(vcpu.mmu.roots.current.page);
  for (let i = 0; i < load.low.length; i++) {
    const theirs = maps.path(load.high[i]!, load.low[i]!);
    let table = root.table;
    for (let level = 4; level > 0; level--) {
      const index = Number((load.wide[i]! >> BigInt(3 + 9 * level)) & 511n);
      const ours = linear.u64[table / 8 + index]!;
      const ignored = level === 1 ? 0n : 0x000f_ffff_ffff_f000n;
      if (((ours ^ theirs[4 - level]!) & ~ignored) !== 0n) {
        throw new Error(`the engines differ at level ${level} of 0x${load.wide[i]!.toString(16)}`);
      }
      table = Number(ours & 0xffff_f000n);
    }
  }
}

/** Every fault of a run ends as expected; anything else would measure something else. */
function expectCodes(load: Load, error: number, code: number): void {
  for (let i = 0; i < load.low.length; i++) {
    const found = load.guest.vcpu.fault(load.low[i]!, load.high[i]!, error);
    if (found !== code) throw new Error(`a fault ended with ${found}, expected ${code}`);
  }
}

function measureShadow(title: string, shape: ShadowShape, step: number, options: RoundOptions): Section[] {
  const guest = buildShadow(shape);
  guest.vm.setPageLimit(1 << 20);
  const load = prepare(guest, Math.min(FAULTS, shape.leaves / step), step);
  expectCodes(load, COLD, FAULT_CODE.fixed);
  const maps = new MapMmu(guest, guest.vm.counter("USED") + 8);
  const forget = () => maps.forget(DATA_GFN, guest.dataPages);
  for (let i = 0; i < load.low.length; i++) maps.fault(load.high[i]! | 0, load.low[i]! | 0, COLD);
  checkSame(load, maps);
  forget();
  guest.forgetLeaves();
  expectCodes(load, COLD, FAULT_CODE.fixed);
  for (let i = 0; i < load.low.length; i++) maps.fault(load.high[i]! | 0, load.low[i]! | 0, COLD);
  checkSame(load, maps);
  const sections: Section[] = [];
  if (step === 1) {
    // A read that is allowed already; the first one takes the dirty bit of the write back (make_spte).
    for (let i = 0; i < load.low.length; i++) guest.vcpu.fault(load.low[i]!, load.high[i]!, SPURIOUS);
    expectCodes(load, SPURIOUS, FAULT_CODE.spurious);
    const results = compare([...ways(load, SPURIOUS), mapsCandidate(load, maps, SPURIOUS)], options);
    sections.push({ title: "Shadow fault, spurious", unit: "fault", results });
  }
  const cold = [...ways(load, COLD, guest.forgetLeaves), mapsCandidate(load, maps, COLD, forget)];
  sections.push({ title, unit: "fault", results: compare(cold, options) });
  release(load);
  return sections;
}

function measureTdp(options: RoundOptions): Section[] {
  const config = { paging: "ept", tdpMmu: true } as const;
  const guest = buildShadow({ leaves: FAULTS, stride: 8, config });
  const load = prepare(guest, FAULTS);
  expectCodes(load, COLD, FAULT_CODE.fixed);
  for (let i = 0; i < load.low.length; i++) guest.vcpu.fault(load.low[i]!, load.high[i]!, SPURIOUS);
  expectCodes(load, SPURIOUS, FAULT_CODE.spurious);
  const sections = [
    { title: "TDP MMU fault, spurious", unit: "fault", results: compare(ways(load, SPURIOUS), options) },
    { title: "TDP MMU fault, cold", unit: "fault", results: compare(ways(load, COLD, guest.forgetLeaves), options) },
  ];
  release(load);
  return sections;
}

/** What events cost: switched off (the other sections), recorded and decoded, and taken by somebody. */
function measureEvents(options: RoundOptions): Section {
  const candidates: Candidate[] = [];
  const loads: Load[] = [];
  let seen = 0;
  for (const [name, eventCapacity, sink] of [
    ["core, events off", 0, false],
    ["core, events recorded", 1024, false],
    ["core, events recorded, with a sink", 1024, true],
  ] as const) {
    const guest = buildShadow({ leaves: FAULTS, stride: 8, config: { eventCapacity } });
    if (sink)
      guest.vm.events.sink = () => {
        seen++;
      };
    const load = prepare(guest, FAULTS);
    expectCodes(load, COLD, FAULT_CODE.fixed);
    loads.push(load);
    const { vcpu } = guest;
    const { low, high } = load;
    candidates.push({
      name,
      work: FAULTS,
      before: guest.forgetLeaves,
      run: () => {
        for (let i = 0; i < FAULTS; i++) vcpu.fault(low[i]!, high[i]!, COLD);
      },
    });
  }
  const results = compare(candidates, options);
  if (seen === 0) throw new Error("no event reached the sink");
  for (const load of loads) release(load);
  return { title: "Shadow fault, cold, events", unit: "fault", results };
}

export const SHADOW_TITLES = [
  "Shadow fault",
  "Shadow fault, cold, seven neighbours mapped along",
  "TDP MMU fault (shadow engine)",
  "Shadow fault, events",
] as const;

/** All sections; `wanted` says which by title. */
export function* measureShadowFaults(options: RoundOptions): Generator<Section> {
  yield* measureShadow("Shadow fault, cold", { leaves: FAULTS, stride: 8 }, 1, options);
  const along = "Shadow fault, cold, seven neighbours mapped along";
  yield* measureShadow(along, { leaves: FAULTS * 8, stride: 1 }, 8, options);
  yield* measureTdp(options);
  yield measureEvents(options);
}
