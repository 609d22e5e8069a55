/** Control registers of a space, checked and taken apart. */
import { bitOf } from "../abi/bits.js";
import { CR0, CR3, CR4, EFER } from "../abi/registers.js";
import type { AddressSpace, CpuFeatures, MemoryEncryption, RegisterLoad, RuleSet, U64 } from "../api.js";
import { checkFlag, checkOptions } from "../checks.js";
import { ConfigError, GeneralProtectionError, VmEntryError } from "../errors.js";
import { CPU_OPTIONS } from "../options.js";
import { encryptionMaskOf } from "./encryption.js";
import type { StackRule } from "./shadow-stack.js";
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
  /** Linear-address-space separation, in long mode. */
  readonly lass: boolean;
  /** Upper address ignore, in long mode. */
  readonly uai: boolean;
  readonly maxPhysAddr: number;
  readonly page1g: boolean;
  readonly pse36: boolean;
  readonly amdReservedBit8: boolean;
  /** PK also for user-mode accesses to supervisor-mode addresses. */
  readonly pkrsOnUserAccess: boolean;
  /** Faulting walks set accessed flags above the entry at fault. */
  readonly accessedOnFault: boolean;
  readonly rules: RuleSet;
  readonly stackRule: StackRule;
  /** Nested tables: guest mode execute trap (GMET). */
  readonly gmet: boolean;
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
  readonly loadedBy?: RegisterLoad;
  readonly accessedOnFault?: boolean;
  readonly pkru?: number;
  readonly pkrs?: number;
  readonly encryptionMask?: bigint;
  readonly memoryEncryption?: MemoryEncryption;
  readonly secondStage?: AddressSpace;
  readonly lenient?: boolean;
}

const cr0 = { pe: bitOf(CR0, "PE"), wp: bitOf(CR0, "WP"), pg: bitOf(CR0, "PG") };
const cr3 = { lamU57: bitOf(CR3, "LAM_U57"), lamU48: bitOf(CR3, "LAM_U48"), noFlush: bitOf(CR3, "NOFLUSH") };
const cr4 = {
  pse: bitOf(CR4, "PSE"),
  pae: bitOf(CR4, "PAE"),
  la57: bitOf(CR4, "LA57"),
  pcide: bitOf(CR4, "PCIDE"),
  smep: bitOf(CR4, "SMEP"),
  smap: bitOf(CR4, "SMAP"),
  pke: bitOf(CR4, "PKE"),
  pks: bitOf(CR4, "PKS"),
  cet: bitOf(CR4, "CET"),
  lamSup: bitOf(CR4, "LAM_SUP"),
  lass: bitOf(CR4, "LASS"),
};
const efer = { lma: bitOf(EFER, "LMA"), nxe: bitOf(EFER, "NXE"), uaie: bitOf(EFER, "UAIE") };

/**
 * Takes the registers apart. A ConfigError is thrown for
 * - a register that is not an unsigned 64-bit value, PKRU or PKRS that is not an unsigned 32-bit one,
 * - maxPhysAddr outside 32 to 52, an unknown rule set, encryption bits outside 51:12,
 * - CR0.PG without CR0.PE,
 * - EFER.LMA without CR0.PG or without CR4.PAE (SDM vol. 3, "Paging Modes and Control Bits": IA-32e mode needs both),
 * - CR4.PCIDE without EFER.LMA;
 * what `checkReserved` throws for bits that are reserved.
 */
export function readRegisters(config: RegisterConfig): Registers {
  const value = {
    cr0: configU64(config.cr0, "cr0"),
    cr3: configU64(config.cr3, "cr3"),
    cr4: configU64(config.cr4, "cr4"),
    efer: configU64(config.efer, "efer"),
  };
  const maxPhysAddr = configMaxPhysAddr(config.maxPhysAddr);
  const encryptionMask = encryptionMaskOf(config);
  const lenient = checkFlag(config.lenient, "lenient") ?? false;
  const cpu = config.cpu ?? {};
  checkOptions(cpu, CPU_OPTIONS, "cpu");
  const mode = modeOf(value);
  const strippedCr3 = value.cr3 & ~encryptionMask;
  const long = mode === "4level" || mode === "5level";
  const lam = checkFlag(cpu.lam, "cpu.lam") ?? true;
  const la57 = checkFlag(cpu.la57, "cpu.la57") ?? true;
  const cet = checkFlag(cpu.cet, "cpu.cet") ?? true;
  const lass = checkFlag(cpu.lass, "cpu.lass") ?? true;
  const uai = checkFlag(cpu.uai, "cpu.uai") ?? true;
  const entered = configChoice(config.loadedBy ?? "mov", ["mov", "vm-entry"], "loadedBy") === "vm-entry";
  if (!lenient) {
    checkReserved({ ...value, cr3: strippedCr3 }, { maxPhysAddr, lam, la57, cet, lass, uai, long, entered });
  }
  const rules = configChoice<RuleSet>(config.rules ?? "architecture", ["architecture", "kvm-6.1"], "rules");
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
    lamU48: long && lam && (value.cr3 & cr3.lamU48) !== 0n,
    lamU57: long && lam && (value.cr3 & cr3.lamU57) !== 0n,
    lamSup: long && lam && (value.cr4 & cr4.lamSup) !== 0n,
    lass: long && lass && (value.cr4 & cr4.lass) !== 0n,
    uai: long && uai && (value.efer & efer.uaie) !== 0n,
    maxPhysAddr,
    page1g: checkFlag(cpu.page1g, "cpu.page1g") ?? true,
    pse36: checkFlag(cpu.pse36, "cpu.pse36") ?? true,
    amdReservedBit8: checkFlag(cpu.amdReservedBit8, "cpu.amdReservedBit8") ?? false,
    pkrsOnUserAccess: checkFlag(cpu.pkrsOnUserAccess, "cpu.pkrsOnUserAccess") ?? true,
    accessedOnFault: checkFlag(config.accessedOnFault, "accessedOnFault") ?? false,
    rules,
    stackRule: rules === "architecture" ? "pages" : "unknown",
    gmet: false,
    encryptionMask,
    lenient,
  };
}

/**
 * Bits that the processor does not have. MOV to CR3 looks at them in long mode only (elsewhere its operand has 32 bits) and
 * takes bit 63 as an order to keep the TLB, with CR4.PCIDE=1; VM entry looks in every mode and takes no bit 63. Bits 62:61
 * are LAM's where the processor has it (SDM vol. 3, "Control Registers", "Linear-Address Masking", "Checks on Guest Control
 * Registers, Debug Registers, and MSRs"). CR4.CET goes with CR0.WP only. Throws GeneralProtectionError, at VM entry
 * VmEntryError but for bits of CR4 that the processor does not have.
 */
function checkReserved(
  value: { readonly cr0: bigint; readonly cr3: bigint; readonly cr4: bigint; readonly efer: bigint },
  how: {
    readonly maxPhysAddr: number;
    readonly lam: boolean;
    readonly la57: boolean;
    readonly cet: boolean;
    readonly lass: boolean;
    readonly uai: boolean;
    readonly long: boolean;
    readonly entered: boolean;
  },
): void {
  if (!how.lam && (value.cr4 & cr4.lamSup) !== 0n) {
    throw new GeneralProtectionError(`cr4 is ${hex(value.cr4)}: LAM_SUP without linear-address masking`);
  }
  if (!how.la57 && (value.cr4 & cr4.la57) !== 0n) {
    throw new GeneralProtectionError(`cr4 is ${hex(value.cr4)}: LA57 on a processor without it`);
  }
  if (!how.lass && (value.cr4 & cr4.lass) !== 0n) {
    throw new GeneralProtectionError(`cr4 is ${hex(value.cr4)}: LASS on a processor without it`);
  }
  if (!how.uai && (value.efer & efer.uaie) !== 0n) {
    throw new GeneralProtectionError(`efer is ${hex(value.efer)}: UAIE on a processor without upper address ignore`);
  }
  const cetSet = (value.cr4 & cr4.cet) !== 0n;
  if (!how.cet && cetSet) throw new GeneralProtectionError(`cr4 is ${hex(value.cr4)}: CET on a processor without it`);
  if (cetSet && (value.cr0 & cr0.wp) === 0n) {
    const wrong = `cr4 is ${hex(value.cr4)} and cr0 ${hex(value.cr0)}: CET needs WP`;
    throw how.entered ? new VmEntryError(wrong) : new GeneralProtectionError(wrong);
  }
  if (!how.long && !how.entered) return;
  const keepsTlb = !how.entered && (value.cr4 & cr4.pcide) !== 0n;
  const allowed = (how.lam ? cr3.lamU48 | cr3.lamU57 : 0n) | (keepsTlb ? cr3.noFlush : 0n);
  const reserved = value.cr3 & bits(how.maxPhysAddr, 63) & ~allowed;
  if (reserved === 0n) return;
  const message = `cr3 is ${hex(value.cr3)}: bits ${hex(reserved)} are reserved`;
  throw how.entered ? new VmEntryError(message) : new GeneralProtectionError(message);
}

/** SDM vol. 3, "Four Paging Modes" (with no paging as the first one here). */
function modeOf(value: { cr0: bigint; cr4: bigint; efer: bigint }): LegacyMode {
  const paging = (value.cr0 & cr0.pg) !== 0n;
  const pae = (value.cr4 & cr4.pae) !== 0n;
  const longMode = (value.efer & efer.lma) !== 0n;
  if (paging && (value.cr0 & cr0.pe) === 0n) throw new ConfigError(`cr0 is ${hex(value.cr0)}: PG needs PE`);
  if (longMode && !paging) throw new ConfigError(`efer is ${hex(value.efer)}: LMA needs CR0.PG`);
  if (longMode && !pae) throw new ConfigError(`efer is ${hex(value.efer)}: LMA needs CR4.PAE`);
  if (!longMode && (value.cr4 & cr4.pcide) !== 0n) {
    throw new ConfigError(`cr4 is ${hex(value.cr4)}: PCIDE needs long mode`);
  }
  if (!paging) return "none";
  if (!pae) return "32bit";
  if (!longMode) return "pae";
  return (value.cr4 & cr4.la57) !== 0n ? "5level" : "4level";
}
