/** What the core keeps for a memslot's gfns, in a state. */

import { bitOf } from "../../../abi/bits.js";
import { PTE } from "../../../abi/index.js";
import { SHADOW_CODES } from "../../../abi/shadow.js";
import { StateError } from "../../../errors.js";
import type { StateReader } from "../../../state/format/reader.js";
import type { StateWriter } from "../../../state/format/writer.js";
import type { MemslotCore } from "../memslot-core.js";
import type { PagePieces } from "./page-state.js";
import { readRmap, writeRmap } from "./rmap-state.js";

const LEVELS = [1, 2, 3] as const;
const { HOST_PRESENT, HOST_WRITABLE, HOST_LEVEL_SHIFT } = SHADOW_CODES;
/** Largest level of the host's own pages, less 1. */
const MOST_LEVEL = 2n;
const LEVEL_SHIFT = BigInt(HOST_LEVEL_SHIFT);
const HOST_FLAGS = BigInt(HOST_PRESENT | HOST_WRITABLE);
const HOST_ADDRESS = bitOf(PTE, "ADDRESS");

/** Writes a slot's counts, host pages and dirty log. */
export function writeSlotArrays(out: StateWriter, slot: MemslotCore): void {
  for (const bytes of slot.arrays()) out.raw(bytes);
}

/** Fills them. Throws StateError for a page that no host of `physicalBits` address bits has. */
export function readSlotArrays(from: StateReader, slot: MemslotCore, pages: number, physicalBits: number): void {
  for (const bytes of slot.arrays()) bytes.set(from.raw(bytes.length));
  const limit = 1n << BigInt(physicalBits);
  for (let page = 0; page < pages; page++) {
    const host = slot.hostPage(page);
    const rest = host & ~HOST_ADDRESS & ~HOST_FLAGS;
    if (rest >> LEVEL_SHIFT <= MOST_LEVEL && (host & HOST_ADDRESS) < limit) continue;
    throw new StateError(`the state has host page 0x${host.toString(16)}, which cannot be`);
  }
}

/** Writes the rmaps that are not empty, by level and block. */
export function writeSlotRmaps(out: StateWriter, slot: MemslotCore, pieces: PagePieces): void {
  for (const level of LEVELS) {
    const heads = Array.from(
      { length: slot.blocks(level) },
      (_, index) => [index, slot.rmapHead(level, index)] as const,
    );
    const used = heads.filter(([, head]) => head !== 0);
    out.list(used, ([index, head]) => {
      out.u32(index);
      writeRmap(out, pieces, head);
    });
  }
}

export function readSlotRmaps(from: StateReader, slot: MemslotCore, pieces: PagePieces): void {
  for (const level of LEVELS) {
    const last = slot.blocks(level) - 1;
    let next = 0;
    from.list(8, () => {
      const index = from.integer(next, last, "an rmap");
      next = index + 1;
      slot.setRmapHead(level, index, readRmap(from, pieces, pieces.usedTables, pieces.usedDescs));
    });
  }
}
