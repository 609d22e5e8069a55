/** A fault of which only the fast call's result is left. */
import { Status } from "../../abi/index.js";
import type { Fault } from "../../api.js";

const SECOND_STAGE: readonly number[] = [Status.EptViolation, Status.EptMisconfiguration, Status.NestedPageFault];

/** What `result` of `translateFast` says of `address`: no entry, and of a code its low 16 bits. */
export function bareFault(result: number, address: bigint): Fault {
  const packed = -1 - result;
  const status = packed >>> 16;
  return {
    ok: false,
    status,
    vector: status === Status.PageFault ? 14 : status === Status.NonCanonical ? 13 : undefined,
    errorCode: BigInt(packed & 0xffff),
    address,
    stage: SECOND_STAGE.includes(status) ? "second" : "guest",
    level: 0,
    entryAddress: 0n,
    entry: 0n,
  };
}
