/** What a page fault's handler returned and did to the guest, compared with what the recording shows of it. */

import type { RecordedEvent } from "../format/events.js";
import type { FaultOutcome } from "../format/state.js";

/** RET_PF_* of Linux 6.1 (mmu_internal.h) for each outcome; an injected fault returns as a retry. */
const RET_PF: Readonly<Record<FaultOutcome["result"], number>> = {
  retry: 1,
  inject: 1,
  emulate: 2,
  mmio: 2,
  fixed: 4,
  spurious: 5,
};
const NAMES: Readonly<Record<number, string>> = { 1: "retry", 2: "emulate", 3: "invalid", 4: "fixed", 5: "spurious" };
const PAGE_FAULT_VECTOR = 14;

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
  | "ageing";

/** Recorded answers that are compared as results, not as events. */
export const RESULT_EVENTS: ReadonlySet<string> = new Set([
  "p64_pf_ret",
  "p32_pf_ret",
  "ept_pf_ret",
  "direct_pf_ret",
  "nonpaging_pf_ret",
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
]);

/** `rest`: the recorded events from the fault to before the next guest entry. */
export function faultResults(outcome: FaultOutcome, rest: readonly RecordedEvent[]): ResultPair[] {
  const handler = rest.find((event) => HANDLER_RETURNS.has(event.ev));
  // Without a handler's return the access was to an MMIO SPTE: handle_mmio_page_fault asked for emulation.
  const recorded = handler === undefined ? RET_PF.mmio : "ret" in handler ? Number(handler.ret) : 0;
  const name = (code: number): string => NAMES[code] ?? String(code);
  const returned = name(RET_PF[outcome.result]);
  const pairs: ResultPair[] = [{ kind: "page fault result", recorded: name(recorded), replayed: returned }];
  if (recorded !== RET_PF.retry) return pairs;
  const injected = injectedFault(rest);
  const replayed = outcome.result === "inject" ? outcome.errorCode : undefined;
  const text = (code: number | undefined): string => (code === undefined ? "none" : `#PF(0x${code.toString(16)})`);
  // Where L1 intercepts the fault its exit does not show the error code.
  if (injected !== "by L1") pairs.push({ kind: "injected fault", recorded: text(injected), replayed: text(replayed) });
  else {
    const intercepted = replayed === undefined ? "none" : "intercepted by L1";
    pairs.push({ kind: "injected fault", recorded: "intercepted by L1", replayed: intercepted });
    pairs.push(...exitPairs(outcome, rest));
  }
  return pairs;
}

/** Exits by which L1 learns of a fault of its second stage (SDM vol. 3, "Basic Exit Reasons"; APM vol. 2, "SVM Intercept Codes"). */
const STAGE_EXITS = { eptViolation: 0x30, eptMisconfiguration: 0x31, nestedPageFault: 0x400 } as const;

/** What L1 was told of a fault of its second stage. */
function exitPairs(outcome: FaultOutcome, rest: readonly RecordedEvent[]): ResultPair[] {
  const exit = rest.find((event) => event.ev === "kvm_nested_vmexit_inject");
  if (exit?.ev !== "kvm_nested_vmexit_inject" || outcome.result !== "inject") return [];
  if (!(Object.values(STAGE_EXITS) as number[]).includes(exit.exit_code)) return [];
  // A misconfiguration has no qualification: what the field holds means nothing.
  const recorded = exit.exit_code === STAGE_EXITS.eptMisconfiguration ? undefined : exit.exit_info1;
  const text = (info: bigint | undefined): string => (info === undefined ? "no information" : `0x${info.toString(16)}`);
  return [{ kind: "exit to L1", recorded: text(recorded), replayed: text(outcome.exitInfo) }];
}

/** Error code of the #PF that follows; "by L1" where L1 gets a VM exit instead. */
function injectedFault(rest: readonly RecordedEvent[]): number | "by L1" | undefined {
  for (const event of rest) {
    if (event.ev === "kvm_nested_vmexit_inject") return "by L1";
    if (event.ev === "kvm_inj_exception" && event.exception === PAGE_FAULT_VECTOR && event.reinjected === 0)
      return event.error_code;
  }
  return undefined;
}
