/** `x86-paging/state`: snapshots of spaces, memories and virtual machines, as one buffer each. */
export * from "../core/state/index.js";
export * from "../mmu/state/index.js";
