/** A machine with two-dimensional paging: a host with small and large pages, and the processor that uses the tables. */
import type { Core } from "../../src/index.js";
import { type HostPage, type Vcpu, VirtualMachine, type VirtualMachineConfig } from "../../src/mmu/index.js";
import { roleLevel } from "../../src/role/index.js";
import { eptMasks, legacyMasks, type SpteMasks } from "../../src/spte/index.js";
import { core } from "./guest.js";

export type Format = "npt" | "ept" | "ept without A/D" | "ept with PML";
export const FORMATS: readonly Format[] = ["npt", "ept", "ept without A/D", "ept with PML"];

export type Access = "read" | "write" | "exec";

const PHYS_BITS = 46;
/** Frame of the host's page behind a host-virtual page: another address, so that they cannot be mixed up. */
const FRAME_OFFSET = 0x100_0000n;
const HVA_MASK = 0xf_ffffn;
const PRESENT = 1n << 11n;
const PFERR = { p: 1, w: 2, u: 4, rsvd: 8, i: 16 } as const;

/** A 64-bit guest. */
const REGISTERS = { cr0: 0x8001_0001n, cr3: 0x1000n, cr4: 0x20n, efer: 0xd00n };

export const SMALL_HVA = 0x7f00_0000_0000n;
export const LARGE_HVA = 0x7f40_0000_0000n;
export const LARGE_GPA = 0x4000_0000n;
export const SMALL_PAGES = 512;
export const LARGE_PAGES = 1024;

export function masksOf(format: Format): SpteMasks {
  if (format === "npt") return legacyMasks({ physBits: PHYS_BITS });
  return eptMasks({ physBits: PHYS_BITS, accessedDirty: format !== "ept without A/D" });
}

export class TdpGuest {
  readonly vm: VirtualMachine;
  readonly vcpu: Vcpu;
  readonly masks: SpteMasks;
  /** Host-virtual pages that are read-only in the host until they are written. */
  readonly shared = new Set<bigint>();
  /** Blocks of 2 MiB that the host has split into small pages. */
  readonly #split = new Set<bigint>();
  /** Number of frames that the host has replaced; each gets a frame of its own. */
  readonly #frames = new Map<bigint, bigint>();
  #fresh = 0x800_0000n;
  readonly #smallRam: number;
  readonly #largeRam: number;

  constructor(
    readonly format: Format,
    config: Partial<VirtualMachineConfig> = {},
    engine: Core = core(),
  ) {
    this.masks = masksOf(format);
    this.vm = new VirtualMachine(engine, {
      masks: this.masks,
      paging: format === "npt" ? "npt" : "ept",
      tdpMmu: true,
      pageModificationLog: format === "ept with PML",
      hostPhysicalBits: PHYS_BITS,
      hostMemory: { pin: (hva, write) => this.#pin(hva, write), peek: (hva) => this.#peek(hva) },
      ...config,
    });
    this.#smallRam = this.vm.createRam(SMALL_PAGES * 4096);
    this.#largeRam = this.vm.createRam(LARGE_PAGES * 4096);
    this.vm.setSlot(this.slot(0));
    this.vm.setSlot(this.slot(1));
    this.vcpu = this.newVcpu();
  }

  readonly registers = REGISTERS;

  newVcpu(): Vcpu {
    return this.vm.createVcpu(REGISTERS);
  }

  /** Enters or leaves a nested guest whose L1 uses no nested paging: its addresses are L1's. */
  toggleNested(vcpu = this.vcpu): void {
    if (vcpu.inGuestMode) vcpu.exitNested(REGISTERS);
    else vcpu.enterNested(REGISTERS);
  }

  /** Slot 0 is backed by small pages, slot 1 by large ones. */
  slot(id: 0 | 1, logDirty = false) {
    return id === 0
      ? { id, gpa: 0n, size: SMALL_PAGES * 4096, ram: this.#smallRam, hva: SMALL_HVA, logDirty }
      : { id, gpa: LARGE_GPA, size: LARGE_PAGES * 4096, ram: this.#largeRam, hva: LARGE_HVA, logDirty };
  }

  hva(gpa: bigint): bigint {
    return gpa >= LARGE_GPA ? LARGE_HVA + gpa - LARGE_GPA : SMALL_HVA + gpa;
  }

  /** The frame that the host has behind a page now. */
  frame(hva: bigint): bigint {
    const page = hva & ~0xfffn;
    const high = page >= LARGE_HVA ? 0x200_0000n : 0n;
    return this.#frames.get(page) ?? FRAME_OFFSET + high + ((page >> 12n) & HVA_MASK);
  }

  /** The host moves a page to another frame, as it does when it merges or copies pages. */
  moveFrame(hva: bigint): bigint {
    const frame = this.#fresh++;
    this.#frames.set(hva & ~0xfffn, frame);
    return frame;
  }

  /** The host splits the large page around `hva`. */
  split(hva: bigint): void {
    this.#split.add(hva >> 21n);
  }

  #page(hva: bigint, writable: boolean): HostPage {
    const isLarge = hva >= LARGE_HVA && !this.#split.has(hva >> 21n);
    return { pfn: this.frame(hva), writable, level: isLarge ? 2 : 1 };
  }

  #pin(hva: bigint, write: boolean): HostPage {
    if (write) this.shared.delete(hva & ~0xfffn);
    return this.#page(hva, !this.shared.has(hva & ~0xfffn));
  }

  #peek(hva: bigint): HostPage | undefined {
    return this.shared.has(hva & ~0xfffn) ? undefined : this.#page(hva, true);
  }

  /** The entries that the processor walks for `gpa`, from the root down: their linear addresses. */
  path(gpa: bigint, vcpu = this.vcpu): { sptep: number; level: number; spte: bigint }[] {
    const { linear } = this.vm.state.core.internals;
    const root = this.vm.allPages().find((page) => page.pointer === vcpu.state.rootMmu.roots.current.page)!;
    const found: { sptep: number; level: number; spte: bigint }[] = [];
    let table = root.table;
    for (let level = roleLevel(root.role); level >= 1; level--) {
      const sptep = table + 8 * Number((gpa >> BigInt(12 + 9 * (level - 1))) & 511n);
      const spte = linear.u64[sptep / 8]!;
      found.push({ sptep, level, spte });
      if ((spte & PRESENT) === 0n || spte & 0x80n) break;
      table = Number(spte & 0xffff_f000n);
    }
    return found;
  }

  /** The leaf for `gpa`, undefined where none is. */
  leaf(gpa: bigint, vcpu = this.vcpu): { sptep: number; level: number; spte: bigint } | undefined {
    const last = this.path(gpa, vcpu).at(-1)!;
    return (last.spte & PRESENT) !== 0n && (last.level === 1 || (last.spte & 0x80n) !== 0n) ? last : undefined;
  }

  #allows(spte: bigint, access: Access): boolean {
    const npt = this.format === "npt";
    if (access === "write") return (spte & 2n) !== 0n && (spte & 1n) !== 0n;
    if (access === "exec") return npt ? (spte & 1n) !== 0n && spte >> 63n === 0n : (spte & 4n) !== 0n;
    return (spte & 1n) !== 0n;
  }

  /**
   * One access by the processor: the fault's error code, or undefined where the tables allow it; accessed and dirty bits
   * are set then, and the page-modification log gets the page.
   */
  #hardware(gpa: bigint, access: Access, vcpu: Vcpu): number | undefined {
    const wants = (access === "write" ? PFERR.w : 0) | (access === "exec" ? PFERR.i : 0) | PFERR.u;
    const leaf = this.path(gpa, vcpu).at(-1)!;
    const { spte } = leaf;
    const isLeaf = (spte & PRESENT) !== 0n;
    if (!isLeaf) {
      const mmio = this.masks.mmioValue !== 0n && (spte & this.masks.mmio) === this.masks.mmioValue;
      return mmio ? PFERR.rsvd | PFERR.p | wants : wants;
    }
    if (!this.#allows(spte, access)) return ((spte & 7n) !== 0n ? PFERR.p : 0) | wants;
    const adType = (spte >> 52n) & 3n;
    if (adType === 1n) return undefined;
    const dirty = access === "write" ? this.masks.dirty : 0n;
    const { u64 } = this.vm.state.core.internals.linear;
    u64[leaf.sptep / 8] = spte | this.masks.accessed | dirty;
    // Nested guests run without the log: their addresses need not be L1's.
    const logs = this.format === "ept with PML" && !vcpu.inGuestMode;
    if (logs && dirty !== 0n && (spte & dirty) === 0n) this.vm.markDirty(this.vm.state.guest.gfnOf(gpa));
    return undefined;
  }

  /** Accesses `gpa` as the guest: faults are handled until it succeeds ("ok") or ends otherwise. */
  access(gpa: bigint, access: Access, vcpu = this.vcpu): string {
    for (let tries = 0; tries < 8; tries++) {
      vcpu.enterGuest();
      const fault = this.#hardware(gpa, access, vcpu);
      if (fault === undefined) return "ok";
      const { result } = vcpu.pageFault(gpa, fault);
      if (result === "emulate" || result === "mmio") return result;
    }
    return "loop";
  }

  dispose(): void {
    this.vm.dispose();
  }
}
