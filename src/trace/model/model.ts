/** Follows a trace event by event: which thread runs which vCPU, what it is about, and what pages there are. */
import { bitOf } from "../../abi/bits.js";
import { SPTE } from "../../abi/spte.js";
import { ExitReason, KINDS, Kind, Slot } from "../events/kinds.js";
import type { EventRecord } from "../events/record.js";
import { contextOf } from "../events/role.js";
import type { Page, Pages } from "./pages.js";
import { type Outcome, type SwitchKind, Thread } from "./thread.js";
import { Vms } from "./vms.js";

/** Threads that are told apart. */
const MOST_THREADS = 2 ** 14;
/** Tables of a PAE guest are below a root that is no page; no root is lower. */
const LOWEST_ROOT = 2;
/** Without entries, lower pages are taken for what is below a root. */
const LOWEST_BLIND_ROOT = 4;
const FRAMES = 512;
const HUGE = Number(bitOf(SPTE, "PS"));
/** Present in every era: a table or a page has one of the low three bits. */
const RIGHTS = 7;
const EFER = 0xc0000080;

/** Who wants to know more than single events. */
export interface ModelListener {
  /** A fault is over. */
  onFault?(thread: Thread, outcome: Outcome, record: EventRecord): void;
  /** A page was got; `root` where it is loaded as one rather than linked below one. */
  onGot?(thread: Thread, page: Page, created: boolean, root: boolean, record: EventRecord): void;
  onZap?(thread: Thread, page: Page, record: EventRecord): void;
  /** A page was synced, in earnest. */
  onSync?(thread: Thread, page: Page, record: EventRecord): void;
  /** All of these pages are obsolete; undefined: those of a machine that is not known. */
  onZapAll?(owner: Pages | undefined, record: EventRecord, thread: Thread): void;
  onSwitch?(thread: Thread, kind: SwitchKind, record: EventRecord): void;
  /** What a vCPU's roots are lost by, but for zaps: another mode, another EFER, SMM. */
  onReset?(thread: Thread): void;
  /** Events were lost: whatever was known may be otherwise. */
  onLost?(): void;
  onEntry?(thread: Thread, record: EventRecord): void;
  /** Any event, after the others. */
  onEvent?(thread: Thread, record: EventRecord): void;
}

export class Model {
  readonly vms = new Vms((thread) => this.#moved(thread));
  /** Events with entries' changes were seen: kvm_mmu_set_spte or kvm_tdp_mmu_spte_changed. */
  entriesTraced = false;
  /** Events of the TDP MMU were seen. */
  tdpMmu = false;
  /** By kind: 1 where there was one. */
  readonly seen = new Uint8Array(KINDS.length);
  /** Entries and exits were seen. */
  entriesSeen = false;
  readonly #threads = new Map<number, Thread>();
  readonly #overflow = new Thread(-1);
  readonly #listeners: readonly ModelListener[];

  constructor(listeners: readonly ModelListener[]) {
    this.#listeners = listeners;
  }

  take(record: EventRecord): void {
    this.seen[record.kind] = 1;
    const thread = this.#threadOf(record);
    if (record.has[Slot.vcpu_id] === 1) this.#runs(thread, record);
    switch (record.kind) {
      case Kind.kvm_entry:
        this.#enter(thread, record);
        break;
      case Kind.kvm_exit:
        this.#endFault(thread, record);
        this.#left(thread, record);
        break;
      case Kind.kvm_page_fault:
        this.#beginFault(thread, record);
        break;
      case Kind.kvm_nested_vmenter:
        thread.nested = true;
        thread.mayReset = false;
        this.#switch(thread, "enter L2", record);
        break;
      case Kind.kvm_nested_vmexit_inject:
        thread.nested = false;
        this.#switch(thread, "exit to L1", record);
        break;
      case Kind.kvm_smm_transition:
        this.#switch(thread, "SMM", record);
        this.#mayReset(thread);
        this.#reset(thread);
        break;
      case Kind.kvm_cr:
        this.#register(thread, record);
        break;
      case Kind.kvm_msr:
        if (record.number(Slot.rw) !== 1) break;
        if (record.number(Slot.cr) === EFER) this.#mayReset(thread);
        else if (thread.reason === ExitReason.MsrWrite) this.#noReset(thread);
        break;
      case Kind.kvm_emulate_insn:
        thread.fault.emulated = true;
        break;
      case Kind.kvm_mmu_pagetable_walk:
        thread.fault.walked = true;
        break;
      case Kind.kvm_mmu_walker_error:
        thread.fault.walkFailed = true;
        break;
      case Kind.kvm_mmu_get_page:
        this.#got(thread, record);
        break;
      case Kind.kvm_mmu_prepare_zap_page:
        this.#zap(thread, record);
        break;
      case Kind.kvm_mmu_sync_page:
        this.#sync(thread, record);
        break;
      case Kind.kvm_mmu_unsync_page: {
        const page = this.#page(thread, record);
        if (page !== undefined) page.owner.unsynced(page);
        break;
      }
      case Kind.mark_mmio_spte:
      case Kind.handle_mmio_page_fault:
        thread.fault.mmio = true;
        break;
      case Kind.fast_page_fault:
        if (record.number(Slot.fixed) === 1) thread.fault.fixedFast = true;
        else if (record.number(Slot.spurious) === 1) thread.fault.spuriousFast = true;
        break;
      case Kind.kvm_mmu_spte_requested:
        thread.fault.requested = true;
        break;
      case Kind.kvm_mmu_set_spte:
        this.entriesTraced = true;
        thread.fault.changed = true;
        thread.fault.mapped = true;
        break;
      case Kind.kvm_tdp_mmu_spte_changed:
        this.entriesTraced = true;
        this.tdpMmu = true;
        thread.fault.changed = true;
        thread.fault.tdpChanged = true;
        if (record.low[Slot.level]! > 1) this.#link(thread, record);
        break;
      case Kind.kvm_mmu_zap_all_fast:
        this.#zapAll(thread, record);
        break;
    }
    for (const listener of this.#listeners) listener.onEvent?.(thread, record);
  }

  /** Events were lost. */
  lost(): void {
    for (const thread of this.#threads.values()) {
      thread.fault.open = false;
      thread.context = -1;
      thread.rootContext = -1;
      thread.contexts.clear();
    }
    for (const listener of this.#listeners) listener.onLost?.();
  }

  /** Faults that no entry ended. */
  finish(record: EventRecord): void {
    for (const thread of this.#threads.values()) this.#endFault(thread, record);
  }

  /** The vCPUs that were seen. */
  vcpus(): number[] {
    const all = new Set([...this.#threads.values()].map(({ vcpu }) => vcpu));
    all.delete(-1);
    return [...all].sort((a, b) => a - b);
  }

  /** Every page that the trace has shown. */
  *pages(): IterableIterator<Page> {
    for (const { pages } of this.vms.all) yield* pages.all();
  }

  #threadOf({ pid, cpu, process }: EventRecord): Thread {
    // Without a thread the processor stands for it; threads are counted from 0.
    const key = pid >= 0 ? pid : -2 - cpu;
    const known = this.#threads.get(key);
    if (known !== undefined) return known;
    if (this.#threads.size >= MOST_THREADS) return this.#overflow;
    const thread = new Thread(key);
    thread.process = process;
    this.#threads.set(key, thread);
    return thread;
  }

  #runs(thread: Thread, record: EventRecord): void {
    const vcpu = record.low[Slot.vcpu_id]!;
    if (thread.vcpu === vcpu) return;
    thread.vcpu = vcpu;
    this.vms.runs(thread, vcpu);
  }

  /** What was loaded and got was another machine's. */
  #moved(thread: Thread): void {
    thread.fault.page = undefined;
    for (const listener of this.#listeners) listener.onReset?.(thread);
  }

  #enter(thread: Thread, record: EventRecord): void {
    this.entriesSeen = true;
    this.#endFault(thread, record);
    for (const listener of this.#listeners) listener.onEntry?.(thread, record);
    thread.faulted = false;
    thread.switched = undefined;
    thread.context = -1;
    thread.mayReset = false;
    thread.exits++;
  }

  /** The guest was left. */
  #left(thread: Thread, record: EventRecord): void {
    let reason = record.low[Slot.reason]!;
    if (reason === ExitReason.CrAccess) reason = registerOf(record.low[Slot.info1]!);
    thread.reason = reason;
    switch (reason) {
      case ExitReason.WriteCr3:
        this.#switch(thread, "CR3 load", record);
        break;
      case ExitReason.WriteMode:
      case ExitReason.MsrWrite:
      case ExitReason.Rsm:
      case ExitReason.Invpcid:
        this.#mayReset(thread);
    }
  }

  #beginFault(thread: Thread, record: EventRecord): void {
    this.#endFault(thread, record);
    const { fault } = thread;
    fault.begin(record.line, record.time);
    fault.addressLow = record.low[Slot.address]!;
    fault.addressHigh = record.high[Slot.address]!;
    fault.errorLow = record.low[Slot.error_code]!;
    fault.errorHigh = record.high[Slot.error_code]!;
    thread.faulted = true;
  }

  #endFault(thread: Thread, record: EventRecord): void {
    const { fault } = thread;
    if (!fault.open) return;
    fault.open = false;
    const outcome = fault.outcome(this.entriesTraced, this.tdpMmu);
    for (const listener of this.#listeners) listener.onFault?.(thread, outcome, record);
  }

  #switch(thread: Thread, kind: SwitchKind, record: EventRecord): void {
    // A fault that is reflected to L1 is over.
    this.#endFault(thread, record);
    thread.switched = kind;
    // What is loaded from here on is another context's.
    thread.context = -1;
    thread.faulted = false;
    for (const listener of this.#listeners) listener.onSwitch?.(thread, kind, record);
  }

  #register(thread: Thread, record: EventRecord): void {
    if (record.number(Slot.rw) !== 1) return;
    if (record.number(Slot.cr) !== 3) {
      this.#mayReset(thread);
      return;
    }
    this.#noReset(thread);
    if (thread.reason !== ExitReason.WriteCr3) this.#switch(thread, "CR3 load", record);
  }

  /** What the guest does may make KVM give up its roots: that it did shows in a root that is got before the next entry. */
  #mayReset(thread: Thread): void {
    if (!thread.mayReset) thread.contextBefore = thread.rootContext;
    thread.mayReset = true;
    thread.context = -1;
    thread.rootContext = -1;
  }

  /** What it does is something else. */
  #noReset(thread: Thread): void {
    if (!thread.mayReset) return;
    thread.mayReset = false;
    thread.rootContext = thread.contextBefore;
  }

  #reset(thread: Thread): void {
    thread.mayReset = false;
    for (const listener of this.#listeners) listener.onReset?.(thread);
  }

  #page(thread: Thread, record: EventRecord): Page | undefined {
    const role = record.low[Slot.role]!;
    // libtraceevent's plugin leaves the frame number out of some events.
    const framed = record.has[Slot.gfn] === 1;
    const own = this.vms.pagesOf(thread);
    const gfn = framed ? record.number(Slot.gfn) : 0;
    let page: Page | undefined;
    if (own === undefined) {
      page = framed ? this.vms.onlyPage(gfn, role) : undefined;
      if (page === undefined) this.vms.unassigned++;
    } else page = framed ? own.at(gfn, role) : own.onlyOne(role);
    if (page === undefined) return undefined;
    if (page.line === 0) page.by = thread.pid;
    else if (page.by !== thread.pid) page.by = undefined;
    page.line = record.line;
    page.addWord(record.word);
    return page;
  }

  #got(thread: Thread, record: EventRecord): void {
    const created = record.low[Slot.created] === 1;
    const page = this.#page(thread, record);
    if (!thread.settled) {
      this.vms.early(thread, { gfn: record.number(Slot.gfn), role: record.low[Slot.role]!, created, page });
    }
    if (page === undefined) return;
    const { fault } = thread;
    // Before the first entry there are only roots; a trace without entries does not tell them from other pages.
    const root = !(fault.open || thread.faulted) && page.level >= (this.entriesSeen ? LOWEST_ROOT : LOWEST_BLIND_ROOT);
    if (root && thread.mayReset) this.#reset(thread);
    page.owner.got(page, created, record.low[Slot.unsync] === 1);
    // There is one valid TDP root of a role; that the one before went away is not traced.
    if (root && this.tdpMmu && page.direct && created) page.live = 1;
    if (!root && fault.page !== undefined && fault.page.level === page.level + 1) page.parent = fault.page;
    fault.page = root ? undefined : page;
    if (root) {
      page.loads++;
      if (!thread.nested) thread.rootContext = page.direct ? -1 : contextOf(page.role);
    }
    for (const listener of this.#listeners) listener.onGot?.(thread, page, created, root, record);
    // Direct pages stand below pages of either kind.
    if (!page.direct) {
      thread.context = contextOf(page.role);
      thread.contexts.add(thread.context);
    }
  }

  /** The TDP MMU put a table into an entry: its page is below the one that has the entry. */
  #link(thread: Thread, record: EventRecord): void {
    const pages = this.vms.pagesOf(thread);
    if (pages === undefined) return;
    const made = record.low[Slot.new_spte]!;
    if ((made & RIGHTS) === 0 || (made & HUGE) !== 0) return;
    const level = record.low[Slot.level]!;
    const gfn = record.number(Slot.gfn);
    const child = pages.onlyDirect(gfn, level - 1);
    if (child === undefined) return;
    const span = FRAMES ** level;
    child.parent = pages.onlyDirect(gfn - (gfn % span), level);
  }

  #zap(thread: Thread, record: EventRecord): void {
    const page = this.#page(thread, record);
    if (page === undefined) return;
    for (const listener of this.#listeners) listener.onZap?.(thread, page, record);
    page.owner.zap(page, record.low[Slot.role]!, record.low[Slot.unsync] === 1);
  }

  #sync(thread: Thread, record: EventRecord): void {
    const page = this.#page(thread, record);
    if (page === undefined || !page.owner.synced(page)) return;
    for (const listener of this.#listeners) listener.onSync?.(thread, page, record);
  }

  #zapAll(thread: Thread, record: EventRecord): void {
    const own = this.vms.pagesOf(thread);
    if (own === undefined) this.vms.unassigned++;
    // One whose it is not known may be any's.
    for (const pages of own === undefined ? this.vms.all.map(({ pages }) => pages) : [own]) pages.epoch++;
    for (const listener of this.#listeners) listener.onZapAll?.(own, record, thread);
  }
}

/** Bits of an exit qualification for control-register accesses (SDM vol. 3, "Exit Qualification for Control-Register Accesses"). */
const CR_NUMBER = 0xf;
const CR_TYPE_SHIFT = 4;
const CR_TYPE = 3;
const MOV_FROM = 1;

/** What a control-register access of VMX is for. */
function registerOf(qualification: number): number {
  if (((qualification >>> CR_TYPE_SHIFT) & CR_TYPE) === MOV_FROM) return ExitReason.Other;
  const register = qualification & CR_NUMBER;
  return register === 3 ? ExitReason.WriteCr3 : register === 8 ? ExitReason.Other : ExitReason.WriteMode;
}
