/** The mappings of every address space in a dump: what all of one system share is listed once. */
import { bitOf, CR0, CR4, EFER } from "../abi/index.js";
import type { Leaf, PageSource, PagingEngine } from "../api.js";
import type { Dump, FoundSpace, InspectedMode } from "../dump/node.js";
import { PagingError } from "../errors.js";
import { inspectTables, type StructureOptions } from "../maps/structure.js";

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

/** A mapping, and the space that it is in; of the kernel's part any one that has it. */
export interface LeafOfSpace {
  readonly space: FoundSpace;
  readonly leaf: Leaf;
  readonly isKernelPart: boolean;
}

/**
 * User parts by the users' root where there are two, so that rights are those of user code. `visit` is told before each space is
 * gone through. A part that cannot be listed (tables that contain themselves, or too many) is left out: `missing` is told.
 */
export function* leavesOfSpaces(
  engine: PagingEngine,
  dump: Dump,
  spaces: readonly FoundSpace[],
  encryptionMask: bigint,
  limits: StructureOptions,
  visit: (number: number) => void,
  missing: (space: FoundSpace, error: PagingError) => void,
): IterableIterator<LeafOfSpace> {
  const memory = engine.createMemory({ source: zeroWhereMissing(dump.tableSource) });
  const listed = new Set<bigint>();
  for (const [number, space] of spaces.entries()) {
    visit(number);
    const from = KERNEL_FROM[space.mode];
    const { root, userRoot, kernelPart } = space;
    const parts = [
      { root: userRoot ?? root, isKernelPart: false, wanted: (va: bigint) => va < from },
      { root, isKernelPart: true, wanted: (va: bigint) => va >= from },
    ];
    for (const part of parts) {
      if (part.isKernelPart && listed.has(kernelPart)) continue;
      try {
        const registers = { cr0: PAGING, cr3: part.root, ...REGISTERS[space.mode], encryptionMask, lenient: true };
        inspectTables(dump.tableSource, registers, { ...limits, allowMissing: true });
        const tables = engine.createAddressSpace(memory, registers);
        for (const leaf of tables.leaves()) {
          if (part.wanted(leaf.va)) yield { space, leaf, isKernelPart: part.isKernelPart };
        }
        tables.dispose?.();
        // Another space may have what could not be listed here.
        if (part.isKernelPart) listed.add(kernelPart);
      } catch (error) {
        if (!(error instanceof PagingError)) throw error;
        missing(space, error);
      }
    }
  }
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
