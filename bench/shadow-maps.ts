/**
 * The shadow engine with its hash and rmap in JavaScript Maps, for comparison: the fault path of assembly/shadow for a
 * guest of four levels, in JavaScript as one would write it for speed: 64-bit entries as two 32-bit halves in typed
 * arrays, no BigInt, Maps keyed by number. It has what such a fault can meet: guest walk with every check, write tracking,
 * host page, shadow pages found or made, rmap and parent entries, unsync marking, prefetching. Nothing in it zaps or
 * synchronises whole pages, or makes huge ones.
 */
import { FAULT_CODE } from "../src/mmu/index.js";
import {
  ACC_ALL,
  ROLE_ACCESS,
  ROLE_DIRECT,
  ROLE_GUEST_LEVEL,
  ROLE_INVALID,
  ROLE_LEVEL,
  ROLE_QUADRANT,
} from "../src/role/index.js";
import { ROLE_ACCESS_SHIFT, ROLE_GUEST_LEVEL_SHIFT } from "../src/role/word.js";
import { legacyMasks } from "../src/spte/index.js";
import { core } from "./machine.js";
import { PHYS_BITS, type ShadowGuest } from "./shadow-guest.js";

const { fixed, spurious, emulate, inject } = FAULT_CODE;
const P = 1;
const RW = 2;
const PS = 0x80;
const A = 0x20;
const D = 0x40;
const MMU_PRESENT = 0x800;
const ACC_WRITE = 2;
const PFERR_W = 2;
const PFERR_U = 4;
const HOST_PRESENT = 1;
const HOST_WRITABLE = 2;
const SLOT_LOG = 1;
/** Words of a table. */
const TABLE = 1024;
/** Upper half of the address of a shadow table. */
const ZONE = 1;
const LOW_ADDRESS = ~0xfff;
const HIGH_ADDRESS = 0xfffff;

const masks = legacyMasks({ physBits: PHYS_BITS });
const HOST_AND_PRESENT = Number(masks.present) | MMU_PRESENT;
const HOST_WRITABLE_BIT = Number(masks.hostWritable);
const MMU_WRITABLE_BIT = Number(masks.mmuWritable);
const USER_BIT = Number(masks.user);
const NX_HIGH = Number(masks.nx >> 32n) | 0;

interface Page {
  readonly gfn: number;
  readonly role: number;
  /** Index of its first word. */
  readonly table: number;
  /** gfn * 8 + access behind each entry. */
  readonly shadowed: Float64Array;
  /** Places of the entries that lead here. */
  readonly parents: number[];
  flood: number;
  unsync: boolean;
}

interface Slot {
  readonly base: number;
  readonly pages: number;
  readonly flags: number;
  /** Index of the first word of its RAM in the guest's memory. */
  readonly ram: number;
  readonly hostLow: Int32Array;
  readonly hostHigh: Int32Array;
  readonly track: Uint16Array;
  readonly largePages: Int32Array;
}

export class MapMmu {
  /** Shadow tables; an entry's place is the index of its lower half. */
  readonly words: Int32Array;
  /** Pages of one gfn, by gfn. */
  readonly #hash = new Map<number, Page[]>();
  /** Leaf entries of a data page, by gfn. */
  readonly #rmap = new Map<number, number | number[]>();
  readonly #pages: Page[] = [];
  readonly #slots: Slot[];
  #last: Slot;
  readonly #guest: Int32Array;
  readonly #root: Page;
  readonly #rootGfn: number;
  readonly #permissions: Uint16Array;
  readonly #reservedLow: Int32Array;
  readonly #reservedHigh: Int32Array;
  readonly #xdHigh: number;
  readonly #wp: boolean;
  // The walk in progress, by level - 1.
  readonly #tableGfn = new Float64Array(5);
  readonly #above = new Int32Array(5);
  #leafPlace = 0;
  #level = 0;
  #gfn = 0;
  #access = 0;
  // An SPTE's upper half, beside the lower one that a function returns.
  #high = 0;

  constructor({ vm, vcpu }: ShadowGuest, capacity: number) {
    const { linear } = core.internals();
    this.#guest = new Int32Array(linear.memory.buffer);
    this.words = new Int32Array(capacity * TABLE);
    this.#slots = vm.state.slots.slots.map((slot) => {
      return {
        base: Number(slot.base),
        pages: slot.pages,
        flags: slot.flags,
        ram: slot.ram >>> 2,
        hostLow: Int32Array.from({ length: slot.pages }, (_, i) => slot.core.hostPageLow(i)),
        hostHigh: Int32Array.from({ length: slot.pages }, (_, i) => slot.core.hostPageHigh(i)),
        track: new Uint16Array(slot.pages),
        largePages: new Int32Array((slot.pages >> 9) + 2),
      };
    });
    this.#last = this.#slots[0]!;
    const { space } = vcpu.state.mmu.core;
    this.#permissions = Uint16Array.from({ length: 16 }, (_, i) => space.permissions(i));
    this.#reservedLow = Int32Array.from({ length: 10 }, (_, i) => Number(BigInt.asIntN(32, space.reserved(i))));
    this.#reservedHigh = Int32Array.from({ length: 10 }, (_, i) => Number(BigInt.asIntN(32, space.reserved(i) >> 32n)));
    this.#xdHigh = Number(BigInt.asIntN(32, space.xdMask >> 32n));
    this.#wp = vcpu.state.mmu.writeProtect;
    this.#rootGfn = Number(vcpu.state.mmu.pgd >> 12n);
    this.#root = this.#getPage(this.#rootGfn, vcpu.state.mmu.rootRole);
  }

  /** Number of shadow pages. */
  get pages(): number {
    return this.#pages.length;
  }

  /** Handles a fault; a FAULT_CODE. */
  fault(high: number, low: number, error: number): number {
    if (!this.#walk(high, low, error)) return inject;
    const gfn = this.#gfn;
    const slot = this.#slotOf(gfn);
    if (slot === undefined) return emulate;
    const index = gfn - slot.base;
    if ((error & 3) === 3 && slot.track[index] !== 0) return emulate;
    if (this.#level !== 1) throw new RangeError("huge pages are left out of this engine");
    const hostLow = slot.hostLow[index]!;
    if ((hostLow & HOST_PRESENT) === 0 || ((error & PFERR_W) !== 0 && (hostLow & HOST_WRITABLE) === 0)) return emulate;
    let access = this.#access;
    // CR0.WP=0: the supervisor writes a read-only page.
    if ((error & (PFERR_W | PFERR_U)) === PFERR_W && (access & ACC_WRITE) === 0 && !this.#wp)
      access = (access | ACC_WRITE) & ~4;

    let page = this.#root;
    let place = page.table + ((high >>> 7) & 511) * 2;
    for (let level = 4; level > 1; level--) {
      page.flood = 0;
      page = this.#child(page, place, this.#tableGfn[level - 2]!, this.#above[level - 2]!);
      const at = level === 4 ? (high << 2) | (low >>> 30) : level === 3 ? low >>> 21 : low >>> 12;
      place = page.table + (at & 511) * 2;
    }
    page.flood = 0;
    const result = this.#install(page, place, slot, gfn, access, error, false);
    if (result !== spurious) this.#prefetch(page, place);
    return result;
  }

  /** The page below an entry: the one that is linked, or found, or made. */
  #child(parent: Page, place: number, gfn: number, access: number): Page {
    const { words } = this;
    const level = (parent.role & ROLE_LEVEL) - 1;
    const varying = ROLE_LEVEL | ROLE_ACCESS | ROLE_DIRECT | ROLE_QUADRANT | ROLE_GUEST_LEVEL | ROLE_INVALID;
    const role = (parent.role & ~varying) | level | (access << ROLE_ACCESS_SHIFT) | (level << ROLE_GUEST_LEVEL_SHIFT);
    const low = words[place]!;
    if ((low & MMU_PRESENT) !== 0) {
      const child = this.#pages[low >>> 12]!;
      if (child.gfn === gfn && child.role === role) return child;
      child.parents.splice(child.parents.indexOf(place), 1);
    }
    const child = this.#getPage(gfn, role);
    words[place] = (child.table << 2) | HOST_AND_PRESENT | RW | USER_BIT | A;
    words[place + 1] = ZONE;
    child.parents.push(place);
    return child;
  }

  /** Finds a page by name, or makes it: tables of upper levels are write-tracked, leaves of the gfn write-protected. */
  #getPage(gfn: number, role: number): Page {
    let pages = this.#hash.get(gfn);
    if (pages !== undefined) {
      for (const page of pages) {
        if (page.role !== role) continue;
        page.flood = 0;
        return page;
      }
    } else {
      pages = [];
      this.#hash.set(gfn, pages);
    }
    const table = this.#pages.length * TABLE;
    const page: Page = {
      gfn,
      role,
      table,
      shadowed: new Float64Array(512),
      parents: [],
      flood: 0,
      unsync: false,
    };
    this.words.fill(0, table, table + TABLE);
    this.#pages.push(page);
    pages.push(page);
    const slot = this.#slotOf(gfn)!;
    slot.largePages[(gfn - slot.base) >> 9]!++;
    if ((role & ROLE_LEVEL) > 1) slot.track[gfn - slot.base]!++;
    const leaves = this.#rmap.get(gfn);
    if (typeof leaves === "number") this.words[leaves]! &= ~(RW | MMU_WRITABLE_BIT);
    else if (leaves !== undefined) for (const leaf of leaves) this.words[leaf]! &= ~(RW | MMU_WRITABLE_BIT);
    return page;
  }

  #slotOf(gfn: number): Slot | undefined {
    const last = this.#last;
    if (gfn >= last.base && gfn < last.base + last.pages) return last;
    for (const slot of this.#slots) {
      if (gfn < slot.base || gfn >= slot.base + slot.pages) continue;
      this.#last = slot;
      return slot;
    }
    return undefined;
  }

  /** The guest walk; tables and rights by level are kept for the shadow walk. */
  #walk(high: number, low: number, error: number): boolean {
    const guest = this.#guest;
    // Tables lie in slot 0 here; the engine asks for the slot once a table, too.
    const tables = this.#slots[0]!;
    let table = this.#rootGfn;
    let rights = ACC_ALL;
    for (let level = 4; ; level--) {
      const at =
        level === 4 ? high >>> 7 : level === 3 ? (high << 2) | (low >>> 30) : level === 2 ? low >>> 21 : low >>> 12;
      const index = table - tables.base;
      if (index < 0 || index >= tables.pages) return false;
      const place = tables.ram + index * TABLE + (at & 511) * 2;
      const entry = guest[place]!;
      const entryHigh = guest[place + 1]!;
      this.#tableGfn[level - 1] = table;
      this.#above[level - 1] = rights;
      if ((entry & P) === 0) return false;
      const reserved = level - 1 + ((entry & PS) !== 0 ? 5 : 0);
      if (((entry & this.#reservedLow[reserved]!) | (entryHigh & this.#reservedHigh[reserved]!)) !== 0) return false;
      rights &= (entry & 6) | ((entryHigh & this.#xdHigh) === 0 ? 1 : 0);
      const leaf = level === 1 || (entry & PS) !== 0;
      const wanted = entry | A | (leaf && (error & PFERR_W) !== 0 ? D : 0);
      if (leaf && ((this.#permissions[(error >> 1) & 15]! >> rights) & 1) !== 0) return false;
      if (wanted !== entry) guest[place] = wanted;
      table = (entryHigh & HIGH_ADDRESS) * 0x10_0000 + (entry >>> 12);
      if (!leaf) continue;
      this.#leafPlace = place;
      this.#level = level;
      this.#gfn = table;
      this.#access = (error & PFERR_W) !== 0 || (wanted & D) !== 0 ? rights : rights & ~ACC_WRITE;
      return true;
    }
  }

  /** Lower half of the leaf; the upper one is in #high. */
  #makeSpte(slot: Slot, gfn: number, access: number, old: number, prefetch: boolean): number {
    const index = gfn - slot.base;
    const hostLow = slot.hostLow[index]!;
    let low = HOST_AND_PRESENT | (hostLow & LOW_ADDRESS);
    let high = slot.hostHigh[index]!;
    if (!prefetch) low |= A;
    if ((access & 1) === 0) high |= NX_HIGH;
    if ((access & 4) !== 0) low |= USER_BIT;
    const writable = (hostLow & HOST_WRITABLE) !== 0;
    if (writable) low |= HOST_WRITABLE_BIT;
    if ((access & ACC_WRITE) !== 0 && writable) {
      if ((old & RW) !== 0) low |= RW | MMU_WRITABLE_BIT;
      else if (!this.#mustProtect(slot, gfn, prefetch)) low |= RW | MMU_WRITABLE_BIT | D;
    }
    this.#high = high;
    return low;
  }

  #mustProtect(slot: Slot, gfn: number, prefetch: boolean): boolean {
    if (slot.track[gfn - slot.base] !== 0) return true;
    const pages = this.#hash.get(gfn);
    if (pages === undefined) return false;
    for (const page of pages) {
      if (page.unsync) continue;
      if (prefetch) return true;
      page.unsync = true;
    }
    return false;
  }

  #install(
    page: Page,
    place: number,
    slot: Slot,
    gfn: number,
    access: number,
    error: number,
    prefetch: boolean,
  ): number {
    const { words } = this;
    let old = words[place]!;
    let mapped = false;
    if ((old & MMU_PRESENT) !== 0) {
      const index = gfn - slot.base;
      const same =
        (old & LOW_ADDRESS) === (slot.hostLow[index]! & LOW_ADDRESS) &&
        (words[place + 1]! & HIGH_ADDRESS) === (slot.hostHigh[index]! & HIGH_ADDRESS);
      if (same) mapped = true;
      else {
        this.#drop(page, place);
        old = 0;
      }
    }
    const low = this.#makeSpte(slot, gfn, access, old, prefetch);
    const high = this.#high;
    let result: number = fixed;
    if (old === low && words[place + 1] === high) result = spurious;
    else {
      words[place] = low;
      words[place + 1] = high;
    }
    if ((access & ACC_WRITE) !== 0 && (low & RW) === 0 && (error & PFERR_W) !== 0) result = emulate;
    page.shadowed[(place & (TABLE - 1)) >> 1] = gfn * 8 + access;
    if ((slot.flags & SLOT_LOG) !== 0) throw new RangeError("dirty logging is left out of this engine");
    if (!mapped) this.#rmapAdd(gfn, place);
    return result;
  }

  #rmapAdd(gfn: number, place: number): void {
    const found = this.#rmap.get(gfn);
    if (found === undefined) this.#rmap.set(gfn, place);
    else if (typeof found === "number") this.#rmap.set(gfn, [found, place]);
    else found.push(place);
  }

  #drop(page: Page, place: number): void {
    if ((this.words[place]! & MMU_PRESENT) !== 0) {
      const gfn = Math.floor(page.shadowed[(place & (TABLE - 1)) >> 1]! / 8);
      const found = this.#rmap.get(gfn)!;
      if (typeof found === "number" || found.length === 1) this.#rmap.delete(gfn);
      else found.splice(found.indexOf(place), 1);
    }
    this.words[place] = 0;
    this.words[place + 1] = 0;
  }

  /** Maps the other entries of the block of eight, as far as they can be used at once. */
  #prefetch(page: Page, place: number): void {
    const { words } = this;
    const guest = this.#guest;
    const first = place & ~15;
    const gptes = this.#leafPlace & ~15;
    for (let i = 0; i < 16; i += 2) {
      if (first + i === place || (words[first + i]! & MMU_PRESENT) !== 0) continue;
      const entry = guest[gptes + i]!;
      const high = guest[gptes + i + 1]!;
      const reserved = (entry & PS) !== 0 ? 5 : 0;
      const unusable =
        (entry & (P | A)) !== (P | A) ||
        ((entry & this.#reservedLow[reserved]!) | (high & this.#reservedHigh[reserved]!)) !== 0;
      if (unusable) {
        this.#drop(page, first + i);
        return;
      }
      const gfn = (high & HIGH_ADDRESS) * 0x10_0000 + (entry >>> 12);
      let access = ((page.role & ROLE_ACCESS) >> ROLE_ACCESS_SHIFT) & ((entry & 6) | (high & this.#xdHigh ? 0 : 1));
      if ((entry & D) === 0) access &= ~ACC_WRITE;
      const slot = this.#slotOf(gfn);
      if (slot === undefined) return;
      const host = slot.hostLow[gfn - slot.base]!;
      if ((host & (HOST_PRESENT | HOST_WRITABLE)) !== (HOST_PRESENT | HOST_WRITABLE)) return;
      this.#install(page, first + i, slot, gfn, access, 0, true);
    }
  }

  /** Removes every leaf of gfns [first, first + count). */
  forget(first: number, count: number): void {
    const { words } = this;
    for (let gfn = first; gfn < first + count; gfn++) {
      const leaves = this.#rmap.get(gfn);
      if (leaves === undefined) continue;
      this.#rmap.delete(gfn);
      for (const place of typeof leaves === "number" ? [leaves] : leaves) {
        words[place] = 0;
        words[place + 1] = 0;
      }
    }
  }

  /** The entries that a processor would walk for an address, from the root down. */
  path(high: number, low: number): bigint[] {
    const entries: bigint[] = [];
    let table = this.#root.table;
    for (let level = 4; level > 0; level--) {
      const at =
        level === 4 ? high >>> 7 : level === 3 ? (high << 2) | (low >>> 30) : level === 2 ? low >>> 21 : low >>> 12;
      const place = table + (at & 511) * 2;
      const half = this.words[place]!;
      entries.push((BigInt(this.words[place + 1]! >>> 0) << 32n) | BigInt(half >>> 0));
      if ((half & MMU_PRESENT) === 0) break;
      if (level > 1) table = this.#pages[half >>> 12]!.table;
    }
    return entries;
  }
}
