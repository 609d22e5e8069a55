/** The software TLB of a space: its memory, and what each architected event invalidates (SDM "Invalidation of TLBs"). */
import { bitOf, CODES, CR0, CR3, CR4, EFER } from "../../abi/index.js";
import type { AddressSpaceConfig } from "../../api.js";
import { show } from "../../checks.js";
import { ConfigError, GeneralProtectionError } from "../../errors.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import { type SpaceRecord, TlbEntryRecord, TlbLineRecord } from "../records/walk.js";
import type { CoreExports } from "../wasm/exports.js";

const ENTRY_BYTES = TlbEntryRecord.SIZE;
const LINE_BYTES = TlbLineRecord.SIZE;
const LEAST = 16;
const MOST = 65536;

/** CR4 bits whose change invalidates everything; SMEP does where it is set. */
const CR4_FLUSHES = ["PGE", "PAE", "PSE", "LA57", "PCIDE"].reduce((mask, name) => mask | bitOf(CR4, name), 0n);
const EFER_FLUSHES = bitOf(EFER, "NXE") | bitOf(EFER, "LMA");

export class SpaceTlb {
  readonly #address: number;
  readonly #size: number;
  readonly #entries: number;
  readonly #exports: CoreExports;
  readonly #linear: LinearMemory;
  readonly #space: SpaceRecord;

  /** Throws ConfigError for a bad number of entries. */
  constructor(exports: CoreExports, linear: LinearMemory, space: SpaceRecord, config: AddressSpaceConfig) {
    this.#exports = exports;
    this.#linear = linear;
    this.#space = space;
    const entries = config.tlbEntries!;
    if (!Number.isInteger(entries) || entries < LEAST || entries > MOST || (entries & (entries - 1)) !== 0) {
      throw new ConfigError(`tlbEntries is ${show(entries)}, expected 0 or a power of two from ${LEAST} to ${MOST}`);
    }
    if (config.secondStage !== undefined) {
      throw new ConfigError("tlbEntries with a secondStage: a software TLB is for spaces of one stage");
    }
    this.#entries = entries;
    this.#size = entries * (ENTRY_BYTES + LINE_BYTES);
    this.#address = linear.allocate(this.#size);
    space.tlb = this.#address;
    space.tlbMask = entries - 1;
    space.tlbLines = this.#address + entries * ENTRY_BYTES;
  }

  /** The lines of the first level (assembly/walk/tlb/tlb-lines.ts), four words each, as a view that is good until the memory grows. */
  lines(): Int32Array {
    return new Int32Array(this.#linear.memory.buffer, this.#address + this.#entries * ENTRY_BYTES, this.#entries * 4);
  }

  /** MOV to CR3 with bit 63 clear, `cr3` being what was loaded. */
  flushContext(config: AddressSpaceConfig, cr3: bigint): void {
    const pcid = (BigInt(config.cr4) & bitOf(CR4, "PCIDE")) === 0n ? 0n : cr3 & bitOf(CR3, "PCID");
    this.#exports.tlbFlush(this.#space.at, CODES.TLB_PCID, Number(pcid));
  }

  /** Registers or options were changed by other means than MOV to CR3. */
  afterUpdate(before: AddressSpaceConfig, after: AddressSpaceConfig, cr3Loaded: boolean): void {
    if (flushesAll(before, after)) this.#exports.tlbFlush(this.#space.at, CODES.TLB_ALL, 0);
    else if (cr3Loaded) this.flushContext(after, BigInt(after.cr3));
  }

  dropPage(address: bigint, config: AddressSpaceConfig): void {
    const pcide = (BigInt(config.cr4) & bitOf(CR4, "PCIDE")) !== 0n;
    const pcid = pcide ? Number(BigInt(config.cr3) & bitOf(CR3, "PCID")) : 0;
    this.#exports.tlbDropPage(this.#space.at, address, pcid, 1);
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

/**
 * Whether a change invalidates every entry. Permission bits that are applied at a hit (WP, SMAP, PKRU, SMEP from 1 to 0)
 * do not; options that no processor can change, and PAE tables, whose PDPTEs are loaded anew, do.
 */
function flushesAll(before: AddressSpaceConfig, after: AddressSpaceConfig): boolean {
  const changed = (name: "cr0" | "cr4" | "efer") => BigInt(before[name]) ^ BigInt(after[name]);
  if (changed("cr0") & bitOf(CR0, "PG") || changed("cr4") & CR4_FLUSHES || changed("efer") & EFER_FLUSHES) return true;
  if (changed("cr4") & BigInt(after.cr4) & bitOf(CR4, "SMEP")) return true;
  const pae = (BigInt(after.cr4) & bitOf(CR4, "PAE")) !== 0n && (BigInt(after.efer) & bitOf(EFER, "LMA")) === 0n;
  if (pae) return true;
  const options = ["maxPhysAddr", "cpu", "rules", "encryptionMask", "lenient"] as const;
  return options.some((name) => before[name] !== after[name]);
}

/** MOV to CR3's operand: bit 63 is no part of CR3, and reserved without PCIDs (SDM "MOV-Move to/from Control Registers"). */
export function splitCr3(value: bigint, cr4: bigint): { cr3: bigint; keep: boolean } {
  const noFlush = bitOf(CR3, "NOFLUSH");
  const keep = (value & noFlush) !== 0n;
  if (keep && (cr4 & bitOf(CR4, "PCIDE")) === 0n) {
    throw new GeneralProtectionError(`CR3 0x${value.toString(16)} has bit 63 set with CR4.PCIDE=0`);
  }
  return { cr3: value & ~noFlush, keep };
}
