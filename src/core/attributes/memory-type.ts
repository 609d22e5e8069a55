/** The memory type of an access: what IA32_PAT, the MTRRs, CR0.CD and a second stage make of it together. */
import { bitOf, CR0, EPT, fieldOf, valueIn } from "../../abi/index.js";
import { TYPE_NUMBERS } from "../../abi/memory-types.js";
import type { AddressSpaceConfig, MemoryTypeName, NptConfig } from "../../api.js";
import { checkFlag } from "../../checks.js";
import { eightTypes, Mtrrs, PAT_TYPES } from "./mtrrs.js";

const { UC, WC, WT, WP, WB } = TYPE_NUMBERS;
const UC_MINUS = TYPE_NUMBERS["UC-"];
const NAMES: ReadonlyMap<number, MemoryTypeName> = new Map([
  [UC, "UC"],
  [WC, "WC"],
  [WT, "WT"],
  [WP, "WP"],
  [WB, "WB"],
]);
/** What nested tables and the guest's make of each other where caching and write combining meet (APM vol. 2). */
const WC_PLUS = "WC+";
const CD = "CD";
const DISABLED = bitOf(CR0, "CD");
const IPAT = bitOf(EPT, "IPAT");
const MEMTYPE = fieldOf(EPT, "MEMTYPE");

/** A translation as far as memory types go. */
export interface TypedPage {
  readonly pa: bigint;
  /** PAT index of the guest's leaf; undefined with paging off. */
  readonly index: number | undefined;
  /** The second stage's leaf: an EPT entry, or a PAT index, undefined with the host's paging off. */
  readonly second?: { readonly ept: bigint } | { readonly index: number | undefined };
}

/** Types of one space's pages, by the registers of now. */
export class MemoryTypes {
  readonly #pat: readonly number[];
  readonly #mtrrs: Mtrrs | undefined;
  readonly #disabled: boolean;
  readonly #amd: boolean;
  readonly #host: HostTypes | undefined;

  /** Throws ConfigError for registers that WRMSR refuses. */
  constructor(config: AddressSpaceConfig, host: HostTypes | undefined) {
    this.#pat = eightTypes(config.pat ?? 0n, "pat", PAT_TYPES);
    this.#mtrrs = config.mtrrs && new Mtrrs(config.mtrrs);
    this.#disabled = (BigInt(config.cr0) & DISABLED) !== 0n;
    this.#amd = checkFlag(config.cpu?.amdMemoryTypes, "cpu.amdMemoryTypes") ?? false;
    this.#host = host;
  }

  /** Undefined where it is not known. */
  typeOf(page: TypedPage): MemoryTypeName | undefined {
    const { second } = page;
    if (second !== undefined && !("ept" in second)) return this.#behindNpt(page.index, second.index, page.pa);
    // SDM vol. 3, "Memory Type Used for Translated Guest-Physical Addresses": without paging as if by a PAT entry of WB.
    const pat = page.index === undefined ? WB : this.#pat[page.index]!;
    if (second !== undefined) {
      if (this.#disabled) return "UC";
      const type = Number(valueIn(MEMTYPE, second.ept));
      return second.ept & IPAT ? NAMES.get(type) : NAMES.get(combineIntel(pat, type));
    }
    const mtrr = this.#mtrrs === undefined ? WB : this.#mtrrs.typeAt(page.pa);
    if (mtrr === undefined) return undefined;
    if (this.#amd) return uncached(combineAmd(pat, mtrr), this.#disabled);
    return this.#disabled ? "UC" : NAMES.get(combineIntel(pat, mtrr));
  }

  /** APM vol. 2, "Combining Memory Types, MTRRs". */
  #behindNpt(guest: number | undefined, host: number | undefined, pa: bigint): MemoryTypeName | undefined {
    if (guest === undefined || host === undefined || this.#host?.pat === undefined) return undefined;
    const mtrr = this.#host.mtrrs === undefined ? WB : this.#host.mtrrs.typeAt(pa);
    if (mtrr === undefined) return undefined;
    const combined = combineStages(this.#pat[guest]!, this.#host.pat[host]!);
    return uncached(combineAmd(combined, mtrr), this.#disabled || this.#host.disabled);
  }
}

/** What the host of an NPT space adds. */
export interface HostTypes {
  readonly pat: readonly number[] | undefined;
  readonly mtrrs: Mtrrs | undefined;
  /** CR0.CD. */
  readonly disabled: boolean;
}

/** Throws ConfigError for registers that WRMSR refuses. */
export function hostTypes(config: NptConfig): HostTypes {
  return {
    pat: config.pat === undefined ? undefined : eightTypes(config.pat, "pat", PAT_TYPES),
    mtrrs: config.mtrrs && new Mtrrs(config.mtrrs),
    disabled: (BigInt(config.cr0 ?? 0) & DISABLED) !== 0n,
  };
}

/** SDM vol. 3, "Selecting Memory Types for Pentium III and More Recent Processor Families". */
function combineIntel(pat: number, mtrr: number): number {
  if (pat === UC || pat === WC) return pat;
  if (pat === WB) return mtrr;
  if (pat === UC_MINUS) return mtrr === WC || mtrr === WP ? WC : UC;
  return mtrr === UC || mtrr === WC ? UC : pat;
}

/** What two stages agree on: a number, or WC+. */
type Combined = number | typeof WC_PLUS;

/** APM vol. 2, "Combining Memory Types, MTRRs": guest and host PAT types. */
function combineStages(guest: number, host: number): Combined {
  if (guest === UC) return UC;
  if (guest === WB) return host === UC_MINUS ? UC : host;
  if (guest === UC_MINUS) return host === UC_MINUS || host === WC ? host : UC;
  if (guest === WC) return host === UC || host === UC_MINUS || host === WC ? WC : WC_PLUS;
  return host === guest || host === WB ? guest : UC;
}

/** The same: the PAT type and the MTRRs', also for a single stage (APM vol. 2, "Combined Effect of MTRRs and PAT"). */
function combineAmd(pat: Combined, mtrr: number): MemoryTypeName {
  if (pat === WB) return NAMES.get(mtrr)!;
  if (pat === WC) return "WC";
  if (pat === WC_PLUS) return mtrr === UC || mtrr === WC ? "WC" : WC_PLUS;
  if (mtrr === UC) return "UC";
  if (pat === UC_MINUS && mtrr === WC) return "WC";
  if (pat === UC || pat === UC_MINUS) return CD;
  return mtrr === pat || mtrr === WB ? NAMES.get(pat)! : CD;
}

/** CR0.CD leaves uncacheable types as they are (APM vol. 2, "Memory Types"). */
function uncached(type: MemoryTypeName, disabled: boolean): MemoryTypeName {
  return disabled && (type === "WB" || type === "WT" || type === "WP") ? CD : type;
}
