/** The registers of the address space that was chosen, by what the dump and memory say. */
import { bitOf, CR0, CR4, EFER } from "x86-paging/abi";
import {
  type AsyncDump,
  type DumpRegisters,
  type FoundVmcoreinfo,
  type InspectedMode,
  type RegisterOverrides,
  registersFromDump,
  UnknownRootError,
  VmcoreinfoScan,
} from "x86-paging/dump";
import { pagingModeOf } from "x86-paging/maps";
import type { RunningTask } from "../tasks.js";
import type { SpaceChoice } from "./answers.js";

/** Pages that are searched at once. */
const PIECE = 256;

const LONG = bitOf(EFER, "LME") | bitOf(EFER, "LMA") | bitOf(EFER, "NXE");
const CR0_PAGING = bitOf(CR0, "PG") | bitOf(CR0, "PE") | bitOf(CR0, "WP");
const REGISTERS: Readonly<Record<InspectedMode, Pick<DumpRegisters, "cr4" | "efer">>> = {
  "32bit": { cr4: bitOf(CR4, "PSE"), efer: 0n },
  pae: { cr4: bitOf(CR4, "PAE"), efer: bitOf(EFER, "NXE") },
  "4level": { cr4: bitOf(CR4, "PAE"), efer: LONG },
  "5level": { cr4: bitOf(CR4, "PAE") | bitOf(CR4, "LA57"), efer: LONG },
};

/** VMCOREINFO in memory, by dump: the search goes through all of it, once. */
const FOUND = new WeakMap<AsyncDump, FoundVmcoreinfo | "none">();

/** Throws a DumpError where nothing says where the tables are. */
export async function registersOf(open: AsyncDump, choice: SpaceChoice, task: RunningTask): Promise<DumpRegisters> {
  const { cpu, cr3, maxPhysAddr, mode } = choice;
  const overrides: RegisterOverrides = { cpu, cr3, maxPhysAddr };
  const registers = await withSearch(open, overrides, task);
  if (mode === undefined || mode === pagingModeOf(registers)) return registers;
  return open.fetching(() => registersFromDump(open.dump, { ...overrides, cr0: CR0_PAGING, ...REGISTERS[mode] }));
}

async function withSearch(open: AsyncDump, overrides: RegisterOverrides, task: RunningTask): Promise<DumpRegisters> {
  try {
    return await open.fetching(() => registersFromDump(open.dump, overrides));
  } catch (error) {
    if (!(error instanceof UnknownRootError)) throw error;
    const found = FOUND.get(open) ?? (await search(open, task)) ?? "none";
    FOUND.set(open, found);
    if (found === "none") throw new Error(`${error.message} by hand, and memory has no VMCOREINFO`);
    return open.fetching(() => registersFromDump(open.dump, { ...overrides, vmcoreinfo: found }));
  }
}

async function search({ dump, fetching }: AsyncDump, task: RunningTask): Promise<FoundVmcoreinfo | undefined> {
  const scan = new VmcoreinfoScan(dump);
  for (;;) {
    const { found, finished } = await fetching(() => scan.step(PIECE));
    if (finished) return found;
    await task.turn(scan.done / scan.total);
  }
}
