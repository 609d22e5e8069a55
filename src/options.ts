/** The options of the configurations in api.ts, by name: the Wasm core and the reference refuse every other. */
import type { AddressSpaceConfig, CpuFeatures, EptConfig, NptConfig } from "./api.js";
import type { OptionNames } from "./checks.js";

export const CPU_OPTIONS: OptionNames<CpuFeatures> = {
  page1g: true,
  pse36: true,
  amdReservedBit8: true,
  lam: true,
  la57: true,
  cet: true,
  lass: true,
  uai: true,
  pkrsOnUserAccess: true,
  amdMemoryTypes: true,
};
export const GUEST_OPTIONS: OptionNames<AddressSpaceConfig> = {
  cr0: true,
  cr3: true,
  cr4: true,
  efer: true,
  maxPhysAddr: true,
  cpu: true,
  rules: true,
  loadedBy: true,
  accessedOnFault: true,
  pkru: true,
  pkrs: true,
  pdptes: true,
  pdpteValues: true,
  encryptionMask: true,
  memoryEncryption: true,
  pat: true,
  mtrrs: true,
  lenient: true,
  tlbEntries: true,
  secondStage: true,
  origin: true,
};
export const EPT_OPTIONS: OptionNames<EptConfig> = {
  eptp: true,
  maxPhysAddr: true,
  page1g: true,
  page2m: true,
  executeOnly: true,
  modeBasedExecute: true,
  shadowStackControl: true,
  advancedExitInformation: true,
  violationExceptions: true,
  rules: true,
};
export const NPT_OPTIONS: OptionNames<NptConfig> = {
  ncr3: true,
  cr0: true,
  cr4: true,
  efer: true,
  maxPhysAddr: true,
  cpu: true,
  encryptionMask: true,
  pat: true,
  mtrrs: true,
  shadowStackCheck: true,
  guestModeExecuteTrap: true,
  rules: true,
};

/** Registers that emulators hold as signed integers of 32 bits. */
const REGISTERS = ["cr0", "cr3", "cr4", "efer", "pkru", "pkrs"] as const;

/**
 * The same registers, those that are negative integers of 32 bits as the unsigned ones of the same bits. What is no object to
 * read is left for the checks of options to name.
 */
export function withUnsignedRegisters<T extends Partial<AddressSpaceConfig>>(config: T): T {
  try {
    const negative = REGISTERS.filter((name) => isSigned(config[name]));
    if (negative.length === 0) return config;
    return { ...config, ...Object.fromEntries(negative.map((name) => [name, Number(config[name]) >>> 0])) };
  } catch {
    return config;
  }
}

function isSigned(value: unknown): boolean {
  return typeof value === "number" && Number.isInteger(value) && value < 0 && value >= -0x8000_0000;
}
