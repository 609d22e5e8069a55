/**
 * A pass over the paging structures of a dump before anything is listed: how many leaves there are, whether every
 * table is there, and whether a table contains itself. Each table is read once per level it is used at, whatever the
 * number of paths to it, so that aliased tables (Linux's espfix: 2,048 paths to one table) and crafted dumps cost no more
 * than their size.
 */
import { bitOf, flagOf } from "../abi/bits.js";
import { PTE } from "../abi/entries.js";
import { hasPages, levelsOf } from "../abi/entry-format.js";
import { CR4 } from "../abi/registers.js";
import type { PageSource, PagingMode } from "../api.js";
import { TableStructureError } from "../errors.js";
import { pagingModeOf } from "./mode.js";

/** Mappings beyond this many are refused unless the caller says otherwise. */
export const DEFAULT_MAX_MAPPINGS = 100_000_000;
/**
 * Of these, so many may be reached through tables that are used more than once, or this multiple of the mappings that
 * the dump's tables have: listing aliases takes time that the dump's size does not promise.
 */
const MOST_ALIASES = 2 ** 22;
const ALIAS_RATIO = 8;
/** A table has 512 entries to look at: one path to a table counts as this many mappings. */
const MAPPINGS_PER_VISIT = 16;
/** Entries looked at when cycles behind shared tables are searched, before the tables are refused as too entangled. */
const CYCLE_SEARCH_BUDGET = 50_000_000;

/** Limits of an inspection. */
export interface StructureOptions {
  /** More leaves than this are refused, aliases counted as often as they are reached. Default 100 million,
   * and fewer where most are aliases. Paths to tables are limited to a sixteenth of it. */
  readonly maxMappings?: number;
  /** Count tables that are not in the source instead of refusing them. Default false. */
  readonly allowMissing?: boolean;
  /** Allow a table that contains itself, as Windows' self-map does. Default false. */
  readonly allowCycles?: boolean;
}

/** What a set of tables is made of. */
export interface TableStructureSummary {
  readonly mode: PagingMode;
  /** Leaves, aliases counted as often as they are reached, by page size in bytes; sizes without a leaf are left out. */
  readonly leavesBySize: ReadonlyMap<number, number>;
  /** Sum of `leavesBySize`: the number of leaves that enumeration gives. */
  readonly leaves: number;
  /** Distinct table pages by level, highest first. */
  readonly tablesByLevel: ReadonlyMap<number, number>;
  /** Number of distinct (table, level) pairs that are not in the source. */
  readonly missingTables: number;
  /** Bit 63 is set in some present 8-byte entry, so the system uses execute-disable. */
  readonly executeDisableSeen: boolean;
}

/** What selects the tables. */
export interface StructureRegisters {
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
  /** The bit that says that a page is encrypted, which is no bit of its address. Default 0n. */
  readonly encryptionMask?: bigint;
}

/**
 * Inspects the tables that the registers point to. Present bits and page sizes are read leniently, as enumeration of
 * dumps reads them: no reserved bit counts.
 * Throws a TableStructureError that names the table and the entry for a missing table, a table that contains itself,
 * and more leaves than the limit.
 */
export function inspectTables(
  source: PageSource,
  registers: StructureRegisters,
  options: StructureOptions = {},
): TableStructureSummary {
  return new Inspection(source, registers, options).run();
}

/** What one kind of table looks like. */
interface TableFormat {
  readonly entries: number;
  readonly entrySize: 4 | 8;
}

/** Leaves below one table: of level 1, 2 and 3; and how many tables enumeration goes through to find them. */
interface LeafCounts {
  level1: number;
  level2: number;
  level3: number;
  visits: number;
}

/** Where a table was found. */
interface Reference {
  readonly table: number;
  readonly level: number;
  readonly index: number;
}

const PAGE = 4096;
const PRESENT = flagOf(PTE, "P");
const PAGE_SIZE_BIT = flagOf(PTE, "PS");

class Inspection {
  readonly #source: PageSource;
  readonly #mode: PagingMode;
  readonly #registers: StructureRegisters;
  /** By level: whether bit 7 makes an entry map a page. */
  readonly #pagesAt: readonly boolean[];
  readonly #maxMappings: number;
  /** Bits of an entry's high half that are of the address. */
  readonly #addressHigh: number;
  readonly #options: StructureOptions;
  /** One page buffer per level: a table is read while its parents are still being scanned. */
  readonly #pages = Array.from({ length: 6 }, () => new Uint32Array(PAGE / 4));
  /** Leaves below each (table, level), by `key`. */
  readonly #seen = new Map<number, LeafCounts>();
  readonly #levelsOfFrame = new Map<number, number>();
  readonly #path: number[] = [];
  #missing = new Set<number>();
  /** Leaves in the distinct tables seen so far: a lower bound of the total. */
  #distinctLeaves = 0;
  #executeDisableSeen = false;

  constructor(source: PageSource, registers: StructureRegisters, options: StructureOptions) {
    this.#source = source;
    this.#registers = registers;
    this.#mode = pagingModeOf(registers);
    const pse = (registers.cr4 & bitOf(CR4, "PSE")) !== 0n;
    const mode = this.#mode;
    this.#pagesAt = mode === "none" ? [] : [0, 1, 2, 3, 4, 5].map((level) => hasPages(mode, level, { pse }));
    this.#options = options;
    this.#addressHigh = Number((0xf_ffff_ffff_ffffn & ~(registers.encryptionMask ?? 0n)) >> 32n);
    this.#maxMappings = options.maxMappings ?? DEFAULT_MAX_MAPPINGS;
  }

  run(): TableStructureSummary {
    const mode = this.#mode;
    if (mode === "none") return this.#summary(noLeaves());
    const levels = levelsOf(mode);
    const root = Number(
      (this.#registers.cr3 &
        ~(this.#registers.encryptionMask ?? 0n) &
        (levels > 3 ? 0xf_ffff_ffff_f000n : 0xffff_f000n)) >>
        12n,
    );
    const counts = this.#inspect(root, levels, undefined);
    if (this.#options.allowCycles !== true) this.#findHiddenCycles();
    const leaves = counts.level1 + counts.level2 + counts.level3;
    this.#checkLimit(leaves);
    this.#checkAliases(leaves);
    this.#checkVisits(counts.visits);
    return this.#summary(counts);
  }

  /** Counts the leaves below the table in page frame `frame` used at `level`. */
  #inspect(frame: number, level: number, from: Reference | undefined): LeafCounts {
    if (from !== undefined && this.#options.allowCycles !== true && this.#path.includes(frame)) {
      throw new TableStructureError(
        `${describeTable(frame, level)} contains itself: entry ${describeEntry(from)} points back to it`,
      );
    }
    const key = keyOf(frame, level);
    const known = this.#seen.get(key);
    if (known !== undefined) return known;
    const counts = noLeaves();
    const words = this.#read(frame, level);
    if (words === undefined) {
      if (this.#options.allowMissing !== true) {
        const where = from === undefined ? "CR3 points to it" : `entry ${describeEntry(from)} points to it`;
        throw new TableStructureError(`${describeTable(frame, level)} is not in the dump: ${where}`);
      }
      this.#missing.add(key);
      this.#seen.set(key, counts);
      return counts;
    }
    this.#levelsOfFrame.set(frame, (this.#levelsOfFrame.get(frame) ?? 0) | (1 << level));
    this.#path.push(frame);
    let own = 0;
    const { first, format } = this.#formatOf(level);
    for (let index = 0; index < format.entries; index++) {
      const low = words[format.entrySize === 4 ? index : first + 2 * index]!;
      if ((low & PRESENT) === 0) continue;
      const high = format.entrySize === 4 ? 0 : words[first + 2 * index + 1]!;
      if (high >= 0x8000_0000) this.#executeDisableSeen = true;
      if (this.#isLeaf(level, low)) {
        own++;
        continue;
      }
      const child = (high & this.#addressHigh) * 2 ** 20 + (low >>> 12);
      const below = this.#inspect(child, level - 1, { table: frame, level, index });
      counts.level1 += below.level1;
      counts.level2 += below.level2;
      counts.level3 += below.level3;
      counts.visits += below.visits;
    }
    if (level === 1) counts.level1 += own;
    else if (level === 2) counts.level2 += own;
    else counts.level3 += own;
    this.#distinctLeaves += own;
    this.#checkLimit(this.#distinctLeaves);
    this.#path.pop();
    this.#seen.set(key, counts);
    return counts;
  }

  #read(frame: number, level: number): Uint32Array | undefined {
    const words = this.#pages[level]!;
    const found = this.#source.readPage(BigInt(frame), new Uint8Array(words.buffer));
    return found ? words : undefined;
  }

  /** How a table of this level is laid out, and the index of its first 32-bit word in its page. */
  #formatOf(level: number): { first: number; format: TableFormat } {
    if (this.#mode === "32bit") return { first: 0, format: { entries: 1024, entrySize: 4 } };
    if (this.#mode === "pae" && level === 3) {
      return { first: Number(this.#registers.cr3 & 0xfe0n) / 4, format: { entries: 4, entrySize: 8 } };
    }
    return { first: 0, format: { entries: 512, entrySize: 8 } };
  }

  #isLeaf(level: number, low: number): boolean {
    if (level === 1) return true;
    return (low & PAGE_SIZE_BIT) !== 0 && this.#pagesAt[level]!;
  }

  /**
   * The descent sees a cycle only on the first path to each (table, level). A table that is used at two levels may also
   * contain itself by a path through a table that was known already: search below its highest use.
   */
  #findHiddenCycles(): void {
    let budget = CYCLE_SEARCH_BUDGET;
    for (const [frame, levels] of this.#levelsOfFrame) {
      if ((levels & (levels - 1)) === 0) continue;
      for (let level = 31 - Math.clz32(levels); (levels & ((1 << level) - 1)) !== 0; level--) {
        if ((levels & (1 << level)) === 0) continue;
        budget -= this.#searchBelow(frame, level, budget);
      }
    }
  }

  #searchBelow(target: number, level: number, budget: number): number {
    const visited = new Set<number>();
    const pending: { frame: number; level: number }[] = [{ frame: target, level }];
    let spent = 0;
    for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
      const words = this.#read(node.frame, node.level);
      if (words === undefined) continue;
      const { first, format } = this.#formatOf(node.level);
      spent += format.entries;
      if (spent > budget) {
        throw new TableStructureError("tables are shared between levels in too many ways to rule out a cycle");
      }
      for (let index = 0; index < format.entries; index++) {
        const low = words[format.entrySize === 4 ? index : first + 2 * index]!;
        if ((low & PRESENT) === 0 || this.#isLeaf(node.level, low)) continue;
        const high = format.entrySize === 4 ? 0 : words[first + 2 * index + 1]!;
        const child = (high & this.#addressHigh) * 2 ** 20 + (low >>> 12);
        if (child === target) {
          const from = { table: node.frame, level: node.level, index };
          throw new TableStructureError(
            `${describeTable(target, level)} contains itself: entry ${describeEntry(from)} points back to it`,
          );
        }
        const key = keyOf(child, node.level - 1);
        if (node.level > 2 && !visited.has(key)) {
          visited.add(key);
          pending.push({ frame: child, level: node.level - 1 });
        }
      }
    }
    return spent;
  }

  #checkLimit(leaves: number): void {
    if (leaves > this.#maxMappings) {
      throw new TableStructureError(
        `expected at most ${this.#maxMappings} mappings, found ${leaves === this.#distinctLeaves ? "at least " : ""}${leaves}`,
      );
    }
  }

  /** Unless the caller has said how many mappings are welcome. */
  #checkAliases(leaves: number): void {
    const limit = Math.max(MOST_ALIASES, ALIAS_RATIO * this.#distinctLeaves);
    if (this.#options.maxMappings !== undefined || leaves <= limit) return;
    throw new TableStructureError(
      `expected at most ${limit} mappings from tables with ${this.#distinctLeaves}, found ${leaves}`,
    );
  }

  /** Shared empty tables have no leaves, but enumeration would go through them once for each path. */
  #checkVisits(visits: number): void {
    const limit = Math.max(1, Math.floor(this.#maxMappings / MAPPINGS_PER_VISIT));
    // Distinct tables cost no more than the dump's size.
    if (visits > limit && visits > this.#seen.size) {
      throw new TableStructureError(`expected at most ${limit} paths to tables, found ${visits}`);
    }
  }

  #summary(counts: LeafCounts): TableStructureSummary {
    const sizes: [number, number][] = [
      [PAGE, counts.level1],
      [this.#mode === "32bit" ? 2 ** 22 : 2 ** 21, counts.level2],
      [2 ** 30, counts.level3],
    ];
    const tablesByLevel = new Map<number, number>();
    for (let level = 5; level >= 1; level--) {
      let tables = 0;
      for (const levels of this.#levelsOfFrame.values()) if ((levels & (1 << level)) !== 0) tables++;
      if (tables > 0) tablesByLevel.set(level, tables);
    }
    return {
      mode: this.#mode,
      leavesBySize: new Map(sizes.filter(([, count]) => count > 0)),
      leaves: counts.level1 + counts.level2 + counts.level3,
      tablesByLevel,
      missingTables: this.#missing.size,
      executeDisableSeen: this.#executeDisableSeen,
    };
  }
}

function noLeaves(): LeafCounts {
  return { level1: 0, level2: 0, level3: 0, visits: 1 };
}

function keyOf(frame: number, level: number): number {
  return frame * 8 + level;
}

function describeTable(frame: number, level: number): string {
  return `the level-${level} table at 0x${(frame * PAGE).toString(16)}`;
}

function describeEntry(reference: Reference): string {
  return `${reference.index} of the level-${reference.level} table at 0x${(reference.table * PAGE).toString(16)}`;
}
