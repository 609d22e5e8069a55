/** Why PDPTEs cannot be latched. */
import { Status } from "../abi/index.js";
import { GeneralProtectionError, PdpteLoadError } from "../errors.js";
import type { LinearMemory } from "./linear-memory.js";
import { readTranslation, workRecord } from "./results.js";
import { spaceRecord } from "./space-config.js";

/** Throws what loading the PDPTEs of `space` ended with; `status` is what the core returned for it. */
export function throwBadPdptes(linear: LinearMemory, work: number, space: number, status: number): never {
  if (status === Status.PageFault) {
    const at = workRecord.get64(linear, work, "ENTRY_ADDRESS").toString(16);
    const entry = workRecord.get64(linear, work, "ENTRY").toString(16);
    throw new GeneralProtectionError(`PDPTE 0x${entry} at 0x${at} has reserved bits set`);
  }
  const table = spaceRecord.get64(linear, space, "ROOT").toString(16);
  const result = readTranslation(linear, work, "pae", status);
  if (!result.ok && result.stage === "second") {
    throw new PdpteLoadError(`the PDPTEs at 0x${table} are not accessible by the second stage`, result);
  }
  throw new GeneralProtectionError(`the PDPTEs at 0x${table} cannot be read`);
}
