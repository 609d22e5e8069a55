/** Nested paging (APM vol. 2, "Nested Paging"): a legacy format walked with the host's registers. */
import { bitOf } from "../abi/bits.js";
import { PFERR } from "../abi/faults.js";
import { Status } from "../abi/status.js";
import type { Fault, NptConfig } from "../api.js";
import { checkFlag } from "../checks.js";
import type { MemoryAccess } from "./access.js";
import { type FaultSite, pageFault } from "./faults.js";
import { formatOf } from "./formats.js";
import { type LegacyTables, walkLegacy } from "./legacy-walk.js";
import type { PhysicalMemory } from "./memory.js";
import type { TypeRegisters } from "./memory-type.js";
import { seenBy } from "./permissions.js";
import { type Registers, readRegisters } from "./registers.js";
import type { SecondStage, StageAccess, StageMapped } from "./second-stage.js";
import { isNestedStackLeaf } from "./shadow-stack.js";
import type { Trace } from "./trace.js";

const GUEST_FINAL = bitOf(PFERR, "GUEST_FINAL");
const GUEST_PAGE = bitOf(PFERR, "GUEST_PAGE");
const P = bitOf(PFERR, "P");
const RSVD = bitOf(PFERR, "RSVD");
const SSS = bitOf(PFERR, "SSS");

/** The host's registers as the nested walk uses them. Throws what readRegisters throws. */
export function nestedRegisters(config: NptConfig): Registers {
  const registers = readRegisters({
    ...config,
    cr0: config.cr0 ?? 0x80010001n,
    cr3: config.ncr3,
    cr4: config.cr4 ?? 0x20n,
    efer: config.efer ?? 0xd00n,
  });
  const check = checkFlag(config.shadowStackCheck, "shadowStackCheck") ?? false;
  // APM vol. 2, "Supervisor Shadow Stacks": without PAE and NXE in the host the order to check is ignored.
  const canCheck = registers.nxe && registers.mode !== "none" && registers.mode !== "32bit";
  const trap = checkFlag(config.guestModeExecuteTrap, "guestModeExecuteTrap") ?? false;
  const known = registers.rules === "architecture";
  return {
    ...registers,
    gmet: known && trap,
    stackRule: !known ? "unknown" : check && canCheck ? "checked" : "plain",
    // Neither SMAP nor protection keys apply at the nested level, and there are no tagged pointers.
    // KVM keeps the host's SMEP for one purpose: to decide whether a fetch is reported.
    smep: registers.rules === "kvm-6.1" && registers.smep,
    smap: false,
    pke: false,
    pks: false,
    lamU48: false,
    lamU57: false,
    lamSup: false,
    lass: false,
    uai: false,
  };
}

export class NptStage implements SecondStage {
  readonly tables: LegacyTables;

  constructor(
    readonly registers: Registers,
    readonly memory: PhysicalMemory,
    readonly types: TypeRegisters,
  ) {
    this.tables = {
      registers,
      format: formatOf(registers),
      memory,
      secondStage: undefined,
      // Nested PAE tables have no PDPTE registers.
      latched: undefined,
      stage: "second",
    };
  }

  translateGpa(gpa: bigint, access: StageAccess, trace: Trace): StageMapped | Fault {
    const nested = nestedAccess(this.registers, access);
    const fault = (result: Fault): Fault => nestedFault(this.registers, result, access);
    if (gpa >= nptEnd(this.tables)) {
      const site: FaultSite = { level: this.tables.format?.levels[0]?.level ?? 0, entryAddress: 0n, entry: 0n };
      return fault(pageFault(this.registers, nested, gpa, site, "notPresent"));
    }
    const result = trace.whole(
      (own) => walkLegacy(this.tables, gpa, nested, own),
      (outcome) => outcome.ok,
    );
    if (!result.ok) return fault(result);
    const index = this.registers.mode === "none" ? undefined : result.memoryType;
    return { mapped: result, updateFault: undefined, leaf: { kind: "npt", index, host: this.types } };
  }
}

/** First guest-physical address that the format cannot translate. */
export function nptEnd({ format }: Pick<LegacyTables, "format">): bigint {
  return 1n << BigInt(format?.width ?? 32);
}

function isOnTable({ purpose }: StageAccess): boolean {
  return purpose === "table" || purpose === "pdptes";
}

/**
 * Nested accesses are user accesses, and those to the guest's own tables are writes, even to read them. With guest mode
 * execute trap the access to the final address has the guest's mode (APM vol. 2, "Guest Mode Execute Trap Extension").
 */
export function nestedAccess(registers: Registers, access: StageAccess): MemoryAccess {
  return seenBy(registers, {
    write: isOnTable(access) || access.write,
    fetch: access.fetch,
    user: !registers.gmet || isOnTable(access) || access.user,
    implicit: false,
    ac: false,
    alignmentCheck: false,
    otherSegment: false,
    // Whether bits are set is up to the trace.
    probe: false,
    shadowStack: access.shadowStack,
  });
}

/**
 * #NPF: the page-fault error code of the nested walk, which access of the guest it stopped, and with supervisor shadow stack
 * checks whether the page is one for them: an entry whose rights refuse an access is a leaf.
 */
export function nestedFault(registers: Registers, result: Fault, access: StageAccess): Fault {
  if (result.status !== Status.PageFault) return result;
  const byRights = (result.errorCode & (P | RSVD)) === P;
  const stackPage = registers.stackRule === "checked" && byRights && isNestedStackLeaf(result.entry);
  return {
    ...result,
    status: Status.NestedPageFault,
    vector: undefined,
    errorCode: result.errorCode | (isOnTable(access) ? GUEST_PAGE : GUEST_FINAL) | (stackPage ? SSS : 0n),
    stage: "second",
  };
}
