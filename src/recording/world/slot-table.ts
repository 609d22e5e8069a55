/** The memslots that a VMM has set, and the pages behind them. */
import { type HostRange, mergeRanges } from "../format/ranges.js";
import type { SlotInput } from "../format/state.js";

/** The memslots of both address spaces, as the VMM has set them so far. */
export class SlotTable {
  readonly #slots = new Map<string, SlotInput>();

  /** KVM_SET_USER_MEMORY_REGION: adds, changes, moves, or (size 0) deletes. */
  set(slot: SlotInput): void {
    const key = `${slot.addressSpace}:${slot.id}`;
    if (slot.size === 0n) this.#slots.delete(key);
    else this.#slots.set(key, slot);
  }

  get(addressSpace: number, id: number): SlotInput | undefined {
    return this.#slots.get(`${addressSpace}:${id}`);
  }

  all(): SlotInput[] {
    return [...this.#slots.values()];
  }

  /** The slot that holds `gpa`. */
  find(gpa: bigint, addressSpace = 0): SlotInput | undefined {
    for (const slot of this.#slots.values()) {
      if (slot.addressSpace === addressSpace && gpa >= slot.gpa && gpa < slot.gpa + slot.size) return slot;
    }
    return undefined;
  }

  /** Host-virtual address of `gpa`; undefined where no slot holds it. */
  hva(gpa: bigint, addressSpace = 0): bigint | undefined {
    const slot = this.find(gpa, addressSpace);
    return slot === undefined ? undefined : slot.hva + (gpa - slot.gpa);
  }

  /** The addresses of all pages of slots of address space 0 between two addresses of host-virtual memory, ascending. */
  *pages(start: bigint, end: bigint): Iterable<bigint> {
    const slots = this.all().filter((slot) => slot.addressSpace === 0);
    yield* pagesBetween(mergeRanges(slots), start, end);
  }

  /** Every guest-physical address (all of address space 0) of `hva`. */
  gpas(hva: bigint): bigint[] {
    const found: bigint[] = [];
    for (const slot of this.#slots.values()) {
      if (slot.addressSpace === 0 && hva >= slot.hva && hva < slot.hva + slot.size)
        found.push(slot.gpa + (hva - slot.hva));
    }
    return found;
  }
}

const PAGE = 4096n;

/** The addresses, from `start` on in steps of a page, that lie in `ranges`, which are ascending, and below `end`. */
export function* pagesBetween(ranges: readonly HostRange[], start: bigint, end: bigint): Iterable<bigint> {
  for (const range of ranges) {
    const last = range.hva + range.size;
    // Slots begin at page boundaries.
    let hva = start > range.hva ? start : range.hva + (start % PAGE);
    for (; hva < end && hva < last; hva += PAGE) yield hva;
  }
}
