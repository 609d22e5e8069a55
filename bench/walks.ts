/** Translations: working sets, fault rates, access patterns and the software TLB. */
import {
  coreBatch,
  coreSingle,
  javaScriptBatch,
  javaScriptSingle,
  nativeLoop,
  prepare,
  referenceSingle,
  release,
} from "./candidates.js";
import { addresses, BATCH, build, type Pattern, type Shape } from "./machine.js";
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
}

const L1: Shape = { tables: 4, regions: 4 };
/** 256 MiB of level-1 tables. */
const DRAM: Shape = { tables: 65536, regions: 2 };

export const CASES: readonly Case[] = [
  { title: "L1, random", shape: L1, pattern: "random", batches: 64, all: true },
  { title: "L1, random, tables contiguous", shape: { tables: 4, regions: 1 }, pattern: "random", batches: 64 },
  { title: "L2, random", shape: { tables: 128, regions: 4 }, pattern: "random", batches: 256 },
  { title: "L2, sequential", shape: { tables: 128, regions: 4 }, pattern: "sequential", batches: 64 },
  { title: "L2, local", shape: { tables: 128, regions: 4 }, pattern: "local", batches: 256 },
  { title: "L1, 1 % faults", shape: { ...L1, absent: 0.01 }, pattern: "random", batches: 64 },
  { title: "L1, 10 % faults", shape: { ...L1, absent: 0.1 }, pattern: "random", batches: 64 },
  { title: "L1, 100 % faults", shape: { ...L1, absent: 1 }, pattern: "random", batches: 64 },
  { title: "DRAM, random", shape: DRAM, pattern: "random", batches: 1024 },
  { title: "DRAM, sorted sparse", shape: DRAM, pattern: "sorted", batches: 1024 },
];

export function measureCase(one: Case, native: Native | undefined, options: RoundOptions): Section {
  const machine = build(one.shape);
  const load = prepare(machine, addresses(machine, one.pattern, one.batches * BATCH), USER_READ);
  const candidates: Candidate[] = native ? [nativeLoop(native, load)] : [];
  candidates.push(coreBatch(load), coreBatch(load, "core, batch, scalar kernel", 1), coreSingle(load));
  candidates.push(javaScriptBatch(load));
  if (one.all) candidates.push(javaScriptSingle(load), referenceSingle(load));
  const results = compare(candidates, options);
  release(load);
  machine.dispose();
  return { title: one.title, unit: "address", results };
}

/** The working set fits the TLB; the loop without one is the baseline. */
export function measureTlb(native: Native | undefined, options: RoundOptions): Section {
  const machine = build({ tables: 4, regions: 4 }, { tlbEntries: 4096 });
  const load = prepare(machine, addresses(machine, "local", 2 * BATCH), USER_READ);
  const candidates = native ? [nativeLoop(native, load)] : [];
  candidates.push(coreSingle(load, "core, single call, TLB hit"));
  const results = compare(candidates, options);
  release(load);
  machine.dispose();
  return { title: "Software TLB, hits", unit: "address", results };
}
