/** What a thread that runs a vCPU is about: between an exit and the next entry, and within a page fault. */
import type { EarlyPage, Page, Pages } from "./pages.js";

/** What became of a page fault, as far as the events until the next entry say. */
export const OUTCOMES = [
  /** An entry was made or changed. */
  "mapped",
  /** fast_page_fault fixed it without the MMU's lock. */
  "fast",
  /** The entry was already as it should be. */
  "spurious",
  /** No memory is behind the address. */
  "mmio",
  /** The guest's own tables (or L1's) do not allow the access. */
  "guest",
  /** The instruction was emulated: a write to a shadowed table, say. */
  "emulated",
  /** Nothing was traced: it was tried again, or the kernel traces no entries. */
  "untold",
] as const;
/** How a page fault ended. */
export type Outcome = (typeof OUTCOMES)[number];

/** An exit from the guest is for one of these, where the trace says so. */
export const SWITCHES = ["enter L2", "exit to L1", "CR3 load", "SMM", "not seen"] as const;
export type SwitchKind = (typeof SWITCHES)[number];

/** The last fault of a thread; its fields are those of one fault after another. */
export class Fault {
  open = false;
  line = 0;
  time = 0;
  addressLow = 0;
  addressHigh = 0;
  errorLow = 0;
  errorHigh = 0;
  walked = false;
  walkFailed = false;
  requested = false;
  changed = false;
  /** An entry was set that maps memory: what is marked as MMIO beside it was prefetched. */
  mapped = false;
  /** The TDP MMU changed an entry. */
  tdpChanged = false;
  fixedFast = false;
  spuriousFast = false;
  mmio = false;
  emulated = false;
  /** Pages of it, the last one that was got. */
  page: Page | undefined;

  begin(line: number, time: number): void {
    this.open = true;
    this.line = line;
    this.time = time;
    this.walked = false;
    this.walkFailed = false;
    this.requested = false;
    this.changed = false;
    this.mapped = false;
    this.tdpChanged = false;
    this.fixedFast = false;
    this.spuriousFast = false;
    this.mmio = false;
    this.emulated = false;
    this.page = undefined;
  }

  /**
   * `entries`: the trace shows changes of entries, so that their absence says something; `tdpMmu`: those of the TDP MMU, which
   * traces kvm_mmu_set_spte for a leaf that it finds as it should be, too (6.12 tdp_mmu.c, tdp_mmu_map_handle_target_level).
   * What walks a guest's tables is not the TDP MMU's to map.
   */
  outcome(entries: boolean, tdpMmu: boolean): Outcome {
    if (this.fixedFast) return "fast";
    if (this.walkFailed) return "guest";
    if (this.mmio && !this.mapped) return "mmio";
    if (this.emulated) return "emulated";
    if (tdpMmu && this.mapped && !this.tdpChanged && !this.walked && this.page === undefined) return "spurious";
    if (this.changed) return "mapped";
    if (this.spuriousFast || (this.requested && entries)) return "spurious";
    return "untold";
  }
}

export class Thread {
  /** Below 0: a processor stands for it, because the trace does not say threads. */
  readonly pid: number;
  /** The process; -1 where the trace does not say. */
  process = -1;
  /** Those of the virtual machine whose vCPU it runs, as far as that is known. */
  pages: Pages | undefined;
  /** It is known whose: its vCPU's number or its process told. */
  settled = false;
  /** Pages that it got before. */
  readonly early: EarlyPage[] = [];
  /** -1 where no event of it named one. */
  vcpu = -1;
  readonly fault = new Fault();
  /** There was a fault since the last entry or switch. */
  faulted = false;
  /** Runs L2, as far as the trace says. */
  nested = false;
  /** What was switched since the last entry. */
  switched: SwitchKind | undefined;
  /** Number of the exit: entries so far. */
  exits = 0;
  /** Context of the shadow page that was got last since the last entry, -1 where none was. */
  context = -1;
  /** Those of all shadow pages that it got: a handful, of a few bits. */
  readonly contexts = new Set<number>();
  /** That of the root that L1 runs on, -1 where it is not known or not a shadow page. */
  rootContext = -1;
  /** What it was before an exit that may be for another mode. */
  contextBefore = -1;
  /** Why the guest was left last: see `ExitReason`. */
  reason = 0;
  /** The exit may be for what makes KVM give up its roots; it did where a root is got before the next entry. */
  mayReset = false;

  constructor(pid: number) {
    this.pid = pid;
  }

  /** `vCPU 0 (thread 4711)`. */
  get name(): string {
    const thread = this.pid < 0 ? "" : `thread ${this.pid}`;
    if (this.vcpu === -1) return thread === "" ? "an unknown vCPU" : thread;
    return thread === "" ? `vCPU ${this.vcpu}` : `vCPU ${this.vcpu} (${thread})`;
  }
}
