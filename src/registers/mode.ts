/** What registers of a processor can be, for spaces and vCPUs alike. */
import { bitOf, CR0, CR4, EFER } from "../abi/index.js";
import { ConfigError } from "../errors.js";

export interface ModeRegisters {
  readonly cr0: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
}

/** Throws ConfigError for combinations that no processor can be in (SDM "Paging Modes and Control Bits"). */
export function checkMode({ cr0, cr4, efer }: ModeRegisters): void {
  const paging = (cr0 & bitOf(CR0, "PG")) !== 0n;
  const longMode = (efer & bitOf(EFER, "LMA")) !== 0n;
  if (paging && (cr0 & bitOf(CR0, "PE")) === 0n) throw new ConfigError("CR0.PG is set without CR0.PE");
  if (longMode && !paging) throw new ConfigError("EFER.LMA is set without CR0.PG");
  if (longMode && (cr4 & bitOf(CR4, "PAE")) === 0n) throw new ConfigError("EFER.LMA is set without CR4.PAE");
  if (!longMode && (cr4 & bitOf(CR4, "PCIDE")) !== 0n) throw new ConfigError("CR4.PCIDE is set outside long mode");
}
