/** Effective memory types, by the manuals' tables. */
import { bitOf, fieldOf, valueIn } from "../abi/bits.js";
import { EPT } from "../abi/entries.js";
import { type PatType, TYPE_NUMBERS } from "../abi/memory-types.js";
import { CR0 } from "../abi/registers.js";
import type { AddressSpaceConfig, MemoryTypeName, MtrrConfig, NptConfig, U64 } from "../api.js";
import { checkFlag } from "../checks.js";
import { ConfigError } from "../errors.js";
import { bytesOf, type MtrrMap, type MtrrType, NO_MTRRS, readMtrrs } from "./mtrrs.js";
import { configU64 } from "./values.js";

/** IA32_PAT, the MTRRs and CR0.CD of a guest or of the host of NPT. */
export interface TypeRegisters {
  /** By PAT index; undefined where IA32_PAT is not given. */
  readonly pat: readonly PatType[] | undefined;
  readonly mtrrs: MtrrMap;
  readonly cacheDisable: boolean;
  readonly amd: boolean;
}

/** Throws a ConfigError for values that WRMSR refuses. */
export function readTypeRegisters(config: {
  readonly cr0?: U64;
  readonly pat?: U64;
  readonly mtrrs?: MtrrConfig;
  readonly cpu?: AddressSpaceConfig["cpu"] | NptConfig["cpu"];
}): TypeRegisters {
  return {
    pat: config.pat === undefined ? undefined : bytesOf(configU64(config.pat, "pat")).map(patType),
    mtrrs: config.mtrrs === undefined ? NO_MTRRS : readMtrrs(config.mtrrs),
    cacheDisable: (BigInt(config.cr0 ?? 0) & bitOf(CR0, "CD")) !== 0n,
    amd: checkFlag(config.cpu?.amdMemoryTypes, "cpu.amdMemoryTypes") ?? false,
  };
}

function patType(number: bigint): PatType {
  const found = (Object.keys(TYPE_NUMBERS) as PatType[]).find((name) => BigInt(TYPE_NUMBERS[name]) === number);
  if (found === undefined) throw new ConfigError(`pat has memory type ${number}: there is no such type`);
  return found;
}

/** How the second stage maps the page. */
export type SecondLeaf =
  | { readonly kind: "ept"; readonly entry: bigint }
  /** The PAT index is undefined with the host's paging off. */
  | { readonly kind: "npt"; readonly index: number | undefined; readonly host: TypeRegisters };

/** The type of an access to physical address `pa`, whose guest leaf has this PAT index, undefined with paging off. */
export function effectiveType(
  registers: TypeRegisters,
  index: number | undefined,
  pa: bigint,
  second: SecondLeaf | undefined,
): MemoryTypeName | undefined {
  if (registers.pat === undefined) return undefined;
  const pat = index === undefined ? undefined : registers.pat[index]!;
  switch (second?.kind) {
    case "ept":
      return eptType(registers, pat ?? "WB", second.entry);
    case "npt":
      return nptType(registers, pat, pa, second);
    default: {
      const mtrr = registers.mtrrs(pa);
      if (mtrr === undefined) return undefined;
      if (registers.amd) return disabled(AMD[pat ?? "WB"][mtrr], registers.cacheDisable);
      return registers.cacheDisable ? "UC" : INTEL[mtrr][pat ?? "WB"];
    }
  }
}

/**
 * SDM vol. 3, "Memory Type Used for Translated Guest-Physical Addresses": uncacheable with CR0.CD=1; the EPT entry's type with
 * bit 6; else that one takes the place of the MTRRs'. The MTRRs have no effect.
 */
function eptType(registers: TypeRegisters, pat: PatType, entry: bigint): MemoryTypeName {
  if (registers.cacheDisable) return "UC";
  const number = Number(valueIn(fieldOf(EPT, "MEMTYPE"), entry));
  const type = (Object.keys(INTEL) as MtrrType[]).find((name) => TYPE_NUMBERS[name] === number)!;
  return (entry & bitOf(EPT, "IPAT")) === 0n ? INTEL[type][pat] : type;
}

/** APM vol. 2, "Combining Memory Types, MTRRs". What guests without paging get there is not known. */
function nptType(
  registers: TypeRegisters,
  pat: PatType | undefined,
  pa: bigint,
  { index, host }: Extract<SecondLeaf, { kind: "npt" }>,
): MemoryTypeName | undefined {
  const mtrr = host.mtrrs(pa);
  if (pat === undefined || index === undefined || host.pat === undefined || mtrr === undefined) return undefined;
  return disabled(AMD[STAGES[pat][host.pat[index]!]][mtrr], registers.cacheDisable || host.cacheDisable);
}

/** APM vol. 2, "Memory Types": with caches disabled what would be cacheable is CD. */
function disabled(type: MemoryTypeName, cacheDisable: boolean): MemoryTypeName {
  return cacheDisable && ["WP", "WT", "WB"].includes(type) ? "CD" : type;
}

/** SDM vol. 3, "Effective Page-Level Memory Types for Pentium III and More Recent Processor Families": by MTRR, then by PAT. */
const INTEL: Readonly<Record<MtrrType, Readonly<Record<PatType, MtrrType>>>> = {
  UC: { UC: "UC", "UC-": "UC", WC: "WC", WT: "UC", WB: "UC", WP: "UC" },
  WC: { UC: "UC", "UC-": "WC", WC: "WC", WT: "UC", WB: "WC", WP: "UC" },
  WT: { UC: "UC", "UC-": "UC", WC: "WC", WT: "WT", WB: "WT", WP: "WP" },
  WB: { UC: "UC", "UC-": "UC", WC: "WC", WT: "WT", WB: "WB", WP: "WP" },
  WP: { UC: "UC", "UC-": "WC", WC: "WC", WT: "WT", WB: "WP", WP: "WP" },
};

/** APM vol. 2, "Combining Guest and Host PAT Types": by the guest's, then by the host's. */
const STAGES: Readonly<Record<PatType, Readonly<Record<PatType, PatType | "WC+">>>> = {
  UC: { UC: "UC", "UC-": "UC", WC: "UC", WP: "UC", WT: "UC", WB: "UC" },
  "UC-": { UC: "UC", "UC-": "UC-", WC: "WC", WP: "UC", WT: "UC", WB: "UC" },
  WC: { UC: "WC", "UC-": "WC", WC: "WC", WP: "WC+", WT: "WC+", WB: "WC+" },
  WP: { UC: "UC", "UC-": "UC", WC: "UC", WP: "WP", WT: "UC", WB: "WP" },
  WT: { UC: "UC", "UC-": "UC", WC: "UC", WP: "UC", WT: "WT", WB: "WT" },
  WB: { UC: "UC", "UC-": "UC", WC: "WC", WP: "WP", WT: "WT", WB: "WB" },
};

/** APM vol. 2, "Combining PAT and MTRR Types", which has that of a single stage in it: by PAT, then by MTRR. */
const AMD: Readonly<Record<PatType | "WC+", Readonly<Record<MtrrType, MemoryTypeName>>>> = {
  UC: { UC: "UC", WC: "CD", WP: "CD", WT: "CD", WB: "CD" },
  "UC-": { UC: "UC", WC: "WC", WP: "CD", WT: "CD", WB: "CD" },
  WC: { UC: "WC", WC: "WC", WP: "WC", WT: "WC", WB: "WC" },
  "WC+": { UC: "WC", WC: "WC", WP: "WC+", WT: "WC+", WB: "WC+" },
  WP: { UC: "UC", WC: "CD", WP: "WP", WT: "CD", WB: "WP" },
  WT: { UC: "UC", WC: "CD", WP: "CD", WT: "WT", WB: "WT" },
  WB: { UC: "UC", WC: "WC", WP: "WP", WT: "WT", WB: "WB" },
};
