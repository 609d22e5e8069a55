/** Slots as walks see them: what lies side by side, in guest-physical and in linear memory, is one. */
import type { Slot } from "./slot-config.js";

/**
 * `slots`, in ascending order, with those joined that follow each other in both address spaces and are of one kind: tables
 * of one space are walked fastest where all lie in the slot of its root.
 */
export function mergeSlots(slots: readonly Slot[]): Slot[] {
  const merged: Slot[] = [];
  for (const slot of slots) {
    const last = merged.at(-1);
    if (last !== undefined && follows(last, slot)) merged[merged.length - 1] = { ...last, size: last.size + slot.size };
    else merged.push(slot);
  }
  return merged;
}

function follows(last: Slot, slot: Slot): boolean {
  const adjacent = last.gpa + BigInt(last.size) === slot.gpa && last.linear + last.size === slot.linear;
  return adjacent && last.readOnly === slot.readOnly && last.window === slot.window;
}
