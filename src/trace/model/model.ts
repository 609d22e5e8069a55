/** Follows a trace event by event: which thread runs which vCPU, what it is about, and what pages there are. */
import { bitOf } from "../../abi/bits.js";
import { SPTE } from "../../abi/spte.js";
import { ExitReason, Kind, Slot } from "../events/kinds.js";
import type { EventRecord } from "../events/record.js";
import { contextOf } from "../events/role.js";
import { type Page, Pages } from "./pages.js";
import { type Outcome, type SwitchKind, Thread } from "./thread.js";

/** Threads that are told apart. */
const MOST_THREADS = 2 ** 14;
/** Lower pages can be below a root that is no page. */
const LOWEST_ROOT = 4;
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
  onZapAll?(record: EventRecord): void;
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
  readonly pages = new Pages();
  /** Events with entries' changes were seen: kvm_mmu_set_spte or kvm_tdp_mmu_spte_changed. */
  entriesTraced = false;
  /** Events of the TDP MMU were seen. */
  tdpMmu = false;
  /** Entries and exits were seen. */
  entriesSeen = false;
  /** Threads that ran a vCPU which another thread had run: several virtual machines, perhaps. */
  readonly sharedVcpus = new Map<number, Set<number>>();
  readonly #threads = new Map<number, Thread>();
  readonly #overflow = new Thread();
  readonly #listeners: readonly ModelListener[];

  constructor(listeners: readonly ModelListener[]) {
    this.#listeners = listeners;
  }

  take(record: EventRecord): void {
    const thread = this.#threadOf(record);
    if (record.has[Slot.vcpu_id] === 1) this.#runs(thread, record);
    switch (record.kind) {
      case Kind.kvm_entry:
        this.#enter(thread, record);
        break;
      case Kind.kvm_exit:
        this.#endFault(thread, record);
        thread.reason = record.low[Slot.reason]!;
        if (thread.reason === ExitReason.WriteCr3) this.#switch(thread, "CR3 load", record);
        else if (thread.reason === ExitReason.WriteMode) this.#reset(thread);
        break;
      case Kind.kvm_page_fault:
        this.#beginFault(thread, record);
        break;
      case Kind.kvm_nested_vmenter:
        thread.nested = true;
        this.#switch(thread, "enter L2", record);
        break;
      case Kind.kvm_nested_vmexit_inject:
        thread.nested = false;
        this.#switch(thread, "exit to L1", record);
        break;
      case Kind.kvm_smm_transition:
        this.#switch(thread, "SMM", record);
        this.#reset(thread);
        break;
      case Kind.kvm_cr:
        this.#register(thread, record);
        break;
      case Kind.kvm_msr:
        if (record.number(Slot.rw) === 1 && record.number(Slot.cr) === EFER) this.#reset(thread);
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
        const page = this.#page(record);
        if (page !== undefined) this.pages.unsynced(page);
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
        if (record.low[Slot.level]! > 1) this.#link(record);
        break;
      case Kind.kvm_mmu_zap_all_fast:
        this.pages.epoch++;
        for (const listener of this.#listeners) listener.onZapAll?.(record);
        break;
    }
    for (const listener of this.#listeners) listener.onEvent?.(thread, record);
  }

  /** Events were lost. */
  lost(): void {
    for (const thread of this.#threads.values()) {
      thread.fault.open = false;
      thread.context = -1;
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

  #threadOf({ pid, cpu }: EventRecord): Thread {
    // Without a thread the processor stands for it; threads are counted from 0.
    const key = pid >= 0 ? pid : -2 - cpu;
    const known = this.#threads.get(key);
    if (known !== undefined) return known;
    if (this.#threads.size >= MOST_THREADS) return this.#overflow;
    const thread = new Thread();
    this.#threads.set(key, thread);
    return thread;
  }

  #runs(thread: Thread, record: EventRecord): void {
    const vcpu = record.low[Slot.vcpu_id]!;
    if (thread.vcpu === vcpu) return;
    thread.vcpu = vcpu;
    let pids = this.sharedVcpus.get(vcpu);
    if (pids === undefined) {
      if (this.sharedVcpus.size >= MOST_THREADS) return;
      pids = new Set();
      this.sharedVcpus.set(vcpu, pids);
    }
    if (pids.size < MOST_THREADS) pids.add(record.pid);
  }

  #enter(thread: Thread, record: EventRecord): void {
    this.entriesSeen = true;
    this.#endFault(thread, record);
    for (const listener of this.#listeners) listener.onEntry?.(thread, record);
    thread.faulted = false;
    thread.switched = undefined;
    thread.context = -1;
    thread.exits++;
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
    if (record.number(Slot.cr) !== 3) this.#reset(thread);
    else if (thread.reason !== ExitReason.WriteCr3) this.#switch(thread, "CR3 load", record);
  }

  #reset(thread: Thread): void {
    thread.context = -1;
    for (const listener of this.#listeners) listener.onReset?.(thread);
  }

  #page(record: EventRecord): Page | undefined {
    const role = record.low[Slot.role]!;
    // libtraceevent's plugin leaves the frame number out of some events.
    const framed = record.has[Slot.gfn] === 1;
    const page = framed ? this.pages.at(record.number(Slot.gfn), role) : this.pages.onlyOne(role);
    if (page === undefined) return undefined;
    page.line = record.line;
    page.addWord(record.word);
    return page;
  }

  #got(thread: Thread, record: EventRecord): void {
    const page = this.#page(record);
    if (page === undefined) return;
    const created = record.low[Slot.created] === 1;
    const { fault } = thread;
    // Before the first entry there are only roots; a trace without entries does not tell them from other pages.
    const root = !(fault.open || thread.faulted) && (this.entriesSeen || page.level >= LOWEST_ROOT);
    this.pages.got(page, created, record.low[Slot.unsync] === 1);
    // There is one valid TDP root of a role; that the one before went away is not traced.
    if (root && this.tdpMmu && page.direct && created) page.live = 1;
    if (!root && fault.page !== undefined && fault.page.level === page.level + 1) page.parent = fault.page;
    fault.page = root ? undefined : page;
    if (root) page.loads++;
    for (const listener of this.#listeners) listener.onGot?.(thread, page, created, root, record);
    // Direct pages stand below pages of either kind.
    if (!page.direct) {
      thread.context = contextOf(page.role);
      thread.contexts.add(thread.context);
    }
  }

  /** The TDP MMU put a table into an entry: its page is below the one that has the entry. */
  #link(record: EventRecord): void {
    const made = record.low[Slot.new_spte]!;
    if ((made & RIGHTS) === 0 || (made & HUGE) !== 0) return;
    const level = record.low[Slot.level]!;
    const gfn = record.number(Slot.gfn);
    const child = this.pages.onlyDirect(gfn, level - 1);
    if (child === undefined) return;
    const span = FRAMES ** level;
    child.parent = this.pages.onlyDirect(gfn - (gfn % span), level);
  }

  #zap(thread: Thread, record: EventRecord): void {
    const page = this.#page(record);
    if (page === undefined) return;
    for (const listener of this.#listeners) listener.onZap?.(thread, page, record);
    this.pages.zap(page, record.low[Slot.role]!, record.low[Slot.unsync] === 1);
  }

  #sync(thread: Thread, record: EventRecord): void {
    const page = this.#page(record);
    if (page === undefined || !this.pages.synced(page)) return;
    for (const listener of this.#listeners) listener.onSync?.(thread, page, record);
  }
}
