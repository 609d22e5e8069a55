/** What a page fault's handler returned and did to the guest, compared with what the recording shows of it. */

import type { Kernel } from "../../abi/kernel-rules.js";
import { EXIT } from "../../abi/processor.js";
import type { RecordedEvent } from "../format/events.js";
import { type FaultReturn, faultReturnName } from "../format/fault-return.js";
import type { FaultOutcome } from "../format/state.js";

/** What a handler returns for each outcome; an injected fault is a retry. */
const RETURNED: Readonly<Record<FaultOutcome["result"], FaultReturn>> = {
  retry: "retry",
  inject: "retry",
  emulate: "emulate",
  mmio: "emulate",
  fixed: "fixed",
  spurious: "spurious",
};
const PAGE_FAULT_VECTOR = 14;
const DOUBLE_FAULT_VECTOR = 8;

/** One result, on both sides. */
export interface ResultPair {
  /** What kind of result it is; the summary counts them. */
  readonly kind: ResultKind;
  /** Which one, where the kind does not say it. */
  readonly where?: string;
  readonly recorded: string;
  readonly replayed: string;
}

export type ResultKind =
  | "page fault result"
  | "injected fault"
  | "exit to L1"
  | "emulated write"
  | "guest memory"
  | "dirty log"
  | "ageing"
  | "pre-fault";

/** Recorded answers that are compared as results, not as events. */
export const RESULT_EVENTS: ReadonlySet<string> = new Set([
  "p64_pf_ret",
  "p32_pf_ret",
  "ept_pf_ret",
  "direct_pf_ret",
  "nonpaging_pf_ret",
  "tdp_pf_ret",
  "age_gfn_ret",
  "test_age_gfn_ret",
]);

/** The handlers' returns: their value is a RET_PF_* one. */
export const HANDLER_RETURNS: ReadonlySet<string> = new Set([
  "p64_pf_ret",
  "p32_pf_ret",
  "ept_pf_ret",
  "direct_pf_ret",
  "nonpaging_pf_ret",
  "tdp_pf_ret",
]);

/** What surrounds a fault in its recording. */
export interface FaultContext {
  readonly kernel: Kernel;
  /** Vector of the exception whose delivery it interrupted. */
  readonly delivering: number | undefined;
}

/** `rest`: the recorded events from the fault to before the next guest entry. */
export function faultResults(
  outcome: FaultOutcome,
  rest: readonly RecordedEvent[],
  { kernel, delivering }: FaultContext,
): ResultPair[] {
  const handler = rest.find((event) => HANDLER_RETURNS.has(event.ev));
  // Without a handler's return the access was to an MMIO SPTE: handle_mmio_page_fault asked for emulation.
  const code = handler !== undefined && "ret" in handler ? Number(handler.ret) : undefined;
  const recorded = code === undefined ? RETURNED.mmio : (faultReturnName(kernel, code) ?? String(code));
  const protectedWrite = "writeProtected" in outcome && outcome.writeProtected === true;
  const returned = protectedWrite ? "write-protected" : RETURNED[outcome.result];
  const pairs: ResultPair[] = [{ kind: "page fault result", recorded, replayed: returned }];
  if (recorded !== RETURNED.retry) return pairs;
  const injected = injectedFault(rest);
  const replayed = outcome.result === "inject" ? exceptionOf(outcome.errorCode, delivering) : "none";
  // Where L1 intercepts the fault its exit does not show the error code.
  if (injected !== "by L1") pairs.push({ kind: "injected fault", recorded: injected, replayed });
  else {
    const intercepted = replayed === "none" ? "none" : "intercepted by L1";
    pairs.push({ kind: "injected fault", recorded: "intercepted by L1", replayed: intercepted });
    pairs.push(...exitPairs(outcome, rest));
  }
  return pairs;
}

/** Exits by which L1 learns of a fault of its second stage. */
const STAGE_EXITS: readonly number[] = [EXIT.eptViolation, EXIT.eptMisconfiguration, EXIT.svmNestedPageFault];

/** What L1 was told of a fault of its second stage. */
function exitPairs(outcome: FaultOutcome, rest: readonly RecordedEvent[]): ResultPair[] {
  const exit = rest.find((event) => event.ev === "kvm_nested_vmexit_inject");
  if (exit?.ev !== "kvm_nested_vmexit_inject" || outcome.result !== "inject") return [];
  if (!STAGE_EXITS.includes(exit.exit_code)) return [];
  // A misconfiguration has no qualification: what the field holds means nothing.
  const recorded = exit.exit_code === EXIT.eptMisconfiguration ? undefined : exit.exit_info1;
  const text = (info: bigint | undefined): string => (info === undefined ? "no information" : `0x${info.toString(16)}`);
  return [{ kind: "exit to L1", recorded: text(recorded), replayed: text(outcome.exitInfo) }];
}

/** The exception that a #PF becomes while another is delivered: none where the processor shuts down (kvm_multiple_exception). */
function exceptionOf(errorCode: number, delivering: number | undefined): string {
  if (delivering === DOUBLE_FAULT_VECTOR) return "none";
  return delivering === PAGE_FAULT_VECTOR ? "#DF" : pageFault(errorCode);
}

function pageFault(errorCode: number): string {
  return `#PF(0x${errorCode.toString(16)})`;
}

/** The exception that follows; "by L1" where L1 gets a VM exit instead. */
function injectedFault(rest: readonly RecordedEvent[]): string {
  for (const event of rest) {
    if (event.ev === "kvm_nested_vmexit_inject") return "by L1";
    if (event.ev !== "kvm_inj_exception" || event.reinjected !== 0) continue;
    if (event.exception === PAGE_FAULT_VECTOR) return pageFault(event.error_code);
    if (event.exception === DOUBLE_FAULT_VECTOR) return "#DF";
  }
  return "none";
}
