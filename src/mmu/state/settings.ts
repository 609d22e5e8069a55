/** What a virtual machine is made of, by name: a state fits one that is made of the same. */
import { vmSettings } from "../../core/mmu/state/vm-state.js";
import { StateError } from "../../errors.js";
import type { StateReader } from "../../state/format/reader.js";
import type { StateWriter } from "../../state/format/writer.js";
import type { Machine } from "../machine/machine.js";

/** Everything that its configuration decides, for life. */
function settingsOf(vm: Machine): Record<string, unknown> {
  const { aliasMask: _, executeOnlyAliases: __, ...limits } = vm.limits;
  const { pdpteAccessed, advancedExitInformation, nestedPdptes, pageModificationLog, virtualization } = vm;
  const { minimumRootLevel, staleDirectRoleBits, manualDirtyLog, initiallyDirty } = vm;
  return {
    ...vmSettings(vm.core.vm),
    ...limits,
    ...{ pdpteAccessed, advancedExitInformation, nestedPdptes, pageModificationLog, virtualization },
    ...{ minimumRootLevel, staleDirectRoleBits, manualDirtyLog, initiallyDirty },
    ...Object.fromEntries(Object.entries(vm.tdp ?? {}).map(([name, value]) => [`tdp.${name}`, value])),
    tdpMmu: vm.tdpMmu !== undefined,
    hostMemory: vm.hostPages.host !== undefined,
    encryption: vm.config.encryption !== undefined,
  };
}

export function writeSettings(out: StateWriter, vm: Machine): void {
  out.value(settingsOf(vm));
}

/** Throws StateError where the state is of a machine that is made of something else. */
export function checkSettings(from: StateReader, vm: Machine): void {
  const saved = from.value();
  const wanted = settingsOf(vm);
  if (typeof saved !== "object" || saved === null) throw new StateError("the state has no settings");
  const names = new Set([...Object.keys(saved), ...Object.keys(wanted)]);
  for (const name of names) {
    const [found, expected] = [(saved as Record<string, unknown>)[name], wanted[name]];
    if (found === expected) continue;
    throw new StateError(`the state is of a virtual machine with ${name} ${found}, expected ${expected}`);
  }
}
