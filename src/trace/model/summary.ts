/** Numbers of what went on: by kind and outcome, by vCPU and by time. */
import { KINDS, Kind, Slot } from "../events/kinds.js";
import type { EventRecord } from "../events/record.js";
import {
  ACCESSES,
  type Access,
  type FaultFormat,
  faultAccess,
  faultFormat,
  faultPresent,
  faultReserved,
} from "./fault-access.js";
import type { ModelListener } from "./model.js";
import type { Page } from "./pages.js";
import { OUTCOMES, type Outcome, type SwitchKind, type Thread } from "./thread.js";

/** vCPUs and rows that are told apart. */
const MOST_ROWS = 4096;
/** Columns of the course of time; they get wider as the trace goes on. */
const COLUMNS = 32;
/** Width of the first ones, in seconds. */
const NARROWEST = 0.001;

/** Faults of one kind: `npt write, present`. */
export interface FaultRow {
  readonly format: FaultFormat;
  readonly access: Access;
  readonly present: boolean;
  readonly reserved: boolean;
  readonly outcomes: Readonly<Record<Outcome, number>>;
}

/** What a vCPU did. */
export interface VcpuRow {
  readonly vcpu: number;
  readonly events: number;
  readonly entries: number;
  readonly faults: number;
  readonly walks: number;
}

/** What happened in a part of the time. */
export interface TimeRow {
  /** Seconds, of the trace's clock. */
  readonly from: number;
  readonly to: number;
  readonly events: number;
  readonly faults: number;
  readonly zaps: number;
}

interface MutableFaultRow extends FaultRow {
  readonly outcomes: Record<Outcome, number>;
}

interface MutableVcpuRow {
  readonly vcpu: number;
  events: number;
  entries: number;
  faults: number;
  walks: number;
}

export class Summary implements ModelListener {
  /** By kind. */
  readonly #kinds = new Float64Array(KINDS.length);
  readonly #faults = new Map<number, MutableFaultRow>();
  readonly #vcpus = new Map<number, MutableVcpuRow>();
  readonly #switches = new Map<SwitchKind, number>();
  readonly faultsOf: Record<FaultFormat, number> = { shadow: 0, npt: 0, ept: 0 };
  walkErrors = 0;
  fastFixed = 0;
  fastSpurious = 0;
  mmioStale = 0;
  zaps = 0;
  pagesMade = 0;
  pagesFound = 0;
  syncs = 0;
  from = Number.POSITIVE_INFINITY;
  to = Number.NEGATIVE_INFINITY;
  /** An empty entry of bit 63 alone was seen. */
  emptyBit63 = false;
  #width = NARROWEST;
  #start = Number.NaN;
  readonly #events = new Float64Array(COLUMNS);
  readonly #timeFaults = new Float64Array(COLUMNS);
  readonly #timeZaps = new Float64Array(COLUMNS);
  readonly #inWindow: (record: EventRecord) => boolean;

  constructor(inWindow: (record: EventRecord) => boolean) {
    this.#inWindow = inWindow;
  }

  onEvent(thread: Thread, record: EventRecord): void {
    if (!this.#inWindow(record)) return;
    const { kind, time } = record;
    this.#kinds[kind]!++;
    if (time < this.from) this.from = time;
    if (time > this.to) this.to = time;
    const column = this.#column(time);
    this.#events[column]!++;
    const row = this.#vcpu(thread.vcpu);
    row.events++;
    switch (kind) {
      case Kind.kvm_entry:
        row.entries++;
        break;
      case Kind.kvm_mmu_pagetable_walk:
        row.walks++;
        break;
      case Kind.kvm_mmu_walker_error:
        this.walkErrors++;
        break;
      case Kind.kvm_mmu_prepare_zap_page:
        this.#timeZaps[column]!++;
        this.zaps++;
        break;
      case Kind.kvm_mmu_get_page:
        if (record.low[Slot.created] === 1) this.pagesMade++;
        else this.pagesFound++;
        break;
      case Kind.fast_page_fault:
        if (record.low[Slot.fixed] === 1) this.fastFixed++;
        if (record.low[Slot.spurious] === 1) this.fastSpurious++;
        break;
      case Kind.check_mmio_spte:
        if (record.number(Slot.kvm_gen) !== record.number(Slot.spte_gen)) this.mmioStale++;
        break;
      case Kind.kvm_tdp_mmu_spte_changed:
        if (record.high[Slot.old_spte] === BIT_63 && record.low[Slot.old_spte] === 0) this.emptyBit63 = true;
        break;
    }
  }

  onSync(_thread: Thread, _page: Page, record: EventRecord): void {
    if (this.#inWindow(record)) this.syncs++;
  }

  onSwitch(_thread: Thread, kind: SwitchKind, record: EventRecord): void {
    if (this.#inWindow(record)) this.#switches.set(kind, (this.#switches.get(kind) ?? 0) + 1);
  }

  onFault(thread: Thread, outcome: Outcome, record: EventRecord): void {
    if (!this.#inWindow(record)) return;
    const format = faultFormat(thread);
    this.faultsOf[format]++;
    const access = faultAccess(format, thread);
    const present = faultPresent(format, thread);
    const reserved = faultReserved(format, thread);
    const key =
      ((FORMATS.indexOf(format) * ACCESSES.length + ACCESSES.indexOf(access)) * 2 + Number(present)) * 2 +
      Number(reserved);
    let row = this.#faults.get(key);
    if (row === undefined) {
      const outcomes = Object.fromEntries(OUTCOMES.map((one) => [one, 0])) as Record<Outcome, number>;
      row = { format, access, present, reserved, outcomes };
      this.#faults.set(key, row);
    }
    row.outcomes[outcome]++;
    this.#vcpu(thread.vcpu).faults++;
    this.#timeFaults[this.#column(thread.fault.time)]!++;
  }

  count(kind: keyof typeof Kind): number {
    return this.#kinds[Kind[kind]]!;
  }

  /** Events of each kind that was seen. */
  kinds(): Record<string, number> {
    return Object.fromEntries(
      KINDS.map((name, kind) => [name, this.#kinds[kind]!] as const).filter(([, events]) => events > 0),
    );
  }

  faults(): FaultRow[] {
    return [...this.#faults.entries()].sort(([a], [b]) => a - b).map(([, row]) => row);
  }

  vcpus(): VcpuRow[] {
    return [...this.#vcpus.values()].sort((a, b) => a.vcpu - b.vcpu);
  }

  switches(): Record<string, number> {
    return Object.fromEntries([...this.#switches].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  times(): TimeRow[] {
    const rows: TimeRow[] = [];
    for (let column = 0; column < COLUMNS; column++) {
      const from = this.#start + column * this.#width;
      if (!(from <= this.to)) break;
      const [events, faults, zaps] = [this.#events[column]!, this.#timeFaults[column]!, this.#timeZaps[column]!];
      rows.push({ from, to: from + this.#width, events, faults, zaps });
    }
    return rows;
  }

  #vcpu(vcpu: number): MutableVcpuRow {
    const known = this.#vcpus.get(vcpu);
    if (known !== undefined) return known;
    const key = this.#vcpus.size < MOST_ROWS ? vcpu : -1;
    const row = this.#vcpus.get(key) ?? { vcpu: key, events: 0, entries: 0, faults: 0, walks: 0 };
    this.#vcpus.set(key, row);
    return row;
  }

  /** The column of a time; columns are joined by twos where it is beyond the last. */
  #column(time: number): number {
    if (Number.isNaN(this.#start)) this.#start = time;
    let column = Math.floor((time - this.#start) / this.#width);
    if (column < 0) return 0;
    while (column >= COLUMNS) {
      for (const row of [this.#events, this.#timeFaults, this.#timeZaps]) {
        for (let i = 0; i < COLUMNS / 2; i++) row[i] = row[2 * i]! + row[2 * i + 1]!;
        row.fill(0, COLUMNS / 2);
      }
      this.#width *= 2;
      column = Math.floor((time - this.#start) / this.#width);
    }
    return column;
  }
}

const FORMATS: readonly FaultFormat[] = ["shadow", "npt", "ept"];
/** Bit 63 of an entry, in its high half. */
const BIT_63 = 2 ** 31;
