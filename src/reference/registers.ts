/** Control registers of a space, checked and taken apart. */
import { bitOf } from "../abi/bits.js";
import { CR0, CR3, CR4, EFER } from "../abi/registers.js";
import type { CpuFeatures, RuleSet, U64 } from "../api.js";
import { checkFlag, checkOptions } from "../checks.js";
import { ConfigError, GeneralProtectionError } from "../errors.js";
import { CPU_OPTIONS } from "../options.js";
import { bits, configChoice, configMaxPhysAddr, configU32, configU64, hex } from "./values.js";

export type LegacyMode = "none" | "32bit" | "pae" | "4level" | "5level";

/** Everything that decides how a legacy-format walk goes, but for memory and the PDPTE registers. */
export interface Registers {
  readonly mode: LegacyMode;
  /** CR3 without the memory-encryption bit. */
  readonly cr3: bigint;
  readonly wp: boolean;
  readonly pse: boolean;
  readonly smep: boolean;
  readonly smap: boolean;
  readonly nxe: boolean;
  readonly pke: boolean;
  readonly pks: boolean;
  readonly pkru: number;
  readonly pkrs: number;
  readonly lamU48: boolean;
  readonly lamU57: boolean;
  readonly lamSup: boolean;
  readonly maxPhysAddr: number;
  readonly page1g: boolean;
  readonly pse36: boolean;
  readonly amdReservedBit8: boolean;
  readonly rules: RuleSet;
  readonly encryptionMask: bigint;
  readonly lenient: boolean;
}

export interface RegisterConfig {
  readonly cr0: U64;
  readonly cr3: U64;
  readonly cr4: U64;
  readonly efer: U64;
  readonly maxPhysAddr?: number;
  readonly cpu?: CpuFeatures;
  readonly rules?: RuleSet;
  readonly pkru?: number;
  readonly pkrs?: number;
  readonly encryptionMask?: bigint;
  readonly lenient?: boolean;
}

const cr0 = { pe: bitOf(CR0, "PE"), wp: bitOf(CR0, "WP"), pg: bitOf(CR0, "PG") };
const cr3 = { lamU57: bitOf(CR3, "LAM_U57"), lamU48: bitOf(CR3, "LAM_U48"), noFlush: bitOf(CR3, "NOFLUSH") };
const cr4 = {
  pse: bitOf(CR4, "PSE"),
  pae: bitOf(CR4, "PAE"),
  la57: bitOf(CR4, "LA57"),
  smep: bitOf(CR4, "SMEP"),
  smap: bitOf(CR4, "SMAP"),
  pke: bitOf(CR4, "PKE"),
  pks: bitOf(CR4, "PKS"),
  lamSup: bitOf(CR4, "LAM_SUP"),
};
const efer = { lma: bitOf(EFER, "LMA"), nxe: bitOf(EFER, "NXE") };

/**
 * Takes the registers apart. A ConfigError is thrown for
 * - a register that is not an unsigned 64-bit value, PKRU or PKRS that is not an unsigned 32-bit one,
 * - maxPhysAddr outside 32 to 52, an unknown rule set, encryption bits outside 51:12,
 * - CR0.PG without CR0.PE,
 * - EFER.LMA without CR0.PG or without CR4.PAE (SDM vol. 3, "Paging Modes and Control Bits": IA-32e mode needs both);
 * a GeneralProtectionError for a long-mode CR3 with bits at or above MAXPHYADDR
 * (LAM bits 62:61 and the no-flush bit 63 excepted; a lenient space has no reserved bits here either).
 */
export function readRegisters(config: RegisterConfig): Registers {
  const value = {
    cr0: configU64(config.cr0, "cr0"),
    cr3: configU64(config.cr3, "cr3"),
    cr4: configU64(config.cr4, "cr4"),
    efer: configU64(config.efer, "efer"),
  };
  const maxPhysAddr = configMaxPhysAddr(config.maxPhysAddr);
  const encryptionMask = configU64(config.encryptionMask ?? 0n, "encryptionMask");
  if ((encryptionMask & ~bits(12, 51)) !== 0n) {
    throw new ConfigError(`encryptionMask is ${hex(encryptionMask)}: bits 51:12 may be set`);
  }
  const lenient = checkFlag(config.lenient, "lenient") ?? false;
  const cpu = config.cpu ?? {};
  checkOptions(cpu, CPU_OPTIONS, "cpu");
  const mode = modeOf(value);
  const strippedCr3 = value.cr3 & ~encryptionMask;
  const long = mode === "4level" || mode === "5level";
  if (long && !lenient) {
    const allowed = cr3.lamU48 | cr3.lamU57 | cr3.noFlush;
    const reserved = strippedCr3 & bits(maxPhysAddr, 63) & ~allowed;
    if (reserved !== 0n) {
      throw new GeneralProtectionError(`cr3 is ${hex(value.cr3)}: bits ${hex(reserved)} are beyond MAXPHYADDR`);
    }
  }
  return {
    mode,
    cr3: strippedCr3,
    wp: (value.cr0 & cr0.wp) !== 0n,
    pse: (value.cr4 & cr4.pse) !== 0n,
    smep: (value.cr4 & cr4.smep) !== 0n,
    smap: (value.cr4 & cr4.smap) !== 0n,
    nxe: (value.efer & efer.nxe) !== 0n,
    pke: (value.cr4 & cr4.pke) !== 0n,
    pks: (value.cr4 & cr4.pks) !== 0n,
    pkru: configU32(config.pkru ?? 0, "pkru"),
    pkrs: configU32(config.pkrs ?? 0, "pkrs"),
    lamU48: long && (value.cr3 & cr3.lamU48) !== 0n,
    lamU57: long && (value.cr3 & cr3.lamU57) !== 0n,
    lamSup: long && (value.cr4 & cr4.lamSup) !== 0n,
    maxPhysAddr,
    page1g: checkFlag(cpu.page1g, "cpu.page1g") ?? true,
    pse36: checkFlag(cpu.pse36, "cpu.pse36") ?? true,
    amdReservedBit8: checkFlag(cpu.amdReservedBit8, "cpu.amdReservedBit8") ?? false,
    rules: configChoice<RuleSet>(config.rules ?? "architecture", ["architecture", "kvm-6.1"], "rules"),
    encryptionMask,
    lenient,
  };
}

/** SDM vol. 3, "Four Paging Modes" (with no paging as the first one here). */
function modeOf(value: { cr0: bigint; cr4: bigint; efer: bigint }): LegacyMode {
  const paging = (value.cr0 & cr0.pg) !== 0n;
  const pae = (value.cr4 & cr4.pae) !== 0n;
  const longMode = (value.efer & efer.lma) !== 0n;
  if (paging && (value.cr0 & cr0.pe) === 0n) throw new ConfigError(`cr0 is ${hex(value.cr0)}: PG needs PE`);
  if (longMode && !paging) throw new ConfigError(`efer is ${hex(value.efer)}: LMA needs CR0.PG`);
  if (longMode && !pae) throw new ConfigError(`efer is ${hex(value.efer)}: LMA needs CR4.PAE`);
  if (!paging) return "none";
  if (!pae) return "32bit";
  if (!longMode) return "pae";
  return (value.cr4 & cr4.la57) !== 0n ? "5level" : "4level";
}
