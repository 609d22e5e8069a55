/** Checks of what a virtual machine, its slots and its vCPUs are given, before anything changes. */
import { bitOf, CR0, EPTP } from "../../abi/index.js";
import {
  checkChoice,
  checkFlag,
  checkInteger,
  checkMethod,
  checkOptions,
  isArray,
  type OptionNames,
  show,
} from "../../checks.js";
import type { MmuCore } from "../../core/mmu/mmu-core.js";
import { ConfigError } from "../../errors.js";
import type { ControlRegisters } from "../../registers/control-registers.js";
import { checkMode } from "../../registers/mode.js";
import type { SpteMasks } from "../../spte/index.js";
import type { AliasConfig, SecondStage, SlotConfig, VirtualMachineConfig, VmMasks } from "./config.js";
import { checkKernel } from "./kernel.js";

const VM_OPTIONS: OptionNames<VirtualMachineConfig> = {
  kernel: true,
  kernelRules: true,
  masks: true,
  paging: true,
  tdpMmu: true,
  tdpLevels: true,
  pageModificationLog: true,
  virtualization: true,
  hostPhysicalBits: true,
  guestPhysicalBits: true,
  hostPage1g: true,
  guestPage1g: true,
  guestAmd: true,
  guestLa57: true,
  advancedExitInformation: true,
  nestedPdptes: true,
  pdpteAccessed: true,
  maxHugeLevel: true,
  nxHugePages: true,
  manualDirtyLog: true,
  minimumRootLevel: true,
  defaultPaePdpte: true,
  mmioCaching: true,
  hostMemory: true,
  encryption: true,
  aliases: true,
  rangedFlush: true,
  eventCapacity: true,
  staleDirectRoleBits: true,
};
const FLAGS = [
  "tdpMmu",
  "pageModificationLog",
  "hostPage1g",
  "guestPage1g",
  "guestAmd",
  "guestLa57",
  "advancedExitInformation",
  "pdpteAccessed",
  "nxHugePages",
  "defaultPaePdpte",
  "mmioCaching",
  "rangedFlush",
] as const;
const MASKS: OptionNames<VmMasks> = {
  user: true,
  accessed: true,
  dirty: true,
  nx: true,
  x: true,
  present: true,
  me: true,
  meValue: true,
  memtype: true,
  accTrack: true,
  hostWritable: true,
  mmuWritable: true,
  mmio: true,
  mmioValue: true,
  mmioAccess: true,
  nonpresentOrRsvd: true,
  lowerGfn: true,
};
const ALIAS_OPTIONS: OptionNames<AliasConfig> = { mask: true, executeOnly: true };
const REGISTERS: OptionNames<ControlRegisters> = { cr0: true, cr3: true, cr4: true, efer: true };
const SLOT_OPTIONS: OptionNames<SlotConfig> = {
  addressSpace: true,
  id: true,
  gpa: true,
  size: true,
  logDirty: true,
  readOnly: true,
  hva: true,
  ram: true,
  ramSize: true,
  internal: true,
  memoryType: true,
};
const NPT_STAGE: OptionNames<Omit<Extract<SecondStage, { kind: "npt" }>, "kind">> = {
  ncr3: true,
  hostCr4: true,
  hostEfer: true,
};
const EPT_STAGE: OptionNames<Extract<SecondStage, { kind: "ept" }>> = {
  kind: true,
  eptp: true,
  executeOnly: true,
  hugePageLevel: true,
  accessedDirty: true,
  pdptes: true,
};
/** CR0 of a host that pages. */
const PAGING = bitOf(CR0, "PE") | bitOf(CR0, "PG");
/** 48 bytes each: 3 GiB. */
const MOST_EVENTS = 2 ** 26;
const U64_END = 1n << 64n;

/** Throws ConfigError for an option that is unknown, of another type or out of range. */
export function checkVmConfig(config: VirtualMachineConfig): void {
  checkOptions(config, VM_OPTIONS, "the virtual machine's configuration");
  checkKernel(config);
  for (const name of FLAGS) checkFlag(config[name], name);
  checkChoice(config.paging ?? "shadow", ["shadow", "npt", "ept"], "paging");
  checkChoice(config.virtualization ?? "svm", ["svm", "vmx"], "virtualization");
  checkChoice(config.nestedPdptes ?? "live", ["live", "loaded"], "nestedPdptes");
  for (const name of ["hostPhysicalBits", "guestPhysicalBits"] as const) {
    if (config[name] !== undefined) checkInteger(config[name], 32, 52, name);
  }
  checkInteger(config.maxHugeLevel ?? 3, 1, 3, "maxHugeLevel");
  checkInteger(config.minimumRootLevel ?? 3, 3, 5, "minimumRootLevel");
  checkInteger(config.eventCapacity ?? 0, 0, MOST_EVENTS, "eventCapacity");
  checkInteger(config.staleDirectRoleBits ?? 0, 0, 0xffffffff, "staleDirectRoleBits");
  const manual = checkInteger(config.manualDirtyLog ?? 0, 0, 3, "manualDirtyLog");
  // KVM takes "initially set" only with manual protection (kvm_vm_ioctl_enable_cap_generic).
  if (manual === 2) throw new ConfigError("manualDirtyLog is 2, expected 0, 1 or 3: bit 1 needs bit 0");
  if (config.tdpLevels !== undefined) {
    checkOptions(config.tdpLevels, { forced: true, max: true }, "tdpLevels");
    const { forced, max } = config.tdpLevels;
    if (forced !== 0) checkInteger(forced, 3, 5, "tdpLevels.forced");
    checkInteger(max, 3, 5, "tdpLevels.max");
    if (forced > max) throw new ConfigError(`tdpLevels.forced is ${forced}, expected at most max, ${max}`);
  }
  if (config.masks !== undefined) {
    // What eptMasks and legacyMasks give has physBits too; here that is hostPhysicalBits.
    checkOptions(config.masks as VmMasks & Pick<SpteMasks, "physBits">, { ...MASKS, physBits: true }, "masks");
    for (const name of Object.keys(MASKS) as (keyof VmMasks)[]) checkBigint(config.masks[name], `masks.${name}`);
  }
  if (config.hostMemory !== undefined) {
    for (const method of ["pin", "peek"] as const) checkMethod(config.hostMemory, method, "hostMemory");
  }
  if (config.encryption !== undefined) {
    for (const method of ["encrypt", "decrypt"] as const) checkMethod(config.encryption, method, "encryption");
  }
  if (config.aliases !== undefined) checkAliasOptions(config.aliases);
}

/** Throws ConfigError for what is no alias configuration; which bits can be taken is checked elsewhere. */
export function checkAliasOptions(config: AliasConfig): void {
  checkOptions(config, ALIAS_OPTIONS, "aliases");
  checkBigint(config.mask, "aliases.mask");
  if (config.executeOnly !== undefined) checkBigint(config.executeOnly, "aliases.executeOnly");
}

/** Throws ConfigError for registers that no processor can have (SDM, "Paging Modes and Control Bits"). */
export function checkControlRegisters(registers: ControlRegisters): void {
  checkOptions(registers, REGISTERS, "the registers");
  for (const name of ["cr0", "cr3", "cr4", "efer"] as const) checkBigint(registers[name], name.toUpperCase());
  checkMode(registers);
}

/** Throws ConfigError for what is no second stage; whether the VM can have it is checked elsewhere. */
export function checkStageOptions(stage: SecondStage): void {
  checkOptions<object>(stage, { ...NPT_STAGE, ...EPT_STAGE }, "the second stage");
  if (checkChoice(stage.kind, ["npt", "ept"], "kind of the second stage") === "npt") {
    const { kind: _, ...registers } = stage as Extract<SecondStage, { kind: "npt" }>;
    checkOptions(registers, NPT_STAGE, "the second stage");
    for (const name of ["ncr3", "hostCr4", "hostEfer"] as const) checkBigint(registers[name], name);
    checkMode({ cr0: PAGING, cr4: registers.hostCr4, efer: registers.hostEfer });
    return;
  }
  const ept = stage as Extract<SecondStage, { kind: "ept" }>;
  checkOptions(ept, EPT_STAGE, "the second stage");
  checkBigint(ept.eptp, "EPTP");
  for (const name of ["executeOnly", "accessedDirty"] as const) {
    if (checkFlag(ept[name], name) === undefined) throw new ConfigError(`${name} is missing, expected true or false`);
  }
  checkInteger(ept.hugePageLevel, 1, 3, "hugePageLevel");
  if (((ept.eptp & bitOf(EPTP, "AD")) !== 0n) !== ept.accessedDirty) {
    throw new ConfigError(
      `accessedDirty is ${ept.accessedDirty}, which is not bit 6 of EPTP 0x${ept.eptp.toString(16)}`,
    );
  }
  if (ept.pdptes === undefined) return;
  if (!isArray(ept.pdptes) || ept.pdptes.length !== 4) {
    throw new ConfigError(`pdptes is ${show(ept.pdptes)}, expected an array of 4`);
  }
  for (const value of ept.pdptes) checkBigint(value, "a PDPTE");
}

/** The same where some are given, to go over `before`. */
export function checkChangedRegisters(changed: Partial<ControlRegisters>, before: ControlRegisters): void {
  checkOptions(changed, REGISTERS, "the registers");
  checkControlRegisters({ ...before, ...changed });
}

/**
 * Throws ConfigError for what is no slot, or whose RAM is not there: it lies in linear memory, all of it, and not over what
 * the core keeps. What depends on the other slots is checked elsewhere.
 */
export function checkSlotOptions(config: SlotConfig, core: MmuCore): void {
  checkOptions(config, SLOT_OPTIONS, "the slot");
  const name = `slot ${show(config.id)}`;
  checkInteger(config.id, 0, 509, "slot number");
  checkInteger(config.addressSpace ?? 0, 0, 1, `${name}: address space`);
  for (const flag of ["logDirty", "readOnly", "internal"] as const) checkFlag(config[flag], `${name}: ${flag}`);
  checkBigint(config.gpa, `${name}: gpa`);
  if (config.hva !== undefined) checkBigint(config.hva, `${name}: hva`);
  checkInteger(config.size, 0, 2 ** 52, `${name}: size`);
  const { ram, size } = config;
  if (ram === undefined || size === 0) return;
  const bytes = checkInteger(config.ramSize ?? size, 0, size, `${name}: ramSize`);
  checkInteger(ram, 0, 2 ** 32, `${name}: ram`);
  if (ram % 4096 !== 0 || bytes % 4096 !== 0) {
    throw new ConfigError(`${name}: ${bytes} bytes of RAM at ${ram}, expected multiples of 4096`);
  }
  const end = core.memoryBytes;
  if (ram + bytes > end) throw new ConfigError(`${name}: ${bytes} bytes at ${ram} reach beyond the memory's ${end}`);
  if (core.keeps(ram, bytes)) {
    throw new ConfigError(
      `${name}: ${bytes} bytes at ${ram} are no RAM: of the core's memory only what createRam gave is`,
    );
  }
}

/** Throws ConfigError for what is no bigint of 64 bits: a number would be compared with bigints, but not added to them. */
export function checkBigint(value: bigint, what: string): void {
  if (typeof value === "bigint" && value >= 0n && value < U64_END) return;
  throw new ConfigError(`${what} is ${show(value)}, expected a bigint from 0 to 2^64-1`);
}
