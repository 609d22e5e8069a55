/** One table of a space, found by the indices that lead to it, and what lies below each of its entries. */
import { bitOf, CR4 } from "x86-paging/abi";
import { decodeEntry, levelsOf } from "x86-paging/decode";
import { ScanRights } from "x86-paging/maps";
import type { RunningTask } from "../tasks.js";
import { pageOf } from "./addresses.js";
import { Cell, type TableAnswer } from "./answers.js";
import type { Space } from "./space.js";

const PAGE = 4096;
/** Ranges that are gone through between two looks at the clock. */
const PIECE = 2 ** 15;

/** Throws a RangeError for a path that leads through what is no table. */
export async function tableAt(space: Space, path: readonly number[], task: RunningTask): Promise<TableAnswer> {
  const { opened, mode, registers, answer } = space;
  if (mode === "none") throw new RangeError("paging is off: there are no tables");
  const { dump } = opened.open;
  const pse = (registers.cr4 & bitOf(CR4, "PSE")) !== 0n;
  const width = mode === "32bit" ? 10 : 9;
  const spanOf = (level: number) => 1n << BigInt(12 + width * (level - 1));
  const page = new Uint8Array(PAGE);
  const read = (level: number, address: bigint) =>
    opened.read(task, () =>
      dump.tableSource.readPage(address >> 12n, page) ? entriesIn(page, mode, level, address) : undefined,
    );
  let level = levelsOf(mode);
  let address = answer.root;
  let offset = 0n;
  let entries = await read(level, address);
  for (const index of path) {
    const entry = entries?.[index];
    const place = `entry ${index} of the level-${level} table at 0x${address.toString(16)}`;
    if (entry === undefined) throw new RangeError(`${place} is not there`);
    const decoded = decodeEntry(mode, level, entry, { pse, encryption: registers.encryptionMask });
    if (decoded.kind !== "table") throw new RangeError(`${place} leads to no table`);
    offset += spanOf(level) * BigInt(index);
    level--;
    address = decoded.address!;
    entries = await read(level, address);
  }
  const span = spanOf(level);
  const cells = await cellsOf(space, offset, span, entries?.length ?? countOf(mode, level), task);
  return {
    path,
    level,
    address,
    va: extended(offset, mode),
    span,
    entries,
    presence: dump.presence(address & ~0xfffn, 4096n),
    ...cells,
    highest: space.ranges.highest,
  };
}

function countOf(mode: Space["mode"], level: number): number {
  if (mode === "32bit") return 1024;
  return mode === "pae" && level === 3 ? 4 : 512;
}

function entriesIn(page: Uint8Array, mode: Space["mode"], level: number, address: bigint): BigUint64Array {
  const view = new DataView(page.buffer);
  const count = countOf(mode, level);
  if (mode === "32bit") return BigUint64Array.from({ length: count }, (_, i) => BigInt(view.getUint32(4 * i, true)));
  const first = mode === "pae" && level === 3 ? Number(address & 0xfffn) : 0;
  return BigUint64Array.from({ length: count }, (_, i) => view.getBigUint64(first + 8 * i, true));
}

/** An address as the processor has it: of 4- and 5-level paging, sign-extended. */
export function extended(address: bigint, mode: Space["mode"]): bigint {
  if (mode !== "4level" && mode !== "5level") return address;
  return BigInt.asUintN(64, BigInt.asIntN(mode === "4level" ? 48 : 57, address));
}

type Cells = Pick<TableAnswer, "mapped" | "flags" | "physical">;

/** What the list has below each entry of a table that begins at `offset`, without sign extension. */
async function cellsOf(space: Space, offset: bigint, span: bigint, count: number, task: RunningTask): Promise<Cells> {
  const { ranges, mode } = space;
  const mapped = new Float64Array(count);
  const flags = new Uint8Array(count);
  const physical = new Float64Array(count).fill(-1);
  const pages = pageOf(span);
  for (let cell = 0; cell < count; cell++) {
    const first = pageOf(extended(offset + span * BigInt(cell), mode));
    const end = first + pages;
    for (let at = ranges.firstBehind(first); at < ranges.length && ranges.va(at) < end; at++) {
      if (at % PIECE === 0) await task.turn();
      const [va, size] = [ranges.va(at), ranges.size(at)];
      const from = Math.max(va, first);
      const pa = ranges.pa(at) + (from - va);
      mapped[cell]! += (Math.min(end, va + size) - from) * PAGE;
      flags[cell]! |= flagsOf(ranges.rights(at), ranges.level(at));
      if (physical[cell] === -1 || pa < physical[cell]!) physical[cell] = pa;
    }
  }
  return { mapped, flags, physical };
}

function flagsOf(rights: number, level: number): number {
  const user = (rights & ScanRights.User) !== 0;
  const write = (rights & ScanRights.Write) !== 0;
  const execute = (rights & ScanRights.Execute) !== 0;
  return (
    (user ? Cell.User : 0) |
    (write ? Cell.Write : 0) |
    (execute ? Cell.Execute : 0) |
    (write && execute ? Cell.WriteExecute : 0) |
    (user && write ? Cell.UserWrite : 0) |
    (level > 1 ? Cell.Huge : 0)
  );
}
