/**
 * Confidential guests: SEV's C-bit, virtual top of memory of SEV-SNP (APM vol. 2, "Secure Encrypted Virtualization", "Virtual
 * Top-of-Memory"), TDX's shared bit.
 */
import type { AddressSpaceConfig, MemoryEncryption } from "../api.js";
import { checkOptions, show } from "../checks.js";
import { ConfigError } from "../errors.js";
import { bits, configU64, hex } from "./values.js";

const OPTIONS = {
  sev: { kind: true, cBit: true },
  "sev-vtom": { kind: true, cBit: true, virtualTom: true },
  tdx: { kind: true, sharedBit: true },
} as const;

/** What a space strips from entries: the bit of the named kind, but for vTOM, whose entries have none. */
export function encryptionMaskOf(
  config: Pick<AddressSpaceConfig, "encryptionMask" | "memoryEncryption" | "maxPhysAddr" | "secondStage">,
): bigint {
  const mask = configU64(config.encryptionMask ?? 0n, "encryptionMask");
  if ((mask & ~bits(12, 51)) !== 0n) {
    throw new ConfigError(`encryptionMask is ${hex(mask)}: bits 51:12 may be set`);
  }
  const named = config.memoryEncryption;
  if (named === undefined) return mask;
  if (mask !== 0n) throw new ConfigError("memoryEncryption is given with an encryptionMask: expected one of them");
  const kind = (named as { kind?: unknown } | null)?.kind;
  if (kind !== "sev" && kind !== "sev-vtom" && kind !== "tdx") {
    throw new ConfigError(`memoryEncryption is ${show(named)}: expected kind sev, sev-vtom or tdx`);
  }
  checkOptions(named, OPTIONS[kind] as never, "memoryEncryption");
  if (named.kind === "tdx") {
    if (named.sharedBit !== 47 && named.sharedBit !== 51) {
      throw new ConfigError(`memoryEncryption.sharedBit is ${show(named.sharedBit)}: expected 47 or 51`);
    }
    if (config.secondStage !== undefined) throw new ConfigError("memoryEncryption tdx: expected no second stage");
    return bits(named.sharedBit, named.sharedBit);
  }
  const { cBit } = named;
  if (!Number.isInteger(cBit) || cBit < 32 || cBit > 51) {
    throw new ConfigError(`memoryEncryption.cBit is ${show(cBit)}: expected 32 to 51`);
  }
  if (named.kind === "sev") return bits(cBit, cBit);
  const top = configU64(named.virtualTom, "memoryEncryption.virtualTom");
  if ((top & ~bits(21, 51)) !== 0n) {
    throw new ConfigError(`memoryEncryption.virtualTom is ${hex(top)}: expected a multiple of 2 MiB below 2^52`);
  }
  if (cBit < (config.maxPhysAddr ?? 52)) {
    throw new ConfigError(`memoryEncryption.cBit is ${cBit}: expected a bit from MAXPHYADDR on, which is reserved`);
  }
  return 0n;
}

/** An access to a page of a confidential guest. */
export interface ConfidentialAccess {
  /** Entries have 8 bytes; without paging there are none. */
  readonly wide: boolean;
  readonly fetch: boolean;
  /** The leaf as it stands in memory. */
  readonly leaf: bigint;
  readonly gpa: bigint;
}

/** Whether it reaches the page as a shared one. Without entries of 8 bytes no page is shared by a bit. */
export function isSharedAccess(named: MemoryEncryption, { wide, fetch, leaf, gpa }: ConfidentialAccess): boolean {
  const bit = (position: number) => (leaf & bits(position, position)) !== 0n;
  switch (named.kind) {
    case "sev":
      return wide && !fetch && !bit(named.cBit);
    case "sev-vtom":
      return !fetch && gpa >= configU64(named.virtualTom, "memoryEncryption.virtualTom");
    case "tdx":
      return wide && bit(named.sharedBit);
  }
}
