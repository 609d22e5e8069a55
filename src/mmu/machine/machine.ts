/** A virtual machine as data: its memory, its pages, its vCPUs, and what every operation on them asks first and does last. */
import type { Core } from "../../core/core.js";
import type { CoreExports } from "../../core/exports.js";
import type { LinearMemory } from "../../core/linear-memory.js";
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
import { Allocations } from "../memory/allocations.js";
import { GuestMemory } from "../memory/guest-memory.js";
import { HostPages, type HostPagesHome } from "../memory/host-pages.js";
import { Memslots } from "../memory/memslots.js";
import { tdpRecord, VM_WORD, vmRecord } from "../memory/records.js";
import { PageStore } from "../pages/page-store.js";
import { TdpMmu } from "../pages/tdp.js";
import { EventBuffer } from "../trace/event-buffer.js";
import { Cpu, type CpuHome } from "./cpu.js";
import { REQUEST } from "./requests.js";
import { writeMasks } from "./vm-record.js";

export class Machine implements CpuHome, HostPagesHome, VmFormats {
  readonly linear: LinearMemory;
  readonly exports: CoreExports;
  /** Linear address of the VM record. */
  readonly pointer: number;
  /** Linear address of the core's WORK record. */
  readonly work: number;
  readonly slots: Memslots;
  readonly guest: GuestMemory;
  readonly hostPages: HostPages;
  readonly pages: PageStore;
  readonly events: EventBuffer;
  /** Serves direct roots; undefined where they are classic ones. */
  readonly tdpMmu: TdpMmu | undefined;
  limits: FormatLimits;
  readonly tdp: TdpConfig | undefined;
  readonly pdpteAccessed: boolean;
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
  readonly #memory: Allocations;
  /** SPTEs can grant execution without reading. */
  readonly #executeOnly: boolean;
  #disposed = false;
  #occupation: string | undefined;

  /** Throws ConfigError and OutOfMemoryError; nothing stays allocated then. */
  constructor(core: Core, config: VirtualMachineConfig) {
    checkVmConfig(config);
    const { exports, linear, work } = core.internals();
    this.work = work;
    this.exports = exports;
    this.linear = linear;
    const masks = masksOf(config);
    this.limits = limitsOf(config, masks);
    this.tdp = tdpOf(config, masks, this.limits);
    this.#executeOnly = config.paging === "ept" && masks.present === 0n;
    const aliases = this.checkAliases(config.aliases ?? NO_ALIASES);
    this.pdpteAccessed = config.pdpteAccessed ?? false;
    this.nestedPdptes = config.nestedPdptes ?? "live";
    this.pageModificationLog = config.pageModificationLog ?? false;
    this.virtualization = config.virtualization ?? "svm";
    this.minimumRootLevel = config.minimumRootLevel ?? 3;
    this.staleDirectRoleBits = config.staleDirectRoleBits ?? 0;
    this.manualDirtyLog = ((config.manualDirtyLog ?? 0) & 1) !== 0;
    this.initiallyDirty = ((config.manualDirtyLog ?? 0) & 2) !== 0;
    const memory = new Allocations(linear);
    this.#memory = memory;
    const built = memory.guard(() => {
      const pointer = memory.take(vmRecord.size);
      const zeroPage = config.defaultPaePdpte ? memory.take(4096, 4096) : 0;
      const events = new EventBuffer(linear, pointer, memory, masks, config.eventCapacity ?? 0);
      const slots = new Memslots(linear, pointer, memory);
      const tdpPointer = config.tdpMmu ? memory.take(tdpRecord.size) : 0;
      return {
        pointer,
        zeroPage,
        events,
        slots,
        tdpPointer,
        pages: new PageStore(linear, exports, pointer, config.encryption),
      };
    });
    ({ pointer: this.pointer, events: this.events, slots: this.slots, pages: this.pages } = built);
    writeMasks(linear, this.pointer, config, masks, built.zeroPage);
    this.slots.maxGfn = maxGfn(this.tdp, this.limits);
    vmRecord.set64(linear, this.pointer, "MAX_GFN", this.slots.maxGfn);
    this.guest = new GuestMemory(linear, exports, this.slots);
    this.hostPages = new HostPages(this, config.hostMemory);
    exports.vmInit(this.pointer);
    this.applyAliases(aliases);
    if (config.tdpMmu) this.tdpMmu = new TdpMmu(linear, exports, this.pointer, built.tdpPointer, this.pages.caches);
  }

  /** A vCPU without registers. Throws OutOfMemoryError. */
  addCpu(): Cpu {
    const cpu = new Cpu(this, this.cpus.length);
    this.cpus.push(cpu);
    return cpu;
  }

  /** Zeroed RAM for slots; returns its linear address. */
  lend(size: number): number {
    return this.#memory.lend(size);
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

  letGo(): void {
    this.pages.caches.letGo();
  }

  // ---------------------------------------------------------------- what the core asks for, and leaves

  /** Collects freed pages and passes requests on; after every call of the core that may have zapped. */
  settle(): void {
    const words = this.linear.u32;
    const record = this.pointer >>> 2;
    if (words[record + VM_WORD.freed] !== 0) this.pages.collectFreed();
    if (words[record + VM_WORD.rootRequest] !== 0) {
      words[record + VM_WORD.rootRequest] = 0;
      for (const cpu of this.cpus) cpu.requests |= REQUEST.freeObsoleteRoots | REQUEST.fillRoot;
    }
  }

  /** Drops a reference to a root page. */
  put(page: number): void {
    this.exports.putRoot(this.pointer, page);
  }

  /** Frees what became free by that. */
  commit(): void {
    this.exports.commitZap(this.pointer);
    this.settle();
  }

  /** Finds or makes the page of a vCPU's request. */
  providePage(cpu: Cpu): number {
    return this.pages.provide(cpu.pointer, cpu.mmu.pdptesPointer, () => this.settle());
  }

  /** Zaps the shadow pages of a guest table so that the guest may write it; whether there was one (kvm_mmu_unprotect_page). */
  unprotect(gfn: bigint): boolean {
    const found = this.exports.unprotectGfn(this.pointer, gfn) !== 0;
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

  applyAliases({ mask, executeOnly }: Required<AliasConfig>): void {
    this.limits = { ...this.limits, aliasMask: mask, executeOnlyAliases: executeOnly };
    this.slots.aliasMask = mask >> 12n;
    vmRecord.set64(this.linear, this.pointer, "ALIAS_MASK", mask >> 12n);
    vmRecord.set64(this.linear, this.pointer, "EXECUTE_ONLY", executeOnly >> 12n);
  }

  /** Counters of the core, by name (see VM in src/abi/shadow.ts). */
  counter(name: string): number {
    return vmRecord.get32(this.linear, this.pointer, name);
  }

  /** Frees everything. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.beginAlone();
    this.#disposed = true;
    for (const cpu of this.cpus) cpu.release();
    this.cpus.length = 0;
    // Every page goes back the usual way, so that low pages are encrypted again.
    this.exports.zapAllFast(this.pointer);
    this.settle();
    this.slots.dispose();
    this.pages.dispose();
    this.#memory.release();
  }
}
