/** Extended page tables: configuration, and what an entry of each level may be. */
import { bitOf } from "../abi/bits.js";
import { EPT } from "../abi/entries.js";
import { EPTP } from "../abi/registers.js";
import type { EptConfig, RuleSet } from "../api.js";
import { checkFlag } from "../checks.js";
import { ConfigError } from "../errors.js";
import { bits, configChoice, configMaxPhysAddr, configU64, hex } from "./values.js";

export interface EptSettings {
  /** Physical address of the root table. */
  readonly root: bigint;
  readonly rootLevel: 4 | 5;
  /** Accessed and dirty flags are enabled (EPTP bit 6). */
  readonly accessedDirty: boolean;
  readonly executeOnly: boolean;
  readonly modeBasedExecute: boolean;
  /** Supervisor shadow-stack control is enabled (EPTP bit 7). */
  readonly shadowStackControl: boolean;
  /** Violations tell what the guest's paging allows. */
  readonly advancedExitInformation: boolean;
  /** The control "EPT-violation #VE". */
  readonly violationExceptions: boolean;
  readonly page1g: boolean;
  readonly page2m: boolean;
  readonly maxPhysAddr: number;
  readonly rules: RuleSet;
}

/**
 * Takes an EptConfig apart. A ConfigError is thrown for a walk length other than 4 or 5 (EPTP bits 5:3 = 3 or 4), a
 * memory type other than uncacheable or write-back, bits 11:8, bit 7 where supervisor shadow-stack control is unknown, an EPTP
 * address beyond MAXPHYADDR, maxPhysAddr outside 32 to 52.
 */
export function readEptConfig(config: EptConfig): EptSettings {
  const eptp = configU64(config.eptp, "eptp");
  const maxPhysAddr = configMaxPhysAddr(config.maxPhysAddr);
  const memoryType = eptp & bitOf(EPTP, "MEMTYPE");
  if (memoryType !== 0n && memoryType !== 6n) {
    throw new ConfigError(`eptp is ${hex(eptp)}: memory type ${memoryType}, expected 0 or 6`);
  }
  const walkLength = (eptp & bitOf(EPTP, "WALK_LENGTH")) >> 3n;
  if (walkLength !== 3n && walkLength !== 4n) {
    throw new ConfigError(`eptp is ${hex(eptp)}: bits 5:3 are ${walkLength}, expected 3 or 4`);
  }
  const rules = configChoice<RuleSet>(config.rules ?? "architecture", ["architecture", "kvm-6.1"], "rules");
  const canControl = (checkFlag(config.shadowStackControl, "shadowStackControl") ?? true) && rules === "architecture";
  const shadowStackControl = (eptp & bitOf(EPTP, "SSS")) !== 0n;
  if ((eptp & bits(8, 11)) !== 0n || (shadowStackControl && !canControl)) {
    throw new ConfigError(`eptp is ${hex(eptp)}: bits 11:${canControl ? 8 : 7} are reserved`);
  }
  if ((eptp & bits(maxPhysAddr, 63)) !== 0n) {
    throw new ConfigError(`eptp is ${hex(eptp)}: the address is beyond MAXPHYADDR (${maxPhysAddr} bits)`);
  }
  return {
    root: eptp & bitOf(EPT, "ADDRESS"),
    rootLevel: walkLength === 3n ? 4 : 5,
    accessedDirty: (eptp & bitOf(EPTP, "AD")) !== 0n,
    executeOnly: checkFlag(config.executeOnly, "executeOnly") ?? true,
    modeBasedExecute: checkFlag(config.modeBasedExecute, "modeBasedExecute") ?? false,
    page1g: checkFlag(config.page1g, "page1g") ?? true,
    page2m: checkFlag(config.page2m, "page2m") ?? true,
    shadowStackControl,
    advancedExitInformation:
      (checkFlag(config.advancedExitInformation, "advancedExitInformation") ?? false) && rules === "architecture",
    violationExceptions: checkFlag(config.violationExceptions, "violationExceptions") ?? false,
    maxPhysAddr,
    rules,
  };
}

export const ept = {
  r: bitOf(EPT, "R"),
  w: bitOf(EPT, "W"),
  x: bitOf(EPT, "X"),
  ps: bitOf(EPT, "PS"),
  a: bitOf(EPT, "A"),
  d: bitOf(EPT, "D"),
  xu: bitOf(EPT, "XU"),
  suppressVe: bitOf(EPT, "SVE"),
  memoryType: bitOf(EPT, "MEMTYPE"),
  address: bitOf(EPT, "ADDRESS"),
};

/** Levels above `level`, in address bits: level 1 starts at bit 12. */
export function eptShift(level: number): bigint {
  return BigInt(12 + 9 * (level - 1));
}

/** An entry is present if it grants anything: R, W, X, or with mode-based execute control XU. */
export function eptPresent(settings: EptSettings, entry: bigint): boolean {
  return (entry & (ept.r | ept.w | ept.x | (settings.modeBasedExecute ? ept.xu : 0n))) !== 0n;
}

export function eptIsLeaf(settings: EptSettings, level: number, entry: bigint): boolean {
  if (level === 1) return true;
  if ((entry & ept.ps) === 0n) return false;
  return level === 3 ? settings.page1g : level === 2 && settings.page2m;
}

/** What makes an entry a misconfiguration. */
export type Misconfiguration = "write-only" | "execute-only" | "reserved" | "memory type";

/**
 * SDM vol. 3, "EPT Misconfigurations". Asked of present entries only; comes before any check of rights. Undefined where the
 * entry is none.
 */
export function eptMisconfigured(settings: EptSettings, level: number, entry: bigint): Misconfiguration | undefined {
  if ((entry & ept.r) === 0n) {
    if ((entry & ept.w) !== 0n) return "write-only";
    // What is left is execute-only, in one or both modes.
    if (!settings.executeOnly) return "execute-only";
  }
  const leaf = eptIsLeaf(settings, level, entry);
  if ((entry & eptReserved(settings, level, leaf)) !== 0n) return "reserved";
  return leaf && RESERVED_MEMORY_TYPES.includes((entry & ept.memoryType) >> 3n) ? "memory type" : undefined;
}

const RESERVED_MEMORY_TYPES = [2n, 3n, 7n];

/** Bits that must be 0: SDM vol. 3, "EPT Translation Mechanism", the tables of entry formats. */
export function eptReserved(settings: EptSettings, level: number, leaf: boolean): bigint {
  const address = bits(settings.maxPhysAddr, 51);
  if (level === 1) return address;
  // Bit 7 is checked too: an entry with it set that is no leaf has a page size that is not supported.
  if (!leaf) return address | bits(3, 7);
  return address | bits(12, level === 3 ? 29 : 20);
}
