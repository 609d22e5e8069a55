/** The checks of an EPT translation (SDM vol. 3, "The Extended Page Table Mechanism (EPT)"), by the reference's rules. */
import type { Fault } from "../api.js";
import { entryName } from "../decode/entry.js";
import {
  type DataAccess,
  dataAccess,
  eptAccess,
  eptDenies,
  eptMisconfiguration,
  eptViolation,
  executeRight,
  FLAG_UPDATE,
  isStackControlled,
} from "../reference/ept-access.js";
import {
  type EptSettings,
  ept,
  eptIsLeaf,
  eptMisconfigured,
  eptPresent,
  eptReserved,
  eptShift,
  type Misconfiguration,
} from "../reference/ept-format.js";
import { outsideMemory } from "../reference/faults.js";
import type { StageAccess } from "../reference/second-stage.js";
import { isEptStackLeaf } from "../reference/shadow-stack.js";
import type { Factor } from "./explanation.js";
import { type CheckLog, nowhere, ofEntry, ofRegister, type Place } from "./log.js";
import type { ExplainStage, StageOutcome } from "./second-stage.js";

const ALL = ept.r | ept.w | ept.x | ept.xu;

export function eptExplainer(settings: EptSettings): ExplainStage {
  return (gpa, access, log) => explainEpt(settings, gpa, access, log);
}

function explainEpt(settings: EptSettings, gpa: bigint, asked: StageAccess, log: CheckLog): StageOutcome {
  const access = eptAccess(settings, asked);
  const data = dataAccess(settings, access);
  const root = settings.rootLevel;
  const violation = (rights: bigint | undefined, place: Place): StageOutcome => ({
    ok: false,
    fault: eptViolation(settings, gpa, access, data, rights, siteOf(place)),
  });
  const width = root === 4 ? 48 : 57;
  const top = nowhere("second", root);
  const fits = gpa >> BigInt(width) === 0n;
  const factors = [ofRegister("EPTP", "WALK_LENGTH", root - 1)];
  if (!log.add("width", fits, nowhere("second"), factors, `EPT of ${root} levels translates ${width} bits`))
    return violation(undefined, top);

  const path: Place[] = [];
  let table = settings.root;
  let rights = ALL;
  for (let level: number = root; ; level--) {
    const address = table + 8n * ((gpa >> eptShift(level)) & 0x1ffn);
    const place = log.read("second", level, address);
    if (place === undefined) return { ok: false, fault: unreadable(settings, gpa, access, level, address, log) };
    if (!isPresent(settings, place, log)) return violation(undefined, place);
    const wrong = eptMisconfigured(settings, level, place.entry);
    const leaf = eptIsLeaf(settings, level, place.entry);
    log.add(
      "configuration",
      wrong === undefined,
      place,
      wrong === undefined ? [] : misconfigurationFactors(settings, place, leaf, wrong),
      wrong === undefined ? "no misconfiguration" : MISCONFIGURATIONS[wrong],
    );
    if (wrong !== undefined) return { ok: false, fault: eptMisconfiguration(gpa, siteOf(place)) };
    path.push(place);
    const above = rights;
    rights &= place.entry;
    if (!leaf) {
      table = place.entry & ept.address;
      continue;
    }
    rightsChecks(settings, path, access, data, log);
    if (eptDenies(settings, above, place.entry, access, data)) return violation(rights, place);
    const offset = (1n << eptShift(level)) - 1n;
    const refusing = path.find(({ entry }) => (entry & ept.w) === 0n);
    const fault = eptViolation(settings, gpa, access, FLAG_UPDATE, rights, siteOf(place));
    return {
      ok: true,
      pa: (place.entry & ept.address & ~offset) | (gpa & offset),
      unwritable: refusing && { fault, factors: [ofEntry(refusing, "W", 0n)] },
    };
  }
}

function siteOf({ level, entryAddress, entry }: Place) {
  return { level, entryAddress, entry };
}

function isPresent(settings: EptSettings, place: Place, log: CheckLog): boolean {
  const present = eptPresent(settings, place.entry);
  const names = settings.modeBasedExecute ? (["R", "W", "X", "XU"] as const) : (["R", "W", "X"] as const);
  const bits = { R: ept.r, W: ept.w, X: ept.x, XU: ept.xu };
  const factors = names
    .filter((name) => !present || (place.entry & bits[name]) !== 0n)
    .map((name) => ofEntry(place, name, present ? 1n : 0n));
  return log.add("present", present, place, factors, present ? "present" : "not present: it grants nothing");
}

const MISCONFIGURATIONS: Record<Misconfiguration, string> = {
  "write-only": "a misconfiguration: it can be written but not read",
  "execute-only": "a misconfiguration: the processor has no execute-only translations",
  reserved: "a misconfiguration: reserved bits are set",
  "memory type": "a misconfiguration: its memory type does not exist",
};

function misconfigurationFactors(
  settings: EptSettings,
  place: Place,
  leaf: boolean,
  wrong: Misconfiguration,
): Factor[] {
  switch (wrong) {
    case "write-only":
      return [ofEntry(place, "R", 0n), ofEntry(place, "W", 1n)];
    case "execute-only":
      return [ofEntry(place, "R", 0n), ofRegister("CPU", "EXECUTE_ONLY", false)];
    case "memory type":
      return [ofEntry(place, "MEMTYPE", (place.entry & ept.memoryType) >> 3n)];
    case "reserved":
      return [
        ofEntry(place, "reserved", place.entry & eptReserved(settings, place.level, leaf)),
        ofRegister("CPU", "MAXPHYADDR", settings.maxPhysAddr),
      ];
  }
}

/** One check for each thing that the access does. */
function rightsChecks(
  settings: EptSettings,
  path: readonly Place[],
  access: StageAccess,
  data: DataAccess,
  log: CheckLog,
): void {
  const leaf = path.at(-1)!;
  if (isStackControlled(settings, access)) {
    stackCheck(path, log);
    return;
  }
  const check = (name: "read" | "write" | "execute", right: string, mask: bigint) => {
    const refusing = path.find(({ entry }) => (entry & mask) === 0n);
    const factors = [ofEntry(refusing ?? leaf, right, refusing === undefined ? 1n : 0n)];
    if (name === "write" && access.purpose === "table" && settings.accessedDirty) {
      factors.push(ofRegister("EPTP", "AD", true));
    }
    const done = name === "execute" ? "executed" : name === "read" ? "read" : "written";
    const text =
      refusing === undefined ? `can be ${done}` : `cannot be ${done}: ${entryName(refusing.level)} forbids it`;
    log.add(name, refusing === undefined, leaf, factors, text);
  };
  if (data.read) check("read", "R", ept.r);
  if (data.write) check("write", "W", ept.w);
  if (data.fetch) {
    const mask = executeRight(settings, access);
    check("execute", mask === ept.xu ? "XU" : "X", mask);
  }
}

/** Supervisor shadow-stack control: bit 60 of the leaf, reading everywhere, writing above the leaf. */
function stackCheck(path: readonly Place[], log: CheckLog): void {
  const leaf = path.at(-1)!;
  const unreadable = path.find(({ entry }) => (entry & ept.r) === 0n);
  const readOnly = path.slice(0, -1).find(({ entry }) => (entry & ept.w) === 0n);
  const marked = isEptStackLeaf(leaf.entry);
  const factors = [ofRegister("EPTP", "SSS", true)];
  if (unreadable !== undefined) factors.push(ofEntry(unreadable, "R", 0n));
  if (readOnly !== undefined) factors.push(ofEntry(readOnly, "W", 0n));
  if (!marked || factors.length === 1) factors.push(ofEntry(leaf, "SSS", marked ? 1n : 0n));
  const passed = marked && unreadable === undefined && readOnly === undefined;
  const text = passed
    ? "a supervisor shadow-stack page"
    : "a supervisor shadow-stack access to a page that is for none";
  log.add("shadow stack", passed, leaf, factors, text);
}

function unreadable(
  settings: EptSettings,
  gpa: bigint,
  access: StageAccess,
  level: number,
  address: bigint,
  log: CheckLog,
): Fault {
  log.add("memory", false, nowhere("second", level, address), [], "the memory has nothing there");
  if (settings.rules === "architecture") return outsideMemory("second", gpa, level, address);
  const site = { level, entryAddress: address, entry: 0n };
  return eptViolation(settings, gpa, access, dataAccess(settings, access), undefined, site);
}
