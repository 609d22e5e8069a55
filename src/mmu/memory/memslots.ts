/** Memslots: what lies where in guest-physical memory, with the metadata that the core keeps per gfn. */
import { MEMORY, SLOT } from "../../abi/index.js";
import { SHADOW_CODES } from "../../abi/shadow.js";
import type { LinearMemory } from "../../core/linear-memory.js";
import { RecordType } from "../../core/record.js";
import { ConfigError } from "../../errors.js";
import { isPlain } from "../config/aliases.js";
import type { SlotConfig } from "../config/config.js";
import { Allocations } from "./allocations.js";
import { memslotRecord, slotSetRecord, vmRecord } from "./records.js";

/** A slot with its record. */
export interface Memslot {
  readonly pointer: number;
  readonly addressSpace: number;
  readonly id: number;
  base: bigint;
  readonly pages: number;
  readonly hva: bigint;
  readonly ram: number;
  readonly ramSize: number;
  flags: number;
  readonly memory: Allocations;
  dirty: number;
}

export type SlotChange = "create" | "delete" | "move" | "flags" | "none";

const memoryRecord = new RecordType(MEMORY);
const slotRecord = new RecordType(SLOT);
const IN_PROGRESS = 1n << 63n;
const MAX_SLOTS = 64;
/** End of the host-virtual addresses. */
const ADDRESS_SPACE = 1n << 64n;
/** Flags that a slot keeps for life. */
const FIXED_FLAGS = SHADOW_CODES.MEMSLOT_READONLY | SHADOW_CODES.MEMSLOT_INTERNAL;
const MEMORY_BYTES = memoryRecord.size + (MAX_SLOTS + 1) * slotRecord.size;
const { MEMSLOT_LOG, MEMSLOT_READONLY, MEMSLOT_INVALID, MEMSLOT_INTERNAL } = SHADOW_CODES;
const { HOST_PRESENT, HOST_WRITABLE, HOST_LEVEL_SHIFT } = SHADOW_CODES;

/** Pages of level `level` that a range touches. */
function levelPages(base: bigint, pages: number, level: number): number {
  const shift = BigInt(9 * (level - 1));
  return Number(((base + BigInt(pages) - 1n) >> shift) - (base >> shift)) + 1;
}

export class Memslots {
  readonly #sets: number[] = [];
  /** MEMORY records, each with its SLOT records behind it: what guest walks go through. */
  readonly #memories: number[] = [];
  readonly slots: Memslot[] = [];
  /** gfn bits that no slot may have: they tell aliases apart. */
  aliasMask = 0n;
  /** Most that a gfn can be: what the host's tables can map (kvm_mmu_max_gfn). */
  maxGfn = (1n << 40n) - 1n;
  /** Pages of all slots. */
  totalPages = 0;

  constructor(
    readonly linear: LinearMemory,
    readonly vm: number,
    memory: Allocations,
  ) {
    for (let space = 0; space < 2; space++) {
      const set = memory.take(slotSetRecord.size);
      this.#sets.push(set);
      vmRecord.set32(linear, vm, "SLOTS", set, space);
      slotSetRecord.set64(linear, set, "GENERATION", BigInt(space));
      this.#memories.push(memory.take(MEMORY_BYTES));
      this.#publishMemory(space);
    }
  }

  /** The MEMORY record of an address space. */
  memory(space: number): number {
    return this.#memories[space]!;
  }

  generation(space: number): bigint {
    return slotSetRecord.get64(this.linear, this.#sets[space]!, "GENERATION");
  }

  find(space: number, id: number): Memslot | undefined {
    return this.slots.find((slot) => slot.addressSpace === space && slot.id === id);
  }

  /** The slot of a gfn that the guest can use. */
  visible(space: number, gfn: bigint): Memslot | undefined {
    const slot = this.slots.find(
      (one) => one.addressSpace === space && gfn >= one.base && gfn < one.base + BigInt(one.pages),
    );
    return slot !== undefined && (slot.flags & MEMSLOT_INVALID) === 0 ? slot : undefined;
  }

  /** Which change a configuration is; throws ConfigError where it is none that KVM allows. */
  classify(config: SlotConfig): SlotChange {
    const space = config.addressSpace ?? 0;
    const old = this.find(space, config.id);
    const name = `slot ${config.id}`;
    if (space !== 0 && space !== 1) throw new ConfigError(`${name}: address space is ${space}, expected 0 or 1`);
    if (!Number.isInteger(config.id) || config.id < 0 || config.id > 509) {
      throw new ConfigError(`slot number is ${config.id}, expected 0 to 509`);
    }
    if (config.size === 0) {
      if (old === undefined) throw new ConfigError(`${name} does not exist and cannot be deleted`);
      return "delete";
    }
    if (
      !Number.isSafeInteger(config.size) ||
      config.size < 0 ||
      config.size % 4096 !== 0 ||
      config.gpa % 4096n !== 0n
    ) {
      throw new ConfigError(`${name}: address and size must be multiples of 4096`);
    }
    if (config.memoryType !== undefined && ![0, 1, 4, 5, 6].includes(config.memoryType)) {
      throw new ConfigError(`${name}: memory type is ${config.memoryType}, expected 0, 1, 4, 5 or 6`);
    }
    const { hva } = config;
    if (hva !== undefined && (hva < 0n || hva % 4096n !== 0n || hva + BigInt(config.size) > ADDRESS_SPACE)) {
      throw new ConfigError(
        `${name}: hva is 0x${hva.toString(16)}, expected a multiple of 4096 with ${config.size} bytes`,
      );
    }
    const flags = flagsOf(config);
    const base = config.gpa >> 12n;
    const last = base + BigInt(config.size / 4096) - 1n;
    if (base < 0n || last > this.maxGfn) {
      const gfns = `gfns 0x${base.toString(16)} to 0x${last.toString(16)}`;
      throw new ConfigError(`${name} has ${gfns}, expected none above 0x${this.maxGfn.toString(16)}`);
    }
    if (!isPlain(base, config.size / 4096, this.aliasMask)) {
      throw new ConfigError(`${name} has addresses with alias bits; a slot holds pages, whatever their alias`);
    }
    let change: SlotChange = "create";
    if (old !== undefined) {
      const sameHost =
        (config.hva ?? old.hva) === old.hva &&
        (config.ram ?? old.ram) === old.ram &&
        (config.ramSize ?? old.ramSize) === old.ramSize;
      if (!sameHost || config.size !== old.pages * 4096 || ((flags ^ old.flags) & FIXED_FLAGS) !== 0) {
        throw new ConfigError(`${name}: size, memory, read-only and internal cannot be changed, delete it first`);
      }
      if (base === old.base) return flags === old.flags ? "none" : "flags";
      change = "move";
    } else if (config.ram === undefined || config.ram % 4096 !== 0) {
      throw new ConfigError(`${name}: ram is ${config.ram}, expected the linear address of its memory`);
    }
    const end = base + BigInt(config.size / 4096);
    for (const other of this.slots) {
      if (other.addressSpace !== space || other.id === config.id) continue;
      if (base < other.base + BigInt(other.pages) && other.base < end) {
        throw new ConfigError(`${name} overlaps slot ${other.id}`);
      }
    }
    if (this.slots.filter((slot) => slot.addressSpace === space).length === MAX_SLOTS && old === undefined) {
      throw new ConfigError(`more than ${MAX_SLOTS} slots`);
    }
    return change;
  }

  /** Makes a slot with its metadata; not active yet. Throws OutOfMemoryError with nothing changed. */
  prepare(config: SlotConfig, old: Memslot | undefined, log: { readonly initial: boolean } | undefined): Memslot {
    const { linear } = this;
    const pages = config.size / 4096;
    const base = config.gpa >> 12n;
    const ram = config.ram ?? old!.ram;
    const hva = config.hva ?? old?.hva ?? BigInt(ram);
    const memory = new Allocations(linear);
    const take = (size: number) => memory.take(size);
    return memory.guard(() => {
      const pointer = take(memslotRecord.size);
      const flags = flagsOf(config);
      const slot: Memslot = {
        pointer,
        addressSpace: config.addressSpace ?? 0,
        id: config.id,
        base,
        pages,
        hva,
        ram,
        ramSize: config.ramSize ?? old?.ramSize ?? config.size,
        flags,
        memory,
        dirty: 0,
      };
      for (let level = 1; level <= 3; level++) {
        memslotRecord.set32(linear, pointer, "RMAP", take(levelPages(base, pages, level) * 4), level - 1);
      }
      for (let level = 2; level <= 3; level++) {
        const count = levelPages(base, pages, level);
        const counts = take(count * 4);
        memslotRecord.set32(linear, pointer, "LPAGE", counts, level - 2);
        forbidPartialPages(linear, counts, count, slot, level);
      }
      memslotRecord.set32(linear, pointer, "TRACK", take(pages * 2));
      memslotRecord.set32(linear, pointer, "HOST", take(pages * 8));
      memslotRecord.set64(linear, pointer, "BASE", base);
      memslotRecord.set64(linear, pointer, "HVA", hva);
      memslotRecord.set32(linear, pointer, "PAGES", pages);
      memslotRecord.set32(linear, pointer, "SPACE", slot.addressSpace);
      memslotRecord.set32(linear, pointer, "RAM", ram);
      const { memoryType } = config;
      memslotRecord.set32(linear, pointer, "MEMTYPE", memoryType === undefined ? 0 : (memoryType << 3) | 1);
      if (log !== undefined) this.startLog(slot, log.initial);
      return slot;
    });
  }

  /** Gives a slot its dirty bitmap, all ones if `initial`. Throws OutOfMemoryError with nothing changed. */
  startLog(slot: Memslot, initial: boolean): void {
    if (slot.dirty !== 0) return;
    const size = Math.ceil(slot.pages / 64) * 8;
    slot.dirty = slot.memory.take(size);
    if (initial)
      for (let page = 0; page < slot.pages; page++) this.linear.u8[slot.dirty + (page >> 3)]! |= 1 << (page & 7);
    memslotRecord.set32(this.linear, slot.pointer, "DIRTY", slot.dirty);
  }

  stopLog(slot: Memslot): void {
    if (slot.dirty === 0) return;
    memslotRecord.set32(this.linear, slot.pointer, "DIRTY", 0);
    slot.memory.free(slot.dirty);
    slot.dirty = 0;
  }

  setFlags(slot: Memslot, flags: number): void {
    slot.flags = flags;
    memslotRecord.set32(this.linear, slot.pointer, "FLAGS", flags);
    this.#publishMemory(slot.addressSpace);
  }

  add(slot: Memslot): void {
    this.slots.push(slot);
    this.setFlags(slot, slot.flags);
    this.#publish(slot.addressSpace);
  }

  remove(slot: Memslot): void {
    this.slots.splice(this.slots.indexOf(slot), 1);
    this.#publish(slot.addressSpace);
  }

  release(slot: Memslot): void {
    slot.memory.release();
  }

  /** Activates changed slots: the generation says so while it lasts, and is 2 higher after it. */
  swap(space: number, duringUpdate: (generation: bigint) => void): void {
    const set = this.#sets[space]!;
    const generation = this.generation(space);
    slotSetRecord.set64(this.linear, set, "GENERATION", generation | IN_PROGRESS);
    const next = generation + 2n;
    duringUpdate(next);
    slotSetRecord.set64(this.linear, set, "GENERATION", next);
  }

  /** Sets what the host has behind a page; `page` undefined: nothing now. */
  setHostPage(slot: Memslot, gfn: bigint, page: { pfn: bigint; writable: boolean; level: number } | undefined): void {
    const at = memslotRecord.get32(this.linear, slot.pointer, "HOST") / 8 + Number(gfn - slot.base);
    if (page === undefined) {
      const level = this.linear.u64[at]! & BigInt(3 << HOST_LEVEL_SHIFT);
      this.linear.u64[at] = level;
      return;
    }
    const bits = HOST_PRESENT | (page.writable ? HOST_WRITABLE : 0) | ((page.level - 1) << HOST_LEVEL_SHIFT);
    this.linear.u64[at] = (page.pfn << 12n) | BigInt(bits);
  }

  hostPage(slot: Memslot, gfn: bigint): bigint {
    return this.linear.u64[memslotRecord.get32(this.linear, slot.pointer, "HOST") / 8 + Number(gfn - slot.base)]!;
  }

  dispose(): void {
    for (const slot of this.slots) this.release(slot);
  }

  /** Writes the usable slots as RAM of a MEMORY record, ascending, with an empty one behind them. */
  #publishMemory(space: number): void {
    const { linear } = this;
    const memory = this.#memories[space]!;
    const table = memory + memoryRecord.size;
    const slots = this.slots
      .filter((slot) => slot.addressSpace === space && (slot.flags & MEMSLOT_INVALID) === 0)
      .sort(byBase);
    slots.forEach((slot, index) => {
      const record = table + index * slotRecord.size;
      slotRecord.set64(linear, record, "BASE", slot.base << 12n);
      slotRecord.set64(linear, record, "SIZE", BigInt(slot.ramSize));
      slotRecord.set32(linear, record, "LINEAR", slot.ram);
      slotRecord.set32(linear, record, "READ_ONLY", slot.flags & MEMSLOT_READONLY ? 1 : 0);
    });
    const end = table + slots.length * slotRecord.size;
    slotRecord.set64(linear, end, "SIZE", 0n);
    memoryRecord.set32(linear, memory, "SLOTS", table);
    memoryRecord.set32(linear, memory, "SLOT_COUNT", slots.length);
    memoryRecord.set32(linear, memory, "LAST_SLOT", end);
  }

  #publish(space: number): void {
    const set = this.#sets[space]!;
    const slots = this.slots.filter((slot) => slot.addressSpace === space).sort(byBase);
    slots.forEach((slot, index) => {
      slotSetRecord.set32(this.linear, set, "SLOTS", slot.pointer, index);
    });
    slotSetRecord.set32(this.linear, set, "COUNT", slots.length);
    slotSetRecord.set32(this.linear, set, "LAST", 0);
    this.#publishMemory(space);
    this.totalPages = this.slots.reduce((sum, slot) => sum + slot.pages, 0);
  }
}

const byBase = (a: Memslot, b: Memslot) => (a.base < b.base ? -1 : 1);

export function flagsOf(config: SlotConfig): number {
  return (
    (config.logDirty ? MEMSLOT_LOG : 0) |
    (config.readOnly ? MEMSLOT_READONLY : 0) |
    (config.internal ? MEMSLOT_INTERNAL : 0)
  );
}

/**
 * Large pages at the ends that the slot holds only a part of are forbidden, and all of them where guest-physical and host
 * virtual addresses are not aligned to each other (kvm_alloc_memslot_metadata).
 */
function forbidPartialPages(linear: LinearMemory, counts: number, count: number, slot: Memslot, level: number): void {
  const mask = (1n << BigInt(9 * (level - 1))) - 1n;
  const words = linear.u32;
  if ((slot.base & mask) !== 0n) words[counts >>> 2] = 1;
  if (((slot.base + BigInt(slot.pages)) & mask) !== 0n) words[(counts >>> 2) + count - 1] = 1;
  if (((slot.base ^ (slot.hva >> 12n)) & mask) !== 0n) words.fill(1, counts >>> 2, (counts >>> 2) + count);
}
