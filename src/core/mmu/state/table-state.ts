/** What shadow pages hold, in a state: SPTEs that are not empty, links to other tables by number; and translations. */
import { bitOf } from "../../../abi/bits.js";
import { SPTE, SPTE_LEGACY } from "../../../abi/spte.js";
import { StateError } from "../../../errors.js";
import type { StateReader } from "../../../state/format/reader.js";
import type { StateWriter } from "../../../state/format/writer.js";
import type { LinearMemory } from "../../linear/linear-memory.js";
import type { Once, Pieces } from "./pieces.js";
import { ENTRIES } from "./rmap-state.js";

const PRESENT = Number(bitOf(SPTE, "MMU_PRESENT"));
const LARGE = Number(bitOf(SPTE, "PS"));
/** Stands for the VM's default PDPTE, which has an address: alone the bit is in no table. */
const DEFAULT_PDPTE = Number(bitOf(SPTE_LEGACY, "P"));
const PAGE = 4096;
const BITMAP_BYTES = ENTRIES / 8;

/** How a table's entries are read. */
export interface TableForm {
  readonly level: number;
  /** What an unused entry holds. */
  readonly empty: bigint;
  /** What an unused PDPTE of a pae_root holds, 0 in other tables. */
  readonly defaultPdpte: bigint;
}

/** The entry leads to a table, which lies at bits 31:12 of its address. */
function links(low: number, level: number): boolean {
  return (low & PRESENT) !== 0 && level > 1 && (low & LARGE) === 0;
}

const lowOf = (value: bigint) => Number(BigInt.asUintN(32, value));
const highOf = (value: bigint) => Number(value >> 32n);

/** Writes the entries of the table at `table`. */
export function writeTable(
  out: StateWriter,
  linear: LinearMemory,
  table: number,
  tables: Pieces,
  form: TableForm,
): void {
  const words = linear.u32;
  const [emptyLow, emptyHigh] = [lowOf(form.empty), highOf(form.empty)];
  const [pdpteLow, pdpteHigh] = [lowOf(form.defaultPdpte), highOf(form.defaultPdpte)];
  writeSparse(out, words, table, emptyLow, emptyHigh, (low, high) => {
    if (form.defaultPdpte !== 0n && low === pdpteLow && high === pdpteHigh) {
      out.u32(DEFAULT_PDPTE);
      out.u32(0);
      return;
    }
    const offset = low % PAGE;
    out.u32(links(low, form.level) ? tables.numberOf(low - offset) * PAGE + offset : low);
    out.u32(high);
  });
}

/** Writes 512 words of 8 bytes: which are not the empty one, and those. */
function writeSparse(
  out: StateWriter,
  words: Uint32Array,
  at: number,
  emptyLow: number,
  emptyHigh: number,
  write: (low: number, high: number) => void,
): void {
  const used = new Uint8Array(BITMAP_BYTES);
  const first = at >>> 2;
  for (let index = 0; index < ENTRIES; index++) {
    const [low, high] = [words[first + 2 * index]!, words[first + 2 * index + 1]!];
    if (low !== emptyLow || high !== emptyHigh) used[index >>> 3]! |= 1 << (index % 8);
  }
  out.raw(used);
  eachBit(used, (index) => write(words[first + 2 * index]!, words[first + 2 * index + 1]!));
}

function eachBit(bitmap: Uint8Array, each: (index: number) => void): void {
  for (let byte = 0; byte < bitmap.length; byte++) {
    for (let bit = 0; bit < 8; bit++) if ((bitmap[byte]! >>> bit) % 2 === 1) each(byte * 8 + bit);
  }
}

/**
 * Fills a table. `levelOf` tells the level of the page that has a table, so that links lead downwards only. Throws StateError.
 */
export function readTable(
  from: StateReader,
  linear: LinearMemory,
  table: number,
  tables: Pieces,
  used: Once,
  form: TableForm,
  levelOf: (table: number) => number,
): void {
  linear.u64.fill(form.empty, table >>> 3, (table >>> 3) + ENTRIES);
  const words = linear.u32;
  eachBit(from.raw(BITMAP_BYTES), (index) => {
    let low = from.u32();
    let high = from.u32();
    if (form.defaultPdpte !== 0n && low === DEFAULT_PDPTE && high === 0) {
      low = lowOf(form.defaultPdpte);
      high = highOf(form.defaultPdpte);
    } else if (links(low, form.level)) {
      const number = Math.floor(low / PAGE);
      if (!used.isNamed(number) || levelOf(number) >= form.level) {
        throw new StateError(`the state has an entry of level ${form.level} that leads to table ${number}`);
      }
      low = tables.addressOf(number) + (low % PAGE);
    }
    words[(table >>> 2) + 2 * index] = low;
    words[(table >>> 2) + 2 * index + 1] = high;
  });
}

/** Writes the translations behind a page's entries. */
export function writeTranslations(out: StateWriter, linear: LinearMemory, array: number): void {
  writeSparse(out, linear.u32, array, 0, 0, (low, high) => {
    out.u32(low);
    out.u32(high);
  });
}

export function readTranslations(from: StateReader, linear: LinearMemory, array: number): void {
  const words = linear.u32;
  words.fill(0, array >>> 2, (array >>> 2) + 2 * ENTRIES);
  eachBit(from.raw(BITMAP_BYTES), (index) => {
    words[(array >>> 2) + 2 * index] = from.u32();
    words[(array >>> 2) + 2 * index + 1] = from.u32();
  });
}
