/** Entries that are not present, as an operating system reads them, for the commands that show entries. */

import { type Command, Option } from "commander";
import { parseRelease, type Release } from "../abi/release.js";
import type { PagingMode } from "../api.js";
import { type Dump, kernelRelease } from "../dump/node.js";
import { jsonText } from "../json-text.js";
import {
  ENTRY_SYSTEMS,
  type EntrySystem,
  type NotPresentEntry,
  type NotPresentOptions,
  notPresentText,
} from "../maps/not-present.js";
import { type NotPresentRange, notPresentRanges } from "../maps/not-present-ranges.js";
import type { OpenSpace } from "./dump-options.js";
import { CliError } from "./errors.js";
import { hex, hex16, parseInteger, sizeText } from "./values.js";

export interface NotPresentCliOptions {
  notPresent?: EntrySystem;
  pfnBits?: number;
}

export function addNotPresentOptions(command: Command, what: string): Command {
  return command
    .addOption(new Option("--not-present <system>", what).choices(ENTRY_SYSTEMS))
    .option(
      "--pfn-bits <n>",
      "with --not-present: bits of a page frame number, 1 to 40 (Linux: what VMCOREINFO says, else 34, with 5 levels 40; Windows: 36)",
      parseInteger(1, 40),
    );
}

/** What is known of the system whose entries are to be read; undefined where they are not. */
export function notPresentOptions(
  dump: Dump,
  mode: PagingMode,
  { notPresent: system, pfnBits }: NotPresentCliOptions,
): NotPresentOptions | undefined {
  if (system === undefined) {
    if (pfnBits !== undefined) throw new CliError("--pfn-bits: expected --not-present with it");
    return undefined;
  }
  if (system === "windows" && mode !== "4level") throw new CliError("--not-present windows: expected 4-level paging");
  const frameBits = pfnBits ?? (system === "linux" ? frameBitsOf(dump, mode) : undefined);
  return {
    system,
    narrow: mode === "32bit",
    ...(frameBits === undefined ? {} : { frameBits }),
    release: releaseOf(dump),
  };
}

/** MAX_PHYSMEM_BITS, which depends on the number of levels, less the bits of a page's offset. */
function frameBitsOf({ vmcoreinfo }: Dump, mode: PagingMode): number | undefined {
  const said = /^NUMBER\(MAX_PHYSMEM_BITS\)=(\d\d)$/m.exec(vmcoreinfo ?? "")?.[1];
  if (said !== undefined) return Math.min(40, Math.max(1, Number(said) - 12));
  return mode === "5level" ? 40 : undefined;
}

function releaseOf({ vmcoreinfo }: Dump): Release | undefined {
  return parseRelease(/^\d+\.\d+(?:\.\d+)?/.exec(kernelRelease(vmcoreinfo) ?? "")?.[0] ?? "");
}

/** What an entry says, as members of a JSON object. */
export function entryJson({ kind, pa, file, offset, prototype, protection, flags }: NotPresentEntry): object {
  return {
    kind,
    ...(pa === undefined ? {} : { pa: hex(pa) }),
    ...(file === undefined ? {} : { file }),
    ...(offset === undefined ? {} : { offset: hex(offset) }),
    ...(prototype === undefined ? {} : { prototype: hex(prototype) }),
    ...(protection === undefined ? {} : { protection }),
    flags,
  };
}

/** Lines of a listing of ranges of them; `wanted` chooses. */
export function* notPresentLines(
  { tables, registers }: OpenSpace,
  options: NotPresentOptions,
  json: boolean,
  wanted: (range: NotPresentRange) => boolean,
): IterableIterator<string> {
  for (const range of notPresentRanges(tables, registers, options)) {
    if (!wanted(range)) continue;
    const { va, size, entries, pageSize, entry, decoded } = range;
    if (json) {
      const what = { entries, pageSize: Number(pageSize), entry: hex(entry), ...entryJson(decoded) };
      yield jsonText({ va: hex(va), size: Number(size), ...what });
    } else {
      const end = BigInt.asUintN(64, va + size);
      yield `${hex16(va)} ${hex16(end)} ${sizeText(size).padStart(10)} ${`${entries}`.padStart(7)}  ${notPresentText(decoded)}`;
    }
  }
}
