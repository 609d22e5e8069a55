export * from "./access.js";
export * from "./bits.js";
export * from "./entries.js";
export * from "./faults.js";
export * from "./layout.js";
export * from "./registers.js";
export * from "./status.js";
