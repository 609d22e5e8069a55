/** What the kernel of a dump has where, for the commands that show addresses. */
import type { PagingMode } from "../api.js";
import { type Dump, type DumpRegisters, halfAt, type KernelRegion, kernelRegions, kernelRoot } from "../dump/node.js";

/**
 * The regions of a Linux kernel of x86-64, by its own root where VMCOREINFO names it, else by that of the registers: of two roots under
 * page-table isolation the kernel's, which has all of them. None for other systems and modes.
 */
export function layoutOf(dump: Dump, registers: Layouted, mode: PagingMode): KernelRegion[] {
  const { encryptionMask } = registers;
  const own = kernelRoot(dump.vmcoreinfo ?? "")?.cr3;
  const cr3 = BigInt.asUintN(52, registers.cr3) & ~0xfffn & ~encryptionMask;
  for (const root of [...(own === undefined ? [] : [own]), halfAt(cr3, "kernel"), cr3]) {
    const found = layoutAt(dump, root, mode, encryptionMask);
    if (found.length > 0) return found;
  }
  return [];
}

type Layouted = Pick<DumpRegisters, "cr3" | "encryptionMask">;

/** The same by the tables at this root alone. */
export function layoutAt(dump: Dump, root: bigint, mode: PagingMode, encryptionMask: bigint): KernelRegion[] {
  if (mode !== "4level" && mode !== "5level") return [];
  return kernelRegions(dump, root, mode, { encryptionMask, vmcoreinfo: dump.vmcoreinfo });
}

/** Names addresses: neighbours are asked for one after the other. */
export function regionNamer(regions: readonly KernelRegion[]): (va: bigint) => string | undefined {
  if (regions.length === 0) return () => undefined;
  let [start, end, name] = [1n, 0n, undefined as string | undefined];
  return (va) => {
    if (va >= start && va < end) return name;
    const found = regions.find((region) => va >= region.start && va < region.end);
    if (found !== undefined) [start, end, name] = [found.start, found.end, found.name];
    else {
      // The gap that it is in.
      start = regions
        .filter((region) => region.end <= va)
        .reduce((last, region) => (region.end > last ? region.end : last), 0n);
      end = regions.find((region) => region.start > va)?.start ?? 1n << 64n;
      name = undefined;
    }
    return name;
  };
}
