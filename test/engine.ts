/**
 * The engine under test. The suites of test/walk and test/conform run once for each, as vitest projects that set
 * ENGINE (vitest.config.ts): one text of the rules, every implementation.
 */
import type { PagingEngine } from "../src/api.js";
import { loadSync } from "../src/core/index.js";
import { createReference } from "../src/reference/index.js";

export const engineName = process.env.ENGINE === "wasm" ? "wasm" : "reference";

export function createEngine(): PagingEngine {
  return engineName === "wasm" ? loadSync() : createReference();
}
