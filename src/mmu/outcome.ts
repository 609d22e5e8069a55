/** How faults and walks of a vCPU end, and what a fault comes with. */

import type { AsyncFault } from "./async-faults.js";

/** A fault that the guest gets. */
export interface InjectedFault {
  /** #PF's error code; where L1's second stage is at fault, P, W, U, RSVD and I as its walk found them. */
  readonly errorCode: number;
  /** CR2, or the guest-physical address of the nested guest. */
  readonly address: bigint;
  /** L1's second stage for its nested guest is at fault: a VM exit to L1, not a #PF. */
  readonly nested?: boolean;
}

/**
 * How a fault ended. `inject`: the guest gets it. `retry` with `waits`: the host has to fetch the page, and the guest is
 * to be told to wait for it, unless an earlier fault (`first` false) said so. `emulate` with `unprotected`: a table of the guest was given up
 * instead, so the guest can run on.
 */
export type FaultOutcome =
  | { readonly result: "fixed" | "spurious" | "mmio" | "retry" }
  | { readonly result: "retry"; readonly waits: AsyncFault; readonly first: boolean }
  | { readonly result: "emulate"; readonly unprotected?: boolean }
  | ({ readonly result: "inject" } & InjectedFault);

export type WalkOutcome = { readonly ok: true; readonly gpa: bigint } | ({ readonly ok: false } & InjectedFault);

export interface FaultOptions {
  /** The access interrupted the delivery of an event: a shadowed table that it hits is given up first. Default false. */
  readonly eventDelivery?: boolean;
  /** Privilege level of the guest, 0 to 3, for the walk of `eventDelivery`. Default 0. */
  readonly cpl?: number;
  /** The access was the processor's own, to a table of the guest (bit 33 of the error code). Default false. */
  readonly guestTable?: boolean;
}
