/** `x86-paging/mmu`: a model of KVM's shadow MMU in which every root is an ordinary shadow page. */
export type { AliasConfig } from "./aliases.js";
export type { AsyncFault } from "./async-faults.js";
export type { AuditProblem } from "./audit.js";
export type { FormatLimits, PagingContext } from "./context.js";
export type { SecondStage } from "./context-roles.js";
export type { MmuTraceEvent } from "./events.js";
export type { FlushRange, PendingFlush } from "./flushes.js";
export type { TdpConfig } from "./formats.js";
export type { HostMemory, HostPage } from "./host-pages.js";
export type { EncryptionHooks } from "./memory-cache.js";
export type { SlotConfig } from "./memslots.js";
export {
  decodePrefault,
  FAULT_CODE,
  type FaultOptions,
  type FaultOutcome,
  type InjectedFault,
  type WalkOutcome,
} from "./outcome.js";
export { INVALID_PAGE as INVALID_ROOT } from "./records.js";
export type { ShadowPage } from "./snapshot.js";
export { type ControlRegisters, Vcpu } from "./vcpu.js";
export { VirtualMachine } from "./vm.js";
export type { VirtualMachineConfig, VmMasks } from "./vm-config.js";
