/** The guest-physical address of a write, by the guest's tables alone. */
import { bitOf, fieldOf, valueIn } from "../../abi/bits.js";
import { PDE4M, PTE } from "../../abi/entries.js";
import { CR0, CR3_PAE, CR4, EFER } from "../../abi/registers.js";
import type { ControlRegisters } from "../format/state.js";
import type { ReadMemory } from "./cpu-tracker.js";
import { fromBytes } from "./host-memory.js";

const PRESENT = bitOf(PTE, "P");
const PAGE_SIZE_BIT = bitOf(PTE, "PS");
const ADDRESS_MASK = bitOf(PTE, "ADDRESS");
const ADDRESS_HIGH = fieldOf(PDE4M, "ADDRESS_HIGH");

/** Shape of the tables that `registers` select. */
function shape(registers: ControlRegisters): { levels: number; entrySize: number; indexBits: bigint } | undefined {
  if ((registers.cr0 & bitOf(CR0, "PG")) === 0n) return undefined;
  if ((registers.cr4 & bitOf(CR4, "PAE")) === 0n) return { levels: 2, entrySize: 4, indexBits: 10n };
  if ((registers.efer & bitOf(EFER, "LMA")) === 0n) return { levels: 3, entrySize: 8, indexBits: 9n };
  return { levels: (registers.cr4 & bitOf(CR4, "LA57")) !== 0n ? 5 : 4, entrySize: 8, indexBits: 9n };
}

/**
 * Where a write that the processor is known to have made went: follows the guest's tables without checking
 * anything. undefined where they lead nowhere.
 */
export function locate(registers: ControlRegisters, gva: bigint, read: ReadMemory): bigint | undefined {
  const tables = shape(registers);
  if (tables === undefined) return gva;
  const { levels, entrySize, indexBits } = tables;
  const pse = entrySize === 8 || (registers.cr4 & bitOf(CR4, "PSE")) !== 0n;
  let table = registers.cr3 & (levels === 3 ? bitOf(CR3_PAE, "PDPT") : ADDRESS_MASK);
  for (let level = levels; level >= 1; level--) {
    const shift = 12n + indexBits * BigInt(level - 1);
    const index = (gva >> shift) & ((1n << (level === 3 && levels === 3 ? 2n : indexBits)) - 1n);
    const entry = fromBytes(read(table + index * BigInt(entrySize), entrySize));
    if ((entry & PRESENT) === 0n) return undefined;
    const large = pse && level > 1 && !(level === 3 && levels === 3) && (entry & PAGE_SIZE_BIT) !== 0n;
    if (level === 1 || large) {
      const offset = (1n << shift) - 1n;
      let page = entry & ADDRESS_MASK & ~offset;
      // PSE-36: bits 20:13 of the entry are bits 39:32 of the address.
      if (large && entrySize === 4) page = (entry & bitOf(PDE4M, "ADDRESS")) | (valueIn(ADDRESS_HIGH, entry) << 32n);
      return page | (gva & offset);
    }
    table = entry & ADDRESS_MASK;
  }
  return undefined;
}
