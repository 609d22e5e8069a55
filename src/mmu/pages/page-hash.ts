/**
 * The hash of shadow pages by name: (gfn, role, CR3 bits 11:5 of a PAE guest's table or alias bits of a direct page,
 * latched PDPTEs).
 * Open addressing over typed arrays; the names themselves are read from the pages' headers in linear memory.
 */

import { SHADOW_CODES } from "../../abi/shadow.js";
import type { LinearMemory } from "../../core/linear-memory.js";
import { ROLE_INVALID } from "../../role/index.js";
import { PAGE_WORD, VCPU_WORD } from "../memory/records.js";

const { LOW_LATCHED } = SHADOW_CODES;

const EMPTY = 0;
const DELETED = 1;

export class PageHash {
  #entries = new Uint32Array(1024);
  /** Places that are not empty, deleted ones included. */
  #occupied = 0;
  #size = 0;

  constructor(readonly linear: LinearMemory) {}

  /** Number of pages in the table. */
  get size(): number {
    return this.#size;
  }

  /**
   * The valid page with the name in a vCPU's request, 0 for none. `pdptes` is the linear address of the four PDPTEs that
   * a latched name includes, `generation` the VM's valid generation.
   */
  find(vcpu: number, pdptes: number, generation: number): number {
    const words = this.linear.u32;
    const request = vcpu >>> 2;
    const low = words[request + VCPU_WORD.reqGfn]!;
    const high = words[request + VCPU_WORD.reqGfn + 1]!;
    const role = words[request + VCPU_WORD.reqRole]!;
    const bits = words[request + VCPU_WORD.reqLow]!;
    const entries = this.#entries;
    const mask = entries.length - 1;
    for (let at = hash(low, high, role, bits) & mask; ; at = (at + 1) & mask) {
      const page = entries[at]!;
      if (page === EMPTY) return 0;
      if (page === DELETED) continue;
      const header = page >>> 2;
      // An invalid or obsolete page waits for its last reference; its name is free again.
      if (
        words[header + PAGE_WORD.gfn] === low &&
        words[header + PAGE_WORD.gfn + 1] === high &&
        words[header + PAGE_WORD.role] === role &&
        words[header + PAGE_WORD.low] === bits &&
        words[header + PAGE_WORD.generation] === generation &&
        ((bits & LOW_LATCHED) === 0 || samePdptes(words, header + PAGE_WORD.pdptes, pdptes >>> 2))
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

  has(page: number): boolean {
    const entries = this.#entries;
    const mask = entries.length - 1;
    for (let at = this.#hashOf(page) & mask; entries[at] !== EMPTY; at = (at + 1) & mask) {
      if (entries[at] === page) return true;
    }
    return false;
  }

  #hashOf(page: number): number {
    const words = this.linear.u32;
    const header = page >>> 2;
    const role = (words[header + PAGE_WORD.role]! & ~ROLE_INVALID) >>> 0;
    return hash(
      words[header + PAGE_WORD.gfn]!,
      words[header + PAGE_WORD.gfn + 1]!,
      role,
      words[header + PAGE_WORD.low]!,
    );
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

function samePdptes(words: Uint32Array, a: number, b: number): boolean {
  for (let i = 0; i < 8; i++) if (words[a + i] !== words[b + i]) return false;
  return true;
}
