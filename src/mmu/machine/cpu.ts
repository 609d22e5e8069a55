/** A virtual processor as data: its registers, its paging contexts, what waits for it. What it does is in src/mmu/processor. */
import type { MmuCore } from "../../core/mmu/mmu-core.js";
import { VcpuCore } from "../../core/mmu/vcpu-core.js";
import { type ControlRegisters, CR4, type PagingRegisters } from "../../registers/control-registers.js";
import { checkLinear } from "../../registers/linear-address.js";
import { type CpuRole, cpuRole, ROLE_DIRECT } from "../../role/index.js";
import type { FormatLimits } from "../config/formats.js";
import { pdpteReservedBits } from "../config/pdpte-check.js";
import { PagingContext } from "../context/context.js";
import { INVALID_PAGE, ROOTS, type RootUsers } from "../context/root-cache.js";
import type { Memslots } from "../memory/memslots.js";

/** What a vCPU needs of its machine. */
export interface CpuHome extends RootUsers {
  readonly core: MmuCore;
  readonly slots: Memslots;
  readonly limits: FormatLimits;
  readonly pdpteAccessed: boolean;
  readonly nestedPdptes: "live" | "loaded";
}

const CONTEXTS = ["root_mmu", "guest_mmu", "nested_mmu"] as const;

/** A vCPU as data: its registers and its MMU contexts. */
export class Cpu {
  readonly core: VcpuCore;
  /** The guest's own context, and L1's while it runs its nested guest. */
  readonly rootMmu: PagingContext;
  /** Shadows L1's second stage. */
  readonly guestMmu: PagingContext;
  /** Walks L2's own tables, through `guestMmu`. */
  readonly nestedMmu: PagingContext;
  /** The context that faults go through. */
  mmu: PagingContext;
  /** The context that linear addresses go through. */
  walkMmu: PagingContext;
  /** REQUEST bits. */
  requests = 0;
  /** It runs a nested guest. */
  inGuestMode = false;
  /** The host is looking a page up for a fault of this vCPU. */
  waiting = false;
  /** The processor's own PDPTE registers, which it loads where CR writes do not exit (VMX with EPT). */
  hardwarePdptes: readonly bigint[] = [0n, 0n, 0n, 0n];
  /** Guest PDPTE fields of L1's VMCS; undefined where no nested guest has run yet. */
  pdpteFields: readonly bigint[] | undefined;
  #registers: PagingRegisters = { cr0: 0, cr3: 0n, cr4: 0, efer: 0 };
  #smm = false;
  readonly #slots: Memslots;

  /** Throws OutOfMemoryError. */
  constructor(
    home: CpuHome,
    readonly id: number,
  ) {
    const { core, slots, limits } = home;
    this.#slots = slots;
    this.core = new VcpuCore(core, CONTEXTS.length, INVALID_PAGE);
    const [rootMmu, guestMmu, nestedMmu] = CONTEXTS.map((name, index) => {
      return new PagingContext(this.core.contexts[index]!, name, core.pages, home);
    });
    this.rootMmu = rootMmu!;
    this.guestMmu = guestMmu!;
    this.nestedMmu = nestedMmu!;
    this.nestedMmu.second = this.guestMmu;
    const reserved = pdpteReservedBits(limits.guestPhysicalBits, home.pdpteAccessed);
    this.nestedMmu.pdpteReserved = reserved;
    // Linux 6.1 takes L1's PDPTEs as they are, wherever it reads them.
    if (home.nestedPdptes === "live") this.guestMmu.pdpteReserved = reserved;
    this.mmu = this.rootMmu;
    this.walkMmu = this.rootMmu;
    this.use(this.rootMmu, this.rootMmu);
    this.inSmm = false;
  }

  /** Its control registers. */
  get registers(): PagingRegisters {
    return this.#registers;
  }

  /** Without checks and without effects on the contexts. */
  set registers(registers: PagingRegisters) {
    this.#registers = registers;
    this.core.record.pae = registers.cr4 & CR4.pae ? 1 : 0;
  }

  /** The registers as bigints. */
  get controlRegisters(): ControlRegisters {
    const { cr0, cr3, cr4, efer } = this.#registers;
    return { cr0: BigInt(cr0), cr3, cr4: BigInt(cr4), efer: BigInt(efer) };
  }

  /** Whether it is in system-management mode. */
  get inSmm(): boolean {
    return this.#smm;
  }

  /** System-management mode has an address space of its own. */
  set inSmm(smm: boolean) {
    this.#smm = smm;
    this.core.record.space = smm ? 1 : 0;
    for (const context of this.contexts) context.memory = this.#slots.memory(this.space);
  }

  /** Address space of its memslots: 1 in system-management mode. */
  get space(): number {
    return this.#smm ? 1 : 0;
  }

  /** Its contexts that are in use. */
  get contexts(): readonly PagingContext[] {
    return [this.rootMmu, this.guestMmu, this.nestedMmu];
  }

  /** Faults and linear addresses go through these contexts from here on. */
  use(mmu: PagingContext, walkMmu: PagingContext): void {
    this.mmu = mmu;
    this.walkMmu = walkMmu;
    this.core.use(mmu.core, walkMmu.core);
  }

  /** L2 runs behind L1's second stage: linear addresses go through its own tables. */
  get walksNested(): boolean {
    return this.walkMmu === this.nestedMmu;
  }

  /** The state of its registers that decides roles. */
  get role(): CpuRole {
    return cpuRole(this.#registers, this.roleMode);
  }

  /** The modes that are part of every role. */
  get roleMode(): { readonly smm: boolean; readonly guestMode: boolean } {
    return { smm: this.#smm, guestMode: this.inGuestMode };
  }

  /** The context that faults go through maps guest-physical addresses as they are. */
  get isDirect(): boolean {
    return (this.mmu.rootRole & ROLE_DIRECT) !== 0;
  }

  /** Bits of a linear address: 32 outside long mode. */
  get linearWidth(): 32 | 48 | 57 {
    const { guestLevel } = this.walkMmu;
    if (guestLevel < 4) return 32;
    return guestLevel === 4 ? 48 : 57;
  }

  /** Throws ConfigError for a linear address that the guest's paging mode does not have. */
  checkLinear(address: bigint): void {
    checkLinear(address, this.linearWidth > 32);
  }

  /** @internal What a saved state is made of, besides its records. */
  get kept() {
    const { requests, inGuestMode, hardwarePdptes, pdpteFields, walksNested } = this;
    const { ac, mmioGva, mmioGfn, mmioGeneration, mmioAccess, pdptesRead } = this.core.record;
    return {
      ...{
        registers: this.#registers,
        smm: this.#smm,
        requests,
        inGuestMode,
        hardwarePdptes,
        pdpteFields,
        walksNested,
      },
      record: { ac, mmioGva, mmioGfn, mmioGeneration, mmioAccess, pdptesRead },
    };
  }

  /** @internal Its records but those of its contexts are as they were saved. */
  adopt(kept: Cpu["kept"]): void {
    this.registers = kept.registers;
    this.inSmm = kept.smm;
    this.requests = kept.requests;
    this.inGuestMode = kept.inGuestMode;
    this.hardwarePdptes = kept.hardwarePdptes;
    this.pdpteFields = kept.pdpteFields;
    if (kept.walksNested) this.use(this.guestMmu, this.nestedMmu);
    Object.assign(this.core.record, kept.record);
  }

  /** Every root page in use. */
  rootPages(): number[] {
    return [...this.rootMmu.roots.pages(), ...this.guestMmu.roots.pages()];
  }

  /** The MMIO access that is remembered: `gva` is 0 for none. */
  get mmioInfo(): { gva: bigint; gfn: bigint; access: number; generation: bigint } {
    const { mmioGva, mmioGfn, mmioAccess, mmioGeneration } = this.core.record;
    return { gva: mmioGva, gfn: mmioGfn, access: mmioAccess, generation: mmioGeneration };
  }

  /** The MMIO access that was remembered may be another's now. */
  forgetMmio(): void {
    this.core.record.mmioGva = 0n;
  }

  /** EFLAGS.AC, for SMAP. */
  set alignmentCheck(ac: boolean) {
    this.core.record.ac = ac ? 1 : 0;
  }

  /** Whether a nested EPT walk that loads PDPTEs by itself is to read them: at each entry to the guest. */
  set pdptesAreRead(read: boolean) {
    this.core.record.pdptesRead = read ? 1 : 0;
  }

  /** Frees its roots and its memory. */
  release(): void {
    for (const { roots } of [this.rootMmu, this.guestMmu]) roots.free(ROOTS.all);
    this.core.release();
  }
}
