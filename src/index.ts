/** x86-paging: the Wasm paging core. */
export { Access, Status } from "./abi/index.js";
export type * from "./api.js";
export * from "./core/index.js";
export * from "./errors.js";
export { mergeRuns, type Run } from "./runs.js";
