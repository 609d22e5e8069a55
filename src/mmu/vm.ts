/** A virtual machine as its users see it: its memory and slots, dirty logs, the host's notifier, its vCPUs. */

import { SHADOW_CODES } from "../abi/shadow.js";
import type { Releasable } from "../api.js";
import { checkInteger, show, toBytes } from "../checks.js";
import type { Core } from "../core/core.js";
import { ConfigError } from "../errors.js";
import type { ControlRegisters } from "../registers/control-registers.js";
import { changeAliases } from "./changes/alias-change.js";
import { clearDirtyLog, getDirtyLog } from "./changes/dirty-log.js";
import { type PendingFlush, takeFlushes } from "./changes/flushes.js";
import { anyYoung, changePage, unmapRange } from "./changes/notifier.js";
import { changeSlot, MIN_PAGES } from "./changes/slot-change.js";
import { checkBigint, checkControlRegisters, checkSlotOptions } from "./config/check-config.js";
import type { AliasConfig, HostPage, SlotConfig, VirtualMachineConfig } from "./config/config.js";
import { audit } from "./inspect/audit.js";
import { type CounterName, counterOf } from "./inspect/counters.js";
import { setHardwareBits } from "./inspect/hardware-bits.js";
import type { AuditProblem } from "./inspect/problem.js";
import { readPage, type ShadowPage, shadowPages } from "./inspect/snapshot.js";
import { Machine } from "./machine/machine.js";
import type { Memslot } from "./memory/memslots.js";
import { checkReservedBits, checkRoot } from "./processor/register-writes.js";
import type { EventBuffer } from "./trace/event-buffer.js";
import { Vcpu } from "./vcpu.js";

const { RANGE_AGE, RANGE_TEST_AGE } = SHADOW_CODES;

const HVA_END = 1n << 64n;

export class VirtualMachine implements Releasable {
  /**
   * The machine as data: for looking at every table, SPTE, role and root of a VM in place, and for tools and tests that act
   * as its processor. What it has may change with any release, and nothing checks what is written there.
   */
  get state(): Machine {
    return this.#machine;
  }

  readonly vcpus: Vcpu[] = [];
  #machine: Machine;

  /** Throws ConfigError and OutOfMemoryError; nothing stays allocated then. */
  constructor(core: Core, config: VirtualMachineConfig);
  /** @internal With a machine that was made already. */
  constructor(core: Core, config: VirtualMachineConfig, machine: Machine);
  constructor(core: Core, config: VirtualMachineConfig, machine?: Machine) {
    this.#machine = machine ?? new Machine(core, config);
  }

  /** @internal Is another machine from here on; the one before is disposed of by the caller. */
  adopt(machine: Machine): void {
    this.#machine = machine;
  }

  #begin(): Machine {
    this.#machine.begin();
    return this.#machine;
  }

  /** Events of what its vCPUs and its host do; see `eventCapacity`. */
  get events(): EventBuffer {
    return this.#machine.events;
  }

  /** `hostCalls`: times that a fault needed the host (a shadow page or a host page). */
  get stats(): { hostCalls: number } {
    return this.#machine.stats;
  }

  /**
   * Throws ConfigError for registers that no processor can have, and where CR3 has alias bits; GeneralProtectionError where MOV
   * would refuse CR3 or CR4.
   */
  createVcpu(registers: ControlRegisters): Vcpu {
    const vm = this.#begin();
    checkControlRegisters(registers);
    checkRoot(vm, registers.cr3);
    checkReservedBits(vm, registers);
    const vcpu = new Vcpu(vm, vm.addCpu(), registers);
    this.vcpus.push(vcpu);
    return vcpu;
  }

  /** Frees everything the VM holds, its RAM included. Idempotent. Throws BusyError inside a callback of the host's. */
  dispose(): void {
    this.#machine.dispose();
    this.vcpus.length = 0;
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  // ---------------------------------------------------------------- memory and slots

  /**
   * Zeroed RAM for slots; `size` is a multiple of 4096. Returns its linear address. Throws ConfigError for a bad size,
   * OutOfMemoryError where it does not fit.
   */
  createRam(size: number): number {
    const vm = this.#begin();
    if (!Number.isSafeInteger(size) || size <= 0 || size % 4096 !== 0) {
      throw new ConfigError(`size of RAM is ${show(size)}, expected a positive multiple of 4096`);
    }
    return vm.lend(size);
  }

  /** Guest-physical bytes of one address space, through any alias; undefined where a byte lies in no slot. */
  readGuest(gpa: bigint, length: number, space = 0): Uint8Array | undefined {
    const vm = this.#begin();
    checkBigint(gpa, "guest-physical address");
    return vm.guest.read(gpa, length, space);
  }

  /**
   * Writes guest memory and its dirty log, through any alias and without telling the MMU. Throws MemoryRangeError before
   * anything changes.
   */
  writeGuest(gpa: bigint, data: Uint8Array | ArrayBufferView | ArrayBufferLike, space = 0): void {
    const vm = this.#begin();
    checkBigint(gpa, "guest-physical address");
    vm.guest.write(gpa, toBytes(data), space);
  }

  /** A page was written by something other than a vCPU's own access. */
  markDirty(gfn: bigint, space = 0): void {
    const vm = this.#begin();
    checkBigint(gfn, "gfn");
    vm.guest.markDirty(gfn, space);
  }

  /** Adds, deletes, moves or changes a memslot. Throws ConfigError or OutOfMemoryError with nothing changed. */
  setSlot(config: SlotConfig): void {
    const vm = this.#begin();
    checkSlotOptions(config, vm.core);
    changeSlot(vm, config);
    vm.collectEvents();
  }

  /**
   * From here on deleting or moving a slot zaps only what maps it, and the shadow pages of tables in it
   * (KVM_X86_QUIRK_SLOT_ZAP_ALL is disabled, which Linux can since 6.12); else it zaps everything.
   */
  zapSlotsAlone(): void {
    this.#begin().zapsAll = false;
  }

  /** Pages written since the last call, relative to the slot, ascending; without manual protection the log begins anew. */
  getDirtyLog(id: number, space = 0): number[] {
    const vm = this.#begin();
    const pages = getDirtyLog(vm, this.#slot(id, space));
    vm.collectEvents();
    return pages;
  }

  /** Clears pages of the log and logs their next writes (manual protect). */
  clearDirtyLog(id: number, first: number, count: number, pages: Iterable<number>, space = 0): void {
    const vm = this.#begin();
    clearDirtyLog(vm, this.#slot(id, space), first, count, pages);
    vm.collectEvents();
  }

  #slot(id: number, space: number): Memslot {
    const slot = this.#machine.slots.find(space, id);
    if (slot === undefined) throw new ConfigError(`slot ${show(id)} does not exist`);
    return slot;
  }

  /** Sets the limit on shadow pages, at least 64; the oldest pages beyond it are zapped. */
  setPageLimit(count: number): void {
    const vm = this.#begin();
    checkInteger(count, MIN_PAGES, 0xffffffff, "page limit");
    vm.core.setLimit(count);
    vm.requestedPages = count;
    vm.settle();
    vm.collectEvents();
  }

  /**
   * Zaps up to `count` tables that stand where the NX-huge-page mitigation forbade a huge page, oldest first, so that
   * huge pages can return where no code runs any more. Returns how many there were.
   */
  recoverHugePages(count: number): number {
    const vm = this.#begin();
    checkInteger(count, 0, 0xffffffff, "count", RangeError);
    const recovered = vm.core.recoverHuge(count);
    vm.settle();
    vm.collectEvents();
    return recovered;
  }

  /** Zaps the shadow pages of a guest table so that the guest may write it; returns whether there was one. */
  unprotectGfn(gfn: bigint): boolean {
    const vm = this.#begin();
    checkBigint(gfn, "gfn");
    return vm.unprotect(gfn);
  }

  /** Guest-physical address bits that are attributes. */
  get aliases(): Required<AliasConfig> {
    const { aliasMask: mask, executeOnlyAliases: executeOnly } = this.#machine.limits;
    return { mask, executeOnly };
  }

  /**
   * Makes other guest-physical address bits attributes, in whatever paging mode the vCPUs are; every mapping goes.
   * Throws ConfigError for bits that cannot be taken, that a slot's addresses or a vCPU's CR3 has, or while a nested guest
   * runs, with nothing changed.
   */
  setAliases(config: AliasConfig): void {
    const vm = this.#machine;
    vm.beginAlone();
    changeAliases(vm, config);
    vm.collectEvents();
  }

  /**
   * What TLBs may still hold though the tables have it no more, since the last call: everything, or the ranges that
   * `rangedFlush` allows to list, through each alias.
   */
  takeFlushes(): PendingFlush {
    return takeFlushes(this.#begin());
  }

  // ---------------------------------------------------------------- the host's notifier

  /** The host takes pages away (invalidate_range_start and _end); faults in progress on any page are retried. */
  unmapRange(start: bigint, end: bigint): void {
    const vm = this.#begin();
    checkRange(start, end);
    unmapRange(vm, start, end);
    vm.collectEvents();
  }

  /**
   * The host puts another 4 KiB page behind an address, which must not be written before the next fault; the page that was
   * there is not reached from here on, wherever it was a part of a large one. Throws ConfigError with nothing changed.
   */
  changePage(hva: bigint, page: HostPage): void {
    const vm = this.#begin();
    checkBigint(hva, "host-virtual address");
    changePage(vm, hva, page);
    vm.collectEvents();
  }

  /** Reads and resets the accessed state of a range: true if any page was accessed. */
  age(start: bigint, end: bigint): boolean {
    return this.#anyYoung(start, end, RANGE_AGE);
  }

  /** The same without resetting it. */
  testAge(start: bigint, end: bigint): boolean {
    return this.#anyYoung(start, end, RANGE_TEST_AGE);
  }

  #anyYoung(start: bigint, end: bigint, what: number): boolean {
    const vm = this.#begin();
    checkRange(start, end);
    const young = anyYoung(vm, start, end, what);
    vm.collectEvents();
    return young;
  }

  // ---------------------------------------------------------------- looking at it

  /** A counter of the core. Throws RangeError for a name that none has. */
  counter(name: CounterName): number {
    return counterOf(this.#begin().core.vm, name);
  }

  /** Every active page, newest first. */
  pages(): ShadowPage[] {
    return shadowPages(this.#begin());
  }

  /** One page by its header's linear address. */
  page(pointer: number): ShadowPage {
    return readPage(this.#begin(), pointer);
  }

  /** Every page in use: the active ones, then roots that were zapped and wait for their last reference. */
  allPages(): ShadowPage[] {
    const active = this.pages();
    const seen = new Set(active.map((page) => page.pointer));
    const roots = new Set(this.#machine.cpus.flatMap((cpu) => cpu.rootPages()).filter((page) => !seen.has(page)));
    return [...active, ...[...roots].map((page) => readPage(this.#machine, page))];
  }

  /** Sets accessed or dirty bits in an SPTE, as the processor does; where it logs dirty pages, the log gets the page. */
  setHardwareBits(page: ShadowPage, index: number, bits: bigint): void {
    setHardwareBits(this.#begin(), page, index, bits);
  }

  /** Checks every invariant of the structures; an empty list means that they hold. */
  audit(): AuditProblem[] {
    return audit(this.#begin());
  }

  /** True if the page at `gfn` is there for the host and writable: what prefetching asks. */
  isResident(gfn: bigint, space = 0): boolean {
    const vm = this.#begin();
    checkBigint(gfn, "gfn");
    return vm.guest.isResident(gfn, space);
  }
}

function checkRange(start: bigint, end: bigint): void {
  checkBigint(start, "the range's start");
  // The end of the host-virtual addresses is one more than a bigint of 64 bits.
  if (end !== HVA_END) checkBigint(end, "the range's end");
}
