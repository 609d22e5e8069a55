/** Guest tables whose memory a recording does not hold, recovered from its walks and shadow pages. */
import { bitOf } from "../../abi/bits.js";
import { PTE } from "../../abi/entries.js";
import { ACC } from "../../abi/spte.js";
import type { Recording } from "../format/recording.js";
import type { SlotInput } from "../format/state.js";

export interface RecoveredEntry {
  readonly value: bigint;
  /** Bytes of the entry: 4 or 8. */
  readonly size: number;
}

const ADDRESS_MASK = bitOf(PTE, "ADDRESS");
const PRESENT = bitOf(PTE, "P");
const ACCESSED = bitOf(PTE, "A");
const DIRTY = bitOf(PTE, "D");
/** Rights of a shadowed translation lie where an entry has them. */
const ACCESS_WRITE = bitOf(ACC, "WRITE");
const ACCESS_USER = bitOf(ACC, "USER");

/** Slots that steps add: nothing says what memory they bring. */
export function laterSlots(recording: Recording): SlotInput[] {
  return recording.steps.flatMap((step) => {
    return step.inputs.flatMap((input) => (input.kind === "slot" && input.slot.size !== 0n ? [input.slot] : []));
  });
}

/**
 * Entries of guest tables outside slot 0, whose memory a recording does not hold: as the first walk that read
 * them saw them, or, where none did, as the shadow page of that table says (`st`: gfn and rights).
 */
export function recoverTables(recording: Recording): Map<bigint, RecoveredEntry> {
  const entries = new Map<bigint, RecoveredEntry>();
  const slot0 = recording.slots.find((slot) => slot.id === 0);
  const limit = slot0 === undefined ? 0n : slot0.gpa + slot0.size;
  const entrySize = recording.config.guestMode === "32" || recording.config.guestMode === "32pse" ? 4 : 8;
  const indexBits = entrySize === 4 ? 10n : 9n;
  const foreign = (gpa: bigint): boolean => gpa >= limit;
  const later = laterSlots(recording);
  const inSlot = (gpa: bigint): boolean =>
    [...recording.slots, ...later].some((slot) => slot.id !== 0 && gpa >= slot.gpa && gpa < slot.gpa + slot.size);
  const tables = new Set<bigint>();
  for (const step of recording.steps) {
    // A root table that came with a slot: walks begin in it.
    const cr3 = step.kind === "guest" && step.nested === undefined ? step.pre.cr3 & ADDRESS_MASK : 0n;
    const root = later.some((slot) => cr3 >= slot.gpa && cr3 < slot.gpa + slot.size) ? cr3 : undefined;
    let address = 0n;
    let table: bigint | undefined;
    for (const event of step.events) {
      if (event.ev === "kvm_mmu_pagetable_walk") {
        address = event.addr;
        table = root;
      } else if (event.ev === "kvm_mmu_paging_element") {
        if (table !== undefined && foreign(table) && inSlot(table)) {
          tables.add(table);
          const shift = 12n + indexBits * BigInt(event.level - 1);
          const index = (address >> shift) & ((1n << indexBits) - 1n);
          const gpa = table + index * BigInt(entrySize);
          if (!entries.has(gpa)) entries.set(gpa, { value: event.pte, size: entrySize });
        }
        table = event.level > 1 ? event.pte & ADDRESS_MASK : undefined;
      }
    }
  }
  if (tables.size === 0) return entries;
  for (const step of recording.steps) {
    for (const page of step.snapshot.pages) {
      const gpa = page.gfn << 12n;
      if (page.shadowed === undefined || !tables.has(gpa)) continue;
      for (const [index, shadowed] of page.shadowed) {
        const at = gpa + BigInt(index * entrySize);
        // A clean entry shadows without write access, so what was writable and clean cannot be told from read-only.
        const dirty = (shadowed & ACCESS_WRITE) !== 0n ? DIRTY : 0n;
        const user = shadowed & ACCESS_USER;
        const value = (shadowed & ADDRESS_MASK) | PRESENT | ACCESS_WRITE | user | ACCESSED | dirty;
        if (!entries.has(at)) entries.set(at, { value, size: entrySize });
      }
    }
  }
  return entries;
}
