/** A virtual machine whose guest runs under shadow paging. */
import { SHADOW_CODES } from "../abi/shadow.js";
import { checkInteger, show, toBytes } from "../checks.js";
import type { Core } from "../core/core.js";
import type { CoreExports } from "../core/exports.js";
import type { LinearMemory } from "../core/linear-memory.js";
import { BusyError, ConfigError, DisposedError, MemoryRangeError } from "../errors.js";
import {
  ROLE_DIRECT,
  ROLE_INVALID,
  ROLE_LEVEL_PROMOTED,
  ROLE_PAE_ROOT,
  roleIsGuestMode,
  roleLevel,
  roleSmm,
} from "../role/index.js";
import { clearDirtyLog, getDirtyLog } from "./changes/dirty-log.js";
import { type PendingFlush, takeFlushes } from "./changes/flushes.js";
import { anyYoung, changePage, RANGE, unmapRange } from "./changes/notifier.js";
import { changeSlot, MIN_PAGES } from "./changes/slot-change.js";
import { type AliasConfig, checkAliases, isPlain, NO_ALIASES } from "./config/aliases.js";
import {
  checkAliasOptions,
  checkBigint,
  checkControlRegisters,
  checkSlotOptions,
  checkVmConfig,
} from "./config/check-config.js";
import { limitsOf, masksOf, maxGfn, type TdpConfig, tdpOf } from "./config/formats.js";
import type { FormatLimits } from "./context/context.js";
import { type AuditProblem, audit } from "./inspect/audit.js";
import { readPage, type ShadowPage, shadowPages } from "./inspect/snapshot.js";
import { type VirtualMachineConfig, writeMasks } from "./machine/vm-record.js";
import { Allocations } from "./memory/allocations.js";
import { type HostPage, HostPages } from "./memory/host-pages.js";
import { type Memslot, Memslots, type SlotConfig } from "./memory/memslots.js";
import { PAGE_WORD, pageRecord, tdpRecord, VCPU_WORD, VM_WORD, vmRecord } from "./memory/records.js";
import { GfnChains } from "./pages/gfn-chains.js";
import { MemoryCaches } from "./pages/memory-cache.js";
import { PageHash } from "./pages/page-hash.js";
import { TdpMmu } from "./pages/tdp.js";
import { EventBuffer } from "./trace/event-buffer.js";
import { type ControlRegisters, Vcpu } from "./vcpu.js";

const { HOST_PRESENT, HOST_WRITABLE, MEMSLOT_INTERNAL } = SHADOW_CODES;
const HVA_END = 1n << 64n;

export class VirtualMachine {
  readonly linear: LinearMemory;
  readonly exports: CoreExports;
  readonly pointer: number;
  /** The core's WORK record. */
  readonly work: number;
  readonly slots: Memslots;
  readonly caches: MemoryCaches;
  readonly hash: PageHash;
  readonly events: EventBuffer;
  /** Serves direct roots; undefined where they are classic ones. */
  readonly tdpMmu: TdpMmu | undefined;
  limits: FormatLimits;
  /** Two-dimensional paging, undefined under shadow paging. */
  readonly tdp: TdpConfig | undefined;
  readonly pdpteAccessed: boolean;
  readonly nestedPdptes: "live" | "loaded";
  /** The processor logs dirty pages, so dirty logging clears D where it can instead of W. */
  readonly pageModificationLog: boolean;
  readonly virtualization: "svm" | "vmx";
  readonly minimumRootLevel: number;
  readonly staleDirectRoleBits: number;
  readonly vcpus: Vcpu[] = [];
  /** `hostCalls`: times that a fault needed the host (a shadow page or a host page). */
  readonly stats = { hostCalls: 0 };
  readonly manualDirtyLog: number;
  readonly hostPages: HostPages;
  readonly #chains: GfnChains;
  readonly #zeroPage: number;
  readonly #memory: Allocations;
  /** SPTEs can grant execution without reading. */
  readonly #executeOnly: boolean;
  /** Limit set by the user; 0: it follows the slots. */
  requestedPages = 0;
  #disposed = false;
  #occupation: string | undefined;

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
    const aliases = this.#checkAliases(config.aliases ?? NO_ALIASES);
    this.pdpteAccessed = config.pdpteAccessed ?? false;
    this.nestedPdptes = config.nestedPdptes ?? "live";
    this.pageModificationLog = config.pageModificationLog ?? false;
    this.virtualization = config.virtualization ?? "svm";
    this.minimumRootLevel = config.minimumRootLevel ?? 3;
    this.staleDirectRoleBits = config.staleDirectRoleBits ?? 0;
    this.manualDirtyLog = config.manualDirtyLog ?? 0;
    const memory = new Allocations(linear);
    this.#memory = memory;
    [this.pointer, this.#zeroPage, this.slots, this.events, this.#chains] = memory.guard(() => {
      const pointer = memory.take(vmRecord.size);
      const zeroPage = config.defaultPaePdpte ? memory.take(4096, 4096) : 0;
      const events = new EventBuffer(linear, pointer, memory, masks, config.eventCapacity ?? 0);
      return [pointer, zeroPage, new Memslots(linear, pointer, memory), events, new GfnChains(linear)];
    });
    this.#chains.attach(this.pointer);
    writeMasks(linear, this.pointer, config, masks, this.#zeroPage);
    this.slots.maxGfn = maxGfn(this.tdp, this.limits);
    vmRecord.set64(linear, this.pointer, "MAX_GFN", this.slots.maxGfn);
    this.caches = new MemoryCaches(linear, this.pointer, config.encryption);
    this.hash = new PageHash(linear);
    this.hostPages = new HostPages(this, config.hostMemory);
    exports.vmInit(this.pointer);
    this.#applyAliases(aliases);
    if (config.tdpMmu)
      this.tdpMmu = new TdpMmu(linear, exports, this.pointer, memory.take(tdpRecord.size), this.caches);
  }

  /** Throws ConfigError where CR3 has alias bits. */
  createVcpu(registers: ControlRegisters): Vcpu {
    this.begin();
    checkControlRegisters(registers);
    if (registers.cr3 & this.limits.aliasMask)
      throw new ConfigError(`CR3 0x${registers.cr3.toString(16)} has alias bits`);
    const vcpu = new Vcpu(this, this.vcpus.length, registers);
    this.vcpus.push(vcpu);
    return vcpu;
  }

  /**
   * Zeroed RAM for slots; `size` is a multiple of 4096. Returns its linear address. Throws ConfigError for a bad size,
   * OutOfMemoryError where it does not fit.
   */
  createRam(size: number): number {
    this.begin();
    if (!Number.isSafeInteger(size) || size <= 0 || size % 4096 !== 0) {
      throw new ConfigError(`size of RAM is ${show(size)}, expected a positive multiple of 4096`);
    }
    return this.#memory.lend(size);
  }

  /** Throws DisposedError after `dispose`, BusyError while the host is asked something that the VM must not change for. */
  begin(): void {
    if (this.#disposed) throw new DisposedError("the virtual machine was disposed of");
    if (this.#occupation !== undefined) throw new BusyError(`not while ${this.#occupation}`);
  }

  /** Calls the host, which must not use the VM meanwhile; `occupation` says what is going on. */
  undisturbed<T>(occupation: string, call: () => T): T {
    this.#occupation = occupation;
    try {
      return call();
    } finally {
      this.#occupation = undefined;
    }
  }

  /** Frees everything the VM holds, its RAM included. Idempotent. Throws BusyError inside a callback of the host's. */
  dispose(): void {
    if (this.#disposed) return;
    this.#beginAlone();
    this.#disposed = true;
    for (const vcpu of this.vcpus) vcpu.release();
    this.vcpus.length = 0;
    // Every page goes back the usual way, so that low pages are encrypted again.
    this.exports.zapAll(this.pointer);
    this.settle();
    this.slots.dispose();
    this.caches.dispose();
    this.#chains.dispose();
    this.#memory.release();
  }

  /** The same where no vCPU may be in a fault either. */
  #beginAlone(): void {
    this.begin();
    if (this.hostPages.pinning) throw new BusyError("not while the host looks up a page for a fault");
  }

  // ---------------------------------------------------------------- what the core asks for

  /** Collects freed pages and passes requests on; after every call of the core that may have zapped. */
  settle(): void {
    const words = this.linear.u32;
    const record = this.pointer >>> 2;
    if (words[record + VM_WORD.freed] !== 0) this.#collectFreed();
    const request = words[record + VM_WORD.rootRequest]!;
    if (request !== 0) {
      words[record + VM_WORD.rootRequest] = 0;
      for (const vcpu of this.vcpus) vcpu.requestObsoleteRoots();
    }
  }

  #collectFreed(): void {
    const words = this.linear.u32;
    const record = this.pointer >>> 2;
    for (let page = words[record + VM_WORD.freed]!; page !== 0; ) {
      const next = words[(page >>> 2) + PAGE_WORD.link]!;
      this.hash.remove(page);
      this.caches.give(page, (words[(page >>> 2) + PAGE_WORD.role]! & ROLE_PAE_ROOT) !== 0);
      page = next;
    }
    words[record + VM_WORD.freed] = 0;
  }

  /** Finds or makes the page of a vCPU's request. */
  providePage(vcpu: Vcpu): number {
    const words = this.linear.u32;
    const generation = words[(this.pointer >>> 2) + VM_WORD.validGen]!;
    const request = vcpu.pointer >>> 2;
    const found = this.hash.find(vcpu.pointer, vcpu.mmu.pdptesPointer, generation);
    this.hash.reserve();
    this.#chains.reserve(this.exports, this.pointer, this.hash.size);
    const usable = this.exports.requestAdopt(vcpu.pointer, found) !== 0;
    this.settle();
    if (usable) return found;
    const role = this.linear.u32[request + VCPU_WORD.reqRole]!;
    const latched = (this.linear.u32[request + VCPU_WORD.reqLow]! & 2) !== 0;
    const translations = (role & (ROLE_DIRECT | ROLE_LEVEL_PROMOTED)) === 0 && !latched;
    const page = this.caches.take((role & ROLE_PAE_ROOT) !== 0, translations);
    this.exports.requestCreate(vcpu.pointer, page);
    this.hash.insert(page);
    return page;
  }

  /** Answers a fault that needs its host page; see HostPages. */
  provideHostPage(vcpu: Vcpu): "page" | "wait" | "retry" {
    return this.hostPages.provide(vcpu);
  }

  /** The page that entry `index` of a page links to, 0 for none. */
  childPage(page: number, index: number): number {
    const { linear } = this;
    const spte = linear.u64[linear.u32[(page >>> 2) + PAGE_WORD.spt]! / 8 + index]!;
    if ((spte & 0x800n) === 0n) return 0;
    const table = Number(spte & 0xffff_f000n);
    return linear.u32[(vmRecord.get32(linear, this.pointer, "PAGE_MAP") >>> 2) + (table >>> 12)]!;
  }

  isObsolete(page: number): boolean {
    const words = this.linear.u32;
    const header = page >>> 2;
    if ((words[header + PAGE_WORD.role]! & ROLE_INVALID) !== 0) return true;
    // The TDP MMU's roots are invalidated one by one.
    if (words[header + PAGE_WORD.tdp] !== 0) return false;
    return words[header + PAGE_WORD.generation] !== words[(this.pointer >>> 2) + VM_WORD.validGen];
  }

  isUnsync(page: number): boolean {
    return (
      pageRecord.get32(this.linear, page, "UNSYNC") !== 0 ||
      pageRecord.get32(this.linear, page, "UNSYNC_CHILDREN") !== 0
    );
  }

  /** Passes events on; those of a fault in progress wait for its end, because they have its vCPU's number. */
  #collectEvents(): void {
    if (!this.hostPages.pinning) this.events.collect(0);
  }

  // ---------------------------------------------------------------- memory and slots

  /** The slot whose RAM is behind a guest-physical address, whichever alias it is; a page of the VM's own has none. */
  #slotAt(gpa: bigint, space: number): Memslot | undefined {
    const gfn = this.gfnOf(gpa);
    const slot = this.slots.visible(space, gfn);
    if (slot === undefined || Number((gfn - slot.base) << 12n) >= slot.ramSize) return undefined;
    return slot.flags & MEMSLOT_INTERNAL && gfn !== gpa >> 12n ? undefined : slot;
  }

  /** Guest-physical bytes of one address space, through any alias; undefined where a byte lies in no slot. */
  readGuest(gpa: bigint, length: number, space = 0): Uint8Array | undefined {
    this.begin();
    checkBigint(gpa, "guest-physical address");
    checkInteger(length, 0, 2 ** 32, "length", RangeError);
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const at = gpa + BigInt(done);
      const slot = this.#slotAt(at, space);
      if (slot === undefined) return undefined;
      const size = Math.min(length - done, 4096 - Number(at & 0xfffn));
      const from = slot.ram + Number(this.#plain(at) - (slot.base << 12n));
      bytes.set(this.linear.u8.subarray(from, from + size), done);
      done += size;
    }
    return bytes;
  }

  /**
   * Writes guest memory and its dirty log, through any alias and without telling the MMU. Throws MemoryRangeError before
   * anything changes.
   */
  writeGuest(gpa: bigint, data: Uint8Array | ArrayBufferView | ArrayBufferLike, space = 0): void {
    const bytes = toBytes(data);
    if (this.readGuest(gpa, bytes.length, space) === undefined) {
      throw new MemoryRangeError(`guest-physical range 0x${gpa.toString(16)} lies in no slot`);
    }
    for (let done = 0; done < bytes.length; ) {
      const at = gpa + BigInt(done);
      const slot = this.#slotAt(at, space)!;
      const size = Math.min(bytes.length - done, 4096 - Number(at & 0xfffn));
      this.linear.u8.set(bytes.subarray(done, done + size), slot.ram + Number(this.#plain(at) - (slot.base << 12n)));
      this.exports.logDirty(slot.pointer, this.gfnOf(at));
      done += size;
    }
  }

  /** A page was written by something other than a vCPU's own access. */
  markDirty(gfn: bigint, space = 0): void {
    this.begin();
    checkBigint(gfn, "gfn");
    const slot = this.slots.visible(space, gfn);
    if (slot !== undefined) this.exports.logDirty(slot.pointer, gfn);
  }

  /** Adds, deletes, moves or changes a memslot. Throws ConfigError or OutOfMemoryError with nothing changed. */
  setSlot(config: SlotConfig): void {
    this.begin();
    checkSlotOptions(config, this.linear);
    changeSlot(this, config);
    this.#collectEvents();
  }

  /** Pages written since the last call, relative to the slot; see dirty-log.ts. */
  getDirtyLog(id: number, space = 0): number[] {
    this.begin();
    const pages = getDirtyLog(this, this.#slot(id, space));
    this.#collectEvents();
    return pages;
  }

  /** Clears pages of the log and logs their next writes (manual protect). */
  clearDirtyLog(id: number, first: number, count: number, pages: Iterable<number>, space = 0): void {
    this.begin();
    clearDirtyLog(this, this.#slot(id, space), first, count, pages);
    this.#collectEvents();
  }

  #slot(id: number, space: number): Memslot {
    const slot = this.slots.find(space, id);
    if (slot === undefined) throw new ConfigError(`slot ${id} does not exist`);
    return slot;
  }

  /** Sets the limit on shadow pages, at least 64; the oldest pages beyond it are zapped. */
  setPageLimit(count: number): void {
    this.begin();
    checkInteger(count, MIN_PAGES, 0xffffffff, "page limit");
    this.exports.limitPages(this.pointer, count);
    this.requestedPages = count;
    this.settle();
    this.#collectEvents();
  }

  /**
   * Zaps up to `count` tables that stand where the NX-huge-page mitigation forbade a huge page, oldest first, so that
   * huge pages can return where no code runs any more. Returns how many there were.
   */
  recoverHugePages(count: number): number {
    this.begin();
    checkInteger(count, 0, 0xffffffff, "count", RangeError);
    const recovered = this.exports.recoverForbidden(this.pointer, count);
    this.settle();
    this.#collectEvents();
    return recovered;
  }

  /** Zaps the shadow pages of a guest table so that the guest may write it; returns whether there was one. */
  unprotectGfn(gfn: bigint): boolean {
    this.begin();
    checkBigint(gfn, "gfn");
    const found = this.exports.unprotect(this.pointer, Number(gfn >> 32n), Number(gfn & 0xffff_ffffn)) !== 0;
    this.settle();
    return found;
  }

  // ---------------------------------------------------------------- aliases

  /** Guest-physical address bits that are attributes. */
  get aliases(): Required<AliasConfig> {
    return { mask: this.limits.aliasMask, executeOnly: this.limits.executeOnlyAliases };
  }

  #plain(gpa: bigint): bigint {
    return gpa & ~this.limits.aliasMask;
  }

  /** The gfn without alias bits. */
  plainGfn(gfn: bigint): bigint {
    return gfn & ~(this.limits.aliasMask >> 12n);
  }

  /** The gfn of a guest-physical address, whichever alias it is. */
  gfnOf(gpa: bigint): bigint {
    return this.plainGfn(gpa >> 12n);
  }

  /**
   * Makes other guest-physical address bits attributes, in whatever paging mode the vCPUs are; every mapping goes.
   * Throws ConfigError for bits that cannot be taken, that a slot's addresses or a vCPU's CR3 has, or while a nested guest
   * runs, with nothing changed.
   */
  setAliases(config: AliasConfig): void {
    this.#beginAlone();
    checkAliasOptions(config);
    const aliases = this.#checkAliases(config);
    const name = `alias mask 0x${aliases.mask.toString(16)}`;
    for (const slot of this.slots.slots) {
      if (isPlain(slot.base, slot.pages, aliases.mask >> 12n)) continue;
      throw new ConfigError(`${name}: slot ${slot.id} has addresses with these bits`);
    }
    for (const vcpu of this.vcpus) {
      if (vcpu.inGuestMode) throw new ConfigError(`${name}: vCPU ${vcpu.id} runs a nested guest`);
      if (vcpu.registers.cr3 & aliases.mask) throw new ConfigError(`${name}: CR3 of vCPU ${vcpu.id} has such a bit`);
    }
    this.exports.zapAll(this.pointer);
    this.settle();
    this.#applyAliases(aliases);
    for (const vcpu of this.vcpus) vcpu.refreshFormats();
    this.#collectEvents();
  }

  #checkAliases(config: AliasConfig): Required<AliasConfig> {
    const { guestPhysicalBits, hostPhysicalBits } = this.limits;
    return checkAliases(config, { guestPhysicalBits, hostPhysicalBits, tdp: this.tdp, executeOnly: this.#executeOnly });
  }

  #applyAliases({ mask, executeOnly }: Required<AliasConfig>): void {
    this.limits = { ...this.limits, aliasMask: mask, executeOnlyAliases: executeOnly };
    this.slots.aliasMask = mask >> 12n;
    vmRecord.set64(this.linear, this.pointer, "ALIAS_MASK", mask >> 12n);
    vmRecord.set64(this.linear, this.pointer, "EXECUTE_ONLY", executeOnly >> 12n);
  }

  /**
   * What TLBs may still hold though the tables have it no more, since the last call: everything, or the ranges that
   * `rangedFlush` allows to list, through each alias.
   */
  takeFlushes(): PendingFlush {
    this.begin();
    return takeFlushes(this);
  }

  // ---------------------------------------------------------------- the host's notifier

  /** The host takes pages away (invalidate_range_start and _end); faults in progress on any page are retried. */
  unmapRange(start: bigint, end: bigint): void {
    this.begin();
    checkRange(start, end);
    unmapRange(this, start, end);
    this.#collectEvents();
  }

  /**
   * The host puts another 4 KiB page behind an address, which must not be written before the next fault; the page that was
   * there is not reached from here on, wherever it was a part of a large one. Throws ConfigError with nothing changed.
   */
  changePage(hva: bigint, page: HostPage): void {
    this.begin();
    checkBigint(hva, "host-virtual address");
    changePage(this, hva, page);
    this.#collectEvents();
  }

  /** Reads and resets the accessed state of a range: true if any page was accessed. */
  age(start: bigint, end: bigint): boolean {
    return this.#anyYoung(start, end, RANGE.age);
  }

  testAge(start: bigint, end: bigint): boolean {
    return this.#anyYoung(start, end, RANGE.testAge);
  }

  #anyYoung(start: bigint, end: bigint, what: number): boolean {
    this.begin();
    checkRange(start, end);
    const young = anyYoung(this, start, end, what);
    this.#collectEvents();
    return young;
  }

  // ---------------------------------------------------------------- looking at it

  /** Counters of the core, by name (see VM in src/abi/shadow.ts). */
  counter(name: string): number {
    this.begin();
    return vmRecord.get32(this.linear, this.pointer, name);
  }

  /** Every active page, newest first. */
  pages(): ShadowPage[] {
    this.begin();
    return shadowPages(this);
  }

  /** One page by its header's linear address. */
  page(pointer: number): ShadowPage {
    this.begin();
    return readPage(this, pointer);
  }

  /** Every page in use: the active ones, then roots that were zapped and wait for their last reference. */
  allPages(): ShadowPage[] {
    const active = this.pages();
    const seen = new Set(active.map((page) => page.pointer));
    const roots = new Set(this.vcpus.flatMap((vcpu) => vcpu.rootPages()).filter((page) => !seen.has(page)));
    return [...active, ...[...roots].map((page) => readPage(this, page))];
  }

  /** Sets accessed or dirty bits in an SPTE, as the processor does; where it logs dirty pages, the log gets the page. */
  setHardwareBits(page: ShadowPage, index: number, bits: bigint): void {
    this.begin();
    const place = page.table / 8 + index;
    const old = this.linear.u64[place]!;
    this.linear.u64[place] = old | bits;
    const dirtied = (bits & ~old & vmRecord.get64(this.linear, this.pointer, "DIRTY")) !== 0n;
    // A nested guest runs without the log, because its addresses are not L1's.
    const logged = this.pageModificationLog && !roleIsGuestMode(page.role) && roleLevel(page.role) === 1;
    if (dirtied && logged) this.markDirty(page.gfn + BigInt(index), roleSmm(page.role));
  }

  /** Checks every invariant of the structures; an empty list means that they hold. */
  audit(): AuditProblem[] {
    this.begin();
    return audit(this);
  }

  /** True if the page at `gfn` is there for the host and writable: what prefetching asks. */
  isResident(gfn: bigint, space = 0): boolean {
    const slot = this.slots.visible(space, gfn);
    const wanted = BigInt(HOST_PRESENT | HOST_WRITABLE);
    return slot !== undefined && (this.slots.hostPage(slot, gfn) & wanted) === wanted;
  }
}

function checkRange(start: bigint, end: bigint): void {
  checkBigint(start, "the range's start");
  // The end of the host-virtual addresses is one more than a bigint of 64 bits.
  if (end !== HVA_END) checkBigint(end, "the range's end");
}
