/**
 * The walk through paging structures of the legacy formats (SDM vol. 3, "Paging"; APM vol. 2, "Page Translation and
 * Protection"), in memory or, with a second stage, in guest-physical memory.
 */
import { bitOf } from "../abi/bits.js";
import { PTE } from "../abi/entries.js";
import { Status } from "../abi/status.js";
import type { AddressSpaceConfig, Fault, Mapped, Rights, Translation } from "../api.js";
import type { MemoryAccess } from "./access.js";
import { isSharedAccess } from "./encryption.js";
import { type FaultSite, outsideMemory, type PageFaultCause, pageFault } from "./faults.js";
import { type Format, isGlobal, isLeaf, type LevelFormat, pageAddress, patIndex, tableAddress } from "./formats.js";
import type { PhysicalMemory } from "./memory.js";
import { effectiveType, type SecondLeaf, type TypeRegisters } from "./memory-type.js";
import { pdptAddress } from "./pdptes.js";
import { ALL_RIGHTS, narrow, rightsDeny, seenBy } from "./permissions.js";
import { keyDenies, protectionKey } from "./protection-keys.js";
import type { Registers } from "./registers.js";
import { isFault, type SecondStage, tableAccess } from "./second-stage.js";
import type { Trace } from "./trace.js";

const P = bitOf(PTE, "P");
const A = bitOf(PTE, "A");
const D = bitOf(PTE, "D");

/** A set of tables and how to read them. */
export interface LegacyTables {
  readonly registers: Registers;
  /** Undefined with paging off. */
  readonly format: Format | undefined;
  readonly memory: PhysicalMemory;
  readonly secondStage: SecondStage | undefined;
  /** The PDPTE registers; undefined in other modes and where PDPTEs are read live. */
  readonly latched: readonly bigint[] | undefined;
  /** "second" where the tables are NPT ones. */
  readonly stage: "guest" | "second";
  /** What results of a guest's space say besides rights. */
  readonly attributes?: { readonly types: TypeRegisters; readonly config: AddressSpaceConfig };
}

/** An entry as read, and what setting a flag in it takes. */
interface ReadEntry {
  /** As it stands in memory, memory-encryption bit included. */
  readonly raw: bigint;
  /** Physical address, after the second stage. */
  readonly pa: bigint;
  readonly updateFault: Fault | undefined;
}

/** Physical address of the root table. */
export function rootAddress(tables: Pick<LegacyTables, "registers">): bigint {
  switch (tables.registers.mode) {
    case "32bit":
      return tables.registers.cr3 & 0xfffff000n;
    case "pae":
      return pdptAddress(tables.registers);
    default:
      return tables.registers.cr3 & bitOf(PTE, "ADDRESS");
  }
}

/** Translates a linear address (canonical, LAM applied). Bits to set and entries read go to `trace`. */
export function walkLegacy(tables: LegacyTables, address: bigint, asked: MemoryAccess, trace: Trace): Translation {
  const { format } = tables;
  const access = seenBy(tables.registers, asked);
  if (format === undefined) return finish(tables, access, trace, untranslated(address), 0n);
  let table = rootAddress(tables);
  let rights: Rights = ALL_RIGHTS;
  const flags: PendingFlag[] = [];
  for (const level of format.levels) {
    const index = (address >> level.shift) & level.indexMask;
    const entryAddress = table + index * BigInt(format.entryBytes);
    const read = readEntry(tables, address, access, level, entryAddress, Number(index), trace);
    if ("ok" in read) {
      return (read.status === Status.PageFault && usedBeforeFault(tables, format, access, flags, trace)) || read;
    }
    trace.steps.push({ stage: tables.stage, level: level.level, address: entryAddress, entry: read.raw });

    const entry = read.raw & ~tables.registers.encryptionMask;
    const site: FaultSite = { level: level.level, entryAddress, entry: read.raw };
    const failed = (cause: PageFaultCause, key = false): Fault =>
      usedBeforeFault(tables, format, access, flags, trace) ??
      pageFault(tables.registers, access, address, site, cause, key);
    if ((entry & P) === 0n) return failed("notPresent");
    const leaf = isLeaf(level, entry);
    if ((entry & (leaf ? level.reserved.page : level.reserved.table)) !== 0n) return failed("reserved");
    const above = rights;
    if (!isPaePdpte(tables, level)) {
      rights = narrow(tables.registers, rights, entry);
      if (!leaf) flags.push({ read, mask: A });
    }
    if (!leaf) {
      table = tableAddress(format, entry);
      continue;
    }

    const key = protectionKey(tables.registers, entry);
    const keyDenied = keyDenies(tables.registers, key, rights.user, access);
    if (keyDenied || rightsDeny(tables.registers, { rights, above, leaf: entry }, access)) {
      return failed("rights", keyDenied);
    }
    flags.push({ read, mask: access.write ? A | D : A });
    const updateFault = gatherUpdates(tables, format, access, flags, trace);
    if (updateFault !== undefined) return updateFault;
    const gpa = pageAddress(tables.registers, level, entry) | (address & (BigInt(level.pageSize) - 1n));
    return finish(
      tables,
      access,
      trace,
      {
        ok: true,
        status: 0,
        pa: gpa,
        gpa,
        pageSize: level.pageSize,
        rights,
        protectionKey: key,
        global: isGlobal(entry),
        memoryType: patIndex(level, entry),
      },
      read.raw,
    );
  }
  throw new Error("a level-1 entry is always a leaf");
}

function isKvm(tables: LegacyTables): boolean {
  return tables.registers.rules === "kvm-6.1";
}

/** PAE PDPTEs have no rights and no accessed flag. */
export function isPaePdpte(tables: Pick<LegacyTables, "registers">, level: LevelFormat): boolean {
  return tables.registers.mode === "pae" && level.level === 3;
}

function readEntry(
  tables: LegacyTables,
  address: bigint,
  access: MemoryAccess,
  level: LevelFormat,
  entryAddress: bigint,
  index: number,
  trace: Trace,
): ReadEntry | Fault {
  if (tables.latched !== undefined && isPaePdpte(tables, level)) {
    return { raw: tables.latched[index]!, pa: entryAddress, updateFault: undefined };
  }
  let pa = entryAddress;
  let updateFault: Fault | undefined;
  if (tables.secondStage !== undefined) {
    const outcome = tables.secondStage.translateGpa(entryAddress, tableAccess("table", isKvm(tables)), trace);
    if (isFault(outcome)) return outcome;
    pa = outcome.mapped.pa;
    updateFault = outcome.updateFault;
  }
  const raw = tables.memory.readEntry(pa, tables.format!.entryBytes);
  if (raw !== undefined) return { raw, pa, updateFault };
  if (tables.registers.rules === "architecture") {
    return outsideMemory(tables.stage, address, level.level, entryAddress);
  }
  // KVM's walker treats an entry that it cannot read as one that is not present.
  return pageFault(tables.registers, access, address, { level: level.level, entryAddress, entry: 0n }, "notPresent");
}

/** Flags that an entry must have once the access is done. */
interface PendingFlag {
  readonly read: ReadEntry;
  readonly mask: bigint;
}

/**
 * Notes the accessed and dirty flags that the access sets. With EPT whose own flags are off, the tables were read as
 * data reads, but setting a flag is a write that EPT must allow (SDM vol. 3, "EPT Violations"). These writes belong
 * to the translation of the linear address, so they come before the access to the final address. A probe writes nothing.
 */
function gatherUpdates(
  tables: LegacyTables,
  format: Format,
  access: MemoryAccess,
  flags: readonly PendingFlag[],
  trace: Trace,
): Fault | undefined {
  if (access.probe) return undefined;
  for (const { read, mask } of flags) {
    if ((read.raw & mask) === mask) continue;
    if (read.updateFault !== undefined) return read.updateFault;
    trace.updates.push({
      memory: tables.memory,
      address: read.pa,
      bytes: format.entryBytes,
      entry: read.raw,
      mask,
    });
  }
  return undefined;
}

/**
 * What a walk that ends in a page fault does to the entries that it used, all above the one at fault: nothing, or where
 * `accessedOnFault` says so it sets their accessed flags, at once (SDM vol. 3, "Accessed and Dirty Flags", leaves it open).
 */
function usedBeforeFault(
  tables: LegacyTables,
  format: Format,
  access: MemoryAccess,
  flags: readonly PendingFlag[],
  trace: Trace,
): Fault | undefined {
  if (!tables.registers.accessedOnFault) return undefined;
  return gatherUpdates(tables, format, access, flags, trace);
}

/** With paging off the linear address is the guest-physical one and nothing restricts the access. */
function untranslated(address: bigint): Mapped {
  return {
    ok: true,
    status: 0,
    pa: address,
    gpa: address,
    pageSize: 4096,
    rights: ALL_RIGHTS,
    protectionKey: 0,
    global: false,
    memoryType: 0,
  };
}

/** Takes the guest-physical address of a successful first stage, whose leaf is `leaf`, through the second one. */
function finish(tables: LegacyTables, access: MemoryAccess, trace: Trace, mapped: Mapped, leaf: bigint): Translation {
  if (tables.secondStage === undefined) return described(tables, access, mapped, leaf, undefined);
  const outcome = tables.secondStage.translateGpa(
    mapped.gpa,
    {
      purpose: "final",
      write: access.write,
      fetch: access.fetch,
      user: access.user,
      userAddress: mapped.rights.user,
      guestRights: mapped.rights,
      shadowStack: access.shadowStack,
      kvm: isKvm(tables),
    },
    trace,
  );
  if (isFault(outcome)) return outcome;
  return described(tables, access, { ...mapped, pa: outcome.mapped.pa }, leaf, outcome.leaf);
}

/** The result with its memory type, and whether the page is a shared one, where the configuration asks for it. */
function described(
  { registers, attributes }: LegacyTables,
  access: MemoryAccess,
  mapped: Mapped,
  leaf: bigint,
  second: SecondLeaf | undefined,
): Mapped {
  if (attributes === undefined) return mapped;
  const { mode } = registers;
  const index = mode === "none" ? undefined : mapped.memoryType;
  const type = effectiveType(attributes.types, index, mapped.pa, second);
  const named = attributes.config.memoryEncryption;
  const wide = mode !== "none" && mode !== "32bit";
  return {
    ...mapped,
    ...(type && { effectiveMemoryType: type }),
    ...(named && { shared: isSharedAccess(named, { wide, fetch: access.fetch, leaf, gpa: mapped.gpa }) }),
  };
}
