/** Runs page-walk vectors against an engine. */
import { Access } from "../abi/access.js";
import { bitOf } from "../abi/bits.js";
import { PTE } from "../abi/entries.js";
import { CR3_PAE } from "../abi/registers.js";
import type { AddressSpace, CpuFeatures, GuestMemory, PagingEngine, Translation } from "../api.js";
import { ConfigError, GeneralProtectionError } from "../errors.js";
import { KNOWN_EXCEPTIONS } from "./exceptions.js";
import { entryBytes, type VectorEntry, type WalkVector } from "./vector.js";
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
  let space: AddressSpace | undefined;
  try {
    memory = placeEntries(engine, vector);
    const made = makeSpace(engine, memory, vector, cpu);
    if (made instanceof GeneralProtectionError) {
      compareLoad(vector, made, differences);
    } else {
      space = made;
      if (space.mode !== vector.mode) differences.push(`mode: ${space.mode}, expected ${vector.mode}`);
      const result = space.translate(vector.gva, accessWord(vector));
      differences.push(...compareResult(vector, result));
    }
    for (const entry of vector.entries) differences.push(...compareEntry(vector, memory, entry));
  } catch (error) {
    if (error instanceof ConfigError) throw new VectorError(vector.line, "", `cannot be set up: ${error.message}`);
    differences.push(`the engine threw ${error instanceof Error ? `${error.name}: ${error.message}` : String(error)}`);
  } finally {
    space?.dispose?.();
    memory?.dispose?.();
  }
  return differences;
}

/** The access word of a vector's access. */
export function accessWord(vector: WalkVector): number {
  const { kind, cpl, implicit } = vector.access;
  return (
    (kind === "write" ? Access.Write : 0) |
    (kind === "fetch" ? Access.Fetch : 0) |
    (cpl === 3 ? Access.User : 0) |
    (implicit ? Access.Implicit : 0) |
    (vector.ac ? Access.Ac : 0)
  );
}

const PAGE_MASK = ~0xfffn;
const PDPT = bitOf(CR3_PAE, "PDPT");

function placeEntries(engine: PagingEngine, vector: WalkVector): GuestMemory {
  // CR3 is 32-byte aligned and 32 bits wide in PAE paging.
  const pdpt = vector.cr3 & PDPT;
  const pages = new Set(vector.entries.map((entry) => entry.gpa & PAGE_MASK));
  if (vector.pdptes !== undefined) pages.add(pdpt & PAGE_MASK);
  const memory = engine.createMemory({ slots: [...pages].map((gpa) => ({ gpa, size: 4096 })) });
  vector.pdptes?.forEach((value, index) => {
    memory.writeU64(pdpt + BigInt(8 * index), value);
  });
  for (const entry of vector.entries) {
    if (entryBytes(vector.mode) === 4) memory.writeU32(entry.gpa, Number(entry.before));
    else memory.writeU64(entry.gpa, entry.before);
  }
  return memory;
}

function makeSpace(
  engine: PagingEngine,
  memory: GuestMemory,
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
    });
  } catch (error) {
    if (error instanceof GeneralProtectionError) return error;
    throw error;
  }
}

/** Only PAE paging can fail here: at MOV CR3, when it loads the PDPTEs. */
function compareLoad(vector: WalkVector, error: GeneralProtectionError, differences: string[]): void {
  if (vector.mode === "pae" && !vector.result.ok && vector.result.vector === 13) return;
  differences.push(`result: #GP when registers are loaded (${error.message}), expected ${describe(vector.result)}`);
}

function compareResult(vector: WalkVector, result: Translation): string[] {
  const expected = vector.result;
  if (vector.mode === "pae" && !expected.ok && expected.vector === 13) {
    return ["result: the PDPTEs were loaded, expected #GP(0) at MOV CR3"];
  }
  const actual = result.ok
    ? { ok: true as const, pa: result.pa }
    : { ok: false as const, vector: result.vector, errorCode: result.errorCode, cr2: result.address };
  const found = describe(actual);
  const wanted = describe(expected);
  return found === wanted ? [] : [`result: ${found}, expected ${wanted}`];
}

interface Described {
  readonly ok: boolean;
  readonly pa?: bigint;
  readonly vector?: 13 | 14 | undefined;
  readonly errorCode?: bigint;
  readonly cr2?: bigint;
}

function describe(result: Described): string {
  if (result.ok) return `pa ${hex(result.pa!)}`;
  const errorCode = hex(result.errorCode!);
  if (result.vector === 13) return `#GP(${errorCode})`;
  if (result.vector === 14) return `#PF(${errorCode}) at ${hex(result.cr2!)}`;
  return "a failure without a vector";
}

const A = bitOf(PTE, "A");
const D = bitOf(PTE, "D");

function compareEntry(vector: WalkVector, memory: GuestMemory, entry: VectorEntry): string[] {
  const value = entryBytes(vector.mode) === 4 ? BigInt(memory.readU32(entry.gpa)) : memory.readU64(entry.gpa);
  if (vector.derived && vector.result.ok) {
    // Nobody recorded what this success sets: only that nothing but flags may change is known.
    const others = ~(A | D);
    return (value & others) === (entry.before & others) ? [] : [entryDifference(entry, value, [entry.before])];
  }
  const allowed = allowedValues(vector, entry);
  return allowed.includes(value) ? [] : [entryDifference(entry, value, allowed)];
}

/** A success sets exactly the recorded flags; a fault nothing, or what a processor was seen to set or may set. */
function allowedValues(vector: WalkVector, entry: VectorEntry): bigint[] {
  if (vector.result.ok) return [entry.after];
  const allowed = vector.derived ? [entry.before] : [entry.before, entry.after];
  if (entry.afterAlt !== undefined) allowed.push(entry.afterAlt);
  return [...new Set(allowed)];
}

function entryDifference(entry: VectorEntry, value: bigint, allowed: readonly bigint[]): string {
  return `level ${entry.level} entry at ${hex(entry.gpa)}: ${hex(value)}, expected ${allowed.map(hex).join(" or ")}`;
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
