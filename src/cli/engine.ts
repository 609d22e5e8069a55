/** What walks the tables. */
import type { PagingEngine } from "../api.js";

export const ENGINE_NAMES = ["wasm", "reference"] as const;
export type EngineName = (typeof ENGINE_NAMES)[number];

/** Loads an engine; neither is loaded before it is asked for. */
export async function loadEngine(name: EngineName): Promise<PagingEngine> {
  if (name === "reference") return (await import("../reference/index.js")).createReference();
  return (await import("../core/index.js")).loadSync();
}
