/** The EPT walk (SDM vol. 3, "The Extended Page Table Mechanism (EPT)"). */
import type { Fault, Rights } from "../api.js";
import {
  type DataAccess,
  dataAccess,
  type EptRights,
  eptAccess,
  eptDenies,
  eptMisconfiguration,
  eptViolation,
  FLAG_UPDATE,
} from "./ept-access.js";
import { type EptSettings, ept, eptIsLeaf, eptMisconfigured, eptPresent, eptShift } from "./ept-format.js";
import { type FaultSite, outsideMemory } from "./faults.js";
import type { PhysicalMemory } from "./memory.js";
import { isFault, type SecondStage, type StageAccess, type StageMapped } from "./second-stage.js";
import type { EntryUpdate, Trace } from "./trace.js";

const ALL: EptRights = ept.r | ept.w | ept.x | ept.xu;

export class EptStage implements SecondStage {
  constructor(
    readonly settings: EptSettings,
    readonly memory: PhysicalMemory,
  ) {}

  translateGpa(gpa: bigint, asked: StageAccess, trace: Trace): StageMapped | Fault {
    const access = eptAccess(this.settings, asked);
    return trace.whole(
      (own) => this.#walk(gpa, access, own),
      (outcome) => !isFault(outcome),
    );
  }

  #walk(gpa: bigint, access: StageAccess, trace: Trace): StageMapped | Fault {
    const { settings } = this;
    const data = dataAccess(settings, access);
    if (gpa >= 1n << (eptShift(settings.rootLevel) + 9n)) {
      const site: FaultSite = { level: settings.rootLevel, entryAddress: 0n, entry: 0n };
      return eptViolation(settings, gpa, access, data, undefined, site);
    }
    let table = settings.root;
    let rights = ALL;
    const updates: EntryUpdate[] = [];
    for (let level: number = settings.rootLevel; level >= 1; level--) {
      const index = (gpa >> eptShift(level)) & 0x1ffn;
      const entryAddress = table + 8n * index;
      const entry = this.memory.readEntry(entryAddress, 8);
      if (entry === undefined) return this.#unreadable(gpa, access, data, level, entryAddress);
      trace.steps.push({ stage: "second", level, address: entryAddress, entry });
      const site: FaultSite = { level, entryAddress, entry };
      if (!eptPresent(settings, entry)) return eptViolation(settings, gpa, access, data, undefined, site);
      if (eptMisconfigured(settings, level, entry) !== undefined) return eptMisconfiguration(gpa, site);
      const above = rights;
      rights &= entry;
      const leaf = eptIsLeaf(settings, level, entry);
      const flags = leaf && data.write ? ept.a | ept.d : ept.a;
      updates.push({ memory: this.memory, address: entryAddress, bytes: 8, entry, mask: flags });
      if (!leaf) {
        table = entry & ept.address;
        continue;
      }

      if (eptDenies(settings, above, entry, access, data)) {
        return eptViolation(settings, gpa, access, data, rights, site);
      }
      if (settings.accessedDirty) trace.updates.push(...updates);
      const pageSize = 2 ** Number(eptShift(level));
      const offset = BigInt(pageSize) - 1n;
      const pa = (entry & ept.address & ~offset) | (gpa & offset);
      const memoryType = Number((entry & ept.memoryType) >> 3n);
      return {
        mapped: {
          ok: true,
          status: 0,
          pa,
          gpa: access.purpose === "direct" ? pa : gpa,
          pageSize,
          rights: eptRights(settings, rights),
          protectionKey: 0,
          global: false,
          memoryType,
        },
        leaf: { kind: "ept", entry },
        updateFault:
          (rights & ept.w) !== 0n ? undefined : eptViolation(settings, gpa, access, FLAG_UPDATE, rights, site),
      };
    }
    throw new Error("a level-1 entry is always a leaf");
  }

  #unreadable(gpa: bigint, access: StageAccess, data: DataAccess, level: number, entryAddress: bigint): Fault {
    if (this.settings.rules === "architecture") return outsideMemory("second", gpa, level, entryAddress);
    // KVM's walker treats an entry that it cannot read as one that is not present.
    return eptViolation(this.settings, gpa, access, data, undefined, { level, entryAddress, entry: 0n });
  }
}

/** Rights in the common terms; without mode-based execute control bit 10 says nothing. */
export function eptRights(settings: EptSettings, rights: EptRights): Rights {
  const execute = (rights & ept.x) !== 0n;
  return {
    read: (rights & ept.r) !== 0n,
    write: (rights & ept.w) !== 0n,
    user: true,
    execute,
    userExecute: settings.modeBasedExecute ? (rights & ept.xu) !== 0n : execute,
  };
}
