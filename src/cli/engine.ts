/** What walks the tables. */
import type { PagingEngine } from "../api.js";

export const ENGINE_NAMES = ["wasm", "reference"] as const;
export type EngineName = (typeof ENGINE_NAMES)[number];

/** Loads an engine; neither is loaded before it is asked for. */
export async function loadEngine(name: EngineName): Promise<PagingEngine> {
  const module = `../${name}-stub.js`;
  return ((await import(module)) as { createStub(): PagingEngine }).createStub();
}
