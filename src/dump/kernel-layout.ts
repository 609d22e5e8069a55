/** What the kernel of a dump has where, for whoever shows addresses. */
import type { PagingMode } from "../api.js";
import type { Dump } from "./dump.js";
import { type KernelRegion, kernelRegions } from "./linux/kernel-regions.js";
import type { DumpRegisters } from "./registers.js";
import { halfAt } from "./tables/isolation.js";
import { kernelRoot } from "./vmcoreinfo.js";

/**
 * The regions of a Linux kernel of x86-64, by its own root where VMCOREINFO names it, else by that of the registers: of two roots under
 * page-table isolation the kernel's, which has all of them. None for other systems and modes.
 */
export function kernelLayout(
  dump: Dump,
  registers: Pick<DumpRegisters, "cr3" | "encryptionMask">,
  mode: PagingMode,
): KernelRegion[] {
  const { encryptionMask } = registers;
  const own = kernelRoot(dump.vmcoreinfo ?? "")?.cr3;
  const cr3 = BigInt.asUintN(52, registers.cr3) & ~0xfffn & ~encryptionMask;
  for (const root of [...(own === undefined ? [] : [own]), halfAt(cr3, "kernel"), cr3]) {
    const found = kernelLayoutAt(dump, root, mode, encryptionMask);
    if (found.length > 0) return found;
  }
  return [];
}

/** The same by the tables at this root alone. */
export function kernelLayoutAt(dump: Dump, root: bigint, mode: PagingMode, encryptionMask: bigint): KernelRegion[] {
  if (mode !== "4level" && mode !== "5level") return [];
  return kernelRegions(dump, root, mode, { encryptionMask, vmcoreinfo: dump.vmcoreinfo });
}

/** A function that names the region that an address is in, fast where neighbours are asked for one after the other; undefined between them. */
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
