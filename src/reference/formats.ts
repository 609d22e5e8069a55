/** The legacy formats (32-bit, PAE, 4-level and 5-level): what an entry of each level may be. */
import { bitOf, fieldOf } from "../abi/bits.js";
import { PDE4M, PTE, PTE32 } from "../abi/entries.js";
import { pse36Width } from "./pse36.js";
import type { LegacyMode, Registers } from "./registers.js";
import { type ReservedBits, reservedBits } from "./reserved-bits.js";
import { bits } from "./values.js";

const MIB_4 = 1 << 22;

/** One level of a format. */
export interface LevelFormat {
  /** 5 to 1; a PAE PDPTE is level 3. */
  readonly level: number;
  /** Lowest linear-address bit that indexes this level's table. */
  readonly shift: bigint;
  readonly indexMask: bigint;
  /** Whether an entry maps a page: always (level 1), when its PS bit is set, or never (PS ignored or reserved). */
  readonly leaf: "always" | "byPs" | "never";
  readonly reserved: ReservedBits;
  /** Size in bytes of a page that this level maps. */
  readonly pageSize: number;
}

export interface Format {
  readonly entryBytes: 4 | 8;
  /** Number of linear-address bits that are translated. */
  readonly width: number;
  /** From the root down. */
  readonly levels: readonly LevelFormat[];
}

const SHAPES: Record<Exclude<LegacyMode, "none">, { entryBytes: 4 | 8; width: number; rootLevel: number }> = {
  "32bit": { entryBytes: 4, width: 32, rootLevel: 2 },
  pae: { entryBytes: 8, width: 32, rootLevel: 3 },
  "4level": { entryBytes: 8, width: 48, rootLevel: 4 },
  "5level": { entryBytes: 8, width: 57, rootLevel: 5 },
};

/** The format that the registers select; undefined with paging off. */
export function formatOf(registers: Registers): Format | undefined {
  if (registers.mode === "none") return undefined;
  const { entryBytes, width, rootLevel } = SHAPES[registers.mode];
  const indexBits = entryBytes === 4 ? 10 : 9;
  const levels: LevelFormat[] = [];
  for (let level = rootLevel; level >= 1; level--) {
    const shift = 12 + (level - 1) * indexBits;
    levels.push({
      level,
      shift: BigInt(shift),
      indexMask: bits(0, Math.min(indexBits, width - shift) - 1),
      leaf: leafRule(registers, level),
      reserved: reservedBits(registers, level),
      pageSize: 2 ** shift,
    });
  }
  return { entryBytes, width, levels };
}

/** SDM vol. 3, "32-Bit Paging", "PAE Paging", "4-Level Paging and 5-Level Paging": where PS makes a leaf. */
function leafRule(registers: Registers, level: number): LevelFormat["leaf"] {
  if (level === 1) return "always";
  switch (registers.mode) {
    case "32bit":
      return registers.pse ? "byPs" : "never";
    case "pae":
      return level === 2 ? "byPs" : "never";
    default:
      if (level === 2) return "byPs";
      // Without 1 GiB pages PS is reserved in a PDPTE; in a lenient space, where nothing is, it still means a page.
      return level === 3 && (registers.page1g || registers.lenient) ? "byPs" : "never";
  }
}

const bit = {
  ps: bitOf(PTE, "PS"),
  patLarge: bitOf(PDE4M, "PAT"),
  global: bitOf(PTE, "G"),
};

export function isLeaf(format: LevelFormat, entry: bigint): boolean {
  return format.leaf === "always" || (format.leaf === "byPs" && (entry & bit.ps) !== 0n);
}

/** PCD and PWT, the low bits of a PAT index. */
const PAT_LOW = bitOf(PTE, "PWT") | bitOf(PTE, "PCD");
const PAT_SHIFT = BigInt(fieldOf(PTE, "PWT").low);

const ADDRESS_8 = bitOf(PTE, "ADDRESS");
const ADDRESS_4 = bitOf(PTE32, "ADDRESS");

/** Physical address of the table that a non-leaf entry references. */
export function tableAddress(format: Format, entry: bigint): bigint {
  return entry & (format.entryBytes === 4 ? ADDRESS_4 : ADDRESS_8);
}

/** First physical address of the page that a leaf entry maps. */
export function pageAddress(registers: Registers, level: LevelFormat, entry: bigint): bigint {
  const offset = BigInt(level.pageSize) - 1n;
  if (registers.mode !== "32bit") return entry & ADDRESS_8 & ~offset;
  const low = entry & ADDRESS_4 & ~offset;
  return level.pageSize === MIB_4 ? low | pse36Address(registers, entry) : low;
}

function pse36Address(registers: Registers, entry: bigint): bigint {
  const high = (entry & bitOf(PDE4M, "ADDRESS_HIGH")) >> 13n;
  return (high << 32n) & bits(32, pse36Width(registers) - 1);
}

/** PAT index of a leaf: PAT<<2 | PCD<<1 | PWT. A large page has its PAT bit at bit 12. */
export function patIndex(level: LevelFormat, entry: bigint): number {
  const pat = level.level === 1 ? bit.ps : bit.patLarge;
  return ((entry & pat) !== 0n ? 4 : 0) | Number((entry & PAT_LOW) >> PAT_SHIFT);
}

export function isGlobal(entry: bigint): boolean {
  return (entry & bit.global) !== 0n;
}
