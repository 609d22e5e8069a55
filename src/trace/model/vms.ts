/**
 * Which virtual machine a thread belongs to. No event of KVM's MMU says so, but a machine has one thread for each of its vCPUs:
 * where a vCPU's number occurs in two threads, there are two machines. Threads of one process (its number stands in some texts)
 * are one machine's; else those whose numbers are nearest, for they were started one after another.
 */
import { type EarlyPage, type Page, PageBudget, Pages } from "./pages.js";
import type { Thread } from "./thread.js";

/** Machines that are told apart; later ones are taken for the last of these. */
const MOST_VMS = 256;
/** Pages that are kept of a thread before it is known which vCPU it runs. */
const MOST_EARLY = 64;

/** One virtual machine: its vCPUs' threads, and its pages. */
export class Vm {
  /** The process, where the trace says it; else -1. */
  process: number;
  readonly pages: Pages;
  /** By vCPU. */
  readonly threads = new Map<number, Thread>();

  constructor(process: number, budget: PageBudget) {
    this.process = process;
    this.pages = new Pages(budget);
  }

  /** `process 3999`, or a vCPU's thread. */
  get name(): string {
    if (this.process !== -1) return `process ${this.process}`;
    const first = [...this.threads.entries()].sort(([a], [b]) => a - b)[0];
    return first === undefined ? "no vCPU" : `thread ${first[1].pid} (vCPU ${first[0]})`;
  }

  /** How far the nearest of its vCPUs' threads is in number. */
  distance(pid: number): number {
    let least = Number.POSITIVE_INFINITY;
    for (const thread of this.threads.values()) least = Math.min(least, Math.abs(thread.pid - pid));
    return least;
  }
}

export class Vms {
  readonly budget = new PageBudget();
  readonly all: Vm[] = [];
  /** Events of pages and zap-alls whose machine could not be told. */
  unassigned = 0;
  /** A machine's threads were told apart by their numbers, not by their process. */
  guessed = false;
  /** Tells who keeps something of a thread that it is another machine's. */
  readonly #moved: (thread: Thread) => void;

  constructor(moved: (thread: Thread) => void) {
    this.#moved = moved;
  }

  /** There are several: what a thread without a machine does may concern any of them. */
  get several(): boolean {
    return this.all.length > 1;
  }

  /** The pages of a thread's machine; undefined where there are several machines, and nothing says which. */
  pagesOf(thread: Thread): Pages | undefined {
    const known = thread.pages;
    if (known !== undefined && (thread.settled || !this.several)) return known;
    if (thread.process !== -1) {
      const own = this.all.find(({ process }) => process === thread.process);
      if (own !== undefined) {
        thread.pages = own.pages;
        thread.settled = true;
        return own.pages;
      }
    }
    if (this.several) return undefined;
    thread.pages = (this.all[0] ?? this.#add(-1)).pages;
    return thread.pages;
  }

  /** The machine whose pages these are. */
  vmOf(pages: Pages): Vm | undefined {
    return this.all.find((vm) => vm.pages === pages);
  }

  /** The page of that frame and role that is there in only one of the machines. */
  onlyPage(gfn: number, role: number): Page | undefined {
    let found: Page | undefined;
    for (const { pages } of this.all) {
      const page = pages.known(gfn, role);
      if (page === undefined || page.live === 0) continue;
      if (found !== undefined) return undefined;
      found = page;
    }
    return found;
  }

  /** Keeps what a thread got before it is known whose it is. */
  early(thread: Thread, entry: EarlyPage): void {
    if (!thread.settled && thread.early.length < MOST_EARLY) thread.early.push(entry);
  }

  /** The thread runs that vCPU. */
  runs(thread: Thread, vcpu: number): void {
    // Without a thread's number the processor stands for it, which runs any machine's.
    if (thread.pid < 0) {
      thread.pages ??= (this.all[0] ?? this.#add(-1)).pages;
      return;
    }
    const before = thread.pages;
    const vm = this.#vmFor(thread, vcpu);
    if (!vm.threads.has(vcpu)) vm.threads.set(vcpu, thread);
    thread.settled = true;
    if (vm.pages !== before) this.#move(thread, vm);
    thread.early.length = 0;
  }

  #vmFor(thread: Thread, vcpu: number): Vm {
    const { process, pid } = thread;
    const [first] = this.all;
    // The first machine was taken for any thread's.
    const unclaimed = first !== undefined && !this.several && first.threads.size === 0 ? first : undefined;
    if (process !== -1) {
      const own = this.all.find((one) => one.process === process) ?? unclaimed ?? this.#add(process);
      own.process = process;
      return own;
    }
    if (unclaimed !== undefined) return unclaimed;
    const open = this.all.filter((vm) => {
      const known = vm.threads.get(vcpu);
      return vm.process === -1 && (known === undefined || known === thread);
    });
    const own = open.find(({ pages }) => pages === thread.pages && thread.settled);
    if (own !== undefined) return own;
    if (open.length > 0) return open.reduce((best, vm) => (vm.distance(pid) < best.distance(pid) ? vm : best));
    const added = this.#add(-1);
    if (!this.several) return added;
    this.guessed = true;
    added.threads.set(vcpu, thread);
    this.#attract(added, pid);
    return added;
  }

  /** Threads of other machines that are nearer to the new one's than to any other of their own. */
  #attract(added: Vm, pid: number): void {
    for (const vm of this.all) {
      if (vm === added || vm.process !== -1) continue;
      for (const [vcpu, thread] of [...vm.threads]) {
        if (added.threads.has(vcpu) || vm.threads.size === 1) continue;
        const others = [...vm.threads.values()].filter((one) => one !== thread);
        const nearest = Math.min(...others.map((one) => Math.abs(one.pid - thread.pid)));
        if (nearest <= Math.abs(thread.pid - pid)) continue;
        vm.threads.delete(vcpu);
        added.threads.set(vcpu, thread);
        this.#move(thread, added);
      }
    }
  }

  /** Takes to another machine what that thread alone has touched. */
  #move(thread: Thread, vm: Vm): void {
    const from = thread.pages;
    thread.pages = vm.pages;
    if (from !== undefined) {
      for (const page of from.of(thread.pid)) vm.pages.adopt(page);
      this.#moved(thread);
    }
    for (const { gfn, role, created, page } of thread.early) {
      if (page?.owner === vm.pages) continue;
      page?.owner.ungot(page, created);
      const own = vm.pages.at(gfn, role);
      if (own !== undefined) vm.pages.got(own, created, false);
    }
  }

  #add(process: number): Vm {
    if (this.all.length >= MOST_VMS) return this.all.at(-1)!;
    const added = new Vm(process, this.budget);
    this.all.push(added);
    return added;
  }
}
