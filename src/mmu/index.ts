/** `x86-paging/mmu`: a model of KVM's shadow MMU in which every root is an ordinary shadow page. */

export type { FlushRange, PendingFlush } from "./changes/flushes.js";
export type { AliasConfig } from "./config/aliases.js";
export type { TdpConfig } from "./config/formats.js";
export type { FormatLimits, PagingContext } from "./context/context.js";
export type { SecondStage } from "./context/context-roles.js";
export type { AsyncFault } from "./faults/async-faults.js";
export {
  decodePrefault,
  FAULT_CODE,
  type FaultOptions,
  type FaultOutcome,
  type InjectedFault,
  type WalkOutcome,
} from "./faults/outcome.js";
export type { AuditProblem } from "./inspect/audit.js";
export type { ShadowPage } from "./inspect/snapshot.js";
export type { VirtualMachineConfig, VmMasks } from "./machine/vm-record.js";
export type { HostMemory, HostPage } from "./memory/host-pages.js";
export type { SlotConfig } from "./memory/memslots.js";
export { INVALID_PAGE as INVALID_ROOT } from "./memory/records.js";
export type { EncryptionHooks } from "./pages/memory-cache.js";
export type { MmuTraceEvent } from "./trace/events.js";
export { type ControlRegisters, Vcpu } from "./vcpu.js";
export { VirtualMachine } from "./vm.js";
