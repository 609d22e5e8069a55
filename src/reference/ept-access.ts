/** What an access asks of an EPT translation, and the violation that a refusal is. */
import { bitOf } from "../abi/bits.js";
import { EPT_QUAL } from "../abi/faults.js";
import { Status } from "../abi/status.js";
import type { Fault } from "../api.js";
import { type EptSettings, ept } from "./ept-format.js";
import type { FaultSite } from "./faults.js";
import type { StageAccess } from "./second-stage.js";
import { bits } from "./values.js";

const qual = {
  read: bitOf(EPT_QUAL, "READ"),
  write: bitOf(EPT_QUAL, "WRITE"),
  fetch: bitOf(EPT_QUAL, "FETCH"),
  userExecutable: bitOf(EPT_QUAL, "USER_EXECUTABLE"),
  gvaValid: bitOf(EPT_QUAL, "GVA_VALID"),
  gvaFinal: bitOf(EPT_QUAL, "GVA_FINAL"),
};

/** R, W, X in bits 2:0 and XU in bit 10, ANDed over the entries used. */
export type EptRights = bigint;

/** What an access does to the guest-physical address. A guest-table access can be a read and a write in one. */
export interface DataAccess {
  readonly read: boolean;
  readonly write: boolean;
  readonly fetch: boolean;
}

/** Setting an accessed or dirty flag in a guest's entry. */
export const FLAG_UPDATE: DataAccess = { read: true, write: true, fetch: false };

/**
 * With accessed and dirty flags for EPT enabled, accesses to the guest's paging structures are treated as writes,
 * and a violation reports them as read and write (SDM vol. 3, "Accessed and Dirty Flags for EPT" and the footnote
 * of "Exit Qualification for EPT Violations"). Loading the PDPTE registers remains a read.
 */
export function dataAccess(settings: EptSettings, access: StageAccess): DataAccess {
  if (access.purpose === "table") {
    return { read: true, write: settings.accessedDirty || access.kvm, fetch: false };
  }
  if (access.purpose === "pdptes") return { read: true, write: access.kvm, fetch: false };
  return { read: access.kvm || (!access.write && !access.fetch), write: access.write, fetch: access.fetch };
}

/** The right that a fetch needs: with mode-based execute control user-mode linear addresses have their own. */
export function executeRight(settings: EptSettings, access: StageAccess): bigint {
  return settings.modeBasedExecute && access.userAddress ? ept.xu : ept.x;
}

/** Whether `rights` refuse the access. */
export function eptDenies(settings: EptSettings, rights: EptRights, access: StageAccess, data: DataAccess): boolean {
  return (
    (data.read && (rights & ept.r) === 0n) ||
    (data.write && (rights & ept.w) === 0n) ||
    (data.fetch && (rights & executeRight(settings, access)) === 0n)
  );
}

/** An EPT violation. `rights` are 0 where an entry was not present: its own bits are. */
export function eptViolation(
  settings: EptSettings,
  gpa: bigint,
  access: StageAccess,
  data: DataAccess,
  rights: EptRights,
  site: FaultSite,
): Fault {
  const linear = access.purpose === "table" || access.purpose === "final";
  const errorCode =
    (data.read ? qual.read : 0n) |
    (data.write ? qual.write : 0n) |
    (data.fetch ? qual.fetch : 0n) |
    ((rights & bits(0, 2)) << 3n) |
    (settings.modeBasedExecute && (rights & ept.xu) !== 0n ? qual.userExecutable : 0n) |
    (linear ? qual.gvaValid : 0n) |
    (access.purpose === "final" ? qual.gvaFinal : 0n);
  return {
    ok: false,
    status: Status.EptViolation,
    vector: undefined,
    errorCode,
    address: gpa,
    stage: "second",
    ...site,
  };
}

/** An EPT misconfiguration has no qualification. */
export function eptMisconfiguration(gpa: bigint, site: FaultSite): Fault {
  return {
    ok: false,
    status: Status.EptMisconfiguration,
    vector: undefined,
    errorCode: 0n,
    address: gpa,
    stage: "second",
    ...site,
  };
}
