/** x86-paging/core: the Wasm paging core without the Wasm, for those who bring it (`x86-paging/core.wasm`). */
export { Access, Status } from "./abi/index.js";
export type * from "./api.js";
export { load, loadSync } from "./core/load-module.js";
export * from "./core/without-wasm.js";
export * from "./errors.js";
export { mergeRuns, type Run } from "./runs.js";
