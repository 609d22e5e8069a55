/** Why PDPTEs cannot be latched. */
import { Status } from "../../abi/index.js";
import type { Fault } from "../../api.js";
import { GeneralProtectionError, PdpteLoadError } from "../../errors.js";
import type { SpaceRecord, WorkRecord } from "../records/walk.js";
import { readTranslation } from "./results.js";

/** Throws what loading the PDPTEs of `space` ended with; `status` is what the core returned for it, `told` what a fault says. */
export function throwBadPdptes(
  work: WorkRecord,
  space: SpaceRecord,
  status: number,
  told: (fault: Fault) => Fault,
): never {
  if (status === Status.PageFault) {
    const at = work.entryAddress.toString(16);
    const entry = work.entry.toString(16);
    throw new GeneralProtectionError(`PDPTE 0x${entry} at 0x${at} has reserved bits set`);
  }
  const table = space.root.toString(16);
  const result = readTranslation(work, "pae", status);
  if (!result.ok && result.stage === "second") {
    throw new PdpteLoadError(`the PDPTEs at 0x${table} are not accessible by the second stage`, told(result));
  }
  throw new GeneralProtectionError(`the PDPTEs at 0x${table} cannot be read`);
}
