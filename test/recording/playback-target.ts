/** A replay target that answers as was recorded, and notes each call. */
import {
  isProbeEvent,
  isTraceEvent,
  type MmuEvent,
  PROBE_EVENTS,
  type RecordedEvent,
  TRACE_EVENTS,
} from "../../src/recording/format/events.js";
import type { Recording, Snapshot } from "../../src/recording/format/recording.js";
import type { FaultOutcome, MmuState } from "../../src/recording/format/state.js";
import type { ReplayTarget, ReplayTargetFactory } from "../../src/recording/replay/target.js";
import { HostMemory } from "../../src/recording/world/host-memory.js";

/** The exit reason whose qualification means nothing. */
const EPT_MISCONFIGURATION = 0x31;

/** A call that the replayer made. */
export type Call = readonly [name: string, ...args: unknown[]];

export interface Playback {
  readonly factory: ReplayTargetFactory;
  readonly calls: Call[];
}

export interface PlaybackOptions {
  readonly changeEvents?: (events: MmuEvent[], step: number) => MmuEvent[];
  readonly changeState?: (state: MmuState, step: number) => MmuState;
  /** Called in a page fault, as an MMU that looks its page up does. */
  readonly pinInFault?: (address: bigint) => bigint | undefined;
  readonly emits?: ReadonlySet<string>;
  readonly changeOutcome?: (outcome: FaultOutcome, step: number) => FaultOutcome;
}

/**
 * A target that plays the recording back: whatever it is asked, it emits the recorded events (in page faults,
 * at guest entries and at the end of a step) and is in the recorded state. It says nothing about an MMU, but everything about who drives and compares.
 */
export function playback(recording: Recording, options: PlaybackOptions = {}): Playback {
  const calls: Call[] = [];
  const { pageOffset } = recording.config;
  const factory: ReplayTargetFactory = (_config, host, sink) => {
    const memory = new HostMemory();
    let step = 0;
    let outcomes: FaultOutcome[] = [];
    let writes: bigint[] = [];
    /** Events of the step that have been emitted. */
    let emitted = 0;
    const mmuEvents = (events: readonly RecordedEvent[]): MmuEvent[] =>
      events
        .filter((event) => isTraceEvent(event.ev) || isProbeEvent(event.ev))
        .map((event) => ({ ...event, ...physical(event, pageOffset) }) as unknown as MmuEvent);
    /** Emits the step's events up to the next one that `until` is true of, included, or to the end. */
    const emit = (until: (event: RecordedEvent) => boolean): void => {
      const { events } = recording.steps[step]!;
      const end = events.findIndex((event, index) => index >= emitted && until(event));
      const next = end === -1 ? events.length : end + 1;
      for (const event of mmuEvents(events.slice(emitted, next))) sink?.(event);
      emitted = next;
    };
    const log =
      <T>(name: string, result: T) =>
      (...args: unknown[]): T => {
        calls.push([name, ...args]);
        return result;
      };
    const answer = () => recording.steps[step]!.answers.find((item) => item.kind === "dirtyLog");
    const young = () =>
      recording.steps[step]!.events.some(
        (event) => (event.ev === "age_gfn_ret" || event.ev === "test_age_gfn_ret") && event.ret !== 0,
      );
    const target: ReplayTarget = {
      emits: options.emits ?? new Set([...Object.keys(TRACE_EVENTS), ...Object.keys(PROBE_EVENTS)]),
      writeHost: (hva, bytes) => memory.write(hva, bytes),
      readHost: (hva, length) => memory.read(hva, length),
      setSlot: log("setSlot", undefined),
      createVcpu: log("createVcpu", undefined),
      enterGuest: (...args) => {
        calls.push(["enterGuest", ...args]);
        if (options.changeEvents === undefined) emit((event) => event.ev === "kvm_entry");
      },
      // A guest step begins: what its walks and emulated writes will do to memory is done now.
      setRflags: () => {
        const current = recording.steps[step]!;
        outcomes = outcomesOf(current.events, recording.config.intel);
        writes = current.events.flatMap((event) => (event.ev === "pte_write" ? [event.gpa] : []));
        for (const { gpa, after } of current.kind === "guest" ? current.memoryChanges : [])
          memory.write(recording.slots[0]!.hva + gpa, bytesOf(after));
      },
      setGuestRegisters: log("setGuestRegisters", undefined),
      pageFault: (vcpu, fault) => {
        calls.push(["pageFault", vcpu, fault]);
        const outcome = outcomes.shift() ?? { result: "retry" };
        const hva = options.pinInFault?.(fault.address);
        if (hva !== undefined) calls.push(["pinned", host.pin(hva, (fault.errorCode & 2n) !== 0n)]);
        if (options.changeEvents === undefined) emit((event) => event.ev === "page_fault_ret");
        return options.changeOutcome?.(outcome, recording.steps[step]!.n) ?? outcome;
      },
      guestWalk: (...args) => {
        calls.push(["guestWalk", ...args]);
        return { ok: true, gpa: writes[0] ?? 0n };
      },
      injectEmulatedFault: log("injectEmulatedFault", undefined),
      emulatedWrite: (...args) => {
        calls.push(["emulatedWrite", ...args]);
        writes.shift();
      },
      markDirty: log("markDirty", undefined),
      writeCr0: log("writeCr0", undefined),
      writeCr3: log("writeCr3", undefined),
      writeCr4: log("writeCr4", undefined),
      writeEfer: log("writeEfer", undefined),
      invlpg: log("invlpg", undefined),
      invpcid: log("invpcid", undefined),
      invept: log("invept", undefined),
      releaseGuestMmu: log("releaseGuestMmu", undefined),
      enterNested: log("enterNested", undefined),
      exitNested: log("exitNested", undefined),
      enterSmm: log("enterSmm", undefined),
      leaveSmm: log("leaveSmm", undefined),
      setSregs: log("setSregs", undefined),
      getDirtyLog: () => {
        const found = answer();
        if (found?.kind !== "dirtyLog") return [];
        const slot = recording.slots.find(({ id }) => id === found.slot);
        return found.gfns.map((gfn) => gfn - ((slot?.gpa ?? 0n) >> 12n));
      },
      clearDirtyLog: log("clearDirtyLog", undefined),
      setMmuPages: log("setMmuPages", undefined),
      zapSlotsAlone: log("zapSlotsAlone", undefined),
      preFault: (_, gpa, size) => ({ gpa: gpa + size, size: 0n, errno: 0 }),
      unmapRange: log("unmapRange", undefined),
      changePte: log("changePte", undefined),
      age: () => young(),
      testAge: () => young(),
      setHardwareBits: log("setHardwareBits", undefined),
      state: () => {
        const recorded = recording.steps[step]!;
        if (options.changeEvents === undefined) emit(() => false);
        else for (const event of options.changeEvents(mmuEvents(recorded.events), recorded.n)) sink?.(event);
        emitted = 0;
        step++;
        const state = stateOf(recorded.snapshot);
        return options.changeState?.(state, recorded.n) ?? state;
      },
    };
    return target;
  };
  return { factory, calls };
}

const EXIT_EPT_MISCONFIG = 0x31;
const RESULTS: Readonly<Record<number, "retry" | "emulate" | "fixed" | "spurious">> = {
  1: "retry",
  2: "emulate",
  4: "fixed",
  5: "spurious",
};

/** What the page faults of a step ended with. */
function outcomesOf(events: readonly RecordedEvent[], intel: boolean): FaultOutcome[] {
  return events.flatMap((event, index): FaultOutcome[] => {
    const misconfiguration = intel && event.ev === "kvm_exit" && event.exit_reason === EXIT_EPT_MISCONFIG;
    if (event.ev !== "kvm_page_fault" && !misconfiguration) return [];
    const entry = events.findIndex((later, at) => at > index && later.ev === "kvm_entry");
    const rest = events.slice(index + 1, entry === -1 ? undefined : entry);
    const handler = rest.find((later) => /^(p64|p32|ept|direct|nonpaging)_pf_ret$/.test(later.ev));
    if (handler === undefined || !("ret" in handler)) return [{ result: "mmio" }];
    const injected = rest.find(
      (later) =>
        later.ev === "kvm_nested_vmexit_inject" || (later.ev === "kvm_inj_exception" && later.reinjected === 0),
    );
    if (handler.ret === 1 && injected !== undefined) {
      const errorCode = injected.ev === "kvm_inj_exception" ? injected.error_code : 0;
      const exit = injected.ev === "kvm_nested_vmexit_inject" ? injected : undefined;
      const told = exit !== undefined && exit.exit_code !== EPT_MISCONFIGURATION;
      return [{ result: "inject", errorCode, address: 0n, ...(told ? { exitInfo: exit.exit_info1 } : {}) }];
    }
    return [{ result: RESULTS[handler.ret]! }];
  });
}

/** A target knows host-physical addresses of SPTEs only. */
function physical(event: object, pageOffset: bigint): object {
  if (!("sptep" in event) || typeof event.sptep !== "bigint") return {};
  return event.sptep >= pageOffset ? { sptep: event.sptep - pageOffset } : {};
}

function bytesOf(value: bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(value).buffer);
}

/** The recorded state as a target has it. */
export function stateOf(snapshot: Snapshot): MmuState {
  const { guestMmu, nestedMmu } = snapshot;
  return {
    active: snapshot.active,
    walking: snapshot.walking,
    usedPages: snapshot.usedPages,
    validGen: snapshot.validGen,
    mmio: snapshot.mmio,
    emptySpte: 0n,
    indirectPages: snapshot.indirectPages ?? 0,
    tdpPages: snapshot.tdpPages ?? 0,
    rootMmu: snapshot.rootMmu,
    ...(guestMmu === undefined ? {} : { guestMmu }),
    ...(nestedMmu === undefined ? {} : { nestedMmu }),
    pages: snapshot.pages.map((page) => ({
      ...page,
      fullRole: page.role,
      shadowed: page.shadowed ?? new Map<number, bigint>(),
    })),
  };
}
