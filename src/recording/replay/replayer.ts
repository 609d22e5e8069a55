/** Replaying a recording: plays each step to a target and compares events, results and state. */
import { AdHistory } from "../compare/ad-history.js";
import {
  comparedEvents,
  compareEvents,
  type EventContext,
  type EventDifference,
  type TaggedEvent,
} from "../compare/event-comparator.js";
import { PageNames } from "../compare/page-names.js";
import { type RootMode, rootModes } from "../compare/root-mode.js";
import { RuleCounts } from "../compare/rules.js";
import { compareStates, type StateDifference, usesSpecialRoots } from "../compare/state-comparator.js";
import { isProbeEvent, isTraceEvent, type MmuEvent } from "../format/events.js";
import type { GuestStep, Recording, Snapshot, Step, VmmStep } from "../format/recording.js";
import { refuseRecording } from "../format/refuse.js";
import type { MmuState, PreFaultOutcome } from "../format/state.js";
import { CpuTracker } from "../world/cpu-tracker.js";
import { RESULT_EVENTS, type ResultPair } from "../world/fault-result.js";
import { GuestMemoryTracker } from "../world/guest-memory.js";
import { RecordedHost } from "../world/recorded-host.js";
import { notify } from "./notifier.js";
import { StepPlayer } from "./step-player.js";
import type { ReplayTarget, ReplayTargetFactory } from "./target.js";
import { vmConfigOf } from "./vm-config.js";

/** An answer or a memory content that differs from the recorded one. */
export interface ResultDifference {
  readonly kind: "result";
  readonly where: string;
  readonly recorded: string;
  readonly replayed: string;
}

/** What differs: an event, a part of the state, or a result. */
export type Difference = EventDifference | StateDifference | ResultDifference;

/** A difference and where it is. */
export interface StepDifference {
  /** Number of the step in the recording. */
  readonly step: number;
  readonly op: string;
  readonly difference: Difference;
}

/** What one recording's replay came to. */
export interface ReplayReport {
  readonly recording: Recording;
  readonly steps: number;
  /** Compared events by kind. */
  readonly events: ReadonlyMap<string, number>;
  /** Events that were not compared because the target does not emit their kind, by kind. */
  readonly notCompared: ReadonlyMap<string, number>;
  /** Compared results (what a fault returned, what a log held) by kind. */
  readonly results: ReadonlyMap<string, number>;
  readonly rules: RuleCounts;
  /** All of them, in order; `limit` stops the replay early. */
  readonly differences: readonly StepDifference[];
  /** The target threw: the replay ended in that step; in step 0 if no target could be made. */
  readonly failure: { readonly step: number; readonly error: unknown } | undefined;
}

/** What a replay compares, and on what. */
export interface ReplayOptions {
  /** Give up after this many differences. Default: no limit. */
  readonly limit?: number;
  /** Compare events too. Without them the target runs as it does when nobody traces it. Default true. */
  readonly events?: boolean;
  /** Called after each step, with what the target is then. What it throws ends the replay. */
  readonly onStep?: (played: PlayedStep) => void;
}

/** One step, as it was recorded and as it was replayed. */
export interface PlayedStep {
  /** With the recorded state after it, `snapshot`. */
  readonly step: Step;
  /** The target's state after it. */
  readonly state: MmuState;
  /** What the target emitted; empty where events are not compared. */
  readonly events: readonly MmuEvent[];
  readonly differences: readonly StepDifference[];
  /** Guest memory after the step, by guest-physical address; zeros where no slot lies. Only during the call. */
  readGuest(gpa: bigint, length: number): Uint8Array;
}

/** Probes that recordings of AMD hosts do not have. */
const INTEL_PROBES: ReadonlySet<string> = new Set([
  "mark_dirty",
  "slot_leaf_clear_dirty",
  "age_gfn",
  "age_gfn_ret",
  "test_age_gfn",
  "test_age_gfn_ret",
]);

const ORDINARY: RootMode = { special: false, loading: false };

/**
 * Replays a recording on a new target and compares events, results and state after each step.
 * Throws RecordingError where the target refuses what the recording asks of it (a PagingError): the recording is at fault.
 */
export function replay(recording: Recording, factory: ReplayTargetFactory, options: ReplayOptions = {}): ReplayReport {
  let replayer: Replayer;
  try {
    replayer = new Replayer(recording, factory, options);
  } catch (error) {
    refuseRecording(recording, "config and slots", error);
    const none = new Map<string, number>();
    const failure = { step: 0, error };
    const counts = { events: none, notCompared: none, results: none, rules: new RuleCounts() };
    return { recording, steps: 0, ...counts, differences: [], failure };
  }
  return replayer.run();
}

class Replayer {
  readonly #tracker: GuestMemoryTracker;
  readonly #cpu: CpuTracker;
  readonly #host: RecordedHost;
  readonly #target: ReplayTarget;
  readonly #emits: ReadonlySet<string>;
  readonly #rules = new RuleCounts();
  readonly #differences: StepDifference[] = [];
  /** How many there were before the step. */
  #known = 0;
  readonly #eventCounts = new Map<string, number>();
  readonly #notCompared = new Map<string, number>();
  readonly #resultCounts = new Map<string, number>();
  /** Last state of each vCPU's contexts, and of the VM as a whole on both sides. */
  readonly #snapshots = new Map<number, Snapshot>();
  #lastSnapshot: Snapshot | undefined;
  #lastState: MmuState | undefined;
  #player: StepPlayer | undefined;
  #emitted: TaggedEvent[] = [];
  #modes: readonly RootMode[] = [];
  #mode = ORDINARY;
  #specialSeen = false;
  #smiPending = false;
  /** The tracker's own writes reach the target; what KVM writes, the target has written itself. */
  #forwarding = true;
  readonly #recording: Recording;
  readonly #options: ReplayOptions;

  constructor(recording: Recording, factory: ReplayTargetFactory, options: ReplayOptions) {
    this.#recording = recording;
    this.#options = options;
    this.#tracker = new GuestMemoryTracker(recording, (hva, bytes) => {
      if (this.#forwarding) this.#target.writeHost(hva, bytes);
    });
    this.#cpu = new CpuTracker((gpa, length) => this.#tracker.readGpa(gpa, length));
    this.#host = new RecordedHost(recording, this.#tracker.slots, {
      notifierInFault: () => this.#player?.notifierInFault(),
      injectPageFault: () => this.#player?.injectPageFault(),
    });
    this.#target = factory(
      vmConfigOf(recording),
      this.#host,
      options.events === false ? undefined : (event) => this.#emit(event),
    );
    const missing = recording.config.intel ? new Set<string>() : INTEL_PROBES;
    this.#emits = new Set([...this.#target.emits].filter((kind) => !missing.has(kind)));
    for (const { hva, bytes } of this.#tracker.contents()) this.#target.writeHost(hva, bytes);
    for (const slot of recording.slots) this.#target.setSlot(slot);
  }

  #emit(event: MmuEvent): void {
    // Events that the recording could not have are no difference.
    if (isProbeEvent(event.ev) && !this.#emits.has(event.ev)) return;
    this.#emitted.push({ event: event as unknown as TaggedEvent["event"], ...this.#mode });
  }

  run(): ReplayReport {
    let steps = 0;
    let failure: ReplayReport["failure"];
    for (const step of this.#recording.steps) {
      try {
        if (step.kind === "vmm") this.#vmmStep(step);
        else this.#guestStep(step);
      } catch (error) {
        refuseRecording(this.#recording, `step ${step.n} (${step.op})`, error);
        failure = { step: step.n, error };
        break;
      }
      steps++;
      if (this.#differences.length >= (this.#options.limit ?? Number.POSITIVE_INFINITY)) break;
    }
    return {
      recording: this.#recording,
      steps,
      events: this.#eventCounts,
      notCompared: this.#notCompared,
      results: this.#resultCounts,
      rules: this.#rules,
      differences: this.#differences,
      failure,
    };
  }

  #begin(step: Step): void {
    this.#emitted = [];
    this.#known = this.#differences.length;
    this.#modes = rootModes(step.events, this.#snapshots.get(step.snapshot.vcpu), step.snapshot);
    this.#mode = this.#modes[0] ?? ORDINARY;
    this.#host.beginStep(step);
  }

  #position(index: number): void {
    this.#host.at(index);
    this.#mode = this.#modes[index] ?? this.#mode;
  }

  #guestStep(step: GuestStep): void {
    if (!this.#cpu.has(step.vcpu)) this.#target.createVcpu(step.vcpu, step.pre);
    this.#begin(step);
    this.#tracker.beginStep(step);
    this.#cpu.beginStep(step);
    this.#target.setRflags(step.vcpu, step.cpl === 0 ? step.rflags : 2n);
    this.#player = new StepPlayer(
      this.#recording,
      step,
      this.#target,
      this.#host,
      this.#tracker,
      this.#cpu,
      {
        position: (index) => this.#position(index),
        entering: (now) => {
          this.#mode = { ...this.#mode, loading: now };
        },
        result: (pair) => this.#result(step, pair),
        memory: (gpa, bytes) => this.#quietly(() => this.#tracker.writeGpa(gpa, bytes)),
      },
      this.#smiPending,
    );
    this.#player.play();
    this.#player = undefined;
    if (step.events.some((event) => event.ev === "kvm_entry")) this.#smiPending = false;
    this.#tracker.plainWrite(step, this.#cpu.state(step.vcpu).registers);
    this.#guestMemory(step);
    this.#tracker.endStep();
    this.#registers(step);
    this.#cpu.endStep(step);
    this.#end(step);
  }

  #quietly(action: () => void): void {
    this.#forwarding = false;
    try {
      action();
    } finally {
      this.#forwarding = true;
    }
  }

  /** Registers that the guest changed without an exit. */
  #registers(step: GuestStep): void {
    const { registers } = this.#cpu.state(step.vcpu);
    const changed: { cr0?: bigint; cr3?: bigint; cr4?: bigint; efer?: bigint } = {};
    for (const name of ["cr0", "cr3", "cr4", "efer"] as const) {
      if (registers[name] !== step.post[name]) changed[name] = step.post[name];
    }
    if (Object.keys(changed).length > 0) this.#target.setGuestRegisters(step.vcpu, changed);
  }

  /** Guest memory that the target's own walks and emulated writes changed. */
  #guestMemory(step: GuestStep): void {
    const own = new Set<bigint>();
    for (const event of step.events) {
      if (event.ev === "kvm_mmu_set_accessed_bit" || event.ev === "kvm_mmu_set_dirty_bit") own.add(event.gpa & ~7n);
      if (event.ev === "pte_write") own.add(event.gpa & ~7n);
    }
    for (const { gpa, after } of step.memoryChanges) {
      const hva = this.#tracker.slots.hva(gpa);
      if (hva === undefined || !own.has(gpa)) continue;
      const bytes = this.#target.readHost(hva, 8);
      const found = bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
      this.#result(step, {
        kind: "guest memory",
        where: `memory at gpa 0x${gpa.toString(16)}`,
        recorded: `0x${after.toString(16)}`,
        replayed: `0x${found.toString(16)}`,
      });
    }
  }

  #vmmStep(step: VmmStep): void {
    this.#begin(step);
    this.#tracker.vmmStep(step);
    this.#cpu.vmmStep(step);
    const answers = [...step.answers];
    for (const input of step.inputs) {
      switch (input.kind) {
        case "slot":
          this.#tracker.slots.set(input.slot);
          this.#target.setSlot(input.slot);
          break;
        case "getDirtyLog": {
          const gfns = this.#target.getDirtyLog(0, input.slot);
          const answer = answers.find((item) => item.kind === "dirtyLog" && item.slot === input.slot);
          const base = (this.#tracker.slots.get(0, input.slot)?.gpa ?? 0n) >> 12n;
          if (answer?.kind === "dirtyLog")
            this.#dirtyLog(
              step,
              answer.gfns,
              gfns.map((gfn) => gfn + base),
            );
          break;
        }
        case "clearDirtyLog":
          this.#target.clearDirtyLog(0, input.slot, input.first, input.count, "ones");
          break;
        case "setMmuPages":
          this.#target.setMmuPages(input.count);
          break;
        case "zapSlotsAlone":
          this.#target.zapSlotsAlone();
          break;
        case "preFault":
          this.#preFault(step, input.gpa, input.size);
          break;
        case "setSregs":
          this.#target.setSregs(step.snapshot.vcpu, input.registers);
          break;
        case "smi":
          this.#smiPending = true;
          break;
      }
    }
    step.events.forEach((event, index) => {
      this.#position(index);
      const young = notify(event, this.#target, this.#host, this.#tracker);
      if (young !== undefined) this.#age(step, index, young);
    });
    this.#end(step);
  }

  /** The answer of an ageing notifier: the recorded one is that of all slots that the range meets. */
  #age(step: Step, index: number, young: boolean): void {
    let recorded: boolean | undefined;
    for (const event of step.events.slice(index + 1)) {
      if (event.ev === "kvm_age_hva" || event.ev === "kvm_test_age_hva") break;
      if (event.ev === "age_gfn_ret" || event.ev === "test_age_gfn_ret")
        recorded = (recorded ?? false) || event.ret !== 0;
    }
    if (recorded === undefined) return;
    const text = (answer: boolean): string => (answer ? "young" : "not young");
    this.#result(step, { kind: "ageing", recorded: text(recorded), replayed: text(young) });
  }

  #preFault(step: VmmStep, gpa: bigint, size: bigint): void {
    const answer = step.answers.find((item) => item.kind === "preFault");
    const left = this.#target.preFault(step.snapshot.vcpu, gpa, size);
    const text = ({ gpa: at, size: bytes, errno }: PreFaultOutcome): string =>
      `0x${bytes.toString(16)} bytes left from 0x${at.toString(16)}, error ${errno}`;
    if (answer?.kind !== "preFault") return;
    this.#result(step, { kind: "pre-fault", recorded: text(answer), replayed: text(left) });
  }

  #dirtyLog(step: Step, recorded: readonly bigint[], replayed: readonly bigint[]): void {
    const text = (gfns: readonly bigint[]): string => gfns.map((gfn) => gfn.toString(16)).join(" ");
    this.#result(step, { kind: "dirty log", recorded: text(recorded), replayed: text(replayed) });
  }

  #result(step: Step, { kind, where = kind, recorded, replayed }: ResultPair): void {
    this.#resultCounts.set(kind, (this.#resultCounts.get(kind) ?? 0) + 1);
    if (recorded !== replayed) this.#add(step, { kind: "result", where, recorded, replayed });
  }

  #add(step: Step, difference: Difference): void {
    this.#differences.push({ step: step.n, op: step.op, difference });
  }

  /** Compares the step's events and the state after it. */
  #end(step: Step): void {
    const { vcpu } = step.snapshot;
    const known = this.#known;
    const state = this.#target.state(vcpu);
    const { masks, pageOffset, emptySpte } = this.#recording.config;
    const hardwareBits = masks.accessed | masks.dirty;
    this.#specialSeen ||= this.#modes.some(({ special }) => special);
    const nestedMmus = [this.#lastSnapshot?.guestMmu, step.snapshot.guestMmu];
    const context = {
      nestedSpecial: nestedMmus.some((mmu) => mmu !== undefined && usesSpecialRoots(mmu)),
      specialSeen: this.#specialSeen,
      emits: this.#emits,
      pageOffset,
      hardwareBits,
      recordedNames: new PageNames(this.#lastSnapshot?.pages ?? [], step.snapshot.pages),
      replayedNames: new PageNames(this.#lastState?.pages ?? [], state.pages),
      rules: this.#rules,
    };
    if (this.#options.events !== false) this.#compareStepEvents(step, context);
    const hardware: (readonly [bigint, number, bigint])[] = [];
    const found = compareStates(step.snapshot, state, {
      emptySpte,
      hardwareBits,
      history: new AdHistory({
        events: step.events,
        before: this.#lastSnapshot?.pages ?? [],
        pageOffset,
        accessed: masks.accessed,
      }),
      rules: this.#rules,
      specialSeen: this.#specialSeen,
      onHardwareBits: (hpa, index, bits) => hardware.push([hpa, index, bits]),
    });
    for (const difference of found) this.#add(step, difference);
    for (const [hpa, index, bits] of hardware) this.#target.setHardwareBits(hpa, index, bits);
    this.#options.onStep?.({
      step,
      state,
      events: this.#emitted.map(({ event }) => event as unknown as MmuEvent),
      differences: this.#differences.slice(known),
      readGuest: (gpa, length) => this.#tracker.readGpa(gpa, length),
    });
    this.#snapshots.set(vcpu, step.snapshot);
    this.#lastSnapshot = step.snapshot;
    this.#lastState = state;
    this.#host.endStep(step);
  }

  #compareStepEvents(step: Step, context: EventContext): void {
    const tagged = step.events.map((event, index) => ({
      event: event as unknown as TaggedEvent["event"],
      ...(this.#modes[index] ?? ORDINARY),
    }));
    for (const { event } of tagged) {
      if (isProbeEvent(event.ev) && !this.#emits.has(event.ev) && !RESULT_EVENTS.has(event.ev))
        this.#notCompared.set(event.ev, (this.#notCompared.get(event.ev) ?? 0) + 1);
    }
    const recorded = comparedEvents(tagged, context);
    for (const event of recorded) {
      if (isTraceEvent(event.ev) || isProbeEvent(event.ev))
        this.#eventCounts.set(event.ev, (this.#eventCounts.get(event.ev) ?? 0) + 1);
    }
    const replayed = comparedEvents(this.#emitted, context);
    for (const difference of compareEvents(recorded, replayed, context)) this.#add(step, difference);
  }
}
