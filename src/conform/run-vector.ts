/** Runs page-walk vectors against an engine. */
import { Access } from "../abi/access.js";
import { bitOf } from "../abi/bits.js";
import { EPT, PTE } from "../abi/entries.js";
import { CR3_PAE } from "../abi/registers.js";
import { Status } from "../abi/status.js";
import type { AddressSpace, CpuFeatures, GuestMemory, PagingEngine, Translation } from "../api.js";
import { ConfigError, GeneralProtectionError } from "../errors.js";
import { KNOWN_EXCEPTIONS } from "./exceptions.js";
import {
  entryBytes,
  type VectorAccess,
  type VectorEntry,
  type VectorExit,
  type VectorMode,
  type VectorResult,
  type WalkVector,
} from "./vector.js";
import { VectorError } from "./vector-error.js";

/** What one vector came to. */
export interface VectorOutcome {
  readonly vector: WalkVector;
  readonly passed: boolean;
  /** One readable line for each thing that differs; empty where the vector passed. */
  readonly differences: readonly string[];
  /** The known exception (exceptions.ts) that it passed by. */
  readonly exception?: string;
}

/**
 * Places the vector's entries in a memory of their own (one slot a page), makes the access and compares the result
 * and what became of every entry. What the engine throws is a difference, but for a ConfigError: no processor has such
 * registers, so the vector is at fault, and a VectorError is thrown.
 */
export function runVector(engine: PagingEngine, vector: WalkVector): VectorOutcome {
  const differences = differencesOf(engine, vector, {});
  if (differences.length === 0) return { vector, passed: true, differences };
  const exception = KNOWN_EXCEPTIONS.find(
    ({ applies, cpu }) => applies(vector) && differencesOf(engine, vector, cpu).length === 0,
  );
  if (exception !== undefined) return { vector, passed: true, differences: [], exception: exception.name };
  return { vector, passed: false, differences };
}

function differencesOf(engine: PagingEngine, vector: WalkVector, cpu: CpuFeatures): string[] {
  const differences: string[] = [];
  let memory: GuestMemory | undefined;
  let second: AddressSpace | undefined;
  let space: AddressSpace | undefined;
  try {
    memory = placeEntries(engine, vector);
    second = makeSecondStage(engine, memory, vector);
    const made = makeSpace(engine, memory, second, vector, cpu);
    if (made instanceof GeneralProtectionError) {
      compareLoad(vector, made, differences);
    } else {
      space = made;
      if (space.mode !== vector.mode) differences.push(`mode: ${space.mode}, expected ${vector.mode}`);
      for (const [index, access] of vector.accesses.entries()) {
        const where = vector.accesses.length === 1 ? "" : `access ${index + 1}: `;
        const result = space.translate(access.gva, accessWord(access));
        differences.push(...compareResult(vector.mode, access, result).map((text) => where + text));
      }
    }
    for (const entry of vector.entries) {
      differences.push(...compareEntry(vector, memory, entry, entryBytes(vector.mode), LEGACY_FLAGS));
    }
    const flags = vector.secondStage?.kind === "ept" ? EPT_FLAGS : LEGACY_FLAGS;
    for (const entry of vector.secondStage?.entries ?? []) {
      differences.push(...compareEntry(vector, memory, entry, 8, flags).map((text) => `second stage: ${text}`));
    }
  } catch (error) {
    if (error instanceof ConfigError) throw new VectorError(vector.line, "", `cannot be set up: ${error.message}`);
    differences.push(`the engine threw ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}`);
  } finally {
    space?.dispose?.();
    second?.dispose?.();
    memory?.dispose?.();
  }
  return differences;
}

/** The access word of a vector's access. */
export function accessWord({ kind, cpl, implicit, ac }: VectorAccess): number {
  return (
    (kind === "write" ? Access.Write : 0) |
    (kind === "fetch" ? Access.Fetch : 0) |
    (cpl === 3 ? Access.User : 0) |
    (implicit ? Access.Implicit : 0) |
    (ac ? Access.Ac : 0)
  );
}

const PAGE_MASK = ~0xfffn;
const PDPT = bitOf(CR3_PAE, "PDPT");

function placeEntries(engine: PagingEngine, vector: WalkVector): GuestMemory {
  // CR3 is 32-byte aligned and 32 bits wide in PAE paging.
  const pdpt = vector.cr3 & PDPT;
  const second = vector.secondStage?.entries ?? [];
  const pages = new Set([...vector.entries, ...second].map((entry) => entry.hpa & PAGE_MASK));
  if (vector.pdptes !== undefined) pages.add(pdpt & PAGE_MASK);
  const memory = engine.createMemory({ slots: [...pages].map((gpa) => ({ gpa, size: 4096 })) });
  vector.pdptes?.forEach((value, index) => {
    memory.writeU64(pdpt + BigInt(8 * index), value);
  });
  for (const entry of vector.entries) {
    if (entryBytes(vector.mode) === 4) memory.writeU32(entry.hpa, Number(entry.before));
    else memory.writeU64(entry.hpa, entry.before);
  }
  for (const entry of second) memory.writeU64(entry.hpa, entry.before);
  return memory;
}

function makeSecondStage(
  engine: PagingEngine,
  memory: GuestMemory,
  { secondStage }: WalkVector,
): AddressSpace | undefined {
  if (secondStage === undefined) return undefined;
  if (secondStage.kind === "ept") return engine.createEpt(memory, secondStage.config);
  return engine.createNpt(memory, secondStage.config);
}

function makeSpace(
  engine: PagingEngine,
  memory: GuestMemory,
  secondStage: AddressSpace | undefined,
  vector: WalkVector,
  cpu: CpuFeatures,
): AddressSpace | GeneralProtectionError {
  const { cr0, cr3, cr4, efer, maxPhysAddr, pkru, pkrs } = vector;
  const { page1g, pse36 } = vector.cpu;
  try {
    return engine.createAddressSpace(memory, {
      cr0,
      cr3,
      cr4,
      efer,
      maxPhysAddr,
      pkru,
      pkrs,
      cpu: { page1g, pse36, ...cpu },
      ...(secondStage === undefined ? {} : { secondStage }),
    });
  } catch (error) {
    if (error instanceof GeneralProtectionError) return error;
    throw error;
  }
}

/** Only PAE paging can fail here: at MOV CR3, when it loads the PDPTEs. */
function compareLoad(vector: WalkVector, error: GeneralProtectionError, differences: string[]): void {
  const { result } = vector.accesses[0]!;
  if (vector.mode === "pae" && isGeneralProtection(result)) return;
  differences.push(`result: #GP when registers are loaded (${error.message}), expected ${describe(result)}`);
}

function isGeneralProtection(result: VectorResult): boolean {
  return !result.ok && "vector" in result && result.vector === 13;
}

function compareResult(mode: VectorMode, { result: expected }: VectorAccess, result: Translation): string[] {
  if (mode === "pae" && isGeneralProtection(expected)) {
    return ["result: the PDPTEs were loaded, expected #GP(0) at MOV CR3"];
  }
  const found = describe(described(result));
  const wanted = describe(expected);
  return found === wanted ? [] : [`result: ${found}, expected ${wanted}`];
}

const EXITS: Readonly<Record<number, VectorExit>> = {
  [Status.EptViolation]: "ept-violation",
  [Status.EptMisconfiguration]: "ept-misconfiguration",
  [Status.NestedPageFault]: "npf",
};

function described(result: Translation): Described {
  if (result.ok) return { ok: true, pa: result.pa };
  const exit = EXITS[result.status];
  if (exit !== undefined) return { ok: false, exit, code: result.errorCode, gpa: result.address };
  if (result.status === Status.OutsideMemory)
    return { ok: false, vector: undefined, errorCode: 0n, outside: result.entryAddress };
  return { ok: false, vector: result.vector, errorCode: result.errorCode, cr2: result.address };
}

interface Described {
  readonly ok: boolean;
  readonly pa?: bigint;
  readonly vector?: 13 | 14 | undefined;
  readonly errorCode?: bigint;
  readonly cr2?: bigint;
  /** Address of an entry that the walk wants and that lies in no memory of the vector. */
  readonly outside?: bigint;
  readonly exit?: VectorExit;
  readonly code?: bigint;
  readonly gpa?: bigint;
}

function describe(result: Described): string {
  if (result.ok) return `pa ${hex(result.pa!)}`;
  if (result.exit !== undefined) return `${result.exit}(${hex(result.code!)}) at ${hex(result.gpa!)}`;
  const errorCode = hex(result.errorCode!);
  if (result.vector === 13) return `#GP(${errorCode})`;
  if (result.vector === 14) return `#PF(${errorCode}) at ${hex(result.cr2!)}`;
  return result.outside === undefined
    ? "a failure without a vector"
    : `an entry at ${hex(result.outside)} that no entry's page has`;
}

const LEGACY_FLAGS = bitOf(PTE, "A") | bitOf(PTE, "D");
const EPT_FLAGS = bitOf(EPT, "A") | bitOf(EPT, "D");

function compareEntry(
  { accesses }: WalkVector,
  memory: GuestMemory,
  entry: VectorEntry,
  bytes: 4 | 8,
  flags: bigint,
): string[] {
  const value = bytes === 4 ? BigInt(memory.readU32(entry.hpa)) : memory.readU64(entry.hpa);
  const isDerived = accesses.some(({ derived }) => derived);
  if (isDerived && accesses.some(({ result }) => result.ok)) {
    // Nobody recorded what this success sets: only that nothing but flags may change is known.
    const others = ~flags;
    return (value & others) === (entry.before & others) ? [] : [entryDifference(entry, value, [entry.before])];
  }
  const allowed = allowedValues(accesses, isDerived, entry);
  return allowed.includes(value) ? [] : [entryDifference(entry, value, allowed)];
}

/** A success sets exactly the recorded flags; a fault nothing, or what a processor was seen to set or may set. */
function allowedValues(accesses: readonly VectorAccess[], isDerived: boolean, entry: VectorEntry): bigint[] {
  if (accesses.every(({ result }) => result.ok)) return [entry.after];
  const allowed = isDerived ? [entry.before] : [entry.before, entry.after];
  if (entry.afterAlt !== undefined) allowed.push(entry.afterAlt);
  return [...new Set(allowed)];
}

function entryDifference(entry: VectorEntry, value: bigint, allowed: readonly bigint[]): string {
  return `level ${entry.level} entry at ${hex(entry.gpa)}: ${hex(value)}, expected ${allowed.map(hex).join(" or ")}`;
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
