/** What happens to a linear address before any table is read: LASS, LAM or UAI, and the canonical check. */
import { ConfigError } from "../errors.js";
import type { MemoryAccess } from "./access.js";
import type { Registers } from "./registers.js";
import { bits } from "./values.js";

/**
 * Linear-address-space separation (SDM vol. 3, "Linear-Address Pre-Processing"), in front of everything else: bit 63 of the
 * address as it is given is 1 for supervisor-mode accesses and 0 for user-mode ones. Supervisor-mode data accesses are held to it
 * only with CR4.SMAP=1, and with EFLAGS.AC=1 only implicit ones.
 */
export function violatesSeparation(registers: Registers, access: MemoryAccess, address: bigint): boolean {
  if (!registers.lass) return false;
  const supervisorHalf = address >> 63n === 1n;
  if (access.user) return supervisorHalf;
  const bound = access.fetch || (registers.smap && !access.alignmentCheck);
  return bound && !supervisorHalf;
}

/**
 * The linear address that paging translates, undefined where it is not canonical. Throws ConfigError for one above 32 bits
 * outside long mode, where the processor makes none.
 */
export function linearAddress(registers: Registers, access: MemoryAccess, address: bigint): bigint | undefined {
  switch (registers.mode) {
    case "none":
    case "32bit":
    case "pae":
      if (address <= 0xffffffffn) return address;
      throw new ConfigError(`linear address 0x${address.toString(16)} in mode ${registers.mode}: there are 32 bits`);
    default: {
      const width = registers.mode === "5level" ? 57 : 48;
      const untagged = maskMetadata(registers, access, address);
      if (untagged === undefined) return undefined;
      const top = bits(width - 1, 63);
      const upper = untagged & top;
      return upper === 0n || upper === top ? untagged : undefined;
    }
  }
}

/**
 * Linear-address masking (SDM vol. 1, "Linear-Address Masking"): the metadata bits below bit 63 are replaced by the
 * sign bit of the masked width (bit 47 or 56), which itself must equal bit 63. User or supervisor is told by bit 63
 * alone. Explicit data accesses only, and no shadow-stack accesses: SSP is always canonical.
 *
 * Upper address ignore (APM vol. 2, "Upper Address Ignore Operation"): bits 63:57 are not looked at where the access is by DS or ES,
 * so that bit 56 stands for them; with 4-level paging bits 56:48 remain to be checked. No processor has both.
 *
 * Masking comes before paging, so CR2 receives the masked address: the metadata is not reported.
 */
function maskMetadata(registers: Registers, access: MemoryAccess, address: bigint): bigint | undefined {
  if (access.fetch || access.implicit || access.shadowStack !== undefined) return address;
  if (registers.uai && !access.otherSegment) return BigInt.asUintN(64, BigInt.asIntN(57, address));
  const signBit = maskedSignBit(registers, address);
  if (signBit === undefined) return address;
  const negative = address >> 63n;
  if (((address >> BigInt(signBit)) & 1n) !== negative) return undefined;
  const metadata = bits(signBit + 1, 62);
  return negative === 1n ? address | metadata : address & ~metadata;
}

function maskedSignBit(registers: Registers, address: bigint): 47 | 56 | undefined {
  if (address >> 63n === 1n) {
    if (!registers.lamSup) return undefined;
    return registers.mode === "5level" ? 56 : 47;
  }
  // LAM_U57 has precedence where both are set.
  if (registers.lamU57) return 56;
  return registers.lamU48 ? 47 : undefined;
}
