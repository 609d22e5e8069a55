/** Confidential guests: which bit of an entry is none of its address, and whom a page is shared with. */
import { bitOf, PTE } from "../../abi/index.js";
import type { AddressSpaceConfig, MemoryEncryption } from "../../api.js";
import { checkInteger, checkOptions, type OptionNames, show } from "../../checks.js";
import { ConfigError } from "../../errors.js";
import { toU64 } from "../checks/numbers.js";

const MIB_2 = 0x20_0000n;
const NAMES: { [Kind in MemoryEncryption["kind"]]: OptionNames<Extract<MemoryEncryption, { kind: Kind }>> } = {
  sev: { kind: true, cBit: true },
  "sev-vtom": { kind: true, cBit: true, virtualTom: true },
  tdx: { kind: true, sharedBit: true },
};
/** GPAW is 48 or 52: the shared bit is the highest of the guest-physical address. */
const SHARED_BITS: readonly unknown[] = [47, 51];

/** Bits that are stripped from every entry. Throws ConfigError for what no guest can be. */
export function encryptionOf(config: AddressSpaceConfig): bigint {
  const mask = checkEncryption(config.encryptionMask);
  const named = config.memoryEncryption;
  if (named === undefined) return mask;
  if (mask !== 0n) throw new ConfigError("encryptionMask is given beside memoryEncryption, expected one of them");
  checkNamed(named, config);
  if (named.kind === "sev-vtom") return 0n;
  return 1n << BigInt(named.kind === "sev" ? named.cBit : named.sharedBit);
}

/** Memory-encryption bits are address bits of an entry. */
export function checkEncryption(mask = 0n): bigint {
  const bits = toU64(mask, "encryptionMask", ConfigError);
  if ((bits & ~bitOf(PTE, "ADDRESS")) === 0n) return bits;
  throw new ConfigError(`encryptionMask is 0x${bits.toString(16)}, expected bits 51:12 only`);
}

function checkNamed(named: MemoryEncryption, config: AddressSpaceConfig): void {
  const names = Object.hasOwn(NAMES, String((named as { kind?: unknown } | null)?.kind)) && NAMES[named.kind];
  if (!names) throw new ConfigError(`memoryEncryption is ${show(named)}, expected the kind sev, sev-vtom or tdx`);
  checkOptions(named, names as OptionNames<MemoryEncryption>, "memoryEncryption");
  if (named.kind === "tdx") {
    if (!SHARED_BITS.includes(named.sharedBit)) {
      throw new ConfigError(`memoryEncryption.sharedBit is ${show(named.sharedBit)}, expected 47 or 51`);
    }
    if (config.secondStage !== undefined) throw new ConfigError("memoryEncryption tdx is given with a second stage");
    return;
  }
  checkInteger(named.cBit, 32, 51, "memoryEncryption.cBit");
  if (named.kind === "sev") return;
  const top = toU64(named.virtualTom, "memoryEncryption.virtualTom", ConfigError);
  if (top % MIB_2 !== 0n || (top & ~bitOf(PTE, "ADDRESS")) !== 0n) {
    throw new ConfigError(
      `memoryEncryption.virtualTom is 0x${top.toString(16)}, expected a multiple of 2 MiB below 2^52`,
    );
  }
  if ((config.maxPhysAddr ?? 52) > named.cBit) {
    throw new ConfigError(
      `memoryEncryption.cBit is ${named.cBit}, expected MAXPHYADDR (${config.maxPhysAddr ?? 52}) or more, where it is reserved`,
    );
  }
}

/** Where a translation leads, and by which leaf: undefined with paging off. */
export interface EncryptedPage {
  readonly gpa: bigint;
  readonly leaf: bigint | undefined;
  readonly fetch: boolean;
  /** Entries have 8 bytes. */
  readonly wide: boolean;
}

/**
 * Whether an access reaches the page as one that is shared with the host (APM vol. 2, "Guest Page Tables" of SEV and "Virtual
 * Top-of-Memory"): fetches never do, and data accesses by the C-bit or the address; to TDX by the shared bit.
 */
export function isShared(named: MemoryEncryption, { gpa, leaf, fetch, wide }: EncryptedPage): boolean {
  if (named.kind === "sev-vtom") return !fetch && gpa >= BigInt(named.virtualTom);
  if (leaf === undefined || !wide) return false;
  if (named.kind === "sev") return !fetch && (leaf & (1n << BigInt(named.cBit))) === 0n;
  return (leaf & (1n << BigInt(named.sharedBit))) !== 0n;
}
