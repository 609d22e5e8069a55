/** The mappings of every address space in a dump: what all of one system share is listed once. */
import { bitOf, CR0, CR4, EFER } from "../abi/index.js";
import type { AddressSpace, GuestMemory, Leaf, PageSource, PagingEngine } from "../api.js";
import type { Dump, FoundSpace, InspectedMode } from "../dump/node.js";
import { PagingError } from "../errors.js";
import { inspectTables, type StructureOptions } from "../maps/structure.js";
import { hex } from "./values.js";

const PAGING = bitOf(CR0, "PG") | bitOf(CR0, "PE") | bitOf(CR0, "WP");
const LONG = bitOf(EFER, "LME") | bitOf(EFER, "LMA") | bitOf(EFER, "NXE");
const REGISTERS: Readonly<Record<InspectedMode, { readonly cr4: bigint; readonly efer: bigint }>> = {
  "32bit": { cr4: bitOf(CR4, "PSE"), efer: 0n },
  pae: { cr4: bitOf(CR4, "PAE"), efer: bitOf(EFER, "NXE") },
  "4level": { cr4: bitOf(CR4, "PAE"), efer: LONG },
  "5level": { cr4: bitOf(CR4, "PAE") | bitOf(CR4, "LA57"), efer: LONG },
};
/** First address of the kernel's part: systems of 32 bits have it at 3 GiB. */
const KERNEL_FROM: Readonly<Record<InspectedMode, bigint>> = {
  "32bit": 3n * 2n ** 30n,
  pae: 3n * 2n ** 30n,
  "4level": 2n ** 63n,
  "5level": 2n ** 63n,
};

/** A part of a space: the users', or the kernel's, which any one of those that have it stands for. */
export interface SpacePart {
  readonly space: FoundSpace;
  readonly isKernelPart: boolean;
  /** Its mappings, in ascending order. */
  readonly leaves: Iterable<Leaf>;
}

/** A mapping, and the part that it is in. */
export interface LeafOfSpace extends Omit<SpacePart, "leaves"> {
  readonly leaf: Leaf;
}

/** What is listed, and who is told of it. */
export interface EachSpace {
  readonly engine: PagingEngine;
  readonly dump: Dump;
  readonly spaces: readonly FoundSpace[];
  readonly encryptionMask: bigint;
  readonly limits: StructureOptions;
  /** Before each space is gone through. */
  visit(number: number): void;
  /** Of a part that cannot be listed (tables that contain themselves, or too many): it is left out. */
  missing(space: FoundSpace, error: PagingError): void;
}

/**
 * User parts by the users' root where there are two, so that rights are those of user code. Each part's mappings are to be gone
 * through before the next part is asked for.
 */
export function* partsOfSpaces(each: EachSpace): IterableIterator<SpacePart> {
  const memory = each.engine.createMemory({ source: zeroWhereMissing(each.dump.tableSource) });
  const listed = new Set<bigint>();
  for (const [number, space] of each.spaces.entries()) {
    each.visit(number);
    const from = KERNEL_FROM[space.mode];
    const { root, userRoot, kernelPart } = space;
    const list = (one: bigint) => leavesOf(each, memory, space, one);
    yield { space, isKernelPart: false, leaves: until(list(userRoot ?? root), from) };
    if (listed.has(kernelPart)) continue;
    // Another space may have what could not be listed here.
    const whole = () => listed.add(kernelPart);
    yield { space, isKernelPart: true, leaves: since(list(root), from, whole) };
  }
}

function* until(leaves: Iterable<Leaf>, end: bigint): IterableIterator<Leaf> {
  for (const leaf of leaves) {
    if (leaf.va >= end) return;
    yield leaf;
  }
}

function* since(leaves: Generator<Leaf, boolean>, start: bigint, whole: () => void): IterableIterator<Leaf> {
  for (let next = leaves.next(); ; next = leaves.next()) {
    if (next.done) {
      if (next.value) whole();
      return;
    }
    if (next.value.va >= start) yield next.value;
  }
}

/** Returns whether all of them were there. */
function* leavesOf(
  { engine, dump, encryptionMask, limits, missing }: EachSpace,
  memory: GuestMemory,
  space: FoundSpace,
  root: bigint,
): Generator<Leaf, boolean> {
  const registers = { cr0: PAGING, cr3: root, ...REGISTERS[space.mode], encryptionMask, lenient: true };
  let tables: AddressSpace | undefined;
  try {
    inspectTables(dump.tableSource, registers, { ...limits, allowMissing: true });
    tables = engine.createAddressSpace(memory, registers);
    yield* tables.leaves();
    return true;
  } catch (error) {
    if (!(error instanceof PagingError)) throw error;
    missing(space, error);
    return false;
  } finally {
    tables?.dispose?.();
  }
}

/** The mappings of all parts. */
export function* leavesOfSpaces(each: EachSpace): IterableIterator<LeafOfSpace> {
  for (const { space, isKernelPart, leaves } of partsOfSpaces(each)) {
    for (const leaf of leaves) yield { space, isKernelPart, leaf };
  }
}

/** Where a mapping is, in a listing of several spaces: `kernel` of a part that several have. */
export function placeOf({ space, isKernelPart }: Pick<SpacePart, "space" | "isKernelPart">): string {
  return isKernelPart && space.shared > 1 ? "kernel" : hex(space.root);
}

/** The same as members of a JSON object: the space's root, and how many spaces have the part. */
export function placeJson({ space, isKernelPart }: Pick<SpacePart, "space" | "isKernelPart">): object {
  return { root: hex(space.root), shared: isKernelPart ? space.shared : 1 };
}

/** A table that the dump lacks maps nothing. */
function zeroWhereMissing(source: PageSource): PageSource {
  return {
    readPage(gfn, into) {
      if (!source.readPage(gfn, into)) into.fill(0);
      return true;
    },
  };
}
