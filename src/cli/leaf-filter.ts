/** Options that choose among mappings. */
import type { Command } from "commander";
import type { Leaf } from "../api.js";
import { type AddressRange, addressRanges, type RawCliOptions } from "./raw-options.js";

export interface LeafFilterOptions extends RawCliOptions {
  user?: boolean;
  kernel?: boolean;
  writable?: boolean;
  executable?: boolean;
  wx?: boolean;
}

export function addLeafFilters(command: Command): Command {
  return command
    .option("--user", "only what user mode may access")
    .option("--kernel", "only what user mode may not access")
    .option("--writable", "only what may be written")
    .option("--executable", "only what may be executed")
    .option("--wx", "only what may be written and executed");
}

/** Whether a mapping is among those that the options ask for; without any, all are. */
export function leafFilter(options: LeafFilterOptions): (leaf: Leaf) => boolean {
  const { user, kernel, writable, executable, wx } = options;
  const inRange = inRanges(addressRanges(options));
  return ({ rights, va, size }) =>
    (!user || rights.user) &&
    (!kernel || !rights.user) &&
    (!(writable || wx) || rights.write) &&
    (!(executable || wx) || rights.execute) &&
    inRange(va, size);
}

/** Whether so many bytes from an address on reach into one of the ranges; all do where there are none. */
export function inRanges(ranges: readonly AddressRange[] | undefined): (va: bigint, size: bigint) => boolean {
  return (va, size) => ranges === undefined || ranges.some(({ from, to }) => va < to && va + size > from);
}

/** Whether the options leave anything out. */
export function hasFilter(options: LeafFilterOptions): boolean {
  const { user, kernel, writable, executable, wx } = options;
  return Boolean(user || kernel || writable || executable || wx) || addressRanges(options) !== undefined;
}
