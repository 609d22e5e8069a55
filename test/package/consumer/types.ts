/** What a user's TypeScript may look like; it is compiled against the installed package, never run. */
import {
  Access,
  type AddressSpace,
  ConfigError,
  type Core,
  CoreSpace,
  type Leaf,
  type LeafColumns,
  load,
  loadSync,
  type PagingEngine,
  type Translation,
} from "x86-paging";
import { type BitLayout, decodeFields, PTE } from "x86-paging/abi";
import { type ConformanceSummary, runVectors } from "x86-paging/conform";
import { load as loadFrom } from "x86-paging/core";
import { type DecodedEntry, decodeEntry, decodeWord } from "x86-paging/decode";
import { type AsyncDump, openDumpAsync, registersFromDump } from "x86-paging/dump";
import { openDumpFile } from "x86-paging/dump/node";
import { type Explanation, explain } from "x86-paging/explain";
import { type Finding, fuzzRound } from "x86-paging/fuzz";
import { infoTlbLine, type TableStructureSummary } from "x86-paging/maps";
import type { HostMemory, VirtualMachine } from "x86-paging/mmu";
import { readRecording } from "x86-paging/recording";
import { createReference } from "x86-paging/reference";
import { type Era, layoutOf } from "x86-paging/role";
import { loadShared, type SharedOptions } from "x86-paging/shared";
import { type DecodedSpte, decodeSpte } from "x86-paging/spte";
import { createSpace, type State, saveSpace } from "x86-paging/state";
import { analyseTrace, type FindingCode } from "x86-paging/trace";

export async function open(file: string | Blob, url: URL): Promise<AddressSpace> {
  const dump = typeof file === "string" ? await openDumpFile(file) : (await openDumpAsync(file)).dump;
  const engine: PagingEngine = (await load(url)) ?? createReference();
  const space = engine.createAddressSpace(engine.createMemory({ source: dump.pageSource }), registersFromDump(dump));
  // @ts-expect-error: a mode is one of a few names
  if (space.mode === "3level") throw new ConfigError(space.mode);
  return space;
}

export function physical(space: AddressSpace, address: bigint): bigint | undefined {
  const result: Translation = space.translate(address, Access.Read | Access.User);
  // @ts-expect-error: only a translation that is mapped has a physical address
  result.pa;
  return result.ok ? result.pa : undefined;
}

export function batch(core: Core, addresses: BigUint64Array & { readonly buffer: ArrayBuffer }): BigUint64Array {
  const space = core.createEpt(core.createMemory({ slots: [{ gpa: 0n, size: 4096 }] }), { eptp: 0x1en });
  if (!(space instanceof CoreSpace)) throw new TypeError("never");
  const output = new BigUint64Array(addresses.length);
  space.translateBatch(addresses, output);
  return output;
}

export const saved = (space: AddressSpace): State => saveSpace(space);
export const made = (core: Core, state: Uint8Array): CoreSpace => createSpace(core, core.createMemory({}), state);
export const why = (space: AddressSpace): Explanation => explain(space, 0n, Access.Write);
export const leaves = (space: AddressSpace): Leaf[] => [...space.leaves()];
export const fill = (space: CoreSpace, columns: LeafColumns): Float64Array | undefined =>
  space.leafColumns().fill(columns) === 0 ? undefined : columns.vaPage;
export const own = (bytes: ArrayBuffer): Promise<Core> => loadFrom(bytes);
// @ts-expect-error: there is no copy to load
export const none = (): Promise<Core> => loadFrom();
export const entry = (word: bigint): DecodedEntry => decodeEntry("4level", 2, word, { maxPhysAddr: 46 });
// @ts-expect-error: a word is one of a few kinds
export const register = (word: bigint): string => decodeWord("cr2", word).summary;
export const spte = (word: bigint): DecodedSpte => decodeSpte(word, { format: "npt", level: 2 });
export const rootField = (era: Era) => layoutOf(era).base.fields[0]?.name;
export const fetching = (dump: AsyncDump, space: AddressSpace) => dump.fetching(() => space.walk(0n));
export const fuzz = (core: Core): Finding | undefined => fuzzRound(core, createReference(), 1, 100);
export const passed = (summary: ConformanceSummary): number => summary.passed;
export const fields = (layout: BitLayout = PTE): string[] => decodeFields(layout, 0x67n).map((field) => field.name);
export const tlb = (leaf: Leaf): string => infoTlbLine(leaf, "4level");
export const leafCount = (summary: TableStructureSummary): number => summary.leaves;
export const problems = (vm: VirtualMachine): number => vm.audit().length;
export const pfn = (host: HostMemory): bigint | undefined => host.peek(0n)?.pfn;
export const steps = (folder: string): number => readRecording(folder).steps.length;
export const found = async (file: Blob): Promise<FindingCode[]> =>
  (await analyseTrace(file)).report.findings.map(({ code }) => code);
export { loadSync, runVectors };

export const thread = async (options: SharedOptions): Promise<boolean> =>
  (await loadShared(undefined, options)).linearMemory === options.memory;
