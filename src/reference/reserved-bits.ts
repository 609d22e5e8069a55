/** Reserved bits of the legacy formats. A present entry with one of them set faults with P and RSVD. */
import { bitOf } from "../abi/bits.js";
import { PTE } from "../abi/entries.js";
import { pse36Width } from "./pse36.js";
import type { Registers } from "./registers.js";
import { bits } from "./values.js";

/** Masks for one level: of an entry that references a table, and of one that maps a page. */
export interface ReservedBits {
  readonly table: bigint;
  readonly page: bigint;
}

const PS = bitOf(PTE, "PS");
const XD = bitOf(PTE, "XD");
/** Bit 8 of a PML4E or PML5E on AMD processors (APM vol. 2, "Long-Mode Page Translation": MBZ). */
const AMD_BIT_8 = bits(8, 8);

/** SDM vol. 3, "Page-Fault Exceptions" (RSVD flag) and the entry-format tables of each paging mode. */
export function reservedBits(registers: Registers, level: number): ReservedBits {
  if (registers.lenient) return { table: 0n, page: 0n };
  switch (registers.mode) {
    case "none":
      return { table: 0n, page: 0n };
    case "32bit":
      // Only a 4 MiB page has reserved bits: bit 21 down to the first bit that PSE-36 does not use.
      return { table: 0n, page: level === 2 ? bits(13 + pse36Width(registers) - 32, 21) : 0n };
    case "pae":
      return paeReserved(registers, level);
    default:
      return longModeReserved(registers, level);
  }
}

/** Bits of a PAE PDPTE that must be zero when it is present (SDM vol. 3, "PDPTE Registers"). */
export function pdpteReserved(registers: Registers): bigint {
  return registers.lenient ? 0n : bits(1, 2) | bits(5, 8) | bits(registers.maxPhysAddr, 63);
}

function paeReserved(registers: Registers, level: number): ReservedBits {
  if (level === 3) return { table: pdpteReserved(registers), page: 0n };
  // PAE entries reserve 62:MAXPHYADDR, not only 51:MAXPHYADDR.
  const common = bits(registers.maxPhysAddr, 62) | xdIfDisabled(registers);
  return { table: common, page: common | (level === 2 ? largePageLow(level) : 0n) };
}

function longModeReserved(registers: Registers, level: number): ReservedBits {
  const common = bits(registers.maxPhysAddr, 51) | xdIfDisabled(registers);
  if (level >= 4) {
    const table = common | PS | (registers.amdReservedBit8 ? AMD_BIT_8 : 0n);
    return { table, page: table };
  }
  if (level === 3 && !registers.page1g) return { table: common | PS, page: common | PS };
  return { table: common, page: common | largePageLow(level) };
}

/** XD is reserved while IA32_EFER.NXE is 0. */
function xdIfDisabled(registers: Registers): bigint {
  return registers.nxe ? 0n : XD;
}

/** Address bits below the page size of a large page; bit 12 is PAT. */
function largePageLow(level: number): bigint {
  if (level === 1) return 0n;
  return bits(13, level === 2 ? 20 : 29);
}
