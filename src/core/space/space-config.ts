/** Checking a configuration and writing it into a SPACE record. */
import { bitOf, CODES, EPTP, PTE } from "../../abi/index.js";
import type { AddressSpaceConfig, CpuFeatures, EptConfig, NptConfig, RuleSet } from "../../api.js";
import { checkChoice, checkFlag, checkInteger, checkOptions, show } from "../../checks.js";
import { ConfigError } from "../../errors.js";
import { CPU_OPTIONS, EPT_OPTIONS, GUEST_OPTIONS, NPT_OPTIONS } from "../../options.js";
import { toU32, toU64 } from "../checks/numbers.js";
import { checkMode } from "../checks/registers.js";
import type { SpaceRecord } from "../records/walk.js";

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

/** Checks a guest's configuration. Throws ConfigError naming the value. */
export function guestFields(config: AddressSpaceConfig): SpaceFields {
  checkOptions(config, GUEST_OPTIONS, "the address space's configuration");
  const pdptes = checkChoice(config.pdptes ?? "latched", ["latched", "live"], "pdptes");
  const live = pdptes === "live" ? CODES.FEATURE_LIVE_PDPTES : 0;
  if (live !== 0 && config.pdpteValues !== undefined) {
    throw new ConfigError('pdpteValues are given with pdptes "live", expected "latched"');
  }
  const lenient = checkFlag(config.lenient, "lenient") ? CODES.FEATURE_LENIENT : 0;
  const fields: SpaceFields = {
    kind: CODES.KIND_GUEST,
    features: cpuFeatures(config.cpu) | rulesFeature(config.rules) | live | lenient,
    maxPhysAddr: checkMaxPhysAddr(config.maxPhysAddr),
    cr0: toU64(config.cr0, "CR0", ConfigError),
    cr3: toU64(config.cr3, "CR3", ConfigError),
    cr4: toU64(config.cr4, "CR4", ConfigError),
    efer: toU64(config.efer, "EFER", ConfigError),
    encryption: checkEncryption(config.encryptionMask),
    pkru: toU32(config.pkru ?? 0, "PKRU", ConfigError),
    pkrs: toU32(config.pkrs ?? 0, "PKRS", ConfigError),
    pdptes: checkPdpteValues(config.pdpteValues),
  };
  checkMode(fields);
  return fields;
}

function checkPdpteValues(values: AddressSpaceConfig["pdpteValues"]): SpaceFields["pdptes"] {
  if (values === undefined) return undefined;
  if (!Array.isArray(values) || values.length !== 4) {
    throw new ConfigError(`pdpteValues is ${show(values)}, expected an array of 4`);
  }
  return values.map((value, index) => toU64(value, `PDPTE ${index}`, ConfigError)) as unknown as SpaceFields["pdptes"];
}

/** Checks an EPT configuration. */
export function eptFields(config: EptConfig): SpaceFields {
  checkOptions(config, EPT_OPTIONS, "the EPT configuration");
  const eptp = toU64(config.eptp, "EPTP", ConfigError);
  const levels = ((eptp & bitOf(EPTP, "WALK_LENGTH")) >> 3n) + 1n;
  if (levels !== 4n && levels !== 5n) {
    throw new ConfigError(`EPTP 0x${eptp.toString(16)} has a walk length of ${levels}, expected 4 or 5`);
  }
  const memoryType = eptp & bitOf(EPTP, "MEMTYPE");
  if (memoryType !== 0n && memoryType !== 6n) {
    throw new ConfigError(`EPTP 0x${eptp.toString(16)} has memory type ${memoryType}, expected 0 or 6`);
  }
  const maxPhysAddr = checkMaxPhysAddr(config.maxPhysAddr);
  if (eptp >> BigInt(maxPhysAddr) !== 0n) {
    throw new ConfigError(`EPTP 0x${eptp.toString(16)} has bits at or above MAXPHYADDR ${maxPhysAddr} set`);
  }
  const features =
    ((checkFlag(config.page1g, "page1g") ?? true) ? CODES.FEATURE_PAGE_1G : 0) |
    ((checkFlag(config.page2m, "page2m") ?? true) ? CODES.FEATURE_PAGE_2M : 0) |
    ((checkFlag(config.executeOnly, "executeOnly") ?? true) ? CODES.FEATURE_EXECUTE_ONLY : 0) |
    (checkFlag(config.modeBasedExecute, "modeBasedExecute") ? CODES.FEATURE_MODE_BASED_EXECUTE : 0) |
    rulesFeature(config.rules);
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
  const fields: SpaceFields = {
    kind: CODES.KIND_NPT,
    // Under NPT PDPTEs are read in each walk (APM "Nested Paging").
    features: cpuFeatures(config.cpu) | rulesFeature(config.rules) | CODES.FEATURE_LIVE_PDPTES,
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
  checkMode(fields);
  return fields;
}

function cpuFeatures(cpu: CpuFeatures = {}): number {
  checkOptions(cpu, CPU_OPTIONS, "cpu");
  return (
    CODES.FEATURE_PAGE_2M |
    ((checkFlag(cpu.page1g, "cpu.page1g") ?? true) ? CODES.FEATURE_PAGE_1G : 0) |
    ((checkFlag(cpu.pse36, "cpu.pse36") ?? true) ? CODES.FEATURE_PSE36 : 0) |
    (checkFlag(cpu.amdReservedBit8, "cpu.amdReservedBit8") ? CODES.FEATURE_AMD_BIT8 : 0)
  );
}

function rulesFeature(rules: RuleSet = "architecture"): number {
  return checkChoice(rules, ["architecture", "kvm-6.1"], "rules") === "kvm-6.1" ? CODES.FEATURE_KVM : 0;
}

function checkMaxPhysAddr(value = 52): number {
  return checkInteger(value, 32, 52, "maxPhysAddr");
}

/** Memory-encryption bits are address bits of an entry. */
function checkEncryption(mask = 0n): bigint {
  if ((toU64(mask, "encryptionMask", ConfigError) & ~bitOf(PTE, "ADDRESS")) === 0n) return mask;
  throw new ConfigError(`encryptionMask is 0x${mask.toString(16)}, expected bits 51:12 only`);
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
