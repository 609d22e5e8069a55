/** Which formats a VM's tables and its guests' have: what its configuration implies, checked. */

import { RULE_BITS } from "../../abi/kernel-rules.js";
import { ConfigError } from "../../errors.js";
import { tdpLevel } from "../../role/index.js";
import { eptMasks, legacyMasks } from "../../spte/index.js";
import type { VirtualMachineConfig, VmMasks } from "./config.js";
import { type KernelConfig, rulesOf } from "./kernel.js";

/** What the vCPU's CPUID and the host say about reserved bits. */
export interface FormatLimits {
  readonly guestPhysicalBits: number;
  readonly guestPage1g: boolean;
  readonly guestAmd: boolean;
  readonly guestLa57: boolean;
  readonly hostPhysicalBits: number;
  readonly hostPage1g: boolean;
  /** Largest level of a leaf, 1 to 3. */
  readonly maxHugeLevel: number;
  /** The NX-huge-page mitigation denies execution in huge leaves, whatever the guest's EFER.NXE says. */
  readonly nxHugePages: boolean;
  /** Guest-physical address bits that are attributes: reserved in no format, and no part of a gfn. */
  readonly aliasMask: bigint;
  /** Of them: bits whose alias only grants execution. */
  readonly executeOnlyAliases: bigint;
  readonly encryptionMask: bigint;
  readonly encryptionValue: bigint;
}

const DEFAULT_PHYSICAL_BITS = 46;
const ADDRESS_BITS = 52;

/** The VM's SPTE masks. */
export function masksOf(config: VirtualMachineConfig): VmMasks {
  if (config.masks !== undefined) return config.masks;
  const physBits = config.hostPhysicalBits ?? DEFAULT_PHYSICAL_BITS;
  return config.paging === "ept" ? eptMasks({ physBits, suppressVe: hasBit63(config) }) : legacyMasks({ physBits });
}

/** SPTEs that stand for nothing, and those of EPT, have bit 63. */
export function hasBit63(config: KernelConfig): boolean {
  return (rulesOf(config) & RULE_BITS["empty-bit-63"].bit) !== 0;
}

/** Two-dimensional paging of a VM. */
export interface TdpConfig {
  readonly format: "npt" | "ept";
  readonly mmu: "classic" | "tdp";
  /** Levels of its tables, 3 to 5. */
  readonly level: number;
  /** Most levels that the processor has. */
  readonly maxLevel: number;
  /** SPTEs have accessed and dirty bits. */
  readonly adBits: boolean;
}

/** What decides about the formats of a VM's tables and its guests'. */
export interface VmFormats {
  readonly limits: FormatLimits;
  /** Two-dimensional paging, undefined under shadow paging. */
  readonly tdp: TdpConfig | undefined;
  readonly minimumRootLevel: number;
}

/** What decides about formats. `config` is checked. */
export function limitsOf(config: VirtualMachineConfig, masks: VmMasks): FormatLimits {
  const hostPhysicalBits = config.hostPhysicalBits ?? DEFAULT_PHYSICAL_BITS;
  const guestPhysicalBits = config.guestPhysicalBits ?? hostPhysicalBits;
  const hostPage1g = config.hostPage1g ?? true;
  const shadow = (config.paging ?? "shadow") === "shadow";
  return {
    hostPhysicalBits,
    guestPhysicalBits,
    hostPage1g,
    // Hardware walks a guest's tables by the host's features, so software does the same (guest_can_use_gbpages).
    guestPage1g: shadow ? (config.guestPage1g ?? true) : hostPage1g,
    guestAmd: config.guestAmd ?? false,
    guestLa57: config.guestLa57 ?? true,
    maxHugeLevel: config.maxHugeLevel ?? 3,
    nxHugePages: config.nxHugePages ?? false,
    aliasMask: 0n,
    executeOnlyAliases: 0n,
    encryptionMask: masks.me,
    encryptionValue: masks.meValue,
  };
}

/**
 * Most that a gfn can be: under two-dimensional paging as many bits as the host's MAXPHYADDR has, where an MMIO SPTE can
 * hold them all; elsewhere the 52 of a guest's entries (kvm_mmu_max_gfn).
 */
export function maxGfn(tdp: TdpConfig | undefined, { hostPhysicalBits }: FormatLimits): bigint {
  return (1n << BigInt((tdp === undefined ? ADDRESS_BITS : hostPhysicalBits) - 12)) - 1n;
}

/** Two-dimensional paging, undefined under shadow paging. Throws ConfigError. */
export function tdpOf(config: VirtualMachineConfig, masks: VmMasks, limits: FormatLimits): TdpConfig | undefined {
  const { paging = "shadow", tdpMmu = false, pageModificationLog = false } = config;
  const adBits = masks.accessed !== 0n;
  if (pageModificationLog && (paging !== "ept" || !adBits)) {
    throw new ConfigError("pageModificationLog is set, expected only for EPT with accessed and dirty bits");
  }
  if (paging === "shadow") {
    if (tdpMmu) throw new ConfigError("tdpMmu is set, expected only for npt and ept");
    return undefined;
  }
  const levels = config.tdpLevels ?? { forced: 0, max: 4 };
  const level = tdpLevel({ ...levels, guestMaxPhysAddr: limits.guestPhysicalBits });
  if (paging === "ept" && level < 4) throw new ConfigError(`EPT has ${level} levels, expected 4 or 5`);
  if (level === 3 && tdpMmu) {
    throw new ConfigError("the TDP MMU has 3 levels, expected 4 or 5: a 32-bit host has the classic direct MMU only");
  }
  if (level === 3 && masks.meValue !== 0n) {
    throw new ConfigError("a 3-level NPT root lies in low memory, expected no encryption mask");
  }
  return { format: paging, mmu: tdpMmu ? "tdp" : "classic", level, maxLevel: levels.max, adBits };
}
