/** What is asked of an engine and a dump in Node, in a page and in a worker alike; the answer can be sent as a message. */

import type { PagingEngine } from "../../../src/api.js";
import type { AsyncDump, DumpRegisters } from "../../../src/dump/browser.js";

export interface Survey {
  readonly mode: string;
  /** One line for each address: the entries on the way and the outcome. */
  readonly walks: readonly string[];
  readonly mappings: number;
  /** The bytes that all mappings have together. */
  readonly mapped: bigint;
}

export async function survey(
  engine: PagingEngine,
  { dump, fetching }: AsyncDump,
  registers: DumpRegisters,
  addresses: readonly bigint[],
  access: number,
): Promise<Survey> {
  const memory = engine.createMemory({ source: dump.pageSource });
  const space = await fetching(() => engine.createAddressSpace(memory, { ...registers, lenient: true }));
  const walks: string[] = [];
  for (const address of addresses) {
    const { steps, result } = await fetching(() => space.walk(address, access));
    const entries = steps.map((step) => `${step.level}:${step.entry.toString(16)}`).join(" ");
    walks.push(`${address.toString(16)} ${entries} ${result.ok ? result.pa.toString(16) : `status ${result.status}`}`);
  }
  const leaves = await fetching(() => [...space.leaves()]);
  return {
    mode: space.mode,
    walks,
    mappings: leaves.length,
    mapped: leaves.reduce((sum, leaf) => sum + leaf.size, 0n),
  };
}
