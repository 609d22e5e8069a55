/** Memslots: what lies where in guest-physical memory, with the metadata that the core keeps per gfn. */
import { GENERATION_IN_PROGRESS, SHADOW_CODES } from "../../abi/shadow.js";
import { MemslotCore } from "../../core/mmu/memslot-core.js";
import type { MmuCore } from "../../core/mmu/mmu-core.js";
import { SlotTables } from "../../core/mmu/slot-tables.js";
import { ConfigError } from "../../errors.js";
import { isPlain } from "../config/aliases.js";
import type { SlotConfig } from "../config/config.js";

/** A slot, with what the core keeps for its pages. */
export interface Memslot {
  readonly core: MemslotCore;
  readonly addressSpace: number;
  readonly id: number;
  base: bigint;
  readonly pages: number;
  readonly hva: bigint;
  readonly ram: number;
  readonly ramSize: number;
  flags: number;
}

export type SlotChange = "create" | "delete" | "move" | "flags" | "none";

const MAX_SLOTS = 64;
/** End of the host-virtual addresses. */
const ADDRESS_SPACE = 1n << 64n;
/** Flags that a slot keeps for life. */
const FIXED_FLAGS = SHADOW_CODES.MEMSLOT_READONLY | SHADOW_CODES.MEMSLOT_INTERNAL;
const { MEMSLOT_LOG, MEMSLOT_READONLY, MEMSLOT_INVALID, MEMSLOT_INTERNAL } = SHADOW_CODES;
const { HOST_PRESENT, HOST_WRITABLE, HOST_LEVEL_SHIFT, MEMSLOT_TYPE_SET, MEMSLOT_TYPE_SHIFT } = SHADOW_CODES;
/** Bits of a host page that say at which level the host maps it. */
const HOST_LEVEL = BigInt(3 << HOST_LEVEL_SHIFT);

export class Memslots {
  readonly slots: Memslot[] = [];
  /** gfn bits that no slot may have: they tell aliases apart. */
  aliasMask = 0n;
  /** Most that a gfn can be: what the host's tables can map (kvm_mmu_max_gfn). */
  maxGfn = (1n << 40n) - 1n;
  /** Pages of all slots. */
  totalPages = 0;

  readonly #tables: SlotTables;

  /** Throws OutOfMemoryError. */
  constructor(readonly core: MmuCore) {
    this.#tables = new SlotTables(core, MAX_SLOTS);
  }

  /** The memory of an address space that walks of the guest's tables go through. */
  memory(space: number) {
    return this.#tables.memory(space);
  }

  /** Memslots generation of an address space. */
  generation(space: number): bigint {
    return this.#tables.generation(space);
  }

  /** Sets it: for tests of what happens when it wraps. */
  setGeneration(space: number, generation: bigint): void {
    this.#tables.setGeneration(space, generation);
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
    const pages = config.size / 4096;
    const base = config.gpa >> 12n;
    const ram = config.ram ?? old!.ram;
    const hva = config.hva ?? old?.hva ?? BigInt(ram);
    const addressSpace = config.addressSpace ?? 0;
    const memoryType = memoryTypeOf(config);
    const core = new MemslotCore(this.core, { addressSpace, base, pages, hva, ram, memoryType });
    const ramSize = config.ramSize ?? old?.ramSize ?? config.size;
    const slot: Memslot = { core, addressSpace, id: config.id, base, pages, hva, ram, ramSize, flags: flagsOf(config) };
    try {
      if (log !== undefined) core.startLog(log.initial);
    } catch (error) {
      core.release();
      throw error;
    }
    return slot;
  }

  setFlags(slot: Memslot, flags: number): void {
    slot.flags = flags;
    slot.core.flags = flags;
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
    slot.core.release();
  }

  /** Activates changed slots: the generation says so while it lasts, and is 2 higher after it. */
  swap(space: number, duringUpdate: (generation: bigint) => void): void {
    const generation = this.generation(space);
    this.setGeneration(space, generation | GENERATION_IN_PROGRESS);
    const next = generation + 2n;
    duringUpdate(next);
    this.setGeneration(space, next);
  }

  /** Sets what the host has behind a page; `page` undefined: nothing now. */
  setHostPage(slot: Memslot, gfn: bigint, page: { pfn: bigint; writable: boolean; level: number } | undefined): void {
    const at = Number(gfn - slot.base);
    if (page === undefined) slot.core.setHostPage(at, slot.core.hostPage(at) & HOST_LEVEL);
    else {
      const bits = HOST_PRESENT | (page.writable ? HOST_WRITABLE : 0) | ((page.level - 1) << HOST_LEVEL_SHIFT);
      slot.core.setHostPage(at, (page.pfn << 12n) | BigInt(bits));
    }
  }

  /** pfn << 12 | HOST_* bits. */
  hostPage(slot: Memslot, gfn: bigint): bigint {
    return slot.core.hostPage(Number(gfn - slot.base));
  }

  dispose(): void {
    for (const slot of this.slots) this.release(slot);
  }

  /** Writes the usable slots as RAM of a MEMORY record, ascending, with an empty one behind them. */
  #publishMemory(space: number): void {
    const usable = this.slots.filter(({ addressSpace, flags }) => {
      return addressSpace === space && (flags & MEMSLOT_INVALID) === 0;
    });
    const ram = usable.sort(byBase).map(({ base, ramSize, ram: linear, flags }) => {
      return { gpa: base << 12n, size: ramSize, linear, readOnly: (flags & MEMSLOT_READONLY) !== 0 };
    });
    this.#tables.publishRam(space, ram);
  }

  #publish(space: number): void {
    const slots = this.slots.filter((slot) => slot.addressSpace === space).sort(byBase);
    this.#tables.publish(
      space,
      slots.map(({ core }) => core),
    );
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

/** MEMSLOT_TYPE_* bits. */
function memoryTypeOf({ memoryType }: SlotConfig): number {
  return memoryType === undefined ? 0 : MEMSLOT_TYPE_SET | (memoryType << MEMSLOT_TYPE_SHIFT);
}
