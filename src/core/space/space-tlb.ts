/** The software TLB of a space: its memory, and what each architected event invalidates (SDM "Invalidation of TLBs"). */
import { bitOf, CODES, CR4, EFER } from "../../abi/index.js";
import type { AddressSpaceConfig } from "../../api.js";
import { show } from "../../checks.js";
import { ConfigError } from "../../errors.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import { type SpaceRecord, TlbEntryRecord, TlbLineRecord, TlbNamesRecord } from "../records/walk.js";
import type { CoreExports } from "../wasm/exports.js";

const ENTRY_BYTES = TlbEntryRecord.SIZE;
const LINE_BYTES = TlbLineRecord.SIZE;
const LEAST = 16;
const MOST = 65536;

/** Lines of the first level, at most: what lies in the processor's own cache. */
export const MOST_LINES = 4096;

/**
 * What a software TLB did since its space was made. Hits are not counted: most are found without a call of the core, and each
 * would have to write.
 */
export interface TlbStatistics {
  /** Entries that it has room for. */
  readonly entries: number;
  /** Translations that were entered: misses that ended well, and first writes to a page. */
  readonly fills: number;
  /** Times that a context was flushed, or everything: register writes, INVPCID, changes of the memory's slots. */
  readonly flushes: number;
  /** Times that the page of one address was dropped: INVLPG, INVPCID, faults. */
  readonly drops: number;
}

export class SpaceTlb {
  readonly #address: number;
  readonly #size: number;
  readonly #lines: number;
  readonly #exports: CoreExports;
  readonly #linear: LinearMemory;
  readonly #space: SpaceRecord;

  /** Throws ConfigError for a bad number of entries. */
  constructor(exports: CoreExports, linear: LinearMemory, space: SpaceRecord, config: AddressSpaceConfig) {
    this.#exports = exports;
    this.#linear = linear;
    this.#space = space;
    const entries = config.tlbEntries!;
    if (!isTlbSize(entries)) {
      throw new ConfigError(`tlbEntries is ${show(entries)}, expected 0 or a power of two from ${LEAST} to ${MOST}`);
    }
    if (config.secondStage !== undefined) {
      throw new ConfigError("tlbEntries with a secondStage: a software TLB is for spaces of one stage");
    }
    this.#lines = Math.min(entries, MOST_LINES);
    const linesAt = entries * ENTRY_BYTES;
    const namesAt = linesAt + this.#lines * LINE_BYTES;
    this.#size = namesAt + TlbNamesRecord.SIZE;
    this.#address = linear.allocate(this.#size);
    space.tlb = this.#address;
    space.tlbMask = entries - 1;
    space.tlbLines = this.#address + linesAt;
    space.tlbLineMask = this.#lines - 1;
    space.tlbNames = this.#address + namesAt;
    // Context 0 is none.
    new TlbNamesRecord(linear, space.tlbNames).nextContext = 1;
  }

  /** The lines of the first level (assembly/walk/tlb/tlb-lines.ts), four words each, as a view that is good until the memory grows. */
  lines(): Int32Array {
    return new Int32Array(this.#linear.memory.buffer, this.#space.tlbLines, this.#lines * 4);
  }

  get statistics(): TlbStatistics {
    const { fills, flushes, drops } = new TlbNamesRecord(this.#linear, this.#space.tlbNames);
    const entries = this.#space.tlbMask + 1;
    return { entries, fills: Number(fills), flushes: Number(flushes), drops: Number(drops) };
  }

  /** After a change that failed and was taken back: the context that the record names is the current one again. */
  reenter(): void {
    this.#exports.enterContext(this.#space.at);
  }

  /** MOV to CR3 with bit 63 clear. */
  flushContext(): void {
    this.#exports.tlbFlush(this.#space.at, CODES.TLB_PCID, this.#space.pcid);
  }

  /** Registers or options were changed by other means than MOV to CR3. */
  afterUpdate(before: AddressSpaceConfig, after: AddressSpaceConfig, cr3Loaded: boolean): void {
    if (changesTranslation(before, after)) this.#exports.tlbFlush(this.#space.at, CODES.TLB_ALL, 0);
    else {
      const low = (value: bigint | number) => Number(BigInt(value) & 0xffff_ffffn);
      this.#exports.afterChange(this.#space.at, low(before.cr0), low(before.cr4), low(before.efer));
      if (cr3Loaded) this.flushContext();
    }
  }

  dropPage(address: bigint): void {
    this.#exports.tlbDropPage(this.#space.at, address, this.#space.pcid, 1);
  }

  /** INVPCID, checked already. */
  invalidate(type: number, pcid: number, address: bigint): void {
    if (type === 0) this.#exports.tlbDropPage(this.#space.at, address, pcid, 0);
    else this.#exports.tlbFlush(this.#space.at, [0, CODES.TLB_PCID, CODES.TLB_ALL, CODES.TLB_NON_GLOBAL][type]!, pcid);
  }

  dispose(): void {
    this.#linear.free(this.#address, this.#size);
  }
}

/** A power of two that a TLB can have entries. */
export function isTlbSize(entries: number): boolean {
  return Number.isInteger(entries) && entries >= LEAST && entries <= MOST && (entries & (entries - 1)) === 0;
}

/**
 * Whether a change invalidates every entry, whatever `afterChange` makes of the registers: options that no processor can
 * change do, and PAE tables, whose PDPTEs are loaded anew.
 */
function changesTranslation(before: AddressSpaceConfig, after: AddressSpaceConfig): boolean {
  const pae = (BigInt(after.cr4) & bitOf(CR4, "PAE")) !== 0n && (BigInt(after.efer) & bitOf(EFER, "LMA")) === 0n;
  if (pae) return true;
  const options = ["maxPhysAddr", "cpu", "rules", "encryptionMask", "memoryEncryption", "lenient"] as const;
  return options.some((name) => before[name] !== after[name]);
}
