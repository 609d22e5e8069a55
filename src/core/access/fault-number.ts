/** A fault as the fast calls give it: one number below 0, with the status and the code's low 16 bits. */
import { Status } from "../../abi/index.js";
import type { Fault } from "../../api.js";

const SECOND_STAGE: readonly number[] = [Status.EptViolation, Status.EptMisconfiguration, Status.NestedPageFault];

/** Splits what `translateFast` returned for a fault. */
export function decodeFault(result: number): { status: number; errorCode: number } {
  const packed = -1 - result;
  return { status: packed >>> 16, errorCode: packed & 0xffff };
}

/** Vector of the exception that a fault is; undefined of a VM exit, or of no event at all. */
export function vectorOf(status: number): 13 | 14 | undefined {
  if (status === Status.PageFault) return 14;
  return status === Status.NonCanonical || status === Status.SpaceSeparation ? 13 : undefined;
}

/** The fault at `address` of which only the number is left: it tells of no entry. */
export function bareFault(result: number, address: bigint): Fault {
  const { status, errorCode } = decodeFault(result);
  return {
    ok: false,
    status,
    vector: vectorOf(status),
    errorCode: BigInt(errorCode),
    address,
    stage: SECOND_STAGE.includes(status) ? "second" : "guest",
    level: 0,
    entryAddress: 0n,
    entry: 0n,
  };
}
