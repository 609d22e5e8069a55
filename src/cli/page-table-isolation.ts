/** The two roots of a process under Linux's page-table isolation, for the commands that look through one of them. */
import type { PagingMode } from "../api.js";
import { type Dump, type DumpRegisters, halfAt, hiddenUsersRoot } from "../dump/node.js";
import { modeTitle } from "../maps/mode.js";
import { CliError } from "./errors.js";
import { hex } from "./values.js";

export type Half = "kernel" | "user";

const FRAME = ~0xfffn;

/** The registers with CR3 of that half. Throws CliError in a mode that has no such pairs. */
export function withHalf(registers: DumpRegisters, mode: PagingMode, half: Half): DumpRegisters {
  if (mode !== "4level" && mode !== "5level") {
    throw new CliError(`--half: expected 4- or 5-level paging, found ${modeTitle(mode)}`);
  }
  const cr3 = halfAt(registers.cr3, half);
  if (cr3 === registers.cr3) return registers;
  return { ...registers, cr3, origin: { ...registers.origin, cr3: `${registers.origin.cr3}, --half ${half}` } };
}

/** What there is to know of a root that hides what users execute; undefined where it hides nothing. */
export function isolationNote(
  dump: Dump,
  { cr3, encryptionMask }: DumpRegisters,
  mode: PagingMode,
): string | undefined {
  if (mode !== "4level" && mode !== "5level") return undefined;
  const root = BigInt.asUintN(52, cr3 & FRAME);
  const users = hiddenUsersRoot(dump, root, mode, encryptionMask);
  if (users === undefined) return undefined;
  return `${hex(root)} is the kernel's root of a process with page-table isolation: no user page is executable by it; user code runs by ${hex(users)} (--half user)`;
}
