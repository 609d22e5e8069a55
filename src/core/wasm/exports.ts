/** The Wasm module's exports, as JavaScript sees them. The only place that names them. */

import { ConfigError, LoadError } from "../../errors.js";
import type { ShadowExports } from "./shadow-exports.js";

export interface CoreExports extends ShadowExports {
  /** Registers a page of a sparse memory, `linear` being NO_MEMORY where the source has none; 0 where it was registered. */
  insertPage(memory: number, gfn: bigint, linear: number): number;
  /** Derives a space's fields from its registers and options. */
  configure(space: number): void;
  /** MOV to CR3; a CODES.REGISTER_* code, REGISTER_REFUSED with nothing changed where the host has to look. */
  writeCr3(space: number, value: bigint): number;
  /** Other protection-key rights. */
  writeKeys(space: number, pkru: number, pkrs: number): void;
  /** The memory's slots are others: where the tables lie is looked up again, and the software TLB is empty. */
  slotsChanged(space: number): void;
  /** Keeps what CR0, CR4 and EFER made of a space in a SAVED_MODE record. */
  saveMode(space: number, saved: number): void;
  /** CR0, CR4 and EFER are what they were then; a CODES.REGISTER_* code. */
  recallMode(space: number, saved: number): number;
  /** What the software TLB loses where CR0, CR4 and EFER were these before. */
  afterChange(space: number, cr0: number, cr4: number, efer: number): void;
  /** Latches PAE PDPTEs; a Status, PageFault meaning reserved bits. */
  loadPdptes(space: number): number;
  /** Checks PDPTEs that were given; a Status as `loadPdptes`. */
  checkPdptes(space: number): number;
  /** Physical address, or -1 - (status << 16 | error code). */
  translate(space: number, high: number, low: number, access: number): number;
  /** The same for a linear address of 32 bits. */
  translate32(space: number, low: number, access: number): number;
  /** The same for an address in one piece. */
  translateWide(space: number, address: bigint, access: number): number;
  /** A Status; the result is in the RESULT_LINE record. */
  translateLine(space: number, high: number, low: number, access: number): number;
  /** Number of addresses done; fewer than `count` where a page has to be read first. */
  translateBatch(space: number, input: number, output: number, count: number, access: number, kernel: number): number;
  /** Drops what the software TLB has for the page of `address` in `pcid`, with `global` 1 also a global entry. */
  tlbDropPage(space: number, address: bigint, pcid: number, global: number): void;
  /** The context that the SPACE record's PCID names is the software TLB's current one. */
  enterContext(space: number): void;
  /** Drops many entries; `which` is a TLB_* code. */
  tlbFlush(space: number, which: number, pcid: number): void;
  /** A Status; the entries read are in the WORK record's TRACE. */
  explain(space: number, address: bigint, access: number): number;
  startEnumeration(space: number, cursor: number): void;
  /** Number of LEAF records written. */
  enumerate(space: number, cursor: number, output: number, capacity: number): number;
  /** LEAF records as columns of `stride` elements, one behind the other, from place `index` on: both multiples of 4. */
  leafColumns(records: number, count: number, columns: number, index: number, stride: number, step: number): void;
}

/**
 * Instantiates `module` over `memory`. The exports are copied: V8 keeps the original object as a dictionary, in which
 * every call would look its function up. Throws LoadError for a module that is not the core, ConfigError for a memory that it
 * cannot work in.
 */
export function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory): CoreExports {
  const imports = WebAssembly.Module.imports(module).map((one) => `${one.module}.${one.name} ${one.kind}`);
  const names = new Set(WebAssembly.Module.exports(module).map(({ name }) => name));
  if (imports.join() !== "env.memory memory" || !names.has("translate") || !names.has("translateLine")) {
    throw new LoadError("the module is not the core of this version: load without a source takes the package's own");
  }
  let instance: WebAssembly.Instance;
  try {
    instance = new WebAssembly.Instance(module, { env: { memory } });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConfigError(
      `the memory is none that this module works in: expected 32 bits, shared for x86-paging/shared and else not (${reason})`,
    );
  }
  return { ...instance.exports } as unknown as CoreExports;
}
