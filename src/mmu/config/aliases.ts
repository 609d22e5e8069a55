/**
 * GPA aliases: bits taken from a VM's guest-physical addresses as attributes, so that several addresses name one page.
 * An address keeps its alias bits, a gfn never has them; see docs/aliases.md.
 */
import { ConfigError } from "../../errors.js";
import type { AliasConfig } from "./config.js";

export const NO_ALIASES: Required<AliasConfig> = { mask: 0n, executeOnly: 0n };

/** PSE-36 gives 32-bit guests as many address bits (SDM, "32-Bit Paging"); KVM's walk always takes 36. */
const PSE36_MOST = 40;
const PSE36_KVM = 36;
const ADDRESS_BITS = 52;

/** What decides which bits can be taken. */
export interface AliasLimits {
  readonly guestPhysicalBits: number;
  readonly hostPhysicalBits: number;
  /** Levels of the second stage; undefined under shadow paging. */
  readonly tdp: { readonly level: number } | undefined;
  /** SPTEs can grant execution without reading. */
  readonly executeOnly: boolean;
}

/** The checked configuration. Throws ConfigError for bits that cannot be taken. */
export function checkAliases(config: AliasConfig, limits: AliasLimits): Required<AliasConfig> {
  const { mask, executeOnly = 0n } = config;
  if (mask === 0n && executeOnly === 0n) return NO_ALIASES;
  const name = `alias mask 0x${mask.toString(16)}`;
  const { tdp, guestPhysicalBits, hostPhysicalBits } = limits;
  if (tdp === undefined) throw new ConfigError(`${name}: aliases need npt or ept, not shadow paging`);
  if (mask < 0n || mask >> BigInt(ADDRESS_BITS) !== 0n) throw new ConfigError(`${name} has bits above 51`);
  const physical = Math.max(guestPhysicalBits, hostPhysicalBits);
  const first = Math.max(PSE36_KVM, Math.min(PSE36_MOST, physical));
  if (mask & ((1n << 32n) - 1n)) throw new ConfigError(`${name} has bits below 32`);
  if (mask & ((1n << BigInt(first)) - 1n)) {
    throw new ConfigError(`${name} has bits that PSE-36 reaches, expected none below ${first}`);
  }
  const width = tdp.level === 3 ? 32 : 12 + 9 * tdp.level;
  if (mask >> BigInt(width) !== 0n) throw new ConfigError(`${name} has bits that ${tdp.level} levels do not translate`);
  if (executeOnly & ~mask) throw new ConfigError(`execute-only bits 0x${executeOnly.toString(16)} are not in the mask`);
  if (executeOnly !== 0n && !limits.executeOnly) {
    throw new ConfigError("execute-only aliases need EPT with the execute-only capability");
  }
  return { mask, executeOnly };
}

/** Whether gfns [base, base + pages) are free of alias bits. `mask` is over gfns. */
export function isPlain(base: bigint, pages: number, mask: bigint): boolean {
  const last = base + BigInt(pages) - 1n;
  for (let rest = mask; rest !== 0n; rest &= rest - 1n) {
    const bit = rest & -rest;
    // The bit is 0 in both ends and nowhere set in between.
    if ((base & bit) !== 0n || base / bit !== last / bit) return false;
  }
  return true;
}
