/** What INVPCID refuses, for spaces and vCPUs. */
import { show } from "../checks.js";
import { GeneralProtectionError } from "../errors.js";
import { checkLinear } from "./linear-address.js";

const PCIDS = 4096;

/** What decides about its operands. */
export interface InvpcidMode {
  /** CR4.PCIDE. */
  readonly pcide: boolean;
  readonly longMode: boolean;
  /** The processor has linear addresses of 57 bits, whatever CR4.LA57 says. */
  readonly la57: boolean;
}

/**
 * Throws GeneralProtectionError where INVPCID would raise it (SDM "INVPCID-Invalidate Process-Context Identifier"), and
 * ConfigError for an address that the mode does not have.
 */
export function checkInvpcid(type: number, pcid: number, address: bigint, mode: InvpcidMode): void {
  if (!Number.isInteger(type) || type < 0 || type > 3)
    throw new GeneralProtectionError(`INVPCID type is ${show(type)}, expected 0 to 3`);
  if (!Number.isInteger(pcid) || pcid < 0 || pcid >= PCIDS) {
    throw new GeneralProtectionError(`PCID is ${show(pcid)}, expected 0 to ${PCIDS - 1}`);
  }
  if (type < 2 && pcid !== 0 && !mode.pcide) {
    throw new GeneralProtectionError(`PCID is ${pcid}, expected 0 with CR4.PCIDE=0`);
  }
  if (type !== 0) return;
  checkLinear(address, mode.longMode);
  if (BigInt.asUintN(64, BigInt.asIntN(mode.la57 ? 57 : 48, address)) !== address) {
    throw new GeneralProtectionError(`INVPCID address 0x${address.toString(16)} is not canonical`);
  }
}
