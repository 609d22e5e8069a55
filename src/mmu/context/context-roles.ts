/** Which roles each context of a vCPU gets (init_kvm_tdp_mmu, kvm_init_shadow_mmu and their nested counterparts). */
import { CR0, EPTP, fieldOf, flagOf, valueIn } from "../../abi/index.js";
import type { PagingRegisters } from "../../registers/control-registers.js";
import {
  type CpuRole,
  cpuRole,
  directRoot,
  nestedEptCpuRole,
  nestedEptRoot,
  nestedNptCpuRole,
  nestedNptRoot,
  type RoleMode,
  roleLevel,
  shadowRoot,
} from "../../role/index.js";
import type { SecondStage } from "../config/config.js";
import type { VmFormats } from "../config/formats.js";
import type { PagingContext } from "./context.js";

const CR0_PG = flagOf(CR0, "PG");
const WALK_LENGTH = fieldOf(EPTP, "WALK_LENGTH");

/** The context of the guest itself: shadowed, or direct under two-dimensional paging. */
export function setRootRoles(vm: VmFormats, context: PagingContext, cpu: CpuRole, registers: PagingRegisters): void {
  if (vm.tdp === undefined) {
    const level = Math.max(roleLevel(cpu.base), vm.minimumRootLevel);
    context.setRoles(cpu, shadowRoot(cpu, level), vm.limits, registers, "shadow");
  } else {
    const { level, adBits, format } = vm.tdp;
    context.setRoles(cpu, directRoot(cpu, level, adBits), vm.limits, registers, format);
  }
  context.pgd = registers.cr3;
}

type NptStage = Extract<SecondStage, { readonly kind: "npt" }>;

/** L1's registers as its nested guest's NPT is walked with them. */
function nestedNptRegisters(stage: NptStage): PagingRegisters {
  return {
    cr0: CR0_PG,
    cr3: stage.ncr3,
    cr4: Number(stage.hostCr4 & 0xffff_ffffn),
    efer: Number(stage.hostEfer & 0xffff_ffffn),
  };
}

/** Levels of L1's NPT. */
export function nestedNptLevel(stage: NptStage): number {
  return roleLevel(nestedNptCpuRole(nestedNptRegisters(stage), { smm: false, guestMode: true }).base);
}

/** The context that shadows L1's second stage. Returns L1's root table. */
export function setNestedRoles(vm: VmFormats, context: PagingContext, stage: SecondStage, mode: RoleMode): bigint {
  if (stage.kind === "ept") {
    const level = Number(valueIn(WALK_LENGTH, stage.eptp)) + 1;
    const { accessedDirty, executeOnly } = stage;
    const cpu = nestedEptCpuRole({ level, accessedDirty, executeOnly });
    context.setEptRoles(cpu, nestedEptRoot(cpu), vm.limits, stage);
    context.pgd = stage.eptp;
    return stage.eptp;
  }
  const registers = nestedNptRegisters(stage);
  const cpu = nestedNptCpuRole(registers, mode);
  const level = vm.tdp?.level ?? roleLevel(cpu.base);
  context.setRoles(cpu, nestedNptRoot(cpu, level), vm.limits, registers, "shadow");
  context.pgd = stage.ncr3;
  return stage.ncr3;
}

/** The context that walks L2's own tables. */
export function setL2Roles(vm: VmFormats, context: PagingContext, registers: PagingRegisters, mode: RoleMode): void {
  context.setRoles(cpuRole(registers, mode), context.rootRole, vm.limits, registers, "none");
  context.pgd = registers.cr3;
}
