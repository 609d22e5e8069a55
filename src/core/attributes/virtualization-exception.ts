/** Virtualization exceptions (#VE) that EPT violations are converted to. */
import { bitOf, EPT, Status } from "../../abi/index.js";
import type { Fault, U64 } from "../../api.js";
import { checkInteger } from "../../checks.js";
import { toU64 } from "../checks/numbers.js";

const SUPPRESS = bitOf(EPT, "SVE");
/** Basic exit reason of an EPT violation. */
const EPT_VIOLATION = 48;
const BUSY = 0xffff_ffff;
const AREA_BYTES = 4096;
const MOST_EPTPS = 512;
/** Where the information area has what. */
const AT = { reason: 0, busy: 4, qualification: 8, linear: 16, physical: 24, eptpIndex: 32 } as const;

/** What the processor writes to the virtualization-exception information area (SDM vol. 3, "Virtualization-Exception Information"). */
export interface VirtualizationException {
  readonly exitReason: number;
  readonly exitQualification: bigint;
  readonly guestLinearAddress: bigint;
  readonly guestPhysicalAddress: bigint;
  readonly eptpIndex: number;
}

/** Whether bit 63 of the entry at fault lets the violation become an exception; an address of more than `width` bits has none. */
export function isConvertible({ address, entry }: Fault, width: number): boolean {
  return address >> BigInt(width) === 0n && (entry & SUPPRESS) === 0n;
}

/**
 * The exception that a convertible violation is, for the linear address whose translation it stopped. Throws RangeError for a fault
 * that is none, and for what is no EPTP index (0 to 511).
 */
export function virtualizationException(fault: Fault, linearAddress: U64, eptpIndex = 0): VirtualizationException {
  if (fault.status !== Status.EptViolation || fault.convertible !== true) {
    throw new RangeError("the fault is no convertible EPT violation");
  }
  return {
    exitReason: EPT_VIOLATION,
    exitQualification: fault.errorCode,
    guestLinearAddress: toU64(linearAddress, "linearAddress"),
    guestPhysicalAddress: fault.address,
    eptpIndex: checkInteger(eptpIndex, 0, MOST_EPTPS - 1, "eptpIndex", RangeError),
  };
}

/** The 4 KiB of the information area after the exception; the guest clears the second word when it has dealt with it. */
export function encodeVirtualizationException(exception: VirtualizationException): Uint8Array {
  const area = new Uint8Array(AREA_BYTES);
  const view = new DataView(area.buffer);
  view.setUint32(AT.reason, exception.exitReason, true);
  view.setUint32(AT.busy, BUSY, true);
  view.setBigUint64(AT.qualification, exception.exitQualification, true);
  view.setBigUint64(AT.linear, exception.guestLinearAddress, true);
  view.setBigUint64(AT.physical, exception.guestPhysicalAddress, true);
  view.setUint16(AT.eptpIndex, exception.eptpIndex, true);
  return area;
}

/** Reads such an area; undefined while its second word says that it holds none. Throws RangeError for fewer than 34 bytes. */
export function decodeVirtualizationException(area: Uint8Array): VirtualizationException | undefined {
  if (area.length < AT.eptpIndex + 2) throw new RangeError(`an information area has ${area.length} bytes, expected 34`);
  const view = new DataView(area.buffer, area.byteOffset, area.byteLength);
  if (view.getUint32(AT.busy, true) === 0) return undefined;
  return {
    exitReason: view.getUint32(AT.reason, true),
    exitQualification: view.getBigUint64(AT.qualification, true),
    guestLinearAddress: view.getBigUint64(AT.linear, true),
    guestPhysicalAddress: view.getBigUint64(AT.physical, true),
    eptpIndex: view.getUint16(AT.eptpIndex, true),
  };
}
