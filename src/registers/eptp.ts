/** Which EPT pointers a processor takes: one answer for EPT spaces, VM entry of a nested guest and INVEPT. */
import { bitOf, EPTP } from "../abi/index.js";

const WALK_LENGTH = bitOf(EPTP, "WALK_LENGTH");

/** What IA32_VMX_EPT_VPID_CAP and MAXPHYADDR say. */
export interface EptpCapabilities {
  readonly maxPhysAddr: number;
  /** Memory types of the tables: 0 uncacheable, 6 write-back. */
  readonly memoryTypes: readonly bigint[];
  /** Page-walk length 5. */
  readonly fiveLevels: boolean;
  /** Accessed and dirty flags. */
  readonly accessedDirty: boolean;
  /** Supervisor shadow-stack control. */
  readonly shadowStackControl: boolean;
}

/**
 * What is wrong with `eptp`, undefined where it is valid (SDM vol. 3, "VM-Execution Control Fields" of the checks at VM entry,
 * and "Extended-Page-Table Pointer (EPTP)"). Bits 11:8 are reserved, and bit 7 without supervisor shadow-stack control.
 */
export function eptpProblem(eptp: bigint, can: EptpCapabilities): string | undefined {
  const memoryType = eptp & bitOf(EPTP, "MEMTYPE");
  if (!can.memoryTypes.includes(memoryType))
    return `memory type ${memoryType}, expected ${can.memoryTypes.join(" or ")}`;
  const levels = (eptp & WALK_LENGTH) / (WALK_LENGTH & -WALK_LENGTH) + 1n;
  const most = can.fiveLevels ? 5n : 4n;
  if (levels < 4n || levels > most) return `a walk length of ${levels}, expected 4${can.fiveLevels ? " or 5" : ""}`;
  if (!can.accessedDirty && (eptp & bitOf(EPTP, "AD")) !== 0n)
    return "accessed and dirty flags, which there are none of";
  const reserved = eptp & (bitOf(EPTP, "RESERVED") | (can.shadowStackControl ? 0n : bitOf(EPTP, "SSS")));
  if (reserved !== 0n) return `reserved bits 0x${reserved.toString(16)}`;
  if (eptp >> BigInt(can.maxPhysAddr) !== 0n) return `bits at or above MAXPHYADDR ${can.maxPhysAddr}`;
  return undefined;
}

/** EPTPs of the same table (nested_ept_root_matches): a processor's TLB goes by the table, not by the whole EPTP. */
export function sameEptTable(a: bigint, b: bigint): boolean {
  return ((a ^ b) & bitOf(EPTP, "ADDRESS")) === 0n;
}
