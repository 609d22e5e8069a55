/** Translations: working sets, fault rates, access patterns and the software TLB. */
import {
  coreBatch,
  coreSingle,
  javaScriptBatch,
  javaScriptSingle,
  nativeByPlan,
  nativeLoop,
  prepare,
  referenceSingle,
  release,
} from "./candidates.js";
import { addresses, BATCH, build, type Machine, type Pattern, type Shape } from "./machine.js";
import type { Native } from "./native.js";
import type { Section } from "./report.js";
import { type Candidate, compare, type RoundOptions } from "./rounds.js";

const USER_READ = 4;

interface Case {
  readonly title: string;
  readonly shape: Shape;
  readonly pattern: Pattern;
  readonly batches: number;
  /** The slow candidates too. */
  readonly all?: boolean;
  /** Of the batches only the core's own choice, and single calls. */
  readonly few?: boolean;
}

interface WorkingSet {
  readonly name: string;
  readonly shape: Shape;
  readonly batches: number;
}

const L1: WorkingSet = { name: "L1", shape: { tables: 4, regions: 4 }, batches: 64 };
const L2: WorkingSet = { name: "L2", shape: { tables: 128, regions: 4 }, batches: 256 };
/** 256 MiB of level-1 tables. */
const DRAM: WorkingSet = { name: "DRAM", shape: { tables: 65536, regions: 2 }, batches: 1024 };

const PATTERNS: readonly (readonly [Pattern, string])[] = [
  ["random", "random"],
  ["sequential", "sequential"],
  ["sorted", "sorted sparse"],
  ["local", "local"],
];
const FAULTS = [0, 0.01, 0.1, 1];

/** Every pattern at every rate of faults; the shape is the same object for all patterns, so that it is built once. */
function casesOf({ name, shape, batches }: WorkingSet): Case[] {
  return FAULTS.flatMap((absent) => {
    const holed = absent === 0 ? shape : { ...shape, absent };
    return PATTERNS.map(([pattern, word]) => {
      const faults = absent === 0 ? "" : `, ${absent * 100} % faults`;
      const plain = absent === 0 && pattern === "random";
      const title = absent > 0 && pattern === "random" ? `${name}${faults}` : `${name}, ${word}${faults}`;
      return { title, shape: holed, pattern, batches, all: plain, few: !plain };
    });
  });
}

export const CASES: readonly Case[] = [
  ...casesOf(L1),
  { title: "L1, random, tables contiguous", shape: { tables: 4, regions: 1 }, pattern: "random", batches: 64 },
  { title: "L1, random, 2 MiB pages", shape: { ...L1.shape, large: true }, pattern: "random", batches: 64 },
  ...casesOf(L2),
  ...casesOf(DRAM),
];

/** The machine that was built last: the cases of one shape follow each other, and the largest take long to build. */
let kept: { readonly shape: Shape; readonly machine: Machine } | undefined;

function machineOf(shape: Shape): Machine {
  if (kept?.shape !== shape) {
    kept?.machine.dispose();
    kept = { shape, machine: build(shape) };
  }
  return kept.machine;
}

export function measureCase(one: Case, native: Native | undefined, options: RoundOptions): Section {
  const machine = machineOf(one.shape);
  const load = prepare(machine, addresses(machine, one.pattern, one.batches * BATCH), USER_READ);
  const candidates: Candidate[] = native ? [nativeLoop(native, load)] : [];
  if (native && !one.few) candidates.push(...nativeByPlan(native, load));
  candidates.push(coreBatch(load));
  if (!one.few) candidates.push(coreBatch(load, "core, batch, scalar kernel", 1));
  candidates.push(coreSingle(load));
  if (!one.few) candidates.push(javaScriptBatch(load));
  if (one.all) candidates.push(javaScriptSingle(load), referenceSingle(load));
  const results = compare(candidates, options);
  release(load);
  if (one === CASES.at(-1)) {
    machine.dispose();
    kept = undefined;
  }
  return { title: one.title, unit: "address", results };
}

/** Pages of one region, which never fall on one entry of the TLB, and of four, some of which do. */
export function measureTlb(native: Native | undefined, options: RoundOptions): Section {
  const results = [1, 4].flatMap((regions) => {
    const machine = build({ tables: 4, regions }, { tlbEntries: 4096 });
    const load = prepare(machine, addresses(machine, "local", 2 * BATCH), USER_READ);
    const candidates = native ? [nativeLoop(native, load)] : [];
    candidates.push(coreSingle(load, `core, single call, TLB hit, ${regions === 1 ? "one region" : "four regions"}`));
    const measured = compare(candidates, options);
    release(load);
    machine.dispose();
    return regions === 1 ? measured : measured.slice(-1);
  });
  return { title: "Software TLB, hits", unit: "address", results };
}
