/** Searches memory for bytes: stretch by stretch, with a window over pages that follow each other. */
import type { PageSource } from "../../api.js";
import { checkInteger } from "../../checks.js";
import type { Presence } from "../memory/presence.js";
import { type BytePattern, LOOK_BEHIND, type Match } from "./pattern.js";

const PAGE = 4096;
const PAGE_SIZE = BigInt(PAGE);
/** Sizes in which memory is absent, largest first. */
const BLOCKS = [30n, 21n, 16n].map((bits) => 1n << bits);
/** Bytes that are looked at together. */
const WINDOW = 16 * PAGE;

/** The memory to search: a dump. */
export interface SearchedMemory {
  readonly pageSource: PageSource;
  /** Whether the dump has the memory, and if not, why. */
  presence(gpa: bigint, size: bigint): Presence;
}

/** Consecutive addresses whose bytes lie one after the other in physical memory. */
export interface Stretch {
  /** What hits are named by: a virtual or a physical address. */
  readonly address: bigint;
  readonly gpa: bigint;
  /** Bytes. */
  readonly size: bigint;
}

/** Bytes that match. */
export interface MemoryHit {
  readonly address: bigint;
  /** Where the first byte lies; those on other pages lie elsewhere. */
  readonly gpa: bigint;
  /** Number of bytes. */
  readonly length: number;
  /** The bytes, a copy. */
  readonly bytes: Uint8Array;
  /** The match is longer than 4096 bytes, and perhaps longer than this. */
  readonly cut: boolean;
}

/** Bytes by why they were not searched. */
export type Unsearched = Record<Exclude<Presence, "held">, bigint>;

/**
 * Looks for a pattern in stretches of memory. Those that follow each other by address are searched as one, so that a match may lie on
 * pages that are far apart in physical memory; what a dump does not hold parts them. Memory does not grow with what is searched.
 * Where reading is interrupted (bytes have to be fetched), `step` goes on.
 */
export class MemorySearch {
  /** Pages that were looked at: not each of what is absent. */
  pages = 0;
  /** Bytes that could not be searched, by what the dump knows of them. */
  readonly unsearched: Unsearched = { excluded: 0n, cut: 0n, absent: 0n };
  readonly #memory: SearchedMemory;
  readonly #pattern: BytePattern;
  readonly #stretches: Iterator<Stretch>;
  /** What is left of the stretch at hand. */
  #rest: Stretch | undefined;
  /** The address behind the window's last byte. */
  #end: bigint | undefined;
  readonly #window: Uint8Array;
  /** Bytes in the window, of which those before `#next` were searched. */
  #filled = 0;
  #next = 0;
  /** Hits that nobody has yet: where reading is interrupted, they wait. */
  #hits: MemoryHit[] = [];
  /** Where the window's pages lie: by the index of their first byte. */
  #places: { readonly index: number; readonly gpa: bigint }[] = [];
  readonly #page = new Uint8Array(PAGE);

  constructor(memory: SearchedMemory, pattern: BytePattern, stretches: Iterable<Stretch>) {
    this.#memory = memory;
    this.#pattern = pattern;
    this.#stretches = stretches[Symbol.iterator]();
    this.#window = new Uint8Array(LOOK_BEHIND + pattern.longest + WINDOW);
  }

  /**
   * Goes through so many pages, and gives the hits that are certain by then, in order. Throws RangeError for no positive number, and
   * what reading throws.
   */
  step(pages: number): { readonly hits: MemoryHit[]; readonly finished: boolean } {
    checkInteger(pages, 1, Number.MAX_SAFE_INTEGER, "pages", RangeError);
    for (let looked = 0; looked < pages; looked++) {
      const stretch = this.#stretch();
      if (stretch === undefined) {
        this.#search(true);
        return { hits: this.#taken(), finished: true };
      }
      // An address that does not follow: what is in the window is over.
      if (this.#end !== stretch.address) this.#search(true);
      this.#take(stretch);
    }
    return { hits: this.#taken(), finished: false };
  }

  #taken(): MemoryHit[] {
    const hits = this.#hits;
    this.#hits = [];
    return hits;
  }

  #stretch(): Stretch | undefined {
    while (this.#rest === undefined || this.#rest.size === 0n) {
      const { done, value } = this.#stretches.next();
      if (done) return undefined;
      this.#rest = value;
      if (value.size > 0n) this.#passAbsent(value, [value.size]);
    }
    return this.#rest;
  }

  /** What is absent as a whole needs no look at each page: the largest of these sizes of it is passed. */
  #passAbsent(stretch: Stretch, sizes: readonly bigint[]): void {
    for (const block of sizes) {
      const size = stretch.size < block ? stretch.size : block;
      if (this.#memory.presence(stretch.gpa, size) !== "absent") continue;
      this.#pass(stretch, size, "absent");
      return;
    }
  }

  /** The next page of a stretch, or the part of it that is in the stretch. */
  #take(stretch: Stretch): void {
    const { gpa, address } = stretch;
    const offset = gpa % PAGE_SIZE;
    const inPage = PAGE_SIZE - offset;
    const size = stretch.size < inPage ? stretch.size : inPage;
    this.pages++;
    if (!this.#memory.pageSource.readPage(gpa / PAGE_SIZE, this.#page)) {
      const presence = this.#memory.presence(gpa - offset, PAGE_SIZE);
      // A page of which one part is held and another lacking is lacking.
      if (presence !== "absent") this.#pass(stretch, size, presence === "held" ? "cut" : presence);
      else this.#passAbsent(stretch, [...BLOCKS, size]);
      return;
    }
    if (this.#filled + Number(size) > this.#window.length) this.#search(false);
    this.#places.push({ index: this.#filled, gpa });
    this.#window.set(this.#page.subarray(Number(offset), Number(offset + size)), this.#filled);
    this.#filled += Number(size);
    this.#end = BigInt.asUintN(64, address + size);
    this.#rest = { address: address + size, gpa: gpa + size, size: stretch.size - size };
  }

  #pass(stretch: Stretch, size: bigint, presence: Exclude<Presence, "held">): void {
    this.unsearched[presence] += size;
    this.#rest = { address: stretch.address + size, gpa: stretch.gpa + size, size: stretch.size - size };
  }

  /** Searches the window. Unless it is `over`, matches that begin near its end wait for what follows. */
  #search(over: boolean): void {
    const bytes = this.#window.subarray(0, this.#filled);
    const certain = over ? bytes.length : Math.max(this.#next, bytes.length - this.#pattern.longest);
    let next = certain;
    this.#pattern.matches(bytes, this.#next, certain, (match) => {
      this.#hits.push(this.#hit(match, bytes, over));
      next = Math.max(certain, match.index + match.length);
    });
    if (over) {
      this.#filled = 0;
      this.#next = 0;
      this.#places = [];
      this.#end = undefined;
      return;
    }
    const kept = Math.max(0, next - LOOK_BEHIND);
    this.#window.copyWithin(0, kept, this.#filled);
    this.#filled -= kept;
    this.#next = next - kept;
    const places = this.#places.map(({ index, gpa }) => ({ index: index - kept, gpa }));
    this.#places = places.filter((_, number) => (places[number + 1]?.index ?? 1) > 0);
  }

  #hit({ index, length }: Match, bytes: Uint8Array, over: boolean): MemoryHit {
    const page = this.#places.filter((one) => one.index <= index).at(-1)!;
    return {
      address: BigInt.asUintN(64, this.#end! - BigInt(bytes.length - index)),
      gpa: page.gpa + BigInt(index - page.index),
      length,
      bytes: bytes.slice(index, index + length),
      cut: !over && index + length === bytes.length,
    };
  }
}
