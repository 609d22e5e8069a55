/** A virtual machine as data: its memory, its pages, its vCPUs, and what every operation on them asks first and does last. */
import { flagOf } from "../../abi/bits.js";
import { type KernelRuleName, RULE_BITS } from "../../abi/kernel-rules.js";
import { MANUAL_DIRTY_LOG } from "../../abi/kvm.js";
import { MmuCore } from "../../core/mmu/mmu-core.js";
import { TdpCore } from "../../core/mmu/tdp-core.js";
import { BusyError, DisposedError } from "../../errors.js";
import { checkAliases, NO_ALIASES } from "../config/aliases.js";
import { checkVmConfig } from "../config/check-config.js";
import type { AliasConfig, VirtualMachineConfig } from "../config/config.js";
import {
  type FormatLimits,
  limitsOf,
  masksOf,
  maxGfn,
  type TdpConfig,
  tdpOf,
  type VmFormats,
} from "../config/formats.js";
import { GuestMemory } from "../memory/guest-memory.js";
import { HostPages, type HostPagesHome } from "../memory/host-pages.js";
import { Memslots } from "../memory/memslots.js";
import { PageStore } from "../pages/page-store.js";
import { TdpMmu } from "../pages/tdp.js";
import { EventBuffer } from "../trace/event-buffer.js";
import { Cpu, type CpuHome } from "./cpu.js";
import { REQUEST } from "./requests.js";
import { writeMasks } from "./vm-record.js";

/** What a shadow page is found by. */
export interface PageName {
  readonly gfn: bigint;
  /** In this project's layout. */
  readonly role: number;
  /** SP.LOW: CR3 bits 11:5 of a PAE guest's table and LOW_* bits, or a direct page's alias bits. */
  readonly low: number;
}

/** A VM as data: memory, pages, tables and vCPUs. */
export class Machine implements CpuHome, HostPagesHome, VmFormats {
  /** @internal What it was made of, as it was then. */
  readonly config: VirtualMachineConfig;
  /** Its records, tables and operations in the Wasm. */
  readonly core: MmuCore;
  readonly slots: Memslots;
  readonly guest: GuestMemory;
  readonly hostPages: HostPages;
  readonly pages: PageStore;
  events: EventBuffer;
  /** Serves direct roots; undefined where they are classic ones. */
  readonly tdpMmu: TdpMmu | undefined;
  limits: FormatLimits;
  readonly tdp: TdpConfig | undefined;
  readonly pdpteAccessed: boolean;
  readonly advancedExitInformation: boolean;
  readonly nestedPdptes: "live" | "loaded";
  /** The processor logs dirty pages, so dirty logging clears D where it can instead of W. */
  readonly pageModificationLog: boolean;
  readonly virtualization: "svm" | "vmx";
  readonly minimumRootLevel: number;
  readonly staleDirectRoleBits: number;
  /** Dirty logs are cleared by the user, page by page. */
  readonly manualDirtyLog: boolean;
  /** A dirty log begins with every page in it. */
  readonly initiallyDirty: boolean;
  readonly cpus: Cpu[] = [];
  /** `hostCalls`: times that a fault needed the host (a shadow page or a host page). */
  readonly stats = { hostCalls: 0 };
  /** Limit on shadow pages set by the user; 0: it follows the slots. */
  requestedPages = 0;
  /** Deleting or moving a slot zaps every shadow page, not only what has to do with it. */
  zapsAll = true;
  /** SPTEs can grant execution without reading. */
  readonly #executeOnly: boolean;
  #disposed = false;
  #occupation: string | undefined;

  /** Throws ConfigError and OutOfMemoryError; nothing stays allocated then. */
  constructor(core: ConstructorParameters<typeof MmuCore>[0], config: VirtualMachineConfig) {
    checkVmConfig(config);
    this.config = { ...config };
    const masks = masksOf(config);
    this.limits = limitsOf(config, masks);
    this.tdp = tdpOf(config, masks, this.limits);
    this.#executeOnly = config.paging === "ept" && (masks.present & masks.user) === 0n;
    const aliases = this.checkAliases(config.aliases ?? NO_ALIASES);
    this.pdpteAccessed = config.pdpteAccessed ?? false;
    this.advancedExitInformation = config.advancedExitInformation ?? false;
    this.nestedPdptes = config.nestedPdptes ?? "live";
    this.pageModificationLog = config.pageModificationLog ?? false;
    this.virtualization = config.virtualization ?? "svm";
    this.minimumRootLevel = config.minimumRootLevel ?? 3;
    this.staleDirectRoleBits = config.staleDirectRoleBits ?? 0;
    this.manualDirtyLog = ((config.manualDirtyLog ?? 0) & flagOf(MANUAL_DIRTY_LOG, "MANUAL_PROTECT")) !== 0;
    this.initiallyDirty = ((config.manualDirtyLog ?? 0) & flagOf(MANUAL_DIRTY_LOG, "INITIALLY_SET")) !== 0;
    this.core = new MmuCore(core, config.eventCapacity ?? 0);
    const { zeroPage, tdpCore, ...built } = this.core.guard(() => ({
      zeroPage: config.defaultPaePdpte ? this.core.emptyTable() : 0,
      slots: new Memslots(this.core),
      tdpCore: config.tdpMmu ? new TdpCore(this.core) : undefined,
      pages: new PageStore(this.core, config.encryption),
    }));
    this.slots = built.slots;
    this.pages = built.pages;
    writeMasks(this.core.vm, config, masks, zeroPage);
    this.events = new EventBuffer(this.core.events, masks, this.has("write-protected"));
    this.slots.maxGfn = maxGfn(this.tdp, this.limits);
    this.core.vm.maxGfn = this.slots.maxGfn;
    this.guest = new GuestMemory(this.core, this.slots);
    this.hostPages = new HostPages(this, config.hostMemory);
    this.core.init();
    this.applyAliases(aliases);
    if (tdpCore !== undefined) this.tdpMmu = new TdpMmu(tdpCore, this.pages.caches);
  }

  /** A vCPU without registers. Throws OutOfMemoryError. */
  addCpu(): Cpu {
    const cpu = new Cpu(this, this.cpus.length);
    if (this.has("flush-first")) cpu.requests |= REQUEST.flushGuest;
    if (this.has("fresh-invalid")) for (const context of cpu.contexts) context.markUnused();
    this.cpus.push(cpu);
    return cpu;
  }

  /** Zeroed RAM for slots; returns its linear address. */
  lend(size: number): number {
    return this.core.lend(size);
  }

  // ---------------------------------------------------------------- before an operation

  /** Throws DisposedError after `dispose`, BusyError while the host is asked something that the VM must not change for. */
  begin(): void {
    if (this.#disposed) throw new DisposedError("the virtual machine was disposed of");
    if (this.#occupation !== undefined) throw new BusyError(`not while ${this.#occupation}`);
  }

  /** The same where no vCPU may be in a fault either. */
  beginAlone(): void {
    this.begin();
    if (this.hostPages.pinning) throw new BusyError("not while the host looks up a page for a fault");
  }

  /**
   * The same for an operation on a vCPU: BusyError where a callback of the host's uses the one whose fault waits for it. The
   * core is in mid-fault then: other registers or roots would make it go on with half of each.
   */
  beginOn(cpu: Cpu): void {
    this.begin();
    if (cpu.waiting) throw new BusyError(`vCPU ${cpu.id} is in a fault that waits for this answer of the host's`);
  }

  undisturbed<T>(occupation: string, call: () => T): T {
    this.#occupation = occupation;
    try {
      return call();
    } finally {
      this.#occupation = undefined;
    }
  }

  hold(): void {
    this.pages.caches.hold();
  }

  /** Gives back what it holds of the core's memory. */
  letGo(): void {
    this.pages.caches.letGo();
  }

  /** Whether its kernel has a rule. */
  has(rule: KernelRuleName): boolean {
    return (this.core.vm.rules & RULE_BITS[rule].bit) !== 0;
  }

  // ---------------------------------------------------------------- what the core asks for, and leaves

  /** Collects freed pages and passes requests on; after every call of the core that may have zapped. */
  settle(): void {
    const { vm } = this.core;
    if (vm.freed !== 0) this.pages.collectFreed();
    if (vm.rootRequest !== 0) {
      vm.rootRequest = 0;
      for (const cpu of this.cpus) cpu.requests |= REQUEST.freeObsoleteRoots | REQUEST.fillRoot;
    }
  }

  /** Drops a reference to a root page. */
  put(page: number): void {
    this.core.putRoot(page);
  }

  /** Frees what became free by that. */
  commit(): void {
    this.core.commitZap();
    this.settle();
  }

  /** Finds or makes the page of a vCPU's request. */
  providePage(cpu: Cpu): number {
    return this.pages.provide(cpu.core, cpu.mmu.core, () => this.settle());
  }

  /** Finds or makes the page of that name for a vCPU. */
  providePageNamed(cpu: Cpu, name: PageName): number {
    const { record } = cpu.core;
    record.reqGfn = name.gfn;
    record.reqRole = name.role;
    record.reqLow = name.low;
    return this.providePage(cpu);
  }

  /** Zaps the shadow pages of a guest table so that the guest may write it; whether there was one (kvm_mmu_unprotect_page). */
  unprotect(gfn: bigint): boolean {
    const found = this.core.unprotectGfn(gfn);
    this.settle();
    return found;
  }

  /** Passes events on; those of a fault in progress wait for its end, because they have its vCPU's number. */
  collectEvents(): void {
    if (!this.hostPages.pinning) this.events.collect(0);
  }

  // ---------------------------------------------------------------- what it is made of

  /** The checked aliases. Throws ConfigError for bits that cannot be taken. */
  checkAliases(config: AliasConfig): Required<AliasConfig> {
    const { guestPhysicalBits, hostPhysicalBits } = this.limits;
    return checkAliases(config, { guestPhysicalBits, hostPhysicalBits, tdp: this.tdp, executeOnly: this.#executeOnly });
  }

  /** Sets which GPA bits are aliases. */
  applyAliases({ mask, executeOnly }: Required<AliasConfig>): void {
    this.limits = { ...this.limits, aliasMask: mask, executeOnlyAliases: executeOnly };
    this.slots.aliasMask = mask >> 12n;
    this.core.vm.aliasMask = mask >> 12n;
    this.core.vm.executeOnly = executeOnly >> 12n;
  }

  /** @internal Frees everything of a machine that nobody has seen, whatever is in its records. */
  abandon(): void {
    this.#disposed = true;
    for (const cpu of this.cpus) cpu.core.release();
    this.slots.dispose();
    this.pages.abandon();
    this.core.dispose();
  }

  /** Frees everything. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.beginAlone();
    this.#disposed = true;
    for (const cpu of this.cpus) cpu.release();
    this.cpus.length = 0;
    // Every page goes back the usual way, so that low pages are encrypted again.
    this.core.zapAllFast();
    this.settle();
    this.slots.dispose();
    this.pages.dispose();
    this.core.dispose();
  }
}
