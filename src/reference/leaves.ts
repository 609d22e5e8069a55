/** Enumeration of every leaf entry of a space. */
import { bitOf } from "../abi/bits.js";
import { PTE } from "../abi/entries.js";
import type { Leaf, Rights } from "../api.js";
import { MemoryRangeError } from "../errors.js";
import { ept, eptIsLeaf, eptMisconfigured, eptPresent, eptShift } from "./ept-format.js";
import { type EptStage, eptRights } from "./ept-walk.js";
import { type Format, isLeaf, pageAddress, tableAddress } from "./formats.js";
import { isPaePdpte, type LegacyTables, rootAddress } from "./legacy-walk.js";
import type { PhysicalMemory } from "./memory.js";
import { ALL_RIGHTS, narrow } from "./permissions.js";
import { bits, hex } from "./values.js";

const P = bitOf(PTE, "P");

/** Leaves of legacy tables without a second stage. With paging off there is no entry, so no leaf. */
export function* legacyLeaves(tables: LegacyTables): Generator<Leaf> {
  if (tables.format === undefined) return;
  yield* legacyTable(tables, tables.format, 0, rootAddress(tables), 0n, ALL_RIGHTS);
}

function* legacyTable(
  tables: LegacyTables,
  format: Format,
  depth: number,
  table: bigint,
  base: bigint,
  rights: Rights,
): Generator<Leaf> {
  const { registers, memory } = tables;
  const level = format.levels[depth]!;
  const pdptes = isPaePdpte(tables, level);
  for (let index = 0n; index <= level.indexMask; index++) {
    const raw =
      pdptes && tables.latched !== undefined
        ? tables.latched[Number(index)]!
        : entryAt(memory, table + index * BigInt(format.entryBytes), format.entryBytes);
    const entry = raw & ~registers.encryptionMask;
    if ((entry & P) === 0n) continue;
    const leaf = isLeaf(level, entry);
    if ((entry & (leaf ? level.reserved.page : level.reserved.table)) !== 0n) continue;
    const address = base | (index << level.shift);
    const narrowed = pdptes ? rights : narrow(registers, rights, entry);
    if (leaf) {
      yield {
        va: tables.stage === "guest" ? signExtend(format, address) : address,
        pa: pageAddress(registers, level, entry),
        size: BigInt(level.pageSize),
        rights: narrowed,
        entry: raw,
        level: level.level,
      };
    } else {
      yield* legacyTable(tables, format, depth + 1, tableAddress(format, entry), address, narrowed);
    }
  }
}

/** Linear addresses of 4-level and 5-level paging are canonical; guest-physical ones have no sign. */
function signExtend(format: Format, address: bigint): bigint {
  if (format.width === 32 || ((address >> BigInt(format.width - 1)) & 1n) === 0n) return address;
  return address | bits(format.width, 63);
}

/** Leaves of extended page tables. */
export function eptLeaves(stage: EptStage): Generator<Leaf> {
  const { root, rootLevel } = stage.settings;
  return eptTable(stage, rootLevel, root, 0n, ept.r | ept.w | ept.x | ept.xu);
}

function* eptTable(stage: EptStage, level: number, table: bigint, base: bigint, rights: bigint): Generator<Leaf> {
  const { settings, memory } = stage;
  const shift = eptShift(level);
  for (let index = 0n; index < 512n; index++) {
    const entry = entryAt(memory, table + 8n * index, 8);
    if (!eptPresent(settings, entry) || eptMisconfigured(settings, level, entry)) continue;
    const address = base | (index << shift);
    if (eptIsLeaf(settings, level, entry)) {
      const size = 1n << shift;
      yield {
        va: address,
        pa: entry & ept.address & ~(size - 1n),
        size,
        rights: eptRights(settings, rights & entry),
        entry,
        level,
      };
    } else {
      yield* eptTable(stage, level - 1, entry & ept.address, address, rights & entry);
    }
  }
}

function entryAt(memory: PhysicalMemory, address: bigint, bytes: 4 | 8): bigint {
  const entry = memory.readEntry(address, bytes);
  if (entry === undefined) throw new MemoryRangeError(`a table lies outside memory: no entry at ${hex(address)}`);
  return entry;
}
