/** Linear addresses as callers give them. */
import { ConfigError } from "../errors.js";

/**
 * Throws ConfigError for an address above 32 bits where linear addresses have no more (`wide` false: outside long mode): the
 * processor never makes one (SDM, "Paging-Mode Enable": segmentation gives 32 bits).
 */
export function checkLinear(address: bigint, wide: boolean): void {
  if (!wide && address >> 32n !== 0n) {
    throw new ConfigError(`linear address 0x${address.toString(16)}: outside long mode there are 32 bits`);
  }
}
