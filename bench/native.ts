/** The native candidate: bench/native/walk.c, compiled where a compiler and Node's headers are there. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { PlanRecord, SPACE_OFFSET, SpaceRecord } from "../src/core/records/walk.js";
import type { Machine } from "./machine.js";

const here = dirname(fileURLToPath(import.meta.url));
/** One for each combination of error-code bits 4:1. */
const PLANS = 16;

export interface Native {
  attach(buffer: ArrayBuffer, space: Uint8Array): void;
  batch(input: number, output: number, count: number, access: number): void;
  /** The same by the core's plans, address by address. */
  batchByPlan(input: number, output: number, count: number, access: number): void;
  /** The same by the core's plans in blocks; `count` is a multiple of 256. */
  blocks(input: number, output: number, count: number, access: number): void;
  enumerate(output: number): number;
  /** `count` operations by their number in bench/registers.ts. */
  operation(number: number, count: number, root: number): number;
  /** A boot stream by the walk, with a software TLB of so many entries (a power of two) where that is not 0. */
  boot(
    op: Uint8Array,
    access: Uint8Array,
    high: Uint32Array,
    low: Uint32Array,
    place: Uint32Array,
    value: BigUint64Array,
    count: number,
    tlbEntries: number,
  ): number;
}

/** Compiles and loads the addon; a reason where that is not possible. */
export function loadNative(): Native | string {
  const headers = [
    join(process.execPath, "../../include/node"),
    process.env.npm_config_nodedir ?? "",
    "/usr/include/node",
  ].find((folder) => existsSync(join(folder, "node_api.h")));
  if (headers === undefined) return "Node's headers are not installed";
  const output = join(here, "..", "build", "bench-native.node");
  mkdirSync(dirname(output), { recursive: true });
  const flags = ["-O3", "-march=native", "-shared", "-fPIC", "-w", `-I${headers}`];
  try {
    execFileSync("gcc", [...flags, join(here, "native", "walk.c"), "-o", output], { stdio: "pipe" });
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT" ? "gcc is not installed" : `gcc: ${error}`;
  }
  return createRequire(import.meta.url)(output) as Native;
}

/** Gives the addon the masks that the core derived, so that both walk by the same rules. */
export function attachNative(
  native: Native,
  { core, space, ramLinear, ramSize }: Pick<Machine, "core" | "space" | "ramLinear" | "ramSize">,
): void {
  const { linear } = core.internals();
  const plansAt = 8 * 7 + 80 + 32;
  const bytes = new Uint8Array(plansAt + PLANS * PlanRecord.SIZE);
  const words = new BigUint64Array(bytes.buffer);
  const record = new SpaceRecord(linear, space.pointer);
  words.set([BigInt(ramLinear), 0n, BigInt(ramSize), record.root, record.addressMask, record.xdMask]);
  words[6] = BigInt(record.fetchCode);
  for (let index = 0; index < 10; index++) words[7 + index] = record.reserved(index);
  const permissions = space.pointer + SPACE_OFFSET.permissions;
  bytes.set(linear.u8.subarray(permissions, permissions + 32), 56 + 80);
  const plans = space.pointer + SPACE_OFFSET.plans;
  bytes.set(linear.u8.subarray(plans, plans + PLANS * PlanRecord.SIZE), plansAt);
  native.attach(linear.memory.buffer as ArrayBuffer, bytes);
}
