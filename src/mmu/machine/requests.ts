/** Work of a vCPU that waits for its next entry to the guest (KVM's requests), as bits of `Cpu.requests`. */
export const REQUEST = { freeObsoleteRoots: 1, sync: 2, flushGuest: 4, fillRoot: 8 } as const;
