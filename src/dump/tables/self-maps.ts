/** Which of many roots map themselves: below each table once, whatever the number of roots that share it. */
import type { TableReader } from "./table-reader.js";

const PAGE = 4096;
/** Roots that are noted for tables, in all: what is crafted so that all map all would have more than there is memory for. */
const MOST_NOTED = 2 ** 25;

/** Positions of candidates, ascending, each once. */
type Positions = Int32Array;
const NONE: Positions = new Int32Array(0);

export class SelfMaps {
  /** Roots of which it is not known, because the tables below them map too many of all. */
  skipped = 0;
  readonly #reader: TableReader;
  /** Pages of the candidates, ascending. */
  readonly #pages: Float64Array;
  /** Which of them are mapped below a table, by address and level; undefined where they are too many to note. */
  readonly #mapped = new Map<number, Positions | undefined>();
  /** The table for which a candidate was noted last. */
  readonly #noted: Int32Array;
  #tables = 0;
  #left = MOST_NOTED;

  constructor(reader: TableReader, candidates: readonly number[]) {
    this.#reader = reader;
    const pages = [...new Set(candidates.map((root) => root - (root % PAGE)))].sort((a, b) => a - b);
    this.#pages = Float64Array.from(pages);
    this.#noted = new Int32Array(pages.length).fill(-1);
  }

  /** Whether one of the candidates maps its own page. */
  has(root: number): boolean {
    const page = root - (root % PAGE);
    const position = this.#firstFrom(page);
    let isMapped = false;
    let isUnknown = false;
    this.#reader.entriesBelow(root, this.#reader.shape.levels, (address, bytes) => {
      if (bytes > 0) isMapped = page >= address && page < address + bytes;
      else {
        const below = this.#below(address, this.#reader.shape.levels - 1);
        if (below === undefined) isUnknown = true;
        else isMapped = has(below, position);
      }
      return !isMapped;
    });
    if (!isMapped && isUnknown) this.skipped++;
    return isMapped;
  }

  /** Levels become fewer on the way down, so that a table that is below itself ends, too. */
  #below(table: number, level: number): Positions | undefined {
    const key = table * 8 + level;
    if (this.#mapped.has(key)) return this.#mapped.get(key);
    if (this.#left < 0) return undefined;
    const children: Positions[] = [];
    const ranges: number[] = [];
    let isUnknown = false;
    this.#reader.entriesBelow(table, level, (address, bytes) => {
      if (bytes === 0) {
        const below = this.#below(address, level - 1);
        if (below === undefined) isUnknown = true;
        else if (below.length > 0) children.push(below);
        return !isUnknown;
      }
      const from = this.#firstFrom(address);
      const to = bytes > PAGE ? this.#firstFrom(address + bytes) : from + (this.#pages[from] === address ? 1 : 0);
      if (from < to) ranges.push(from, to);
      return true;
    });
    const found = isUnknown ? undefined : this.#union(children, ranges);
    this.#mapped.set(key, found);
    return found;
  }

  #union(lists: readonly Positions[], ranges: readonly number[]): Positions | undefined {
    const stamp = this.#tables++;
    const found: number[] = [];
    const note = (position: number) => {
      if (this.#noted[position] === stamp) return;
      this.#noted[position] = stamp;
      found.push(position);
    };
    for (const list of lists) {
      this.#left -= list.length;
      if (this.#left < 0) return undefined;
      for (const position of list) note(position);
    }
    for (let at = 0; at < ranges.length; at += 2) {
      const [from, to] = [ranges[at]!, ranges[at + 1]!];
      this.#left -= to - from;
      if (this.#left < 0) return undefined;
      for (let position = from; position < to; position++) note(position);
    }
    return found.length === 0 ? NONE : Int32Array.from(found).sort();
  }

  /** Position of the first candidate from an address on. */
  #firstFrom(address: number): number {
    let low = 0;
    let high = this.#pages.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#pages[middle]! < address) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function has(positions: Positions, position: number): boolean {
  let low = 0;
  let high = positions.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (positions[middle]! < position) low = middle + 1;
    else high = middle;
  }
  return positions[low] === position;
}
