/** The EPT walk (SDM vol. 3, "The Extended Page Table Mechanism (EPT)"). */
import { bitOf } from "../abi/bits.js";
import { EPT_QUAL } from "../abi/faults.js";
import { Status } from "../abi/status.js";
import type { Fault, Rights } from "../api.js";
import { type EptSettings, ept, eptIsLeaf, eptMisconfigured, eptPresent, eptShift } from "./ept-format.js";
import { type FaultSite, outsideMemory } from "./faults.js";
import type { PhysicalMemory } from "./memory.js";
import { isFault, type SecondStage, type StageAccess, type StageMapped } from "./second-stage.js";
import type { EntryUpdate, Trace } from "./trace.js";
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
type EptRights = bigint;
const ALL: EptRights = ept.r | ept.w | ept.x | ept.xu;

/** What an access does to the guest-physical address. A guest-table access can be a read and a write in one. */
interface DataAccess {
  readonly read: boolean;
  readonly write: boolean;
  readonly fetch: boolean;
}

export class EptStage implements SecondStage {
  constructor(
    readonly settings: EptSettings,
    readonly memory: PhysicalMemory,
  ) {}

  translateGpa(gpa: bigint, access: StageAccess, trace: Trace): StageMapped | Fault {
    return trace.whole(
      (own) => this.#walk(gpa, access, own),
      (outcome) => !isFault(outcome),
    );
  }

  #walk(gpa: bigint, access: StageAccess, trace: Trace): StageMapped | Fault {
    const { settings } = this;
    const data = this.#dataAccess(access);
    if (gpa >= 1n << (eptShift(settings.rootLevel) + 9n)) {
      return this.#violation(gpa, access, data, 0n, { level: settings.rootLevel, entryAddress: 0n, entry: 0n });
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
      if (!eptPresent(settings, entry)) return this.#violation(gpa, access, data, 0n, site);
      if (eptMisconfigured(settings, level, entry)) return misconfiguration(gpa, site);
      rights &= entry;
      const leaf = eptIsLeaf(settings, level, entry);
      const flags = leaf && data.write ? ept.a | ept.d : ept.a;
      updates.push({ memory: this.memory, address: entryAddress, bytes: 8, entry, mask: flags });
      if (!leaf) {
        table = entry & ept.address;
        continue;
      }

      if (this.#denied(rights, access, data)) return this.#violation(gpa, access, data, rights, site);
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
        updateFault:
          (rights & ept.w) !== 0n
            ? undefined
            : this.#violation(gpa, access, { read: true, write: true, fetch: false }, rights, site),
      };
    }
    throw new Error("a level-1 entry is always a leaf");
  }

  /**
   * With accessed and dirty flags for EPT enabled, accesses to the guest's paging structures are treated as writes,
   * and a violation reports them as read and write (SDM vol. 3, "Accessed and Dirty Flags for EPT" and the footnote
   * of "Exit Qualification for EPT Violations"). Loading the PDPTE registers remains a read.
   */
  #dataAccess(access: StageAccess): DataAccess {
    if (access.purpose === "table") {
      return { read: true, write: this.settings.accessedDirty || access.kvm, fetch: false };
    }
    if (access.purpose === "pdptes") return { read: true, write: access.kvm, fetch: false };
    return { read: access.kvm || (!access.write && !access.fetch), write: access.write, fetch: access.fetch };
  }

  #denied(rights: EptRights, access: StageAccess, data: DataAccess): boolean {
    const executable = this.settings.modeBasedExecute && access.userAddress ? ept.xu : ept.x;
    return (
      (data.read && (rights & ept.r) === 0n) ||
      (data.write && (rights & ept.w) === 0n) ||
      (data.fetch && (rights & executable) === 0n)
    );
  }

  /** `rights` are 0 where an entry was not present: its own bits are. */
  #violation(gpa: bigint, access: StageAccess, data: DataAccess, rights: EptRights, site: FaultSite): Fault {
    const linear = access.purpose === "table" || access.purpose === "final";
    const errorCode =
      (data.read ? qual.read : 0n) |
      (data.write ? qual.write : 0n) |
      (data.fetch ? qual.fetch : 0n) |
      ((rights & bits(0, 2)) << 3n) |
      (this.settings.modeBasedExecute && (rights & ept.xu) !== 0n ? qual.userExecutable : 0n) |
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

  #unreadable(gpa: bigint, access: StageAccess, data: DataAccess, level: number, entryAddress: bigint): Fault {
    if (this.settings.rules === "architecture") return outsideMemory("second", gpa, level, entryAddress);
    // KVM's walker treats an entry that it cannot read as one that is not present.
    return this.#violation(gpa, access, data, 0n, { level, entryAddress, entry: 0n });
  }
}

function misconfiguration(gpa: bigint, site: FaultSite): Fault {
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
