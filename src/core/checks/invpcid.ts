/** What INVPCID refuses, for spaces and vCPUs. */
import { show } from "../../checks.js";
import { GeneralProtectionError } from "../../errors.js";
import { checkLinear } from "./linear-address.js";

const PCIDS = 4096;

/** What decides about its operands. */
export interface InvpcidMode {
  /** CR4.PCIDE. */
  readonly pcide: boolean;
  /** Bits of a linear address: 32 outside long mode, 48, 57. */
  readonly width: number;
}

/**
 * Throws GeneralProtectionError where INVPCID would raise it (SDM "INVPCID-Invalidate Process-Context Identifier"), and
 * ConfigError for an address that the mode does not have.
 */
export function checkInvpcid(type: number, pcid: number, address: bigint, { pcide, width }: InvpcidMode): void {
  if (!Number.isInteger(type) || type < 0 || type > 3)
    throw new GeneralProtectionError(`INVPCID type is ${show(type)}, expected 0 to 3`);
  if (!Number.isInteger(pcid) || pcid < 0 || pcid >= PCIDS) {
    throw new GeneralProtectionError(`PCID is ${show(pcid)}, expected 0 to ${PCIDS - 1}`);
  }
  if (type < 2 && pcid !== 0 && !pcide) {
    throw new GeneralProtectionError(`PCID is ${pcid}, expected 0 with CR4.PCIDE=0`);
  }
  if (type !== 0) return;
  checkLinear(address, width > 32);
  if (width > 32 && BigInt.asUintN(64, BigInt.asIntN(width, address)) !== address) {
    throw new GeneralProtectionError(`INVPCID address 0x${address.toString(16)} is not canonical`);
  }
}
