/** Faults of the shadow MMU: one call each, looped inside Wasm, and with hash and rmap in JavaScript Maps. */
import { FAULT_CODE } from "../src/mmu/index.js";
import { measureKinds } from "./fault-kinds.js";
import { core, random } from "./machine.js";
import type { Section } from "./report.js";
import { type Candidate, compare, type RoundOptions } from "./rounds.js";
import { buildShadow, DATA_GFN, type ShadowGuest, type ShadowShape } from "./shadow-guest.js";
import { MapMmu } from "./shadow-maps.js";
import { operations } from "./shadow-operations.js";

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
  const { exports } = vm.state.core.internals;
  const pointer = vcpu.state.core.record.at;
  const work = wide.length;
  const results = new Uint32Array(work);
  const setup = prepared(before);
  return [
    {
      name: "core, looped inside Wasm",
      work,
      ...setup,
      run: () => {
        exports.faultBatch(pointer, input, output, 0, work, error);
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
        for (let i = 0; i < work; i++) exports.faultAt(pointer, high[i]!, low[i]!, error, 0);
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
  const { pages } = vm.state.core;
  const root = vm.page(vcpu.state.mmu.roots.current.page);
  for (let i = 0; i < load.low.length; i++) {
    const theirs = maps.path(load.high[i]!, load.low[i]!);
    let table = root.table;
    for (let level = 4; level > 0; level--) {
      const index = Number((load.wide[i]! >> BigInt(3 + 9 * level)) & 511n);
      const ours = pages.entry(table, index);
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

/** The faults of one working set, the ones that change nothing and the ones that map; `step` leaves from one to the next. */
function* measureShadow(set: string, shape: ShadowShape, step: number, options: RoundOptions): Generator<Section> {
  const guest = buildShadow(shape);
  guest.vm.setPageLimit(1 << 20);
  const load = prepare(guest, shape.leaves / step, step);
  expectCodes(load, COLD, FAULT_CODE.fixed);
  const maps = new MapMmu(guest, guest.vm.counter("USED") + 8);
  const forget = () => maps.forget(DATA_GFN, guest.dataPages);
  const run = (error: number) => {
    for (let i = 0; i < load.low.length; i++) maps.fault(load.high[i]! | 0, load.low[i]! | 0, error);
  };
  run(COLD);
  checkSame(load, maps);
  forget();
  guest.forgetLeaves();
  expectCodes(load, COLD, FAULT_CODE.fixed);
  run(COLD);
  checkSame(load, maps);
  if (step === 1) {
    // A read that is allowed already; the first one takes the dirty bit of the write back (make_spte).
    expectCodes(load, SPURIOUS, FAULT_CODE.fixed);
    expectCodes(load, SPURIOUS, FAULT_CODE.spurious);
    run(SPURIOUS);
    checkSame(load, maps);
    const results = compare([...ways(load, SPURIOUS), mapsCandidate(load, maps, SPURIOUS)], options);
    yield { title: `Shadow fault, spurious, ${set}`, unit: "fault", results };
  }
  const cold = [...ways(load, COLD, guest.forgetLeaves), mapsCandidate(load, maps, COLD, forget)];
  yield { title: `Shadow fault, cold, ${set}`, unit: "fault", results: compare(cold, options) };
  release(load);
}

/** Faults that need a shadow page each, so that the host is called: the hash's and the caches' work too. */
function measureMade(options: RoundOptions): Section {
  const guest = buildShadow({ leaves: 256, stride: 512, dense: true });
  guest.vm.setPageLimit(1 << 20);
  const load = prepare(guest, 256);
  const { vm, vcpu } = guest;
  const before = () => {
    vm.state.core.zapAllFast();
    vm.state.settle();
    vcpu.enterGuest();
  };
  before();
  expectCodes(load, COLD, FAULT_CODE.fixed);
  // Only what asks the host: a loop inside Wasm cannot go on by itself.
  const candidates = ways(load, COLD, before).filter(({ name }) => /vcpu/.test(name));
  const results = compare(candidates, options);
  release(load);
  return { title: "Shadow fault, cold, with a shadow page made for each", unit: "fault", results };
}

function* measureTdp(options: RoundOptions): Generator<Section> {
  const config = { paging: "ept", tdpMmu: true } as const;
  const guest = buildShadow({ leaves: FAULTS, stride: 8, config });
  const load = prepare(guest, FAULTS);
  expectCodes(load, COLD, FAULT_CODE.fixed);
  for (let i = 0; i < load.low.length; i++) guest.vcpu.fault(load.low[i]!, load.high[i]!, SPURIOUS);
  expectCodes(load, SPURIOUS, FAULT_CODE.spurious);
  yield { title: "TDP MMU fault, spurious", unit: "fault", results: compare(ways(load, SPURIOUS), options) };
  yield {
    title: "TDP MMU fault, cold",
    unit: "fault",
    results: compare(ways(load, COLD, guest.forgetLeaves), options),
  };
  release(load);
}

/** What events cost: switched off (the other sections), recorded and decoded, and taken by somebody. */
function measureEvents(options: RoundOptions): Section {
  const candidates: Candidate[] = [];
  const loads: Load[] = [];
  let seen = 0;
  for (const [name, eventCapacity, sink] of [
    ["core, events off", 0, false],
    ["core, events recorded, nobody reads", 1024, false],
    ["core, events taken by a sink", 1024, true],
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

/** Writes that change what a role says, there and back, each followed by an entry: roots and roles are looked up again. */
function registerWrites({ vcpu }: ShadowGuest): Candidate[] {
  const work = 16;
  const each = (name: string, write: (odd: boolean) => void): Candidate => ({
    name,
    work,
    run: () => {
      for (let i = 0; i < work; i++) {
        write((i & 1) === 0);
        vcpu.enterGuest();
      }
    },
  });
  return [
    each("CR0.WP written", (odd) => vcpu.writeCr0(odd ? 0x8000_0001n : 0x8001_0001n)),
    each("CR4.SMEP written", (odd) => vcpu.writeCr4(odd ? 0x10_0020n : 0x20n)),
    each("CR4.PGE written", (odd) => vcpu.writeCr4(odd ? 0xa0n : 0x20n)),
    each("EFER.NXE written", (odd) => vcpu.writeEfer(odd ? 0x500n : 0xd00n)),
  ];
}

/** Pages and roots, beside a fault of one call. */
function measureOperations(options: RoundOptions): Section {
  const guest = buildShadow({ leaves: 256, stride: 512, dense: true, roots: 3, selfMapped: true });
  guest.vm.setPageLimit(1 << 20);
  const load = prepare(guest, 256);
  expectCodes(load, COLD, FAULT_CODE.fixed);
  const all = operations(
    guest,
    Uint32Array.from({ length: 256 }, (_, i) => i),
  );
  const cold = all.findIndex(({ name }) => name === "cold fault");
  const results = [all[cold]!, ...all.slice(0, cold), ...all.slice(cold + 1), ...registerWrites(guest)];
  const section = { title: "Shadow MMU, operations", unit: "operation", results: compare(results, options) };
  release(load);
  return section;
}

export interface ShadowUnit {
  readonly title: string;
  measure(options: RoundOptions): Iterable<Section>;
}

const L1 = { leaves: 128, stride: 8 };
const L2 = { leaves: FAULTS, stride: 8 };

export const SHADOW_UNITS: readonly ShadowUnit[] = [
  { title: "Shadow fault, 128 pages", measure: (options) => measureShadow("128 pages", L1, 1, options) },
  { title: "Shadow fault, 1,024 pages", measure: (options) => measureShadow("1,024 pages", L2, 1, options) },
  {
    title: "Shadow fault, 65,536 pages",
    measure: (options) => measureShadow("65,536 pages", { leaves: 65536, stride: 8 }, 1, options),
  },
  {
    title: "Shadow fault, seven neighbours mapped along",
    measure: (options) => measureShadow("seven neighbours mapped along", { leaves: FAULTS * 8, stride: 1 }, 8, options),
  },
  { title: "Shadow fault, pages made", measure: (options) => [measureMade(options)] },
  { title: "Faults of every kind of guest", measure: measureKinds },
  { title: "Shadow MMU, TDP MMU fault", measure: measureTdp },
  { title: "Shadow fault, events", measure: (options) => [measureEvents(options)] },
  { title: "Shadow MMU, operations", measure: (options) => [measureOperations(options)] },
];
