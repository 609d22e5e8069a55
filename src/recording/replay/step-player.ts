/** Feeds the inputs of one guest step to a target, in the order in which the recording has them. */

import { bitOf, fieldOf, flagOf, valueIn } from "../../abi/bits.js";
import { PFERR } from "../../abi/faults.js";
import { hasRule } from "../../abi/kernel-rules.js";
import { EVENT_EXCEPTION, EVENT_INFO, EXIT, MSR_EFER } from "../../abi/processor.js";
import type { EventOf, RecordedEvent } from "../format/events.js";
import type { GuestStep, Recording } from "../format/recording.js";
import type { GuestWalkOutcome } from "../format/state.js";
import type { CpuTracker } from "../world/cpu-tracker.js";
import { RSM_INSTRUCTION } from "../world/cpu-tracker.js";
import { pferrOfQualification } from "../world/error-code.js";
import { faultResults, HANDLER_RETURNS, type ResultPair } from "../world/fault-result.js";
import type { GuestMemoryTracker } from "../world/guest-memory.js";
import { invalidatedAddress, invalidatedPcid, misconfiguredAddress } from "../world/hidden-operands.js";
import { toBytes } from "../world/host-memory.js";
import type { RecordedHost } from "../world/recorded-host.js";
import { walkLength } from "../world/walk-events.js";
import { notify } from "./notifier.js";
import type { ReplayTarget } from "./target.js";

const EVENT_VALID = flagOf(EVENT_INFO, "VALID");
const EVENT_TYPE = fieldOf(EVENT_INFO, "TYPE");
const EVENT_VECTOR = fieldOf(EVENT_INFO, "VECTOR");
const PFERR_WRITE = flagOf(PFERR, "W");
const PFERR_RSVD = bitOf(PFERR, "RSVD");

const INPUT_KINDS: ReadonlySet<string> = new Set(["kvm_unmap_hva_range", "kvm_set_spte_hva"]);

export interface PlayerHooks {
  /** The events up to here have been replayed. */
  position(index: number): void;
  memory(gpa: bigint, bytes: Uint8Array): void;
  /** The target is entering the guest, where roots are loaded. */
  entering(now: boolean): void;
  /** What a call gave and what was recorded of it. */
  result(pair: ResultPair): void;
}

export class StepPlayer {
  readonly #events: readonly RecordedEvent[];
  readonly #vcpu: number;
  #lastExit: EventOf<"kvm_exit"> | undefined;
  /** Positions of events inside a fault that have been delivered by the target's callbacks. */
  readonly #delivered = new Set<number>();
  #fault: { readonly start: number; readonly end: number } | undefined;
  /** Events before this position belong to an input that has been given. */
  #consumed = 0;
  #leavingSmm = false;
  /** Where the last walk for an emulated write led. */
  #lastWrite: bigint | undefined;
  #smiResets = 0;
  readonly #recording: Recording;
  readonly #step: GuestStep;
  readonly #target: ReplayTarget;
  readonly #host: RecordedHost;
  readonly #tracker: GuestMemoryTracker;
  readonly #cpu: CpuTracker;
  readonly #hooks: PlayerHooks;
  readonly #smiPending: boolean;

  constructor(
    recording: Recording,
    step: GuestStep,
    target: ReplayTarget,
    host: RecordedHost,
    tracker: GuestMemoryTracker,
    cpu: CpuTracker,
    hooks: PlayerHooks,
    smiPending: boolean,
  ) {
    this.#recording = recording;
    this.#step = step;
    this.#target = target;
    this.#host = host;
    this.#tracker = tracker;
    this.#cpu = cpu;
    this.#hooks = hooks;
    this.#smiPending = smiPending;
    this.#events = step.events;
    this.#vcpu = step.vcpu;
  }

  play(): void {
    for (let index = 0; index < this.#events.length; index++) {
      this.#hooks.position(index);
      const event = this.#events[index]!;
      const before = this.#cpu.state(this.#vcpu);
      const saved = before.saved ?? before.registers;
      this.#cpu.event(this.#step, event, index);
      this.#input(event, index, saved);
      this.#recordedMemory(event);
    }
    this.#hooks.position(this.#events.length);
  }

  /** What a fault's look-up runs into: the notifier calls that the recording has inside it. */
  notifierInFault(): void {
    if (this.#fault === undefined) return;
    for (let index = this.#fault.start; index < this.#fault.end; index++) {
      const event = this.#events[index]!;
      if (INPUT_KINDS.has(event.ev)) this.#once(index, () => this.notifier(event));
    }
  }

  /** The target injects a page fault: L1 may intercept it. */
  injectPageFault(): void {
    if (this.#fault === undefined) return;
    for (let index = this.#fault.start; index < this.#fault.end; index++) {
      if (this.#events[index]!.ev !== "kvm_nested_vmexit_inject") continue;
      this.#once(index, () => {
        this.#hooks.position(index);
        this.#exitNested();
      });
    }
  }

  #once(index: number, action: () => void): void {
    if (this.#delivered.has(index)) return;
    this.#delivered.add(index);
    action();
  }

  #input(event: RecordedEvent, index: number, saved: GuestStep["pre"]): void {
    switch (event.ev) {
      case "kvm_exit":
        this.#exit(event, index);
        break;
      case "kvm_page_fault":
        this.#pageFault(index, event.fault_address, event.error_code, event.guest_rip);
        break;
      case "kvm_entry":
        this.#leavingSmm = false;
        this.#hooks.entering(true);
        this.#target.enterGuest(this.#vcpu);
        this.#hooks.entering(false);
        break;
      case "kvm_mmu_pagetable_walk":
        this.#walk(event, index);
        break;
      case "pte_write":
        this.#emulatedWrite(event);
        break;
      case "set_cr0":
        if (!this.#leavingSmm) this.#target.writeCr0(this.#vcpu, event.cr0);
        break;
      case "set_cr3":
        if (!this.#leavingSmm) this.#target.writeCr3(this.#vcpu, event.cr3);
        break;
      case "set_cr4":
        if (!this.#leavingSmm) this.#target.writeCr4(this.#vcpu, event.cr4);
        break;
      case "invlpg":
        this.#target.invlpg(this.#vcpu, event.gva);
        break;
      case "reset_context":
        if (this.#smiPending && this.#smiResets++ === 0) this.#target.enterSmm(this.#vcpu);
        break;
      case "kvm_emulate_insn":
        if (event.insn.startsWith(RSM_INSTRUCTION) && event.failed === 0) {
          this.#leavingSmm = true;
          this.#target.leaveSmm(this.#vcpu, saved);
        }
        break;
      case "kvm_nested_vmenter": {
        const entry = this.#cpu.state(this.#vcpu).nested;
        if (entry !== undefined) this.#target.enterNested(this.#vcpu, entry);
        break;
      }
      case "kvm_nested_vmexit_inject":
        this.#once(index, () => this.#exitNested());
        break;
      case "mark_dirty":
        if (this.#isOwnWrite(index)) this.#target.markDirty(this.#vcpu, event.gfn);
        break;
      case "kvm_unmap_hva_range":
      case "kvm_set_spte_hva":
      case "kvm_age_hva":
      case "kvm_test_age_hva":
        this.#once(index, () => this.notifier(event));
        break;
    }
  }

  /** Changes that the recording reports, made in the tracked memory too; the target has made them itself. */
  #recordedMemory(event: RecordedEvent): void {
    if (event.ev === "pte_write") this.#hooks.memory(event.gpa, toBytes(event.new, event.bytes));
  }

  /**
   * The last exit interrupted the delivery of an event: EXITINTINFO on SVM; on VMX the IDT-vectoring information, which
   * the tracepoint gives as info2 (its intr_info is the exit's own exception).
   */
  #isEventDelivery(): boolean {
    return (this.#deliveryInfo() & EVENT_VALID) !== 0;
  }

  #deliveryInfo(): number {
    if (this.#lastExit === undefined) return 0;
    const { intel } = this.#recording.config;
    return intel ? Number(this.#lastExit.info2 & 0xffffffffn) : this.#lastExit.intr_info;
  }

  /** Vector of the exception whose delivery the last exit interrupted. */
  #deliveredException(): number | undefined {
    const info = BigInt(this.#deliveryInfo() >>> 0);
    const isException = this.#isEventDelivery() && valueIn(EVENT_TYPE, info) === BigInt(EVENT_EXCEPTION);
    return isException ? Number(valueIn(EVENT_VECTOR, info)) : undefined;
  }

  #exitNested(): void {
    // VMX loads L1's registers from its VMCS, as the end of the step shows them; SVM restores those from before.
    this.#target.exitNested(this.#vcpu, this.#recording.config.intel ? this.#step.post : this.#step.pre);
  }

  notifier(event: RecordedEvent): void {
    notify(event, this.#target, this.#host, this.#tracker);
  }

  /** Exits whose effect on the MMU comes before any event of its own. */
  #exit(event: EventOf<"kvm_exit">, index: number): void {
    this.#lastExit = event;
    const { intel } = this.#recording.config;
    const rest = this.#untilEntry(index + 1);
    if (event.exit_reason === (intel ? EXIT.vmxMsrWrite : EXIT.svmMsr)) {
      const msr = rest.find((later) => later.ev === "kvm_msr");
      if (msr?.ev === "kvm_msr" && msr.write === 1 && msr.ecx === MSR_EFER && msr.exception === 0)
        this.#target.writeEfer(this.#vcpu, msr.data);
    }
    if (!intel) return;
    switch (event.exit_reason) {
      case EXIT.eptMisconfiguration:
        this.#pageFault(index, misconfiguredAddress(this.#step, rest), PFERR_RSVD);
        break;
      case EXIT.invept:
        this.#walkOperands(index, rest);
        if (rest.every((later) => later.ev !== "kvm_inj_exception")) {
          const all = this.#step.invept === 2;
          this.#target.invept(this.#vcpu, all ? "all" : this.#step.gva);
        }
        break;
      case EXIT.vmptrld:
        this.#walkOperands(index, rest);
        if (rest.some((later) => later.ev === "free_roots")) this.#target.releaseGuestMmu(this.#vcpu);
        break;
      case EXIT.invpcid:
        this.#walkOperands(index, rest);
        if (rest.every((later) => later.ev !== "kvm_inj_exception")) this.#invpcid(rest);
        break;
    }
  }

  /**
   * INVPCID. Its descriptor is not in a recording (the VMM takes it away again): the address and PCID of type 0 are
   * in the event, the PCID of type 1 is that of the roots that were freed or synchronised because of it.
   */
  #invpcid(rest: readonly RecordedEvent[]): void {
    const type = Number(this.#step.value);
    if (type === 0 && hasRule(this.#recording.config.kernel, "invalidate-syncs")) {
      const { previousRoots } = this.#target.state(this.#vcpu).rootMmu;
      const operand = invalidatedAddress(rest, previousRoots, this.#cpu.effective(this.#vcpu).cr3);
      if (operand !== undefined) this.#target.invpcid(this.#vcpu, type, operand.pcid, operand.address);
    } else if (type === 0) {
      const event = rest.find((later) => later.ev === "invpcid_gva");
      if (event?.ev === "invpcid_gva") this.#target.invpcid(this.#vcpu, type, Number(event.pcid), event.gva);
    } else if (type === 1) {
      const { previousRoots } = this.#target.state(this.#vcpu).rootMmu;
      const pcid = invalidatedPcid(rest, previousRoots, this.#cpu.effective(this.#vcpu).cr3);
      if (pcid !== undefined) this.#target.invpcid(this.#vcpu, type, pcid, 0n);
    } else this.#target.invpcid(this.#vcpu, type, 0, 0n);
  }

  /** The walks for an instruction's memory operand come before what the instruction does. */
  #walkOperands(index: number, rest: readonly RecordedEvent[]): void {
    rest.forEach((event, offset) => {
      if (event.ev === "kvm_mmu_pagetable_walk") this.#walk(event, index + 1 + offset);
    });
  }

  /** The events from `index` to before the next guest entry. */
  #untilEntry(index: number): readonly RecordedEvent[] {
    const end = this.#events.findIndex((event, at) => at >= index && event.ev === "kvm_entry");
    return this.#events.slice(index, end === -1 ? undefined : end);
  }

  #pageFault(index: number, address: bigint, errorCode: bigint, rip?: bigint): void {
    const { ept, kernel } = this.#recording.config;
    const misconfiguration = this.#events[index]!.ev === "kvm_exit";
    const rest = this.#events.slice(index + 1);
    const returned = rest.findIndex((event) => HANDLER_RETURNS.has(event.ev) || event.ev === "page_fault_ret");
    // Without a handler's return (an MMIO SPTE) the rest, up to page_fault_ret, is instruction emulation.
    const handler = returned !== -1 && HANDLER_RETURNS.has(rest[returned]!.ev);
    const unprotect = rest.findIndex((event) => event.ev === "unprotect_page" || event.ev === "kvm_entry");
    const own = handler ? returned : unprotect !== -1 && rest[unprotect]!.ev === "unprotect_page" ? unprotect : 0;
    const end = index + 1 + own;
    this.#fault = { start: index + 1, end };
    const outcome = this.#target.pageFault(this.#vcpu, {
      address,
      errorCode: ept && !misconfiguration ? pferrOfQualification(errorCode, kernel) : errorCode,
      ...(ept && !misconfiguration ? { exitQualification: errorCode } : {}),
      eventDelivery: this.#isEventDelivery(),
      ...(rip === undefined ? {} : { rip }),
    });
    // What the target's callbacks have not asked for happens at the latest now.
    this.notifierInFault();
    this.injectPageFault();
    this.#fault = undefined;
    this.#consumed = Math.max(this.#consumed, end);
    const context = { kernel, delivering: this.#deliveredException() };
    for (const pair of faultResults(outcome, this.#untilEntry(index + 1), context)) this.#hooks.result(pair);
  }

  /** A walk that is no part of a page fault: of instruction emulation or event delivery. */
  #walk(event: EventOf<"kvm_mmu_pagetable_walk">, index: number): void {
    if (index < this.#consumed) return;
    const outcome = this.#target.guestWalk(this.#vcpu, event.addr, event.pferr);
    const { nested } = this.#cpu.state(this.#vcpu);
    const twoStage = nested !== undefined && nested.secondStage.kind !== "none";
    this.#consumed = index + walkLength(this.#events, index, twoStage);
    if (outcome.ok && (event.pferr & PFERR_WRITE) !== 0) this.#lastWrite = outcome.gpa;
    if (!outcome.ok && this.#faultInjected(this.#consumed)) this.#injectEmulated(outcome);
  }

  /** The address that emulation writes to is the one that its last walk for a write has given. */
  #emulatedWrite(event: EventOf<"pte_write">): void {
    const lastWrite = this.#lastWrite;
    if (lastWrite !== undefined) {
      const page = (gpa: bigint): string => `page 0x${(gpa >> 12n).toString(16)}`;
      this.#hooks.result({ kind: "emulated write", recorded: page(event.gpa), replayed: page(lastWrite) });
    }
    this.#target.emulatedWrite(this.#vcpu, event.gpa, toBytes(event.new, event.bytes));
  }

  #injectEmulated(fault: Extract<GuestWalkOutcome, { ok: false }>): void {
    this.#fault = { start: this.#consumed, end: this.#consumed + this.#untilEntry(this.#consumed).length };
    this.#target.injectEmulatedFault(this.#vcpu, fault);
    this.injectPageFault();
    this.#fault = undefined;
  }

  /** Whether a #PF for the walk that ended at `index` is injected before the guest runs on or another walk begins. */
  #faultInjected(index: number): boolean {
    for (const event of this.#untilEntry(index)) {
      if (event.ev === "kvm_mmu_pagetable_walk") return false;
      if (event.ev === "invalidate_gva" || event.ev === "invalidate_addr" || event.ev === "kvm_nested_vmexit_inject")
        return true;
      if (event.ev === "kvm_inj_exception" && event.exception === 14 && event.reinjected === 0) return true;
    }
    return false;
  }

  /**
   * A page that KVM marks dirty outside the MMU: flushing the page-modification log right after an exit, writing a
   * VMX instruction's operand, or saving the state that an SMI interrupts.
   */
  #isOwnWrite(index: number): boolean {
    let before = index - 1;
    while (before >= 0 && this.#events[before]!.ev === "mark_dirty") before--;
    if (this.#smiPending && this.#smiResets === 1) return true;
    if (this.#events[before]?.ev === "kvm_exit") return true;
    const reason = this.#lastExit?.exit_reason ?? 0;
    const previous = this.#events[before]?.ev ?? "";
    return (
      reason >= EXIT.vmxFirst &&
      reason <= EXIT.vmxLast &&
      (previous === "kvm_mmu_paging_element" || previous === "kvm_mmu_walker_error")
    );
  }
}
