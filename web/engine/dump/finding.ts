/** Who maps a physical address: in one space, or in all that a dump has. */
import { bitOf, CR0, CR4, EFER } from "x86-paging/abi";
import { type FoundSpace, type InspectedMode, SpaceScan } from "x86-paging/dump";
import { MappingScan, type StructureRegisters } from "x86-paging/maps";
import type { RunningTask } from "../tasks.js";
import { addressOf, pageOf } from "./addresses.js";
import type { FindAnswer, Hit } from "./answers.js";
import type { OpenedDump } from "./opened.js";
import type { Space } from "./space.js";

/** Entries and pages that are looked at between two looks at the clock. */
const ENTRIES = 50_000;
const PAGES = 256;
/** More hits are not told. */
const MOST_HITS = 10_000;

const PAGING = bitOf(CR0, "PG") | bitOf(CR0, "PE") | bitOf(CR0, "WP");
const LONG = bitOf(EFER, "LME") | bitOf(EFER, "LMA") | bitOf(EFER, "NXE");
const MODES: Readonly<Record<InspectedMode, { readonly cr4: bigint; readonly efer: bigint; readonly kernel: bigint }>> =
  {
    "32bit": { cr4: bitOf(CR4, "PSE"), efer: 0n, kernel: 3n * 2n ** 30n },
    pae: { cr4: bitOf(CR4, "PAE"), efer: bitOf(EFER, "NXE"), kernel: 3n * 2n ** 30n },
    "4level": { cr4: bitOf(CR4, "PAE"), efer: LONG, kernel: 2n ** 63n },
    "5level": { cr4: bitOf(CR4, "PAE") | bitOf(CR4, "LA57"), efer: LONG, kernel: 2n ** 63n },
  };

/** The spaces of a dump, and how many pages look like roots and were not judged. */
export interface ScannedSpaces {
  readonly spaces: readonly FoundSpace[];
  readonly skipped: number;
  readonly encryptionMask: bigint;
}

/** Goes through all of memory. `space`: by whose mode roots are looked for; undefined: by every one. */
export async function findSpaces(
  opened: OpenedDump,
  space: Space | undefined,
  task: RunningTask,
): Promise<ScannedSpaces> {
  const mode = space === undefined || space.mode === "none" ? undefined : space.mode;
  const encryptionMask = space?.registers.encryptionMask ?? 0n;
  const kernelRoot = space?.registers.origin.cr3.includes("VMCOREINFO") ? space.registers.cr3 : undefined;
  const scan = new SpaceScan(opened.open.dump, {
    ...(mode === undefined ? {} : { modes: [mode] }),
    encryptionMask,
    ...(kernelRoot === undefined ? {} : { kernelRoot }),
  });
  while (await opened.read(task, () => scan.step(PAGES))) await task.turn(scan.done / scan.total);
  await task.turn(1);
  const spaces = await opened.read(task, () => scan.spaces());
  return { spaces, skipped: scan.skipped, encryptionMask };
}

/** What is searched: a part of a space. */
interface Part {
  readonly registers: StructureRegisters;
  readonly mode: Space["mode"];
  readonly from?: bigint;
  readonly to?: bigint;
  readonly told: Pick<Hit, "root" | "shared">;
}

export async function findIn(space: Space, pa: bigint, task: RunningTask): Promise<FindAnswer> {
  return search(space.opened, [{ registers: space.registers, mode: space.mode, told: {} }], pa, task);
}

/** Users' parts by the root that user code has, what the kernels of several spaces have in common once. */
export async function findInAll(
  opened: OpenedDump,
  { spaces, encryptionMask }: ScannedSpaces,
  pa: bigint,
  task: RunningTask,
): Promise<FindAnswer> {
  const told = new Set<bigint>();
  const parts = spaces.flatMap(({ root, userRoot, mode, kernelPart, shared }): Part[] => {
    const { kernel, ...registers } = MODES[mode];
    const by = (cr3: bigint) => ({ cr0: PAGING, cr3, ...registers, encryptionMask });
    const users = { registers: by(userRoot ?? root), mode, to: kernel, told: { root, shared: 1 } };
    if (told.has(kernelPart)) return [users];
    told.add(kernelPart);
    return [users, { registers: by(root), mode, from: kernel, told: { root, shared } }];
  });
  return search(opened, parts, pa, task);
}

async function search(opened: OpenedDump, parts: readonly Part[], pa: bigint, task: RunningTask): Promise<FindAnswer> {
  const wanted = pageOf(pa);
  const hits: Hit[] = [];
  for (const [number, { registers, mode, told, ...bounds }] of parts.entries()) {
    const scan = new MappingScan(opened.open.dump.tableSource, registers, bounds);
    const pageSize = (level: number) => 1n << BigInt(12 + (mode === "32bit" ? 10 : 9) * (level - 1));
    const visit = (va: number, first: number, pages: number, level: number, rights: number) => {
      if (wanted < first || wanted >= first + pages) return;
      hits.push({ va: addressOf(va + (wanted - first)) + (pa & 0xfffn), pageSize: pageSize(level), rights, ...told });
    };
    while (await opened.read(task, () => scan.step(ENTRIES, visit))) {
      if (hits.length > MOST_HITS) break;
      await task.turn((number + scan.done) / parts.length);
    }
    if (hits.length > MOST_HITS) break;
  }
  return { pa, hits: hits.slice(0, MOST_HITS), more: hits.length > MOST_HITS };
}
