/** `x86-paging/mmu`: a model of KVM's shadow MMU in which every root is an ordinary shadow page. */

export type { KernelRuleName } from "../abi/kernel-rules.js";
export type { ControlRegisters } from "../registers/control-registers.js";
export type { FlushRange, PendingFlush } from "./changes/flushes.js";
export type {
  AliasConfig,
  EncryptionHooks,
  HostMemory,
  HostPage,
  SecondStage,
  SlotConfig,
  VirtualMachineConfig,
  VmMasks,
} from "./config/config.js";
export type { FormatLimits, TdpConfig } from "./config/formats.js";
export type { PagingContext } from "./context/context.js";
export { INVALID_PAGE as INVALID_ROOT } from "./context/root-cache.js";
export {
  type AsyncFault,
  decodePrefault,
  FAULT_CODE,
  type FaultOptions,
  type FaultOutcome,
  type InjectedFault,
  type WalkOutcome,
} from "./faults/outcome.js";
export type { PreFaulted } from "./faults/pre-fault-memory.js";
export type { CounterName } from "./inspect/counters.js";
export type { AuditProblem, Invariant } from "./inspect/problem.js";
export type { CachedRoot, ContextRoots } from "./inspect/roots.js";
export type { ShadowPage } from "./inspect/snapshot.js";
export type { Cpu } from "./machine/cpu.js";
export type { Machine } from "./machine/machine.js";
export type { MmuTraceEvent } from "./trace/events.js";
export { Vcpu } from "./vcpu.js";
export { VirtualMachine } from "./vm.js";
