/** A small guest for the shadow MMU's tests: RAM, page tables in any mode, and the hardware that runs it. */
import { Access, type Core, type CoreMemory, type CoreSpace, loadSync, type Translation } from "../../src/index.js";
import { type ControlRegisters, type Vcpu, VirtualMachine, type VirtualMachineConfig } from "../../src/mmu/index.js";
import { roleLevel } from "../../src/role/index.js";
import { legacyMasks } from "../../src/spte/index.js";
import { hooks } from "./machines/hooks.js";
import type { Host } from "./machines/host.js";

export type Mode = "nopg" | "32" | "pae" | "4level" | "5level";

const PE = 1n;
const WP = 0x10000n;
const PG = 0x8000_0000n;
const PSE = 0x10n;
const PAE = 0x20n;
const LA57 = 0x1000n;

/** Registers of a guest in `mode` with its root table at `cr3`. */
export function registersOf(
  mode: Mode,
  cr3: bigint,
  options: { wp?: boolean; nx?: boolean; cr4?: bigint } = {},
): ControlRegisters {
  const { wp = true, nx = true, cr4 = 0n } = options;
  const paging = mode === "nopg" ? 0n : PG | (wp ? WP : 0n);
  const long = mode === "4level" || mode === "5level";
  const pae = mode === "pae" || long ? PAE : 0n;
  return {
    cr0: PE | paging,
    cr3,
    cr4: cr4 | pae | (mode === "5level" ? LA57 : 0n) | (mode === "32" ? PSE : 0n),
    efer: (long ? 0x500n : 0n) | (nx && mode !== "nopg" ? 0x800n : 0n),
  };
}

export const MASKS = legacyMasks({ physBits: 46 });
export const RAM_PAGES = 1024;
/** RAM's first gfn is 0; the second slot lies where large pages can be made. */
export const HIGH_SLOT = 0x4000_0000n;
export const HIGH_PAGES = 1024;
export const RAM_HVA = 0x7f00_0000_0000n;
export const HIGH_HVA = 0x7f40_0000_0000n;
/** No slot lies here. */
export const MMIO_GPA = 0x8000_0000n;

let shared: Core | undefined;
export function core(): Core {
  shared ??= loadSync();
  return shared;
}

export const P = 1n;
export const RW = 2n;
export const US = 4n;
export const A = 0x20n;
export const D = 0x40n;
export const PS = 0x80n;
export const FULL = P | RW | US | A | D;

export type GuestConfig = Partial<VirtualMachineConfig> & { readonly host?: Host };

/** What a space over host-physical memory finds: the core's own walk of the tables that the MMU built. */
export function walkHost(
  engine: Core,
  make: (memory: CoreMemory) => CoreSpace,
  address: bigint,
  access: number,
): Translation {
  const size = engine.linearMemory.buffer.byteLength;
  const slots = [0n, 1n << 32n].map((gpa) => ({ gpa, size, linear: 0, readOnly: true, window: true }));
  const memory = engine.createMemory({ slots });
  const space = make(memory);
  try {
    return space.translate(address, access);
  } finally {
    space.dispose();
    memory.dispose();
  }
}

/** A VM with two slots and a page-table builder. Tables are taken from gfn 0x100 up. */
export class Guest {
  readonly vm: VirtualMachine;
  readonly ram: number;
  readonly high: number;
  vcpu!: Vcpu;
  mode: Mode = "4level";
  #next = 0x100;
  readonly #core: Core;

  /** `host`: what backs its memory; the second slot by large pages. */
  constructor(config: GuestConfig = {}, engine: Core = core()) {
    const { host, ...rest } = config;
    this.#core = engine;
    const hostMemory = host === undefined ? {} : { hostMemory: host };
    const events = { eventCapacity: hooks.eventCapacity };
    this.vm = new VirtualMachine(engine, { masks: MASKS, hostPhysicalBits: 46, ...hostMemory, ...events, ...rest });
    this.ram = this.vm.createRam(RAM_PAGES * 4096);
    // Aligned to a large page, as hva decides alignment.
    this.high = this.vm.createRam(HIGH_PAGES * 4096);
    host?.add({ hva: RAM_HVA, ram: this.ram, pages: RAM_PAGES, level: 1 });
    host?.add({ hva: HIGH_HVA, ram: this.high, pages: HIGH_PAGES, level: 2 });
    this.vm.setSlot({ id: 0, gpa: 0n, size: RAM_PAGES * 4096, ram: this.ram, hva: RAM_HVA });
    this.vm.setSlot({ id: 1, gpa: HIGH_SLOT, size: HIGH_PAGES * 4096, ram: this.high, hva: HIGH_HVA });
  }

  /** Starts a vCPU in `mode` on the table at `root`. */
  start(mode: Mode, root: bigint, options: { wp?: boolean; nx?: boolean; cr4?: bigint } = {}): Vcpu {
    this.mode = mode;
    const vcpu = this.vm.createVcpu(registersOf(mode, root, options));
    this.vcpu ??= vcpu;
    vcpu.enterGuest();
    return vcpu;
  }

  /** A zeroed page for a table; returns its address. */
  table(): bigint {
    return BigInt(this.#next++) << 12n;
  }

  get entryBytes(): number {
    return this.mode === "32" ? 4 : 8;
  }

  read(gpa: bigint): bigint {
    const bytes = this.vm.readGuest(gpa, this.entryBytes)!;
    return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  }

  /** Writes an entry behind the MMU's back. */
  poke(gpa: bigint, entry: bigint): void {
    this.vm.writeGuest(gpa, bytesOf(entry, this.entryBytes));
  }

  levels(mode: Mode = this.mode): number {
    return { nopg: 0, "32": 2, pae: 3, "4level": 4, "5level": 5 }[mode];
  }

  /** Address of the entry for `gva` at `level` in the table at `table`. */
  entryAddress(table: bigint, gva: bigint, level: number): bigint {
    const bits = this.mode === "32" ? 10 : 9;
    const index = (gva >> BigInt(12 + bits * (level - 1))) & ((1n << BigInt(bits)) - 1n);
    const base = this.mode === "pae" && level === 3 ? table & 0xffff_ffe0n : table & ~0xfffn;
    return base + index * BigInt(this.entryBytes);
  }

  /** Maps one page: makes the tables on the way. Returns the address of the leaf entry. `level` 2 or 3 makes a large page. */
  map(root: bigint, gva: bigint, gpa: bigint, flags = FULL, level = 1, tableFlags = FULL): bigint {
    let table = root;
    for (let at = this.levels(); at > level; at--) {
      const address = this.entryAddress(table, gva, at);
      let entry = this.read(address);
      if ((entry & P) === 0n) {
        const bits = this.mode === "pae" && at === 3 ? P : tableFlags & ~D;
        entry = this.table() | bits;
        this.poke(address, entry);
      }
      table = entry & 0x000f_ffff_ffff_f000n;
    }
    const leaf = this.entryAddress(table, gva, level);
    this.poke(leaf, gpa | flags | (level > 1 ? PS : 0n));
    return leaf;
  }

  /** What the processor finds in the shadow tables: the host's view, walked by the core's own walker. */
  hardware(gva: bigint, access: number, vcpu = this.vcpu): Translation {
    const root = this.vm.pages().find((page) => page.pointer === vcpu.state.rootMmu.roots.current.page);
    if (root === undefined) throw new RangeError("no root is loaded");
    const level = roleLevel(root.role);
    const guestBits = vcpu.registers.cr4 & 0x30_0000n;
    const registers = {
      cr0: 0x8001_0001n,
      cr3: root.hostAddress,
      cr4: PAE | guestBits | (level === 5 ? LA57 : 0n),
      efer: level === 3 ? 0x800n : 0xd00n,
      maxPhysAddr: 46,
    };
    return walkHost(this.#core, (memory) => this.#core.createAddressSpace(memory, registers), gva, access);
  }

  /** What the guest's own tables say. */
  own(gva: bigint, access: number, vcpu = this.vcpu): Translation {
    const { cr0, cr3, cr4, efer } = vcpu.registers;
    const memory = this.#core.createMemory({
      slots: [
        { gpa: 0n, size: RAM_PAGES * 4096, linear: this.ram },
        { gpa: HIGH_SLOT, size: HIGH_PAGES * 4096, linear: this.high },
      ],
    });
    const config = { cr0, cr3, cr4, efer, maxPhysAddr: 46, rules: "kvm-6.1" as const };
    const latched =
      this.mode === "pae" ? { pdpteValues: vcpu.state.rootMmu.pdptes as [bigint, bigint, bigint, bigint] } : {};
    const space = this.#core.createAddressSpace(memory, { ...config, ...latched });
    try {
      return space.translate(gva, access | Access.Probe);
    } finally {
      space.dispose();
      memory.dispose();
    }
  }

  /** gfn of a host-physical address that a leaf SPTE gives; undefined where it is no guest page. */
  gfnOf(pa: bigint): bigint | undefined {
    for (const slot of this.vm.state.slots.slots) {
      for (let i = 0; i < slot.pages; i++) {
        const gfn = slot.base + BigInt(i);
        if ((this.vm.state.slots.hostPage(slot, gfn) & 0x000f_ffff_ffff_f000n) >> 12n === pa >> 12n) return gfn;
      }
    }
    return undefined;
  }

  /**
   * Lets the guest access `gva` as the processor would: faults are handled until it succeeds or ends otherwise.
   * `user` accesses come from CPL 3.
   */
  access(gva: bigint, access: number, vcpu = this.vcpu): string {
    for (let tries = 0; tries < 8; tries++) {
      vcpu.enterGuest();
      const found = this.hardware(gva, access, vcpu);
      if (found.ok) return "ok";
      const outcome = vcpu.pageFault(gva, Number(found.errorCode));
      if (outcome.result === "inject") return `#PF ${outcome.errorCode.toString(16)}`;
      if (outcome.result === "emulate" || outcome.result === "mmio") return outcome.result;
    }
    return "loop";
  }

  /** A guest write of one entry through `gva`: directly where the SPTE allows it, emulated where not. */
  write(gva: bigint, gpa: bigint, entry: bigint, vcpu = this.vcpu): string {
    const result = this.access(gva, Access.Write, vcpu);
    const bytes = bytesOf(entry, this.entryBytes);
    if (result === "ok") this.vm.writeGuest(gpa, bytes);
    else if (result === "emulate") vcpu.emulatedWrite(gpa, bytes);
    return result;
  }

  dispose(): void {
    this.vm.dispose();
  }
}

export function bytesOf(value: bigint, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}
