/** What happens to a linear address before any table is read: LAM and the canonical check. */
import { ConfigError } from "../errors.js";
import type { MemoryAccess } from "./access.js";
import type { Registers } from "./registers.js";
import { bits } from "./values.js";

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
 * Masking comes before paging, so CR2 receives the masked address: the metadata is not reported.
 */
function maskMetadata(registers: Registers, access: MemoryAccess, address: bigint): bigint | undefined {
  if (access.fetch || access.implicit || access.shadowStack !== undefined) return address;
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
