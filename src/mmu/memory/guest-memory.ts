/** A VM's guest memory as the host reads and writes it, through any alias of a page. */
import { SHADOW_CODES } from "../../abi/shadow.js";
import { checkInteger } from "../../checks.js";
import type { MmuCore } from "../../core/mmu/mmu-core.js";
import { MemoryRangeError } from "../../errors.js";
import type { Memslot, Memslots } from "./memslots.js";

const { HOST_PRESENT, HOST_WRITABLE, MEMSLOT_INTERNAL } = SHADOW_CODES;
/** Linear memory has no more. */
const MOST = 2 ** 32;

export class GuestMemory {
  constructor(
    readonly core: MmuCore,
    readonly slots: Memslots,
  ) {}

  /** The gfn without alias bits. */
  plainGfn(gfn: bigint): bigint {
    return gfn & ~this.slots.aliasMask;
  }

  /** The gfn of a guest-physical address, whichever alias it is. */
  gfnOf(gpa: bigint): bigint {
    return this.plainGfn(gpa >> 12n);
  }

  /** The slot whose RAM is behind a guest-physical address, whichever alias it is; a page of the VM's own has none. */
  #slotAt(gpa: bigint, space: number): Memslot | undefined {
    const gfn = this.gfnOf(gpa);
    const slot = this.slots.visible(space, gfn);
    if (slot === undefined || Number((gfn - slot.base) << 12n) >= slot.ramSize) return undefined;
    return slot.flags & MEMSLOT_INTERNAL && gfn !== gpa >> 12n ? undefined : slot;
  }

  /** Offset of a guest-physical address in its slot, in bytes. */
  #offsetOf(slot: Memslot, gpa: bigint): number {
    return Number(((this.gfnOf(gpa) - slot.base) << 12n) | (gpa & 0xfffn));
  }

  /** Bytes of one address space; undefined where a byte lies in no slot's RAM. Throws RangeError for a bad length. */
  read(gpa: bigint, length: number, space: number): Uint8Array | undefined {
    checkInteger(length, 0, MOST, "length", RangeError);
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const at = gpa + BigInt(done);
      const slot = this.#slotAt(at, space);
      if (slot === undefined) return undefined;
      const size = Math.min(length - done, 4096 - Number(at & 0xfffn));
      slot.core.read(this.#offsetOf(slot, at), bytes.subarray(done, done + size));
      done += size;
    }
    return bytes;
  }

  /** Writes memory and its dirty log, without telling the MMU. Throws MemoryRangeError before anything changes. */
  write(gpa: bigint, bytes: Uint8Array, space: number): void {
    const { length } = bytes;
    const first = 4096 - Number(gpa & 0xfffn);
    const slot = length === 0 ? undefined : this.#backed(gpa, space);
    // What lies behind the first page is there before that one changes.
    for (let done = first; done < length; done += 4096) this.#backed(gpa + BigInt(done), space);
    if (slot === undefined) return;
    this.#writePage(slot, gpa, length <= first ? bytes : bytes.subarray(0, first));
    for (let done = first; done < length; done += 4096) {
      const at = gpa + BigInt(done);
      this.#writePage(this.#backed(at, space), at, bytes.subarray(done, Math.min(done + 4096, length)));
    }
  }

  #writePage(slot: Memslot, gpa: bigint, bytes: Uint8Array): void {
    slot.core.write(this.#offsetOf(slot, gpa), bytes);
    this.core.markDirty(slot.core, this.gfnOf(gpa));
  }

  /** The slot whose RAM is behind a guest-physical address. Throws MemoryRangeError. */
  #backed(gpa: bigint, space: number): Memslot {
    const slot = this.#slotAt(gpa, space);
    if (slot !== undefined) return slot;
    throw new MemoryRangeError(`guest-physical address 0x${gpa.toString(16)} lies in no slot`);
  }

  /** A page was written by something other than a vCPU's own access. */
  markDirty(gfn: bigint, space: number): void {
    const slot = this.slots.visible(space, gfn);
    if (slot !== undefined) this.core.markDirty(slot.core, gfn);
  }

  /** True if the page at `gfn` is there for the host and writable: what prefetching asks. */
  isResident(gfn: bigint, space: number): boolean {
    const slot = this.slots.visible(space, gfn);
    const wanted = BigInt(HOST_PRESENT | HOST_WRITABLE);
    return slot !== undefined && (this.slots.hostPage(slot, gfn) & wanted) === wanted;
  }
}
