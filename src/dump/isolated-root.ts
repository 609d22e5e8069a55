/** What a root under Linux's page-table isolation hides. */
import type { Dump } from "./dump.js";
import { hidesExecution, usersRoot } from "./tables/isolation.js";
import { TableReader } from "./tables/table-reader.js";
import { type InspectedMode, SHAPES } from "./tables/table-shape.js";

/**
 * The root that user code runs by, where the one at `root` (a guest-physical address) is the kernel's of such a pair and lets
 * users execute nothing; undefined of any other root.
 */
export function hiddenUsersRoot(
  dump: Dump,
  root: bigint,
  mode: InspectedMode,
  encryptionMask = 0n,
): bigint | undefined {
  const reader = new TableReader(dump, SHAPES[mode], encryptionMask);
  if (!hidesExecution(reader, Number(root))) return undefined;
  const users = usersRoot(reader, Number(root));
  return users === undefined ? undefined : BigInt(users);
}
