/** Ranges of host-virtual memory. */

/** Where an address range of slots lies in host-virtual memory. */
export interface HostRange {
  readonly hva: bigint;
  readonly size: bigint;
}

/** `ranges` merged where they touch or overlap, ascending. */
export function mergeRanges(ranges: readonly HostRange[]): HostRange[] {
  const merged: { hva: bigint; size: bigint }[] = [];
  for (const range of [...ranges].filter(({ size }) => size > 0n).sort((a, b) => (a.hva < b.hva ? -1 : 1))) {
    const last = merged.at(-1);
    if (last !== undefined && range.hva <= last.hva + last.size) {
      const end = range.hva + range.size;
      if (end > last.hva + last.size) last.size = end - last.hva;
    } else merged.push({ hva: range.hva, size: range.size });
  }
  return merged;
}
