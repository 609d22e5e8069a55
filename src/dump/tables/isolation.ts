/**
 * Linux's page-table isolation: a process has two roots side by side, aligned to both. The kernel's has everything, but user pages are not
 * executable in it; the users' has the same tables for users, and of the kernel only what an entry needs.
 */

import type { TableReader } from "./table-reader.js";
import { NO_EXECUTE } from "./table-shape.js";

const PAGE = 4096;
/** Both roots. */
const PAIR = 2 * PAGE;

/** The users' root of a process whose kernel root is at `root`; undefined where there is none. */
export function usersRoot(reader: TableReader, root: number): number | undefined {
  const { levels, kernelFrom } = reader.shape;
  const users = root + PAGE;
  if (levels < 4 || root % PAIR !== 0 || !reader.isRoot(users)) return undefined;
  const [ours, theirs] = [reader.entriesOf(root), reader.entriesOf(users)];
  let kernel = 0;
  for (let index = 0; index < ours.length / 2; index++) {
    const target = reader.target(theirs, index);
    if (index < kernelFrom && reader.target(ours, index) !== target) return undefined;
    if (index >= kernelFrom && target !== -1) kernel++;
  }
  return kernel > 0 ? users : undefined;
}

/** Whether the root at `root` maps something for users, and lets them execute none of it. */
export function hidesExecution(reader: TableReader, root: number): boolean {
  const entries = reader.entriesOf(root);
  let users = 0;
  for (let index = 0; index < Math.min(reader.shape.kernelFrom, entries.length / 2); index++) {
    if (reader.target(entries, index) === -1) continue;
    if ((entries[index * 2 + 1]! & NO_EXECUTE) === 0) return false;
    users++;
  }
  return users > 0;
}

/** The other root of the pair that has `root`: which of the two it is says `half`. */
export function halfAt(root: bigint, half: "kernel" | "user"): bigint {
  const bit = BigInt(PAGE);
  return half === "user" ? root | bit : root & ~bit;
}
