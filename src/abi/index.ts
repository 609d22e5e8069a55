/** The bit tables, codes and record layouts of the walks, in one import; those of the shadow MMU are in shadow.ts, spte.ts and tdp.ts. */
export * from "./access.js";
export * from "./addresses.js";
export * from "./bits.js";
export * from "./entries.js";
export * from "./faults.js";
export * from "./layout.js";
export * from "./registers.js";
export * from "./status.js";
