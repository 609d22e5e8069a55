/** Making other guest-physical address bits attributes of a VM that exists. */
import { ConfigError } from "../../errors.js";
import { isPlain } from "../config/aliases.js";
import { checkAliasOptions } from "../config/check-config.js";
import type { AliasConfig } from "../config/config.js";
import type { Machine } from "../machine/machine.js";
import { refreshFormats } from "../processor/roles.js";

/** Throws ConfigError with nothing changed. */
export function changeAliases(vm: Machine, config: AliasConfig): void {
  checkAliasOptions(config);
  const aliases = vm.checkAliases(config);
  const name = `alias mask 0x${aliases.mask.toString(16)}`;
  for (const slot of vm.slots.slots) {
    if (isPlain(slot.base, slot.pages, aliases.mask >> 12n)) continue;
    throw new ConfigError(`${name}: slot ${slot.id} has addresses with these bits`);
  }
  for (const cpu of vm.cpus) {
    if (cpu.inGuestMode) throw new ConfigError(`${name}: vCPU ${cpu.id} runs a nested guest`);
    if (cpu.registers.cr3 & aliases.mask) throw new ConfigError(`${name}: CR3 of vCPU ${cpu.id} has such a bit`);
  }
  vm.core.zapAllFast();
  vm.settle();
  vm.applyAliases(aliases);
  for (const cpu of vm.cpus) refreshFormats(vm, cpu);
}
