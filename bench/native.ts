/** The native candidate: bench/native/walk.c, compiled where a compiler and Node's headers are there. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { PLAN, SPACE } from "../src/abi/index.js";
import { RecordType } from "../src/core/record.js";
import type { Machine } from "./machine.js";

const here = dirname(fileURLToPath(import.meta.url));
const spaceRecord = new RecordType(SPACE);
const planRecord = new RecordType(PLAN);
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
export function attachNative(native: Native, { core, space, ramLinear, ramSize }: Machine): void {
  const { linear } = core.internals();
  const plansAt = 8 * 7 + 80 + 32;
  const bytes = new Uint8Array(plansAt + PLANS * planRecord.size);
  const words = new BigUint64Array(bytes.buffer);
  const get = (name: string, index = 0) => spaceRecord.get64(linear, space.pointer, name, index);
  words.set([BigInt(ramLinear), 0n, BigInt(ramSize), get("ROOT"), get("ADDRESS_MASK"), get("XD_MASK")]);
  words[6] = BigInt(spaceRecord.get32(linear, space.pointer, "FETCH_CODE"));
  for (let index = 0; index < 10; index++) words[7 + index] = get("RESERVED", index);
  const permissions = space.pointer + spaceRecord.offset("PERMISSIONS");
  bytes.set(linear.u8.subarray(permissions, permissions + 32), 56 + 80);
  const plans = space.pointer + spaceRecord.offset("PLANS");
  bytes.set(linear.u8.subarray(plans, plans + PLANS * planRecord.size), plansAt);
  native.attach(linear.memory.buffer as ArrayBuffer, bytes);
}
