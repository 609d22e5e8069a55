/** Checking a configuration and writing it into a SPACE record. */
import { bitOf, CODES, CR3, CR4, EFER } from "../../abi/index.js";
import type { AddressSpaceConfig, CpuFeatures, EptConfig, NptConfig, RegisterLoad, RuleSet } from "../../api.js";
import { checkChoice, checkFlag, checkInteger, checkOptions, isArray, show } from "../../checks.js";
import { ConfigError } from "../../errors.js";
import { CPU_OPTIONS, EPT_OPTIONS, GUEST_OPTIONS, NPT_OPTIONS } from "../../options.js";
import { checkChange, isLongMode, numbersOf, type PagingRegisters } from "../../registers/control-registers.js";
import { checkCr3 } from "../../registers/cr3.js";
import { checkCet, checkCr4 } from "../../registers/cr4.js";
import { checkEfer } from "../../registers/efer.js";
import { eptpProblem } from "../../registers/eptp.js";
import { checkMode } from "../../registers/mode.js";
import { checkEncryption, encryptionOf } from "../attributes/encryption.js";
import { hostTypes } from "../attributes/memory-type.js";
import { toU32, toU64 } from "../checks/numbers.js";
import type { SpaceRecord } from "../records/walk.js";
import { checkAttributes } from "./attributes.js";

/** What a space is made of, checked and in the form that the core takes. */
export interface SpaceFields {
  readonly kind: number;
  readonly features: number;
  readonly maxPhysAddr: number;
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
  readonly encryption: bigint;
  readonly pkru: number;
  readonly pkrs: number;
  readonly pdptes: readonly [bigint, bigint, bigint, bigint] | undefined;
}

/**
 * Checks a guest's configuration, and where it changes one that is `before`, that MOV to control registers can do that. Throws
 * ConfigError naming the value, GeneralProtectionError and VmEntryError for what the processor refuses.
 */
export function guestFields(config: AddressSpaceConfig, before?: SpaceFields): SpaceFields {
  checkOptions(config, GUEST_OPTIONS, "the address space's configuration");
  const pdptes = checkChoice(config.pdptes ?? "latched", ["latched", "live"], "pdptes");
  const live = pdptes === "live" ? CODES.FEATURE_LIVE_PDPTES : 0;
  if (live !== 0 && config.pdpteValues !== undefined) {
    throw new ConfigError('pdpteValues are given with pdptes "live", expected "latched"');
  }
  const lenient = checkFlag(config.lenient, "lenient") ? CODES.FEATURE_LENIENT : 0;
  const onFault = checkFlag(config.accessedOnFault, "accessedOnFault") ? CODES.FEATURE_ACCESSED_ON_FAULT : 0;
  const fields: SpaceFields = {
    kind: CODES.KIND_GUEST,
    features: cpuFeatures(config.cpu) | rulesFeature(config.rules) | live | lenient | onFault,
    maxPhysAddr: checkMaxPhysAddr(config.maxPhysAddr),
    cr0: toU64(config.cr0, "CR0", ConfigError),
    cr3: toU64(config.cr3, "CR3", ConfigError),
    cr4: toU64(config.cr4, "CR4", ConfigError),
    efer: toU64(config.efer, "EFER", ConfigError),
    encryption: encryptionOf(config),
    pkru: toU32(config.pkru ?? 0, "PKRU", ConfigError),
    pkrs: toU32(config.pkrs ?? 0, "PKRS", ConfigError),
    pdptes: checkPdpteValues(config.pdpteValues),
  };
  checkAttributes(config);
  const loadedBy = checkChoice(config.loadedBy ?? "mov", ["mov", "vm-entry"], "loadedBy");
  if (before !== undefined) checkChange(numbersOf(before), numbersOf(fields));
  checkMode(fields);
  return processorFields(fields, config.cpu, loadedBy);
}

/** The registers that the mode depends on, as unsigned numbers. */
export function registersOf(fields: SpaceFields): PagingRegisters {
  return numbersOf(fields);
}

const LAM_USER = bitOf(CR3, "LAM_U48") | bitOf(CR3, "LAM_U57");
const LAM_SUPERVISOR = bitOf(CR4, "LAM_SUP");
const LASS = bitOf(CR4, "LASS");
const UAIE = bitOf(EFER, "UAIE");

/**
 * What `cpu` makes of the registers: bits of features that it does not have mean nothing. Throws GeneralProtectionError, or
 * VmEntryError, for bits that it does not have; a lenient space has no reserved bits.
 */
function processorFields(fields: SpaceFields, cpu: CpuFeatures = {}, loadedBy: RegisterLoad = "mov"): SpaceFields {
  const lam = checkFlag(cpu.lam, "cpu.lam") ?? true;
  const la57 = checkFlag(cpu.la57, "cpu.la57") ?? true;
  const cet = checkFlag(cpu.cet, "cpu.cet") ?? true;
  const lass = checkFlag(cpu.lass, "cpu.lass") ?? true;
  const uai = checkFlag(cpu.uai, "cpu.uai") ?? true;
  if ((fields.features & CODES.FEATURE_LENIENT) === 0) {
    const { cr0, cr4, maxPhysAddr } = fields;
    checkCr4(cr4, { lam, la57, cet, lass });
    checkEfer(fields.efer, { uai });
    checkCet(cr0, cr4, loadedBy);
    const longMode = isLongMode(numbersOf(fields));
    checkCr3(fields.cr3 & ~fields.encryption, loadedBy, { longMode, cr4 }, { maxPhysAddr, lam });
  }
  return {
    ...fields,
    cr3: lam ? fields.cr3 : fields.cr3 & ~LAM_USER,
    cr4: fields.cr4 & ~((lam ? 0n : LAM_SUPERVISOR) | (lass ? 0n : LASS)),
    efer: uai ? fields.efer : fields.efer & ~UAIE,
  };
}

function checkPdpteValues(values: AddressSpaceConfig["pdpteValues"]): SpaceFields["pdptes"] {
  if (values === undefined) return undefined;
  if (!isArray(values) || values.length !== 4) {
    throw new ConfigError(`pdpteValues is ${show(values)}, expected an array of 4`);
  }
  return values.map((value, index) => toU64(value, `PDPTE ${index}`, ConfigError)) as unknown as SpaceFields["pdptes"];
}

/** Checks an EPT configuration. */
export function eptFields(config: EptConfig): SpaceFields {
  checkOptions(config, EPT_OPTIONS, "the EPT configuration");
  const eptp = toU64(config.eptp, "EPTP", ConfigError);
  const maxPhysAddr = checkMaxPhysAddr(config.maxPhysAddr);
  const rules = rulesFeature(config.rules);
  // KVM of Linux 6.1 takes no EPTP with bit 7 from its guests.
  const shadowStackControl = (checkFlag(config.shadowStackControl, "shadowStackControl") ?? true) && rules === 0;
  const can = { maxPhysAddr, memoryTypes: [0n, 6n], fiveLevels: true, accessedDirty: true, shadowStackControl };
  const problem = eptpProblem(eptp, can);
  if (problem !== undefined) throw new ConfigError(`EPTP 0x${eptp.toString(16)} has ${problem}`);
  checkFlag(config.violationExceptions, "violationExceptions");
  const advanced = checkFlag(config.advancedExitInformation, "advancedExitInformation") && rules === 0;
  const features =
    (advanced ? CODES.FEATURE_ADVANCED_EXIT : 0) |
    ((checkFlag(config.page1g, "page1g") ?? true) ? CODES.FEATURE_PAGE_1G : 0) |
    ((checkFlag(config.page2m, "page2m") ?? true) ? CODES.FEATURE_PAGE_2M : 0) |
    ((checkFlag(config.executeOnly, "executeOnly") ?? true) ? CODES.FEATURE_EXECUTE_ONLY : 0) |
    (checkFlag(config.modeBasedExecute, "modeBasedExecute") ? CODES.FEATURE_MODE_BASED_EXECUTE : 0) |
    rules;
  return {
    kind: CODES.KIND_EPT,
    features,
    maxPhysAddr,
    cr0: 0n,
    cr3: eptp,
    cr4: 0n,
    efer: 0n,
    encryption: 0n,
    pkru: 0,
    pkrs: 0,
    pdptes: undefined,
  };
}

/** Checks an NPT configuration. */
export function nptFields(config: NptConfig): SpaceFields {
  checkOptions(config, NPT_OPTIONS, "the NPT configuration");
  const rules = rulesFeature(config.rules);
  // KVM's walk of Linux 6.1 knows neither.
  const check = checkFlag(config.shadowStackCheck, "shadowStackCheck") && rules === 0;
  const trap = checkFlag(config.guestModeExecuteTrap, "guestModeExecuteTrap") && rules === 0;
  const fields: SpaceFields = {
    kind: CODES.KIND_NPT,
    // Under NPT PDPTEs are read in each walk (APM "Nested Paging").
    features:
      cpuFeatures(config.cpu) |
      rules |
      CODES.FEATURE_LIVE_PDPTES |
      (check ? CODES.FEATURE_SHADOW_STACK_CHECK : 0) |
      (trap ? CODES.FEATURE_GUEST_MODE_EXECUTE_TRAP : 0),
    maxPhysAddr: checkMaxPhysAddr(config.maxPhysAddr),
    cr0: toU64(config.cr0 ?? 0x80010001, "CR0", ConfigError),
    cr3: toU64(config.ncr3, "nCR3", ConfigError),
    cr4: toU64(config.cr4 ?? 0x20, "CR4", ConfigError),
    efer: toU64(config.efer ?? 0xd00, "EFER", ConfigError),
    encryption: checkEncryption(config.encryptionMask),
    pkru: 0,
    pkrs: 0,
    pdptes: undefined,
  };
  hostTypes(config);
  checkMode(fields);
  return processorFields(fields, config.cpu);
}

function cpuFeatures(cpu: CpuFeatures = {}): number {
  checkOptions(cpu, CPU_OPTIONS, "cpu");
  checkFlag(cpu.amdMemoryTypes, "cpu.amdMemoryTypes");
  return (
    CODES.FEATURE_PAGE_2M |
    ((checkFlag(cpu.page1g, "cpu.page1g") ?? true) ? CODES.FEATURE_PAGE_1G : 0) |
    ((checkFlag(cpu.pse36, "cpu.pse36") ?? true) ? CODES.FEATURE_PSE36 : 0) |
    (checkFlag(cpu.amdReservedBit8, "cpu.amdReservedBit8") ? CODES.FEATURE_AMD_BIT8 : 0) |
    ((checkFlag(cpu.pkrsOnUserAccess, "cpu.pkrsOnUserAccess") ?? true) ? CODES.FEATURE_PKRS_USER : 0)
  );
}

function rulesFeature(rules: RuleSet = "architecture"): number {
  return checkChoice(rules, ["architecture", "kvm-6.1"], "rules") === "kvm-6.1" ? CODES.FEATURE_KVM : 0;
}

function checkMaxPhysAddr(value = 52): number {
  return checkInteger(value, 32, 52, "maxPhysAddr");
}

/** Writes the fields into a SPACE record; the derived ones are up to the core's `configure`. */
export function writeFields(space: SpaceRecord, fields: SpaceFields): void {
  const low = (value: bigint) => Number(value & 0xffffffffn);
  space.kind = fields.kind;
  space.features = fields.features;
  space.maxphyaddr = fields.maxPhysAddr;
  space.cr0 = low(fields.cr0);
  space.cr4 = low(fields.cr4);
  space.efer = low(fields.efer);
  space.cr3 = fields.cr3;
  space.encryption = fields.encryption;
  space.pkru = fields.pkru;
  space.pkrs = fields.pkrs;
  fields.pdptes?.forEach((value, index) => {
    space.setPdptes(index, value);
  });
}
