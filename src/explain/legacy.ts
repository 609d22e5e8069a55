/** The checks of a walk in one of the legacy formats, for a guest's linear addresses and as NPT, by the reference's rules. */
import { bitOf } from "../abi/bits.js";
import { PTE } from "../abi/entries.js";
import type { Fault, Rights } from "../api.js";
import { entryName } from "../decode/entry.js";
import type { MemoryAccess } from "../reference/access.js";
import { outsideMemory, type PageFaultCause, pageFault } from "../reference/faults.js";
import { type Format, isLeaf, type LevelFormat, pageAddress, tableAddress } from "../reference/formats.js";
import { isPaePdpte, rootAddress } from "../reference/legacy-walk.js";
import { ALL_RIGHTS, narrow, seenBy } from "../reference/permissions.js";
import type { Registers } from "../reference/registers.js";
import { tableAccess } from "../reference/second-stage.js";
import type { Factor } from "./explanation.js";
import { type CheckLog, nowhere, ofEntry, ofRegister, type Place } from "./log.js";
import { deniesByRights, type WalkPath } from "./rights.js";
import type { ExplainStage } from "./second-stage.js";

const P = bitOf(PTE, "P");
const A = bitOf(PTE, "A");
const D = bitOf(PTE, "D");
const PS = bitOf(PTE, "PS");
const XD = bitOf(PTE, "XD");

/** What is walked. */
export interface LegacyStage {
  readonly registers: Registers;
  /** Undefined with paging off. */
  readonly format: Format | undefined;
  readonly stage: "guest" | "second";
  /** PDPTEs are registers. */
  readonly latched: boolean;
  readonly second: ExplainStage | undefined;
}

export type LegacyOutcome =
  | { readonly ok: true; readonly pa: bigint; readonly rights: Rights }
  | { readonly ok: false; readonly fault: Fault };

/** Flags that a successful access needs in an entry, and why the second stage would refuse them. */
interface Wanted {
  readonly place: Place;
  readonly mask: bigint;
  readonly unwritable: { readonly fault: Fault; readonly factors: readonly Factor[] } | undefined;
}

/** `address` is canonical, and masked. */
export function explainLegacy(walked: LegacyStage, address: bigint, asked: MemoryAccess, log: CheckLog): LegacyOutcome {
  const { registers, format, stage, second } = walked;
  const access = seenBy(registers, asked);
  if (format === undefined) {
    log.add("paging", true, nowhere(stage), [ofRegister("CR0", "PG", false)], "paging is off: nothing is checked");
    return { ok: true, pa: address, rights: ALL_RIGHTS };
  }
  const path: WalkPath = { registers, places: [] };
  const wanted: Wanted[] = [];
  let rights = ALL_RIGHTS;
  let table = rootAddress(walked);
  for (const level of format.levels) {
    const entryAddress = table + ((address >> level.shift) & level.indexMask) * BigInt(format.entryBytes);
    const pdpte = isPaePdpte(walked, level);
    const site = nowhere(stage, level.level, entryAddress);
    let unwritable: Wanted["unwritable"];
    if (second !== undefined && !(pdpte && walked.latched)) {
      const outcome = second(entryAddress, tableAccess("table", registers.rules === "kvm-6.1"), log);
      if (!outcome.ok) return outcome;
      unwritable = outcome.unwritable;
    }
    const before = log.checks.length;
    const failed = (cause: PageFaultCause, place: Place, keyDenied = false): LegacyOutcome => {
      // Flags that are set on the way to a fault were set before this entry was looked at.
      const own = log.checks.splice(before);
      const refused = registers.accessedOnFault ? flagsRefused(access, wanted, log) : undefined;
      log.checks.push(...own);
      return { ok: false, fault: refused ?? pageFault(registers, access, address, place, cause, keyDenied) };
    };
    const place = log.read(stage, level.level, entryAddress);
    if (place === undefined) {
      log.add("memory", false, site, [], "the memory has nothing there");
      if (registers.rules === "kvm-6.1") return failed("notPresent", site);
      return { ok: false, fault: outsideMemory(stage, address, level.level, entryAddress) };
    }
    const entry = place.entry & ~registers.encryptionMask;
    const present = (entry & P) !== 0n;
    log.add("present", present, place, [ofEntry(place, "P", present ? 1n : 0n)], present ? "present" : "not present");
    if (!present) return failed("notPresent", place);
    const leaf = isLeaf(level, entry);
    if (!noReservedBits(registers, level, leaf, place, entry, log)) return failed("reserved", place);
    const above = rights;
    if (!pdpte) {
      rights = narrow(registers, rights, entry);
      path.places.push({ ...place, entry });
    }
    if (!leaf) {
      if (!pdpte) wanted.push({ place, mask: A, unwritable });
      table = tableAddress(format, entry);
      continue;
    }
    const denied = deniesByRights(path, { rights, above, leaf: entry }, access, log);
    if (denied.rights || denied.key) return failed("rights", place, denied.key);
    wanted.push({ place, mask: access.write ? A | D : A, unwritable });
    const refused = flagsRefused(access, wanted, log);
    if (refused !== undefined) return { ok: false, fault: refused };
    const pa = pageAddress(registers, level, entry) | (address & (BigInt(level.pageSize) - 1n));
    return { ok: true, pa, rights };
  }
  throw new Error("a level-1 entry is always a leaf");
}

/** Why the reserved bits of an entry are reserved, as far as registers or the processor decide it. */
function noReservedBits(
  registers: Registers,
  level: LevelFormat,
  leaf: boolean,
  place: Place,
  entry: bigint,
  log: CheckLog,
): boolean {
  const wrong = entry & (leaf ? level.reserved.page : level.reserved.table);
  if (wrong === 0n) return log.add("reserved", true, place, [], "no reserved bits");
  const factors = [ofEntry(place, "reserved", wrong)];
  if (wrong & XD && !registers.nxe) factors.push(ofRegister("EFER", "NXE", false));
  if ((wrong & ~XD) >> BigInt(registers.maxPhysAddr) !== 0n) {
    factors.push(ofRegister("CPU", "MAXPHYADDR", registers.maxPhysAddr));
  }
  if (wrong & PS && level.level === 3) factors.push(ofRegister("CPU", "PAGE1GB", registers.page1g));
  return log.add("reserved", false, place, factors, `reserved bits 0x${wrong.toString(16)} are set`);
}

/** The first flag whose writing the second stage refuses, from the root down; a probe sets none. */
function flagsRefused(access: MemoryAccess, wanted: readonly Wanted[], log: CheckLog): Fault | undefined {
  if (access.probe) return undefined;
  for (const { place, mask, unwritable } of wanted) {
    if ((place.entry & mask) === mask || unwritable === undefined) continue;
    const missing = ofEntry(place, (place.entry & mask & A) === 0n ? "A" : "D", 0n);
    const text = `setting a flag of the ${entryName(place.level)} is a write that the second stage refuses`;
    log.add("flags", false, place, [missing, ...unwritable.factors], text);
    return unwritable.fault;
  }
  return undefined;
}
