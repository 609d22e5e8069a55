/** Following what guest memory holds through a recording. */
import { bitOf } from "../../abi/bits.js";
import { PTE32 } from "../../abi/entries.js";
import { PAGE_SIZE } from "../format/memory-image.js";
import { type HostRange, mergeRanges } from "../format/ranges.js";
import type { GuestStep, MemoryChange, Recording, Step, VmmStep } from "../format/recording.js";
import type { ControlRegisters, SlotInput } from "../format/state.js";
import { fromBytes, HostMemory, toBytes } from "./host-memory.js";
import { locate } from "./locate.js";
import { SlotTable } from "./slot-table.js";
import { laterSlots, recoverTables } from "./table-recovery.js";

/** The first bytes of a data page before the guest writes to it: mov-immediate code that a jump there would run. */
const FIRST_BYTES = Uint8Array.of(0xcd, 0x40, 0xeb, 0xfe);
const NESTED_FIRST_BYTES = Uint8Array.of(0x0f, 0x01, 0xd9, 0xeb, 0xfe);

/** Accessed and dirty in both halves of a qword: a 32-bit guest has two entries in it. */
const FLAGS = bitOf(PTE32, "A") | bitOf(PTE32, "D");
const ACCESSED_DIRTY = FLAGS | (FLAGS << 32n);

/** Every host range that a slot of the recording ever names. */
export function hostRanges(recording: Recording): HostRange[] {
  const slots: SlotInput[] = [...recording.slots];
  for (const step of recording.steps) {
    for (const input of step.inputs) if (input.kind === "slot") slots.push(input.slot);
  }
  return mergeRanges(slots);
}

/** What the guest's program writes at `gva` in a step that succeeds; undefined where it writes nothing. */
export function plainWriteOf(step: GuestStep): Uint8Array | undefined {
  if (step.result !== "ok" || step.mmio.length > 0) return undefined;
  switch (step.op) {
    case "write":
      return toBytes(step.value, 1);
    case "poke":
      return toBytes(step.value, step.size ?? 8);
    default:
      return undefined;
  }
}

/** Told of every change that the tracker makes, so that a copy (a target's memory) can follow. */
export type MemoryListener = (hva: bigint, bytes: Uint8Array) => void;

/**
 * What guest memory holds at each point of a recording. The guest, the processor and the VMM write it; the
 * recording says when where it has an event, and what by the difference after each guest step.
 */
export class GuestMemoryTracker {
  readonly slots = new SlotTable();
  readonly #memory = new HostMemory();
  /** Changes of the current step that are still to be applied, by gpa of the qword. */
  #pending: MemoryChange[] = [];
  readonly #firstBytes: Uint8Array;
  readonly #recording: Recording;
  readonly #listener: MemoryListener;

  constructor(recording: Recording, listener: MemoryListener = () => {}) {
    this.#recording = recording;
    this.#listener = listener;
    for (const slot of recording.slots) this.slots.set(slot);
    this.#firstBytes = recording.steps.some((step) => step.kind === "guest" && step.nested !== undefined)
      ? NESTED_FIRST_BYTES
      : FIRST_BYTES;
    this.#fill();
  }

  #fill(): void {
    for (const { id, hva, size } of this.#recording.slots) {
      if (id === 0) continue;
      this.#memory.begin(hva, size, FIRST_BYTES);
    }
    for (const [gpa, page] of this.#recording.memoryBefore.pages) {
      const hva = this.slots.hva(gpa);
      if (hva !== undefined) this.#memory.write(hva, page);
    }
    const later = laterSlots(this.#recording);
    for (const [gpa, entry] of recoverTables(this.#recording)) {
      const slot = later.find((one) => gpa >= one.gpa && gpa < one.gpa + one.size);
      const hva = this.slots.hva(gpa) ?? (slot && slot.hva + (gpa - slot.gpa));
      if (hva !== undefined) this.#memory.write(hva, toBytes(entry.value, entry.size));
    }
  }

  /** What memory holds but for zeros, for a first copy. */
  contents(): IterableIterator<{ readonly hva: bigint; readonly bytes: Uint8Array }> {
    return this.#memory.contents();
  }

  write(hva: bigint, bytes: Uint8Array): void {
    this.#memory.write(hva, bytes);
    this.#listener(hva, bytes);
  }

  writeGpa(gpa: bigint, bytes: Uint8Array): void {
    const hva = this.slots.hva(gpa);
    if (hva !== undefined) this.write(hva, bytes);
  }

  readU64(gpa: bigint): bigint {
    const hva = this.slots.hva(gpa);
    return hva === undefined ? 0n : fromBytes(this.#memory.read(hva, 8));
  }

  /** Zeros where no slot holds `gpa`. */
  readGpa(gpa: bigint, length: number): Uint8Array {
    const hva = this.slots.hva(gpa);
    return hva === undefined ? new Uint8Array(length) : this.#memory.read(hva, length);
  }

  readBytes(hva: bigint, length: number): Uint8Array {
    return this.#memory.read(hva, length);
  }

  /** A VMM step: slots are set by the caller; here what MADV_DONTNEED throws away and what the VMM writes anew. */
  vmmStep(step: VmmStep): void {
    if (!step.op.includes("madvise_dontneed")) return;
    const rewritten = step.op.includes("+rewrite");
    for (const event of step.events) {
      if (event.ev !== "kvm_unmap_hva_range") continue;
      for (const hva of this.slots.pages(event.start, event.end)) {
        const page = new Uint8Array(PAGE_SIZE);
        if (rewritten) page.set(this.#firstBytes);
        this.write(hva, page);
      }
    }
  }

  /**
   * Begins a guest step. The processor's own accessed and dirty bits (a change of nothing else that no event
   * reports) are set as it walks, before it faults: they are applied first.
   */
  beginStep(step: GuestStep): void {
    const reported = new Set<bigint>();
    for (const event of step.events) {
      if (event.ev === "kvm_mmu_set_accessed_bit" || event.ev === "kvm_mmu_set_dirty_bit")
        reported.add(event.gpa & ~7n);
      if (event.ev === "pte_write") reported.add(event.gpa & ~7n);
    }
    this.#pending = [];
    for (const change of step.memoryChanges) {
      const onlyFlags = (change.before & ~ACCESSED_DIRTY) === (change.after & ~ACCESSED_DIRTY);
      const sets = (change.before & ~change.after) === 0n;
      if (onlyFlags && sets && !reported.has(change.gpa)) this.#applyChange(change);
      else this.#pending.push(change);
    }
  }

  #applyChange(change: MemoryChange): void {
    this.writeGpa(change.gpa, toBytes(change.after, 8));
  }

  /**
   * The step's own write (write, poke, cmpxchg8b) where it went outside slot 0, which the difference does not
   * cover, and no emulated write was reported. `registers` are those of the step.
   */
  plainWrite(step: GuestStep, registers: ControlRegisters): void {
    const write = plainWriteOf(step);
    if (write === undefined || step.events.some((event) => event.ev === "pte_write")) return;
    const gpa = locate(registers, step.gva, (at, length) => this.readGpa(at, length));
    if (gpa !== undefined && this.slots.find(gpa)?.id !== 0) this.writeGpa(gpa, write);
  }

  /** Ends a guest step: whatever the difference shows beyond the reported changes. */
  endStep(): void {
    for (const change of this.#pending) {
      if (this.readU64(change.gpa) !== change.after) this.#applyChange(change);
    }
    this.#pending = [];
  }

  /** Bits that KVM's own walk sets; `size` is that of an entry. */
  setBits(gpa: bigint, bits: bigint, size: number): void {
    const hva = this.slots.hva(gpa);
    if (hva === undefined) return;
    const value = fromBytes(this.#memory.read(hva, size));
    this.write(hva, toBytes(value | bits, size));
  }

  applySlots(step: Step): void {
    for (const input of step.inputs) if (input.kind === "slot") this.slots.set(input.slot);
  }
}
