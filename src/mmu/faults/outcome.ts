/** How faults and walks of a vCPU end, and what a fault comes with. */
import { SHADOW_CODES } from "../../abi/shadow.js";
import { checkInteger } from "../../checks.js";

/** One page that the guest waits for. */
export interface AsyncFault {
  /** Without alias bits: what the guest is told. */
  readonly gfn: bigint;
  /** The fault's address, with alias bits. */
  readonly address: bigint;
  /** Guest pgd of the fault where it went through the guest's own tables. */
  readonly pgd: bigint | undefined;
}

/** How a fault ended, as `Vcpu.fault` and `Vcpu.prefault` say it: a number. */
export const FAULT_CODE = {
  /** Something changed meanwhile: the access is to be made again. */
  retry: SHADOW_CODES.RET_PF_RETRY,
  /** The access has to be emulated, or goes to MMIO. */
  emulate: SHADOW_CODES.RET_PF_EMULATE,
  fixed: SHADOW_CODES.RET_PF_FIXED,
  /** The access is allowed already. */
  spurious: SHADOW_CODES.RET_PF_SPURIOUS,
  /** The guest gets the fault. */
  inject: SHADOW_CODES.RET_PF_INJECT,
  /** The host has to fetch the page first. Nothing is noted: `Vcpu.pageFault` is what lets the guest wait for it. */
  wait: 7,
} as const;

const CODE_NAMES = new Map(Object.entries(FAULT_CODE).map(([name, code]) => [code as number, name]));

/** A result of `Vcpu.prefault` in words; `errorCode` is that of the fault that the guest would get. */
export function decodePrefault(word: number): {
  readonly result: keyof typeof FAULT_CODE;
  readonly errorCode?: number;
} {
  checkInteger(word, 0, 0xffffffff, "a result of a prefault", RangeError);
  const result = CODE_NAMES.get(word & 0xff) as keyof typeof FAULT_CODE | undefined;
  if (result === undefined) throw new RangeError(`0x${word.toString(16)} is no result of a prefault`);
  return result === "inject" ? { result, errorCode: word >>> 8 } : { result };
}

/** A fault that the guest gets. */
export interface InjectedFault {
  /** #PF's error code; where L1's second stage is at fault, P, W, U, RSVD and I as its walk found them. */
  readonly errorCode: number;
  /** CR2, or the guest-physical address of the nested guest. */
  readonly address: bigint;
  /** L1's second stage for its nested guest is at fault: a VM exit to L1, not a #PF. */
  readonly nested?: boolean;
  /**
   * What L1 sees of that exit: the exit qualification of an EPT violation, whole, its bits 5:3 from the rights of L1's entries
   * (SDM vol. 3, "Exit Qualification for EPT Violations"); EXITINFO1 of a nested page fault (APM vol. 2, "Nested versus Guest
   * Page Faults"). Undefined of an EPT misconfiguration, which has none, and of a #PF.
   */
  readonly exitInfo?: bigint;
}

/**
 * How a fault ended. `inject`: the guest gets it. `retry` with `waits`: the host has to fetch the page, and the guest is
 * to be told to wait for it, unless an earlier fault (`first` false) said so; `retry` alone: the guest is to be entered again
 * (`enterGuest`), as before the first entry, too. `emulate` with `unprotected`: a table of the
 * guest was given up instead, so the guest can run on. `writeProtected`: write protection of a table caused it, as kernels
 * say that tell this apart; `retry`: the table was given up.
 */
export type FaultOutcome =
  | { readonly result: "fixed" | "spurious" | "mmio" | "retry" }
  | { readonly result: "retry"; readonly waits: AsyncFault; readonly first: boolean }
  | { readonly result: "retry"; readonly writeProtected: true }
  | { readonly result: "emulate"; readonly unprotected?: boolean; readonly writeProtected?: true }
  | ({ readonly result: "inject" } & InjectedFault);

/**
 * A guest-physical address, or the fault that the guest gets. With a nested guest behind L1's second stage it is L1's
 * guest-physical address, after that stage; of a fault with `nested`, L2's.
 */
export type WalkOutcome = { readonly ok: true; readonly gpa: bigint } | ({ readonly ok: false } & InjectedFault);

/** What is known of a fault beside its address and code. */
export interface FaultOptions {
  /** The access interrupted the delivery of an event: a shadowed table that it hits is given up first. Default false. */
  readonly eventDelivery?: boolean;
  /** Privilege level of the guest, 0 to 3, for the walk of `eventDelivery`. Default 0. */
  readonly cpl?: number;
  /** The access was the processor's own, to a table of the guest (bit 33 of the error code). Default false. */
  readonly guestTable?: boolean;
  /**
   * The processor's own exit qualification, where the fault came from an EPT violation: its bits 8:7, and 11:9 where the VM has
   * `advancedExitInformation`, go on to an L1 whose EPT is at fault. Default: a linear address was translated, and whether to
   * a table or to its end is `guestTable`'s.
   */
  readonly exitQualification?: bigint;
  /** It was the guest's, to the address that its tables lead to (bit 32). Only events show it. Default false. */
  readonly guestFinal?: boolean;
  /** Where the guest's instruction is: a table is given up only once for it and an address. Default: none is known. */
  readonly rip?: bigint;
}
