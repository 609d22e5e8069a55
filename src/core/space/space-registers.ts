/**
 * The registers and options of a guest's space: what they are now, and the writes that a guest makes all the time, which the
 * core does alone where it has been told what the processor takes. Everything else is up to the space (`update`).
 */

import { bitOf, CODES, CR4 } from "../../abi/index.js";
import type { AddressSpaceConfig, CpuFeatures, U64 } from "../../api.js";
import { OutOfMemoryError } from "../../errors.js";
import { CPU_OPTIONS } from "../../options.js";
import { checkChange, isLongMode, type PagingRegisters } from "../../registers/control-registers.js";
import { refusedByMov } from "../../registers/cr3.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import { SavedModeRecord, type SpaceRecord } from "../records/walk.js";
import type { CoreExports } from "../wasm/exports.js";
import { guestFields, registersOf, type SpaceFields } from "./space-config.js";

/** Settings of CR0, CR4 and EFER that are kept: a guest has a handful. */
export const MOST_MODES = 8;
const PCIDE = Number(bitOf(CR4, "PCIDE"));
const LIMIT = 1n << 64n;
const NOTHING: Partial<AddressSpaceConfig> = {};

/** Settings of CR0, CR4 and EFER. */
export interface KeptModes {
  readonly modes: readonly Pick<PagingRegisters, "cr0" | "cr4" | "efer">[];
  readonly next: number;
}

export class SpaceRegisters {
  readonly #exports: CoreExports;
  readonly #linear: LinearMemory;
  readonly #record: SpaceRecord;
  #config: AddressSpaceConfig;
  #fields: SpaceFields;
  /** CR0, CR4 and EFER as the core has them; CR3 matters to no change that is made here. */
  #now: PagingRegisters;
  /** Written since `#config` was made; CR3 is in the SPACE record. */
  #written: { -readonly [Name in keyof AddressSpaceConfig]?: AddressSpaceConfig[Name] } = NOTHING;
  #cr3IsWritten = false;
  #modes: SavedModeRecord[] = [];
  #nextMode = 0;

  constructor(
    exports: CoreExports,
    linear: LinearMemory,
    record: SpaceRecord,
    config: AddressSpaceConfig,
    fields: SpaceFields,
  ) {
    this.#exports = exports;
    this.#linear = linear;
    this.#record = record;
    this.#config = config;
    this.#fields = fields;
    this.#now = registersOf(fields);
  }

  get config(): AddressSpaceConfig {
    this.#settle();
    return this.#config;
  }

  get fields(): SpaceFields {
    this.#settle();
    return this.#fields;
  }

  /** Settings of CR0, CR4 and EFER that are kept, and which of them the next one replaces. */
  get kept(): KeptModes {
    return { modes: this.#modes.map(({ cr0, cr4, efer }) => ({ cr0, cr4, efer })), next: this.#nextMode };
  }

  /**
   * Takes registers and options, and settings that were kept with them, whatever there was before; the record is left with
   * the last of those settings.
   */
  adopt(config: AddressSpaceConfig, fields: SpaceFields, { modes, next }: KeptModes): void {
    const record = this.#record;
    this.#forget();
    this.replace(config, fields);
    for (const { cr0, cr4, efer } of modes) {
      record.cr0 = cr0;
      record.cr4 = cr4;
      record.efer = efer;
      this.#now = { cr0, cr3: 0n, cr4, efer };
      this.#exports.configure(record.at);
      record.cr3Refused = this.#refused();
      this.#keep();
    }
    if (this.#modes.length === modes.length) this.#nextMode = next;
  }

  /** Other registers or options are in the record, and derived. */
  replace(config: AddressSpaceConfig, fields: SpaceFields): void {
    const before = this.#fields;
    const sameFields = (["features", "maxPhysAddr", "encryption"] as const).every(
      (name) => before[name] === fields[name],
    );
    // Bits of CR3 and CR4 that the processor does not have are in no field.
    const features = Object.keys(CPU_OPTIONS) as (keyof CpuFeatures)[];
    const sameProcessor = features.every((name) => this.#config.cpu?.[name] === config.cpu?.[name]);
    if (!sameFields || !sameProcessor) this.#forget();
    this.#config = config;
    this.#fields = fields;
    this.#now = registersOf(fields);
    this.#written = NOTHING;
    this.#cr3IsWritten = false;
    this.#record.cr3Refused = this.#refused();
  }

  /** Bits of CR3 for which a write is up to the space. */
  #refused(): bigint {
    const { config } = this;
    const { lam = true } = config.cpu ?? {};
    const { maxPhysAddr, encryption, features } = this.#fields;
    const lenient = (features & CODES.FEATURE_LENIENT) !== 0;
    const state = { longMode: isLongMode(this.#now), cr4: BigInt(this.#now.cr4) };
    // A lenient space has no reserved bits, but what stands for no linear-address masking is taken out.
    const processor = { maxPhysAddr: lenient ? 64 : maxPhysAddr, lam: lam && !lenient };
    const masking = lam ? 0n : refusedByMov({ ...state, longMode: true }, { maxPhysAddr: 61, lam: false });
    return (refusedByMov(state, processor) | (lenient ? masking : 0n)) & ~encryption;
  }

  /** MOV to CR3 with any value that is a number of 64 bits; false where the space has to do it, with nothing changed. */
  tryWriteCr3(value: U64): boolean {
    const cr3 = typeof value === "bigint" ? value : wholeNumber(value);
    if (cr3 === undefined || cr3 < 0n || cr3 >= LIMIT) return false;
    if (this.#exports.writeCr3(this.#record.at, cr3) === CODES.REGISTER_REFUSED) return false;
    this.#cr3IsWritten = true;
    return true;
  }

  /** PKRU and PKRS, 32 bits each. */
  writeKeys(pkru: number, pkrs: number): void {
    this.#exports.writeKeys(this.#record.at, pkru, pkrs);
    if (this.#written === NOTHING) this.#written = {};
    this.#written.pkru = pkru;
    this.#written.pkrs = pkrs;
  }

  /**
   * Other values of CR0, CR4, EFER, PKRU and PKRS, all of which the space has had before; false where the space has to make
   * the change, with nothing changed.
   */
  tryWrite(changes: Partial<AddressSpaceConfig>): boolean {
    try {
      return this.#tryWrite(changes);
    } catch {
      // An object that throws when it is read: the space says what is wrong with it.
      return false;
    }
  }

  #tryWrite(changes: Partial<AddressSpaceConfig>): boolean {
    const now = this.#now;
    let { cr0, cr4, efer } = now;
    let pkru: number | undefined = this.#record.pkru;
    let pkrs: number | undefined = this.#record.pkrs;
    const written: Record<string, number> = {};
    for (const name of Object.keys(changes)) {
      let value: number | undefined;
      if (name === "cr0") value = cr0 = low(changes.cr0);
      else if (name === "cr4") value = cr4 = low(changes.cr4);
      else if (name === "efer") value = efer = low(changes.efer);
      else if (name === "pkru") value = pkru = low(changes.pkru);
      else if (name === "pkrs") value = pkrs = low(changes.pkrs);
      if (value === undefined || Number.isNaN(value)) return false;
      // MOV to a control register may load the PDPTEs.
      if (this.#latches && !name.startsWith("pk")) return false;
      written[name] = value;
    }
    if (cr0 !== now.cr0 || cr4 !== now.cr4 || efer !== now.efer) {
      const saved = this.#find(cr0, cr4, efer);
      const next = { cr0, cr3: 0n, cr4, efer };
      if (saved === undefined || ((cr4 ^ now.cr4) & PCIDE) !== 0 || !isPossible(now, next)) return false;
      if (this.#exports.recallMode(this.#record.at, saved.at) === CODES.REGISTER_REFUSED) return false;
      this.#now = next;
    }
    if (pkru !== this.#record.pkru || pkrs !== this.#record.pkrs) {
      this.#exports.writeKeys(this.#record.at, pkru, pkrs);
    }
    if (this.#written === NOTHING) this.#written = {};
    Object.assign(this.#written, written);
    return true;
  }

  /** PAE paging with PDPTEs in registers. */
  get #latches(): boolean {
    const live = (this.#fields.features & CODES.FEATURE_LIVE_PDPTES) !== 0;
    return this.#record.mode === CODES.MODE_PAE && !live;
  }

  /** Keeps what the registers made of the space, for when they come again. PDPTEs are loaded each time. */
  remember(): void {
    const { cr0, cr4, efer } = this.#now;
    // Without linear-address masking and the like the record lacks bits that registers have, which another mode may refuse.
    const { lam = true, lass = true, uai = true } = this.#config.cpu ?? {};
    if (this.#latches || !lam || !lass || !uai || this.#find(cr0, cr4, efer) !== undefined) return;
    this.#keep();
  }

  #keep(): void {
    let saved = this.#modes[this.#nextMode];
    if (saved === undefined) {
      const at = this.#allocate();
      if (at === undefined) return;
      saved = new SavedModeRecord(this.#linear, at);
      this.#modes.push(saved);
    }
    this.#nextMode = (this.#nextMode + 1) % MOST_MODES;
    this.#exports.saveMode(this.#record.at, saved.at);
  }

  /** Room for a mode; without memory it is not kept. */
  #allocate(): number | undefined {
    try {
      return this.#linear.allocate(SavedModeRecord.SIZE);
    } catch (error) {
      if (error instanceof OutOfMemoryError) return undefined;
      throw error;
    }
  }

  #find(cr0: number, cr4: number, efer: number): SavedModeRecord | undefined {
    for (const saved of this.#modes) {
      if (saved.cr0 === cr0 && saved.cr4 === cr4 && saved.efer === efer) return saved;
    }
    return undefined;
  }

  /** What was written becomes part of the configuration. */
  #settle(): void {
    if (this.#written === NOTHING && !this.#cr3IsWritten) return;
    const config: { -readonly [Name in keyof AddressSpaceConfig]: AddressSpaceConfig[Name] } = {
      ...this.#config,
      ...this.#written,
    };
    if (this.#cr3IsWritten) {
      config.cr3 = this.#record.cr3;
      config.loadedBy = "mov";
      // MOV to CR3 has read the PDPTEs, whatever values were given before.
      delete config.pdpteValues;
    }
    this.#config = config;
    this.#written = NOTHING;
    this.#cr3IsWritten = false;
    this.#fields = guestFields(config);
  }

  #forget(): void {
    for (const { at } of this.#modes) this.#linear.free(at, SavedModeRecord.SIZE);
    this.#modes = [];
    this.#nextMode = 0;
  }

  dispose(): void {
    this.#forget();
  }
}

/** An unsigned or signed integer of 32 bits as an unsigned one; NaN for anything else. */
function low(value: U64 | undefined): number {
  if (typeof value === "number") {
    return Number.isInteger(value) && value >= -0x8000_0000 && value <= 0xffff_ffff ? value >>> 0 : Number.NaN;
  }
  return typeof value === "bigint" && value >= 0n && value <= 0xffff_ffffn ? Number(value) : Number.NaN;
}

function wholeNumber(value: unknown): bigint | undefined {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < -0x8000_0000) return undefined;
  return BigInt(value < 0 ? value >>> 0 : value);
}

function isPossible(old: PagingRegisters, next: PagingRegisters): boolean {
  try {
    checkChange(old, next);
    return true;
  } catch {
    return false;
  }
}
