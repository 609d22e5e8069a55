/**
 * Address line 20 of a PC, which its gate may hold low (A20M#): a processor masks bit 20 of every physical address then,
 * those of tables included, before it looks an address up in a cache or puts it on the bus. Manuals promise it for real
 * mode only.
 */
import { bitOf, GATE } from "../../abi/index.js";
import { PAGE_BYTES, type Slot } from "./slot-config.js";

const A20 = bitOf(GATE, "A20");
const BYTES = Number(A20);
const FRAMES = BigInt(BYTES / PAGE_BYTES);

/** Physical address `pa`, an integer below 2^53, with the line held low. */
export function maskAddress(pa: number): number {
  return Math.floor(pa / BYTES) % 2 === 0 ? pa : pa - BYTES;
}

export function maskFrame(gfn: bigint): bigint {
  return gfn & ~FRAMES;
}

/**
 * What is seen of `slots`, in ascending order: each even MiB of them a second time, in the odd MiB above it. What lies in
 * odd MiBs is out of reach.
 */
export function maskSlots(slots: readonly Slot[]): Slot[] {
  const pieces: Slot[] = [];
  for (const slot of slots) {
    const end = slot.gpa + BigInt(slot.size);
    for (let at = slot.gpa; at < end; ) {
      const boundary = (at / A20 + 1n) * A20;
      const next = boundary < end ? boundary : end;
      if ((at & A20) === 0n) {
        const piece = { ...slot, gpa: at, size: Number(next - at), linear: slot.linear + Number(at - slot.gpa) };
        pieces.push(piece, { ...piece, gpa: at | A20 });
      }
      at = next;
    }
  }
  return pieces.sort((a, b) => (a.gpa < b.gpa ? -1 : 1));
}
