/** What a page fault's error code says, by the kind of tables that the guest runs on. */
import { bitOf } from "../../abi/bits.js";
import { EPT_QUAL, PFERR } from "../../abi/faults.js";
import { ExitReason } from "../events/kinds.js";
import type { Thread } from "./thread.js";

/** Shadow paging's error codes are the processor's; NPT's have bits above 32; EPT's are exit qualifications, raw. */
export type FaultFormat = "shadow" | "npt" | "ept";

export const ACCESSES = ["read", "write", "fetch"] as const;
export type Access = (typeof ACCESSES)[number];

const pferr = (name: string): number => Number(bitOf(PFERR, name));
const qualification = (name: string): number => Number(bitOf(EPT_QUAL, name));
const EPT_PRESENT = qualification("READABLE") | qualification("WRITABLE") | qualification("EXECUTABLE");
/** No error code of shadow paging has these. */
const EPT_ALONE = qualification("GVA_VALID") | qualification("GVA_FINAL");
const PFERR_WRITE = pferr("W");
const PFERR_FETCH = pferr("I");
const PFERR_PRESENT = pferr("P");
const PFERR_RESERVED = pferr("RSVD");
const EPT_WRITE = qualification("WRITE");
const EPT_FETCH = qualification("FETCH");

export function faultFormat({ fault, reason }: Thread): FaultFormat {
  if (reason === ExitReason.EptViolation) return "ept";
  if (reason === ExitReason.Npf || fault.errorHigh !== 0) return "npt";
  if (reason === ExitReason.PageFault) return "shadow";
  return (fault.errorLow & EPT_ALONE) !== 0 ? "ept" : "shadow";
}

export function faultAccess(format: FaultFormat, { fault }: Thread): Access {
  const [write, fetch] = format === "ept" ? [EPT_WRITE, EPT_FETCH] : [PFERR_WRITE, PFERR_FETCH];
  if (fault.errorLow & fetch) return "fetch";
  return fault.errorLow & write ? "write" : "read";
}

/** Whether something was there that does not allow the access. */
export function faultPresent(format: FaultFormat, { fault }: Thread): boolean {
  return (fault.errorLow & (format === "ept" ? EPT_PRESENT : PFERR_PRESENT)) !== 0;
}

export function faultReserved(format: FaultFormat, { fault }: Thread): boolean {
  return format !== "ept" && (fault.errorLow & PFERR_RESERVED) !== 0;
}
