/** What an access asks of an EPT translation, and the violation that a refusal is. */
import { bitOf } from "../abi/bits.js";
import { EPT_QUAL } from "../abi/faults.js";
import { Status } from "../abi/status.js";
import type { Fault } from "../api.js";
import { type EptSettings, ept, eptShift } from "./ept-format.js";
import type { FaultSite } from "./faults.js";
import type { StageAccess } from "./second-stage.js";
import { isEptStackLeaf, isEptStackPage } from "./shadow-stack.js";
import { bits } from "./values.js";

const qual = {
  read: bitOf(EPT_QUAL, "READ"),
  write: bitOf(EPT_QUAL, "WRITE"),
  fetch: bitOf(EPT_QUAL, "FETCH"),
  userExecutable: bitOf(EPT_QUAL, "USER_EXECUTABLE"),
  gvaValid: bitOf(EPT_QUAL, "GVA_VALID"),
  gvaFinal: bitOf(EPT_QUAL, "GVA_FINAL"),
  shadowStack: bitOf(EPT_QUAL, "SHADOW_STACK"),
  sss: bitOf(EPT_QUAL, "SSS"),
  userAddress: bitOf(EPT_QUAL, "USER_ADDRESS"),
  writablePage: bitOf(EPT_QUAL, "WRITABLE_PAGE"),
  xdPage: bitOf(EPT_QUAL, "XD_PAGE"),
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

/** The access as the tables see it: to KVM's software walk of Linux 6.1 shadow-stack accesses are like others. */
export function eptAccess(settings: EptSettings, access: StageAccess): StageAccess {
  return settings.rules === "architecture" ? access : { ...access, shadowStack: undefined };
}

/** The right that a fetch needs: with mode-based execute control user-mode linear addresses have their own. */
export function executeRight(settings: EptSettings, access: StageAccess): bigint {
  return settings.modeBasedExecute && access.userAddress ? ept.xu : ept.x;
}

/** Supervisor shadow-stack control judges the access, instead of its reading and writing. */
export function isStackControlled(settings: EptSettings, access: StageAccess): boolean {
  return settings.shadowStackControl && access.shadowStack === "supervisor";
}

/** Whether a translation refuses the access: leaf `leaf`, below entries that together grant `above`. */
export function eptDenies(
  settings: EptSettings,
  above: EptRights,
  leaf: bigint,
  access: StageAccess,
  data: DataAccess,
): boolean {
  if (isStackControlled(settings, access)) return !isEptStackPage(above, leaf);
  const rights = above & leaf;
  return (
    (data.read && (rights & ept.r) === 0n) ||
    (data.write && (rights & ept.w) === 0n) ||
    (data.fetch && (rights & executeRight(settings, access)) === 0n)
  );
}

/** An EPT violation. `rights` are undefined where the translation did not get to an entry that maps a page. */
export function eptViolation(
  settings: EptSettings,
  gpa: bigint,
  access: StageAccess,
  data: DataAccess,
  found: EptRights | undefined,
  site: FaultSite,
): Fault {
  const rights = found ?? 0n;
  const stackLeaf = settings.shadowStackControl && found !== undefined && isEptStackLeaf(site.entry);
  const linear = access.purpose === "table" || access.purpose === "final";
  const errorCode =
    (data.read ? qual.read : 0n) |
    (data.write ? qual.write : 0n) |
    (data.fetch ? qual.fetch : 0n) |
    ((rights & bits(0, 2)) << 3n) |
    (settings.modeBasedExecute && (rights & ept.xu) !== 0n ? qual.userExecutable : 0n) |
    (linear ? qual.gvaValid : 0n) |
    (access.purpose === "final" ? qual.gvaFinal : 0n) |
    (access.shadowStack === undefined ? 0n : qual.shadowStack) |
    (stackLeaf ? qual.sss : 0n) |
    (settings.advancedExitInformation ? advancedInformation(access) : 0n);
  return {
    ok: false,
    status: Status.EptViolation,
    vector: undefined,
    errorCode,
    address: gpa,
    stage: "second",
    ...site,
    ...(settings.violationExceptions ? { convertible: isConvertible(settings, gpa, site) } : {}),
  };
}

/**
 * SDM vol. 3, "Exit Qualification for EPT Violations": bits 11:9 tell of the linear address's translation, where bits 8:7 say that
 * it is the final address which is accessed; without paging all is allowed.
 */
function advancedInformation({ purpose, guestRights: rights }: StageAccess): bigint {
  if (purpose !== "final" || rights === undefined) return 0n;
  return (
    (rights.user ? qual.userAddress : 0n) |
    (rights.write ? qual.writablePage : 0n) |
    (rights.execute ? 0n : qual.xdPage)
  );
}

/**
 * SDM vol. 3, "Convertible EPT Violations": bit 63 of the entry that is not present or maps the page. An address that EPT does not
 * translate has none.
 */
function isConvertible(settings: EptSettings, gpa: bigint, { entry }: FaultSite): boolean {
  return gpa < 1n << (eptShift(settings.rootLevel) + 9n) && (entry & ept.suppressVe) === 0n;
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
