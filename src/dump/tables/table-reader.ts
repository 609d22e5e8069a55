/** Reads page tables out of a dump, and judges and counts what is below them; every table once, however many roots share it. */
import type { PageSource } from "../../api.js";
import type { Presence } from "../memory/presence.js";
import {
  addressOf,
  BEYOND,
  bytesAt,
  isImpossible,
  isLeaf,
  LARGE,
  NO_EXECUTE,
  PRESENT,
  type TableShape,
  USER,
  WRITABLE,
} from "./table-shape.js";
import { ZeroPages } from "./zero-pages.js";

const PAGE = 4096;
const WORDS = PAGE / 4;
/** Of 64 entries of a table, so many may contradict it: memory changes while it is written to a file. */
const WRONG_OF_64 = 1;

/** The memory that tables lie in: a dump. */
export interface TableMemory {
  readonly tableSource: PageSource;
  /** Whether the dump has the memory, and if not, why. */
  presence(gpa: bigint, size: bigint): Presence;
}

/** Answers that are kept. */
const ASKED = 2 ** 16;

/** What a root or a table maps. */
export interface Mapped {
  /** Bytes by who may use them. */
  readonly user: number;
  readonly kernel: number;
  /** Leaf entries that allow both writing and executing. */
  readonly writableExecutable: number;
}

const NOTHING: Mapped = { user: 0, kernel: 0, writableExecutable: 0 };
/** Rights that every entry above has granted: WRITABLE and USER, and this for executing. */
const EXECUTE = 1;

export class TableReader {
  readonly shape: TableShape;
  readonly #dump: TableMemory;
  readonly #zero: ZeroPages;
  /** Upper word of the bit that says that a page is encrypted. */
  readonly #encrypted: number;
  /** Whether a table is one, by its address and level. */
  readonly #judged = new Map<number, boolean>();
  readonly #counted = new Map<string, Mapped>();
  /** For each set that tables are added to, those of which all that is below them is in it. */
  readonly #added = new WeakMap<Set<number>, Set<number>>();
  /** Addresses whose presence was asked for last, and what it was: tables are asked for by many entries. */
  readonly #asked = new Float64Array(ASKED).fill(-1);
  readonly #answers = new Uint8Array(ASKED);
  /** A page for each level, so that what is above stays while what is below is read. */
  readonly #pages: readonly Uint32Array[];

  /** `zero`: pages that need not be read. */
  constructor(dump: TableMemory, shape: TableShape, encryptionMask: bigint, zero: ZeroPages = new ZeroPages()) {
    this.#dump = dump;
    this.#zero = zero;
    this.shape = shape;
    this.#encrypted = Number(encryptionMask >> 32n) | 0;
    this.#pages = Array.from({ length: shape.levels + 1 }, () => new Uint32Array(WORDS));
  }

  /** The words of the table at `address`, for `level`'s turn; undefined where the dump does not have it. */
  #read(address: number, level: number): Uint32Array | undefined {
    const words = this.#pages[level]!;
    const frame = Math.floor(address / PAGE);
    if (this.#zero.has(frame)) words.fill(0);
    else if (!this.#dump.tableSource.readPage(BigInt(frame), new Uint8Array(words.buffer))) return undefined;
    const { rootBytes, levels } = this.shape;
    if (level < levels || rootBytes === PAGE) return words;
    const start = (address % PAGE) / 4;
    return words.subarray(start, start + rootBytes / 4);
  }

  /**
   * Whether the words of a page, or of a part of it, can be a root: something is mapped, addresses are some that machines have, tables
   * are in the dump, and entries that are not present are 0 (but for those of level 2, which may map large pages).
   */
  looksLikeRoot(words: Uint32Array): boolean {
    const { shape } = this;
    let present = 0;
    for (let at = 0; at < words.length; at += shape.words) {
      const low = words[at]!;
      const high = shape.words === 2 ? words[at + 1]! : 0;
      if (low === 0 && high === 0) continue;
      if ((low & PRESENT) === 0) {
        if (shape.levels > 2) return false;
        continue;
      }
      if (isImpossible(shape, shape.levels, low)) return false;
      const address = addressOf(low, high, this.#encrypted);
      if (address >= BEYOND) return false;
      present++;
      if (shape.words === 2 || (low & LARGE) === 0) {
        if (!this.#isHeld(address)) return false;
      }
    }
    return present > 0;
  }

  /** Whether everything below a root can be tables. */
  isRoot(root: number): boolean {
    return this.#isTable(root, this.shape.levels);
  }

  #isTable(address: number, level: number): boolean {
    const key = address * 8 + level;
    const known = this.#judged.get(key);
    if (known !== undefined) return known;
    // A table that is below itself is judged by its other entries.
    this.#judged.set(key, true);
    return settle(this.#judged, key, () => this.#judge(address, level));
  }

  #judge(table: number, level: number): boolean {
    const words = this.#read(table, level);
    if (words === undefined) return false;
    const { shape } = this;
    let present = 0;
    let wrong = 0;
    for (let at = 0; at < words.length; at += shape.words) {
      const low = words[at]!;
      const high = shape.words === 2 ? words[at + 1]! : 0;
      if ((low & PRESENT) === 0) {
        // What is not present further down may be what the system put there.
        if (level > 2 && (low | high) !== 0) wrong++;
        continue;
      }
      present++;
      const address = addressOf(low, high, this.#encrypted);
      if (!this.#isPossible(low, address, level)) wrong++;
      if (wrong > (present * WRONG_OF_64) / 64) return false;
    }
    return wrong <= (present * WRONG_OF_64) / 64;
  }

  #isPossible(low: number, address: number, level: number): boolean {
    if (address >= BEYOND || isImpossible(this.shape, level, low)) return false;
    if (!isLeaf(this.shape, level, low)) return this.#isHeld(address) && this.#isTable(address, level - 1);
    if (level === 1 || this.shape.words === 1) return true;
    // Bit 12 of a large page is its PAT bit.
    const rest = address % bytesAt(this.shape, level);
    return rest === 0 || rest === PAGE;
  }

  #isHeld(address: number): boolean {
    const slot = Math.floor(address / PAGE) % ASKED;
    if (this.#asked[slot] === address) return this.#answers[slot] === 1;
    const presence = this.#dump.presence(BigInt(address), BigInt(PAGE));
    const isHeld = presence === "held" || presence === "excluded";
    this.#asked[slot] = address;
    this.#answers[slot] = isHeld ? 1 : 0;
    return isHeld;
  }

  /** What the entries of a root from `from` up to, not including, `to` map. */
  count(root: number, from: number, to: number): Mapped {
    return this.#count(root, this.shape.levels, WRITABLE | USER | EXECUTE, from, to);
  }

  #countBelow(table: number, level: number, rights: number): Mapped {
    const key = `${table * 8 + level} ${rights}`;
    const known = this.#counted.get(key);
    if (known !== undefined) return known;
    // A table that is below itself counts once.
    this.#counted.set(key, NOTHING);
    return settle(this.#counted, key, () => this.#count(table, level, rights, 0, WORDS));
  }

  #count(table: number, level: number, above: number, from: number, to: number): Mapped {
    const { shape } = this;
    const words = this.#read(table, level);
    if (words === undefined) return NOTHING;
    const bytes = bytesAt(shape, level);
    let { user, kernel, writableExecutable } = NOTHING;
    const end = Math.min(words.length, to * shape.words);
    for (let at = from * shape.words; at < end; at += shape.words) {
      const low = words[at]!;
      if ((low & PRESENT) === 0) continue;
      const high = shape.words === 2 ? words[at + 1]! : 0;
      const granted = shape.mode === "pae" && level === 3 ? WRITABLE | USER : low & (WRITABLE | USER);
      const rights = above & (granted | (high & NO_EXECUTE ? 0 : EXECUTE));
      if (isLeaf(shape, level, low)) {
        if (rights & USER) user += bytes;
        else kernel += bytes;
        if ((rights & (WRITABLE | EXECUTE)) === (WRITABLE | EXECUTE)) writableExecutable++;
        continue;
      }
      const below = this.#countBelow(addressOf(low, high, this.#encrypted), level - 1, rights);
      user += below.user;
      kernel += below.kernel;
      writableExecutable += below.writableExecutable;
    }
    return { user, kernel, writableExecutable };
  }

  /** Adds the addresses of all tables below a root, and its own; of what was added for another root nothing is read again. */
  addTables(root: number, tables: Set<number>): void {
    const added = this.#added.get(tables) ?? new Set();
    this.#added.set(tables, added);
    this.#addTables(root, this.shape.levels, tables, added, new Set());
  }

  #addTables(table: number, level: number, tables: Set<number>, added: Set<number>, visited: Set<number>): void {
    const key = table * 8 + level;
    if (visited.has(key) || added.has(key)) return;
    visited.add(key);
    tables.add(table);
    const words = level === 1 ? undefined : this.#read(table, level);
    for (let at = 0; words !== undefined && at < words.length; at += this.shape.words) {
      const low = words[at]!;
      if ((low & PRESENT) === 0 || isLeaf(this.shape, level, low)) continue;
      const high = this.shape.words === 2 ? words[at + 1]! : 0;
      this.#addTables(addressOf(low, high, this.#encrypted), level - 1, tables, added, visited);
    }
    added.add(key);
  }

  /** Entries of a root, each as two words. */
  entriesOf(root: number): Uint32Array {
    const words = this.#read(root, this.shape.levels) ?? new Uint32Array(0);
    if (this.shape.words === 2) return words.slice();
    const entries = new Uint32Array(words.length * 2);
    words.forEach((word, index) => {
      entries[index * 2] = word;
    });
    return entries;
  }

  /** The address that entry `index` of `entries` points to, or -1 where it is not present. */
  target(entries: Uint32Array, index: number): number {
    const low = entries[index * 2]!;
    return (low & PRESENT) === 0 ? -1 : addressOf(low, entries[index * 2 + 1]!, this.#encrypted);
  }

  /**
   * What the present entries of a table point to: `visit` gets the address, and the bytes that a leaf maps from there on, or 0 where a
   * table is there, and returns whether to go on. All are read before the first call.
   */
  entriesBelow(table: number, level: number, visit: (address: number, bytes: number) => boolean): void {
    const words = this.#read(table, level);
    if (words === undefined) return;
    const { shape } = this;
    const bytes = bytesAt(shape, level);
    const below: number[] = [];
    for (let at = 0; at < words.length; at += shape.words) {
      const low = words[at]!;
      if ((low & PRESENT) === 0) continue;
      const address = addressOf(low, shape.words === 2 ? words[at + 1]! : 0, this.#encrypted);
      const isPage = isLeaf(shape, level, low);
      below.push(isPage ? address - (address % bytes) : address, isPage ? bytes : 0);
    }
    for (let at = 0; at < below.length; at += 2) if (!visit(below[at]!, below[at + 1]!)) return;
  }
}

/** Puts what `find` finds in the place of what was assumed; where it is interrupted, for bytes that have to be fetched, nothing. */
function settle<K, V>(known: Map<K, V>, key: K, find: () => V): V {
  try {
    const found = find();
    known.set(key, found);
    return found;
  } catch (error) {
    known.delete(key);
    throw error;
  }
}
