/** Rmaps in a state: which blocks they take, and the SPTEs in them, named by table and index. */
import { flagOf } from "../../../abi/bits.js";
import { RMAP } from "../../../abi/shadow.js";
import { StateError } from "../../../errors.js";
import type { StateReader } from "../../../state/format/reader.js";
import type { StateWriter } from "../../../state/format/writer.js";
import type { LinearMemory } from "../../linear/linear-memory.js";
import { DescRecord } from "../../records/mmu.js";
import { placeOf, sptepOf } from "../shadow-pages.js";
import type { Once, Pieces } from "./pieces.js";

const MANY = flagOf(RMAP, "BLOCK");
/** SPTEs in a block, and in a table. */
const BLOCK_ENTRIES = 14;
export const ENTRIES = 512;

/** What rmaps are made of. */
export interface RmapPieces {
  readonly linear: LinearMemory;
  readonly tables: Pieces;
  readonly descs: Pieces;
}

/** The number of an SPTE. */
export function entryNumber(tables: Pieces, sptep: number): number {
  const { table, index } = placeOf(sptep);
  return tables.numberOf(table) * ENTRIES + index;
}

/** An SPTE's linear address; `tables` tells which tables are in use. Throws StateError where its table is not. */
export function entryAddress(tables: Pieces, used: Once, number: number): number {
  const table = Math.floor(number / ENTRIES);
  if (!used.isNamed(table)) throw new StateError(`the state names an entry of table ${table}, which is not in use`);
  return sptepOf(tables.addressOf(table), number % ENTRIES);
}

/** Writes an rmap by its head: the number of blocks plus 1, 0 where it is empty. */
export function writeRmap(out: StateWriter, { linear, tables, descs }: RmapPieces, head: number): void {
  if (head === 0) out.u32(0);
  else if ((head & MANY) === 0) {
    out.u32(1);
    out.u32(entryNumber(tables, head));
  } else {
    const blocks: number[] = [];
    const desc = new DescRecord(linear, head - MANY);
    for (; desc.at !== 0; desc.at = desc.more) blocks.push(desc.at);
    out.u32(blocks.length + 1);
    for (const at of blocks) {
      desc.at = at;
      out.u32(descs.numberOf(at));
      out.u32(desc.count);
      for (let index = 0; index < desc.count; index++) out.u32(entryNumber(tables, desc.sptes(index)));
    }
  }
}

/** Makes an rmap; its head. Throws StateError. */
export function readRmap(
  from: StateReader,
  { linear, tables, descs }: RmapPieces,
  usedTables: Once,
  usedDescs: Once,
): number {
  const length = from.u32();
  if (length === 0) return 0;
  const entry = () => entryAddress(tables, usedTables, from.u32());
  if (length === 1) return entry();
  if (length - 1 > descs.count) throw new StateError(`the state has an rmap of ${length - 1} blocks`);
  let head = 0;
  const desc = new DescRecord(linear, 0);
  let before = 0;
  for (let block = 0; block < length - 1; block++) {
    const at = descs.addressOf(usedDescs.name(from.u32()));
    desc.at = at;
    desc.more = 0;
    desc.count = from.integer(1, BLOCK_ENTRIES, "SPTEs in a block");
    for (let index = 0; index < desc.count; index++) desc.setSptes(index, entry());
    if (before === 0) head = at + MANY;
    else {
      desc.at = before;
      desc.more = at;
    }
    before = at;
  }
  return head;
}
