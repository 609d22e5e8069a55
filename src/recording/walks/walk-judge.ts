/**
 * The front-end judge: every guest walk of a recording, done again by a walking engine with the kvm-6.1 rules on
 * the memory that the recording implies. It needs no MMU: it checks the engine's walk against the kernel's, and the
 * tracking of memory and registers that a whole replay stands on.
 */

import { Access } from "../../abi/access.js";
import { bitOf, flagOf } from "../../abi/bits.js";
import { EPT, PTE } from "../../abi/entries.js";
import { PFERR } from "../../abi/faults.js";
import { CPUID_EXTENDED, CPUID_EXTENDED_EDX, RFLAGS } from "../../abi/processor.js";
import { CR0, CR3_PAE, CR4, EFER } from "../../abi/registers.js";
import type { AddressSpace, GuestMemory, PagingEngine, Translation } from "../../api.js";
import { isTraceEvent, type RecordedEvent } from "../format/events.js";
import type { GuestStep, Recording, Step } from "../format/recording.js";
import { refuseRecording } from "../format/refuse.js";
import type { ControlRegisters, NestedEntry } from "../format/state.js";
import { printEvent } from "../format/trace-text.js";
import { CpuTracker, type Pdptes } from "../world/cpu-tracker.js";
import { GuestMemoryTracker } from "../world/guest-memory.js";
import { fromBytes, toBytes } from "../world/host-memory.js";

const CR0_PE = bitOf(CR0, "PE");
const CR0_PG = bitOf(CR0, "PG");
const CR4_PAE = bitOf(CR4, "PAE");
const EFER_LMA = bitOf(EFER, "LMA");
const RFLAGS_AC = bitOf(RFLAGS, "AC");
const PAGE_MASK = ~0xfffn;
const PDPTE_ACCESSED = bitOf(PTE, "A");
const PDPT = bitOf(CR3_PAE, "PDPT");
const EPT_RWX = bitOf(EPT, "R") | bitOf(EPT, "W") | bitOf(EPT, "X");

const PFERR_P = flagOf(PFERR, "P");
const PFERR_W = flagOf(PFERR, "W");
const PFERR_U = flagOf(PFERR, "U");
const PFERR_RSVD = flagOf(PFERR, "RSVD");
const PAGE_1G = flagOf(CPUID_EXTENDED_EDX, "PAGE_1G");
/** Table accesses at the nested level are user writes where the guest's tables have accessed and dirty bits. */
const PFERR_TABLE = PFERR_W | PFERR_U;

/** The part of a walk that another one's events can be compared with. */
type WalkEvent = Extract<
  RecordedEvent,
  {
    ev:
      | "kvm_mmu_pagetable_walk"
      | "kvm_mmu_paging_element"
      | "kvm_mmu_walker_error"
      | "kvm_mmu_set_accessed_bit"
      | "kvm_mmu_set_dirty_bit";
  }
>;

const WALK_EVENTS = new Set([
  "kvm_mmu_pagetable_walk",
  "kvm_mmu_paging_element",
  "kvm_mmu_walker_error",
  "kvm_mmu_set_accessed_bit",
  "kvm_mmu_set_dirty_bit",
]);

function isWalkEvent(event: RecordedEvent): event is WalkEvent {
  return WALK_EVENTS.has(event.ev);
}

/** A recorded guest walk that the core walks otherwise. */
export interface WalkDifference {
  readonly step: number;
  /** Position in the step's events. */
  readonly event: number;
  readonly expected: readonly string[];
  readonly found: readonly string[];
}

/** What judging the walks of one recording came to. */
export interface WalkReport {
  /** kvm_mmu_pagetable_walk events that were judged. */
  readonly walks: number;
  readonly matched: number;
  readonly differences: readonly WalkDifference[];
}

/** Format of the entries of one stage: size and the bits a walk sets. */
interface EntryFormat {
  readonly size: number;
  readonly accessed: bigint;
  readonly dirty: bigint;
}

interface Stage {
  readonly space: AddressSpace;
  readonly format: EntryFormat;
  readonly kind: "guest" | "ept" | "npt";
}

/** Outcome of a predicted walk: its events and, where it ends well, the page it leads to. */
interface Prediction {
  readonly events: WalkEvent[];
  readonly page: bigint | undefined;
}

/** Does every walk of `recording` again with `engine` and compares the events. */
export function judgeWalks(recording: Recording, engine: PagingEngine): WalkReport {
  try {
    return new WalkJudge(recording, engine).run();
  } catch (error) {
    refuseRecording(recording, "walks", error);
    throw error;
  }
}

class WalkJudge {
  readonly #tracker: GuestMemoryTracker;
  readonly #cpu: CpuTracker;
  #memory!: GuestMemory;
  /** What the walk at hand was made with. */
  readonly #spaces: AddressSpace[] = [];
  #walks = 0;
  #matched = 0;
  readonly #differences: WalkDifference[] = [];
  readonly #recording: Recording;
  readonly #engine: PagingEngine;

  constructor(recording: Recording, engine: PagingEngine) {
    this.#recording = recording;
    this.#engine = engine;
    this.#tracker = new GuestMemoryTracker(recording, (hva, bytes) => {
      for (const gpa of this.#tracker.slots.gpas(hva)) this.#memory.write(gpa, bytes);
    });
    this.#cpu = new CpuTracker((gpa, length) => this.#tracker.readGpa(gpa, length));
    this.#mapSlots();
  }

  /** Judges every walk of the recording. */
  run(): WalkReport {
    for (const step of this.#recording.steps) {
      try {
        this.#step(step);
      } catch (error) {
        refuseRecording(this.#recording, `step ${step.n} (${step.op})`, error);
        throw error;
      }
    }
    this.#memory.dispose?.();
    return { walks: this.#walks, matched: this.#matched, differences: this.#differences };
  }

  #step(step: Step): void {
    if (step.kind !== "vmm") {
      this.#guestStep(step);
      return;
    }
    this.#tracker.vmmStep(step);
    this.#cpu.vmmStep(step);
    if (step.inputs.some((input) => input.kind === "slot")) {
      this.#tracker.applySlots(step);
      this.#mapSlots();
    }
  }

  /** A new engine memory for the current slots: the walking interface has no way to change them. */
  #mapSlots(): void {
    const slots = this.#tracker.slots.all().filter((slot) => slot.addressSpace === 0);
    (this.#memory as GuestMemory | undefined)?.dispose?.();
    const memory = this.#engine.createMemory({
      slots: slots.map((slot) => ({ gpa: slot.gpa, size: Number(slot.size) })),
    });
    this.#memory = memory;
    for (const { hva, bytes } of this.#tracker.contents()) {
      for (const gpa of this.#tracker.slots.gpas(hva)) memory.write(gpa, bytes);
    }
  }

  #guestStep(step: GuestStep): void {
    this.#tracker.beginStep(step);
    this.#cpu.beginStep(step);
    const events = step.events;
    for (let index = 0; index < events.length; ) {
      const event = events[index]!;
      this.#cpu.event(step, event, index);
      if (event.ev === "pte_write") this.#tracker.writeGpa(event.gpa, toBytes(event.new, event.bytes));
      if (event.ev !== "kvm_mmu_pagetable_walk") {
        index++;
        continue;
      }
      const end = this.#judge(step, index);
      for (; index < end; index++) this.#cpu.event(step, events[index]!, index);
    }
    this.#tracker.plainWrite(step, this.#cpu.state(step.vcpu).registers);
    this.#tracker.endStep();
    this.#cpu.endStep(step);
  }

  /** Judges the walk that begins at `index`; returns the position after its events. */
  #judge(step: GuestStep, index: number): number {
    const event = step.events[index] as Extract<RecordedEvent, { ev: "kvm_mmu_pagetable_walk" }>;
    const nested = this.#cpu.state(step.vcpu).nested;
    const registers = this.#cpu.effective(step.vcpu);
    const own = ownWalk(step, index);
    let prediction: Prediction;
    if (nested === undefined || nested.secondStage.kind === "none") {
      prediction = this.#predict(this.#guestStage(step, registers, undefined), event.addr, event.pferr, step);
    } else if (own || (registers.cr0 & CR0_PG) === 0n) {
      prediction = this.#predict(this.#secondStage(nested), event.addr, event.pferr, step);
    } else {
      prediction = this.#predictNested(nested, registers, event.addr, event.pferr, step);
    }
    // In the order in which none is needed any more: a space before its second stage.
    for (const space of this.#spaces.splice(0).reverse()) space.dispose?.();
    const recorded = recordedWalk(step.events, index, prediction.events.length);
    const expected = recorded.events.map(print);
    const found = prediction.events.map(print);
    const walks = recorded.events.filter((item) => item.ev === "kvm_mmu_pagetable_walk").length;
    this.#walks += walks;
    if (expected.join("\n") === found.join("\n")) this.#matched += walks;
    else this.#differences.push({ step: step.n, event: index, expected, found });
    for (const item of recorded.events) this.#applyBits(item, nested, registers);
    return recorded.end;
  }

  /** Repeats the bits that the kernel's walk set: the tracked memory follows the recording, not the engine. */
  #applyBits(event: WalkEvent, nested: NestedEntry | undefined, registers: ControlRegisters): void {
    if (event.ev !== "kvm_mmu_set_accessed_bit" && event.ev !== "kvm_mmu_set_dirty_bit") return;
    const format =
      nested?.secondStage.kind === "ept"
        ? EPT_ENTRY
        : legacyEntry(nested?.secondStage.kind === "npt" ? nested.secondStage.hostCr4 : registers.cr4);
    const bits = event.ev === "kvm_mmu_set_accessed_bit" ? format.accessed : format.dirty;
    this.#tracker.setBits(event.gpa, bits, format.size);
  }

  #guestStage(step: GuestStep, registers: ControlRegisters, second: AddressSpace | undefined): Stage {
    const config = this.#recording.config;
    const page1g = !this.#recording.cpuidEdits.some(
      (edit) => edit.fn === CPUID_EXTENDED && (edit.clear & PAGE_1G) !== 0,
    );
    const pae = (registers.cr4 & CR4_PAE) !== 0n && (registers.efer & EFER_LMA) === 0n;
    const pdptes = pae ? this.#pdptes(step, registers, second) : undefined;
    const space = this.#engine.createAddressSpace(this.#memory, {
      ...registers,
      maxPhysAddr: config.guestMaxPhysAddr,
      cpu: { page1g, amdReservedBit8: !config.intel },
      rules: "kvm-6.1",
      ...(pdptes === undefined ? {} : { pdpteValues: pdptes }),
      ...(second === undefined ? {} : { secondStage: second }),
    });
    this.#spaces.push(space);
    return { space, format: legacyEntry(registers.cr4), kind: "guest" };
  }

  /**
   * The PDPTEs of a PAE walk: latched, but read anew under NPT, where the emulated processor sets Accessed in them
   * and the recorded kernel was made not to mind (`pdpteAccessedAllowed`).
   */
  #pdptes(step: GuestStep, registers: ControlRegisters, second: AddressSpace | undefined): Pdptes | undefined {
    const config = this.#recording.config;
    if (second !== undefined) return undefined;
    if (!config.npt) return this.#cpu.pdptes(step.vcpu);
    const allowed = config.pdpteAccessedAllowed ? ~PDPTE_ACCESSED : ~0n;
    const read = (index: bigint): bigint =>
      this.#tracker.readU64((registers.cr3 & PDPT) + index * 8n) & BigInt.asUintN(64, allowed);
    return [read(0n), read(1n), read(2n), read(3n)];
  }

  #secondStage(nested: NestedEntry): Stage {
    const { guestMaxPhysAddr: maxPhysAddr, intel } = this.#recording.config;
    const stage = nested.secondStage;
    if (stage.kind === "ept") {
      const space = this.#engine.createEpt(this.#memory, {
        eptp: stage.eptp,
        maxPhysAddr,
        executeOnly: stage.executeOnly,
        page2m: stage.hugePageLevel >= 2,
        page1g: stage.hugePageLevel >= 3,
        rules: "kvm-6.1",
      });
      this.#spaces.push(space);
      return {
        space,
        format: stage.accessedDirty ? EPT_ENTRY : { ...EPT_ENTRY, accessed: 0n, dirty: 0n },
        kind: "ept",
      };
    }
    if (stage.kind === "none") throw new RangeError("no second stage");
    const space = this.#engine.createNpt(this.#memory, {
      ncr3: stage.ncr3,
      cr0: stage.hostCr0 | CR0_PE,
      cr4: stage.hostCr4,
      efer: stage.hostEfer,
      maxPhysAddr,
      cpu: { amdReservedBit8: !intel },
      rules: "kvm-6.1",
    });
    this.#spaces.push(space);
    return { space, format: legacyEntry(stage.hostCr4), kind: "npt" };
  }

  /** The events of a walk in one stage, and its effect on the engine's memory undone. */
  #predict(stage: Stage, address: bigint, pferr: number, step: GuestStep): Prediction {
    const access = accessOf(pferr, stage.kind === "guest" ? step : undefined);
    const walk = stage.space.walk(address, access);
    const events: WalkEvent[] = [{ ev: "kvm_mmu_pagetable_walk", addr: address, pferr }];
    for (const item of walk.steps) {
      const hidden = stage.space.mode === "pae" && item.level === 3 ? this.#pdpteAccessed(stage, item.address) : 0n;
      events.push({ ev: "kvm_mmu_paging_element", pte: item.entry | hidden, level: item.level });
    }
    if (!walk.result.ok) {
      events.push({ ev: "kvm_mmu_walker_error", pferr: walkerError(walk.result, pferr, stage) });
      return { events, page: undefined };
    }
    const before = walk.steps.map(({ address: at }) => this.#memory.read(at, stage.format.size));
    const result = stage.space.translate(address, access);
    walk.steps.forEach(({ address: at }, position) => {
      const old = fromBytes(before[position]!);
      const now = fromBytes(this.#memory.read(at, stage.format.size));
      if ((now & ~old & stage.format.accessed) !== 0n) events.push({ ev: "kvm_mmu_set_accessed_bit", gpa: at });
      if ((now & ~old & stage.format.dirty) !== 0n) events.push({ ev: "kvm_mmu_set_dirty_bit", gpa: at });
      this.#memory.write(at, before[position]!);
    });
    return { events, page: result.ok ? result.gpa & PAGE_MASK : undefined };
  }

  /** The Accessed bit of a live PDPTE, which `pdptes` hid from the engine. */
  #pdpteAccessed(stage: Stage, at: bigint): bigint {
    const { npt, pdpteAccessedAllowed } = this.#recording.config;
    return npt && pdpteAccessedAllowed && stage.kind === "guest" ? this.#tracker.readU64(at) & PDPTE_ACCESSED : 0n;
  }

  /** A walk of L2's own tables: each table access and the final address go through L1's second stage. */
  #predictNested(
    nested: NestedEntry,
    registers: ControlRegisters,
    address: bigint,
    pferr: number,
    step: GuestStep,
  ): Prediction {
    const second = this.#secondStage(nested);
    const guest = this.#guestStage(step, registers, second.space);
    const walk = guest.space.walk(address, accessOf(pferr, step) | Access.Probe);
    const events: WalkEvent[] = [{ ev: "kvm_mmu_pagetable_walk", addr: address, pferr }];
    for (const item of walk.steps) {
      if (item.stage !== "guest") continue;
      const inner = this.#predict(second, item.address & PAGE_MASK, PFERR_TABLE, step);
      events.push(...inner.events);
      if (inner.page === undefined) return { events, page: undefined };
      events.push({ ev: "kvm_mmu_paging_element", pte: item.entry, level: item.level });
    }
    if (!walk.result.ok && walk.result.stage === "guest") {
      events.push({ ev: "kvm_mmu_walker_error", pferr: walkerError(walk.result, pferr, guest) });
      return { events, page: undefined };
    }
    const gpa = walk.result.ok ? walk.result.gpa : walk.result.address;
    const final = this.#predict(second, gpa & PAGE_MASK, (pferr & ~PFERR_P) | PFERR_U, step);
    events.push(...final.events);
    return { events, page: final.page };
  }
}

const EPT_ENTRY: EntryFormat = { size: 8, accessed: bitOf(EPT, "A"), dirty: bitOf(EPT, "D") };

function legacyEntry(cr4: bigint): EntryFormat {
  return { size: (cr4 & CR4_PAE) !== 0n ? 8 : 4, accessed: bitOf(PTE, "A"), dirty: bitOf(PTE, "D") };
}

/** The access word of a PFERR word; a walk of the guest's own tables has the step's RFLAGS.AC. */
function accessOf(pferr: number, step: GuestStep | undefined): number {
  const ac = step !== undefined && step.cpl === 0 && (step.rflags & RFLAGS_AC) !== 0n ? Access.Ac : 0;
  return (pferr & (Access.Write | Access.User | Access.Fetch)) | ac;
}

/**
 * The error code that KVM's walker reports (walk_addr_generic): for EPT it makes a PFERR word too, from the access,
 * the presence of the entry and whether it is misconfigured.
 */
function walkerError(fault: Extract<Translation, { ok: false }>, pferr: number, stage: Stage): number {
  if (stage.kind !== "ept") return Number(fault.errorCode & 0xffffffffn);
  const access = pferr & (PFERR_W | PFERR_U);
  const present = (fault.entry & EPT_RWX) !== 0n ? PFERR_P : 0;
  return access | present | (fault.errorCode === 0n && present !== 0 ? PFERR_RSVD : 0);
}

/** Whether the walk at `index` is the page fault's own one: it comes before the handler's return or injection. */
function ownWalk(step: GuestStep, index: number): boolean {
  for (let later = index + 1; later < step.events.length; later++) {
    const { ev } = step.events[later]!;
    if (ev === "p64_pf_ret" || ev === "p32_pf_ret" || ev === "ept_pf_ret") return true;
    if (ev === "page_fault_ret" || ev === "kvm_entry" || ev === "kvm_emulate_insn") return false;
  }
  return false;
}

/** The recorded events of the walk at `start`: up to `count` walk events, or to where another kind interrupts them. */
function recordedWalk(
  events: readonly RecordedEvent[],
  start: number,
  count: number,
): { readonly events: WalkEvent[]; readonly end: number } {
  const walk: WalkEvent[] = [];
  let index = start;
  for (; index < events.length; index++) {
    const event = events[index]!;
    if (isWalkEvent(event)) {
      if (walk.length >= count && event.ev === "kvm_mmu_pagetable_walk") break;
      walk.push(event);
    } else if (isTraceEvent(event.ev) || event.ev !== "mark_dirty") break;
  }
  return { events: walk, end: index };
}

function print(event: WalkEvent): string {
  return `${event.ev}: ${printEvent(event)}`;
}
