/** The address spaces in a dump, as the commands find them. */
import { type Dump, DumpError, type FoundSpace, type InspectedMode, SpaceScan } from "../dump/node.js";
import { pagingModeOf } from "../maps/mode.js";
import type { CliContext } from "./context.js";
import { type DumpOptions, type RegisterFlags, registersOf, type StructureCliOptions } from "./dump-options.js";
import type { KnownRegisters } from "./dump-text.js";
import type { EachSpace } from "./each-space.js";
import { CliError } from "./errors.js";
import { startProgress } from "./progress.js";
import { hex } from "./values.js";

/** Pages that are looked at between two steps of the bar. */
const STEP = 4096;

/** The registers, or why they are not known. */
export function knownRegisters(context: CliContext, dump: Dump, options: RegisterFlags): KnownRegisters {
  try {
    return { registers: registersOf(context, dump, options) };
  } catch (error) {
    if (!(error instanceof DumpError || error instanceof CliError)) throw error;
    const problem = error.message.startsWith(`${dump.name}: `)
      ? error.message.slice(dump.name.length + 2)
      : error.message;
    return { problem };
  }
}

/** Finds them, with a bar; and the bit by which their entries say that a page is encrypted, 0n for none. */
export function scan(
  context: CliContext,
  dump: Dump,
  options: RegisterFlags & { readonly mode?: InspectedMode },
): { readonly spaces: FoundSpace[]; readonly encryptionMask: bigint } {
  const known = knownRegisters(context, dump, options);
  const registers = "registers" in known ? known.registers : undefined;
  const mode = registers === undefined ? undefined : pagingModeOf(registers);
  const modes = options.mode ?? (mode === "none" ? undefined : mode);
  const encryptionMask = registers?.encryptionMask ?? options.encryptionMask ?? 0n;
  const search = new SpaceScan(dump, {
    ...(modes === undefined ? {} : { modes: [modes] }),
    encryptionMask,
    ...(registers?.origin.cr3.includes("VMCOREINFO") ? { kernelRoot: registers.cr3 } : {}),
  });
  const progress = startProgress(context.io, "searching", search.total, true);
  try {
    while (search.step(STEP)) progress.update(search.done);
  } finally {
    progress.stop();
  }
  const spaces = search.spaces();
  if (search.skipped > 0) {
    context.note(
      `warning: ${dump.name}: ${search.skipped} pages that look like roots were not judged: all map one another`,
    );
  }
  return { spaces, encryptionMask };
}

/**
 * All of them, for listings of their parts, with a bar of that title: `stop` it. Parts that cannot be listed are left out, which is
 * said.
 */
export async function everySpace(
  context: CliContext,
  dump: Dump,
  options: DumpOptions & StructureCliOptions,
  title: string,
): Promise<EachSpace & { stop(): void }> {
  const { spaces, encryptionMask } = scan(context, dump, options);
  const engine = await context.engine(options.engine);
  const progress = startProgress(context.io, title, spaces.length);
  const told = new Set<bigint>();
  return {
    engine,
    dump,
    spaces,
    encryptionMask,
    limits: {
      ...(options.maxMappings === undefined ? {} : { maxMappings: options.maxMappings }),
      allowCycles: options.cyclic === "follow",
    },
    visit: (number) => progress.update(number),
    missing: ({ root }, why) => {
      if (told.has(root)) return;
      told.add(root);
      context.note(`${dump.name}: the space at ${hex(root)} is left out: ${why.message}`);
    },
    stop: () => progress.stop(),
  };
}
