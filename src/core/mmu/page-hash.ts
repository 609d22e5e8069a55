/**
 * The hash of shadow pages by name: (gfn, role, CR3 bits 11:5 of a PAE guest's table or alias bits of a direct page,
 * latched PDPTEs).
 * Open addressing over typed arrays; the names themselves are read from the pages' headers in linear memory.
 */

import { SHADOW_CODES } from "../../abi/shadow.js";
import { ROLE_INVALID } from "../../role/index.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import { SP_OFFSET, VCPU_OFFSET, type VcpuRecord } from "../records/mmu.js";
import { SPACE_OFFSET, type SpaceRecord } from "../records/walk.js";

const { LOW_LATCHED } = SHADOW_CODES;

/** Where the parts of a name are, in 32-bit words. */
const PAGE = {
  gfn: SP_OFFSET.gfn >> 2,
  role: SP_OFFSET.role >> 2,
  low: SP_OFFSET.low >> 2,
  generation: SP_OFFSET.generation >> 2,
  pdptes: SP_OFFSET.pdptes >> 2,
} as const;
const REQUEST = {
  gfn: VCPU_OFFSET.reqGfn >> 2,
  role: VCPU_OFFSET.reqRole >> 2,
  low: VCPU_OFFSET.reqLow >> 2,
} as const;
const SPACE_PDPTES = SPACE_OFFSET.pdptes >> 2;
/** Four of 64 bits. */
const PDPTE_WORDS = 8;

const EMPTY = 0;
const DELETED = 1;

export class PageHash {
  #entries = new Uint32Array(1024);
  /** Places that are not empty, deleted ones included. */
  #occupied = 0;
  #size = 0;

  readonly #linear: LinearMemory;

  constructor(linear: LinearMemory) {
    this.#linear = linear;
  }

  /** Number of pages in the table. */
  get size(): number {
    return this.#size;
  }

  /**
   * The valid page with the name in a vCPU's request, 0 for none. `space` has the four PDPTEs that a latched name includes,
   * `generation` is the VM's valid generation.
   */
  find(vcpu: VcpuRecord, space: SpaceRecord, generation: number): number {
    const words = this.#linear.u32;
    const request = vcpu.at >>> 2;
    const low = words[request + REQUEST.gfn]!;
    const high = words[request + REQUEST.gfn + 1]!;
    const role = words[request + REQUEST.role]!;
    const bits = words[request + REQUEST.low]!;
    const entries = this.#entries;
    const mask = entries.length - 1;
    for (let at = hash(low, high, role, bits) & mask; ; at = (at + 1) & mask) {
      const page = entries[at]!;
      if (page === EMPTY) return 0;
      if (page === DELETED) continue;
      const header = page >>> 2;
      // An invalid or obsolete page waits for its last reference; its name is free again.
      if (
        words[header + PAGE.gfn] === low &&
        words[header + PAGE.gfn + 1] === high &&
        words[header + PAGE.role] === role &&
        words[header + PAGE.low] === bits &&
        words[header + PAGE.generation] === generation &&
        ((bits & LOW_LATCHED) === 0 || samePdptes(words, header + PAGE.pdptes, (space.at >>> 2) + SPACE_PDPTES))
      ) {
        return page;
      }
    }
  }

  /** Grows the table so that the next `insert` cannot fail. */
  reserve(): void {
    if ((this.#occupied + 1) * 2 > this.#entries.length) this.#rehash();
  }

  insert(page: number): void {
    this.reserve();
    const entries = this.#entries;
    const mask = entries.length - 1;
    let at = this.#hashOf(page) & mask;
    while (entries[at]! > DELETED) at = (at + 1) & mask;
    if (entries[at] === EMPTY) this.#occupied++;
    entries[at] = page;
    this.#size++;
  }

  remove(page: number): void {
    const entries = this.#entries;
    const mask = entries.length - 1;
    let at = this.#hashOf(page) & mask;
    while (entries[at] !== page) {
      if (entries[at] === EMPTY) throw new RangeError(`shadow page ${page} is not in the hash`);
      at = (at + 1) & mask;
    }
    entries[at] = DELETED;
    this.#size--;
  }

  /** @internal The pages, in the order in which they lie. */
  pages(): number[] {
    return [...this.#entries].filter((entry) => entry > DELETED);
  }

  has(page: number): boolean {
    const entries = this.#entries;
    const mask = entries.length - 1;
    for (let at = this.#hashOf(page) & mask; entries[at] !== EMPTY; at = (at + 1) & mask) {
      if (entries[at] === page) return true;
    }
    return false;
  }

  #hashOf(page: number): number {
    const words = this.#linear.u32;
    const header = page >>> 2;
    const role = (words[header + PAGE.role]! & ~ROLE_INVALID) >>> 0;
    return hash(words[header + PAGE.gfn]!, words[header + PAGE.gfn + 1]!, role, words[header + PAGE.low]!);
  }

  #rehash(): void {
    const pages = this.#entries.filter((entry) => entry > DELETED);
    const length = pages.length * 4 > this.#entries.length ? this.#entries.length * 2 : this.#entries.length;
    const entries = new Uint32Array(length);
    for (const page of pages) {
      let at = this.#hashOf(page) & (length - 1);
      while (entries[at] !== EMPTY) at = (at + 1) & (length - 1);
      entries[at] = page;
    }
    this.#entries = entries;
    this.#occupied = pages.length;
  }
}

function hash(gfnLow: number, gfnHigh: number, role: number, low: number): number {
  let value = Math.imul(gfnLow ^ Math.imul(gfnHigh, 0x85ebca6b), 0x9e3779b1);
  value = Math.imul(value ^ role ^ (low << 9) ^ (low >>> 12), 0xc2b2ae35);
  return value ^ (value >>> 15);
}

/** Whether the page has the PDPTEs that are latched in `space`. */
export function hasPdptes(linear: LinearMemory, page: number, space: SpaceRecord): boolean {
  return samePdptes(linear.u32, (page >>> 2) + PAGE.pdptes, (space.at >>> 2) + SPACE_PDPTES);
}

function samePdptes(words: Uint32Array, a: number, b: number): boolean {
  for (let i = 0; i < PDPTE_WORDS; i++) if (words[a + i] !== words[b + i]) return false;
  return true;
}
