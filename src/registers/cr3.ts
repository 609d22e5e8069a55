/** Which values CR3 may be loaded with: one answer for spaces, vCPUs and guests that are entered. */
import { bitOf, CR3, CR4 } from "../abi/index.js";
import type { RegisterLoad } from "../api.js";
import { GeneralProtectionError, VmEntryError } from "../errors.js";

const PCIDE = bitOf(CR4, "PCIDE");
const NO_FLUSH = bitOf(CR3, "NOFLUSH");
const MASKING = bitOf(CR3, "LAM_U48") | bitOf(CR3, "LAM_U57");

const ALL = (1n << 64n) - 1n;
/** By MAXPHYADDR: the first address beyond it. */
const LIMITS: readonly bigint[] = /* @__PURE__ */ Array.from({ length: 65 }, (_, bits) => 1n << BigInt(bits));

/** What the processor has. */
export interface Cr3Processor {
  readonly maxPhysAddr: number;
  /** Linear-address masking: bits 62:61 are its. */
  readonly lam: boolean;
}

/** The state in which CR3 is loaded. */
export interface Cr3State {
  readonly longMode: boolean;
  readonly cr4: bigint;
}

/**
 * Bits of `cr3` that the load refuses, 0n where it takes the value. MOV looks at them in long mode only, because its operand
 * has 32 bits elsewhere, and with CR4.PCIDE=1 takes bit 63 as an order; VM entry and VMRUN look at them in every mode, and
 * know no order (SDM vol. 3, "Control Registers" and "Checks on Guest Control Registers, Debug Registers, and MSRs").
 */
export function reservedCr3Bits(
  cr3: bigint,
  loadedBy: RegisterLoad,
  { longMode, cr4 }: Cr3State,
  { maxPhysAddr, lam }: Cr3Processor,
): bigint {
  if (loadedBy === "mov" && !longMode) return 0n;
  // Nearly every CR3: a guest writes it at each switch of processes.
  const limit = LIMITS[maxPhysAddr]!;
  if (cr3 < limit) return 0n;
  const above = cr3 & -limit & ALL;
  const order = loadedBy === "mov" && (cr4 & PCIDE) !== 0n ? NO_FLUSH : 0n;
  return above & ~((lam ? MASKING : 0n) | order);
}

/** Throws GeneralProtectionError, or VmEntryError, where the load refuses `cr3`. */
export function checkCr3(cr3: bigint, loadedBy: RegisterLoad, state: Cr3State, processor: Cr3Processor): void {
  const reserved = reservedCr3Bits(cr3, loadedBy, state, processor);
  if (reserved === 0n) return;
  const message =
    `CR3 0x${cr3.toString(16)} has reserved bits 0x${reserved.toString(16)} ` +
    `(MAXPHYADDR ${processor.maxPhysAddr}${processor.lam ? "" : ", no LAM"})`;
  throw loadedBy === "mov" ? new GeneralProtectionError(message) : new VmEntryError(message);
}

/** Bits that MOV to CR3 refuses in this state, whatever the others are: bit 63 as an order needs CR4.PCIDE. */
export function refusedByMov(state: Cr3State, processor: Cr3Processor): bigint {
  const order = (state.cr4 & PCIDE) === 0n ? NO_FLUSH : 0n;
  return reservedCr3Bits(ALL, "mov", state, processor) | order;
}

/** MOV to CR3's operand: bit 63 is no part of CR3, and reserved without PCIDs (SDM "MOV-Move to/from Control Registers"). */
export function splitCr3(value: bigint, cr4: bigint): { cr3: bigint; keep: boolean } {
  const keep = (value & NO_FLUSH) !== 0n;
  if (keep && (cr4 & PCIDE) === 0n) {
    throw new GeneralProtectionError(`CR3 0x${value.toString(16)} has bit 63 set with CR4.PCIDE=0`);
  }
  return { cr3: value & ~NO_FLUSH, keep };
}
