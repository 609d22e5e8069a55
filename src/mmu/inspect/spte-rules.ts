/** What the structure checker asks of every SPTE, whichever MMU made it. */
import { bitOf } from "../../abi/bits.js";
import { SHADOW_CODES } from "../../abi/shadow.js";
import { NONPRESENT_OR_RSVD_BITS, SPTE, SPTE_EPT, SPTE_LEGACY } from "../../abi/spte.js";
import type { VmRecord } from "../../core/records/mmu.js";
import { ROLE_EFER_NX, roleIsDirect, roleIsGuestMode, roleIsPaeRoot, roleLevel } from "../../role/index.js";
import { bitRange } from "../../spte/masks.js";
import { eptBadTypeAndRights, eptReservedBits, reservedBits } from "../../spte/reserved.js";
import type { Machine } from "../machine/machine.js";
import type { Memslot } from "../memory/memslots.js";
import type { ShadowPage } from "./snapshot.js";

const PRESENT = bitOf(SPTE, "MMU_PRESENT");
const LARGE = bitOf(SPTE, "PS");
const WRITABLE = bitOf(SPTE_LEGACY, "RW");
const READ_WRITE = bitOf(SPTE_EPT, "R") | bitOf(SPTE_EPT, "W");
const NX = bitOf(SPTE_LEGACY, "NX");
const ADDRESS = bitOf(SPTE, "ADDRESS");
/** A gfn's bits that an MMIO SPTE cannot hold in place lie this much higher (SHADOW_NONPRESENT_OR_RSVD_MASK_LEN). */
const MOVED_GFN_LENGTH = BigInt(NONPRESENT_OR_RSVD_BITS);
const { HOST_PRESENT } = SHADOW_CODES;

export class SpteRules {
  readonly #reserved: readonly bigint[];
  readonly #nxHuge: boolean;
  readonly #ept: boolean;
  readonly #record: VmRecord;

  constructor(readonly vm: Machine) {
    const { limits, tdp } = vm;
    this.#ept = tdp?.format === "ept";
    this.#record = vm.core.vm;
    this.#nxHuge = this.#record.nxHuge !== 0;
    const physicalBits = bitRange(limits.hostPhysicalBits, 51);
    const masks = this.#ept
      ? eptReservedBits({ physicalBits, executeOnly: true, hugePageLevel: limits.maxHugeLevel })
      : reservedBits({ level: 5, physicalBits, nx: true, page1g: limits.guestPage1g, pse: false, amd: true }, []);
    // Of the encryption's bits every entry has the same; alias bits are never reserved.
    this.#reserved = masks.map((mask) => {
      return (mask | limits.encryptionMask) & ~limits.encryptionValue & ~limits.aliasMask;
    });
  }

  /** What is wrong with a present entry of `page`, as far as the processor would say so: reserved bits. */
  *present(page: ShadowPage, spte: bigint): Iterable<string> {
    // Four entries of a format of their own.
    if (roleIsPaeRoot(page.role)) return;
    const level = roleLevel(page.role);
    const mask = this.#reserved[(spte & LARGE ? 5 : 0) + level - 1]!;
    const nx = this.#ept || this.#nxHuge || page.role & ROLE_EFER_NX ? 0n : NX;
    const reserved = spte & (mask | nx);
    if (reserved !== 0n) yield `has reserved bits 0x${reserved.toString(16)}`;
    if (!this.#ept) return;
    // Only a shadow of L1's tables, and an alias that says so, grants execution alone.
    const shadow = !roleIsDirect(page.role) || roleIsGuestMode(page.role);
    const executeOnly = shadow || (page.alias & this.#record.executeOnly) !== 0n;
    if ((eptBadTypeAndRights(executeOnly) >> (spte & 63n)) & 1n) yield "has a bad memory type or bad rights";
  }

  /** What is wrong with a leaf of `page` that maps `gfn` (without alias bits) and up in `slot`. */
  *leaf(page: ShadowPage, spte: bigint, gfn: bigint, slot: Memslot): Iterable<string> {
    const hostWritable = (spte & this.#record.hostWritable) !== 0n;
    const mmuWritable = (spte & this.#record.mmuWritable) !== 0n;
    if (mmuWritable && !hostWritable) yield "is MMU-writable, not host-writable";
    if (spte & WRITABLE && !mmuWritable) yield "is writable, not MMU-writable";
    if (page.alias & this.#record.executeOnly && spte & READ_WRITE) yield "grants more than an execute-only alias may";
    const pages = 1 << (9 * (roleLevel(page.role) - 1));
    if (gfn < slot.base || gfn + BigInt(pages) > slot.base + BigInt(slot.pages)) {
      yield "maps more than its slot";
      return;
    }
    yield* this.#frames((spte & ADDRESS & ~this.vm.limits.encryptionMask) >> 12n, Number(gfn - slot.base), pages, slot);
  }

  /**
   * The leaf leads to what the host has behind the slot's pages, as far as the host has said: of a huge page it was asked for
   * one part only, also where that is split later.
   */
  *#frames(pfn: bigint, first: number, pages: number, slot: Memslot): Iterable<string> {
    for (let i = 0; i < pages; i++) {
      const low = slot.core.hostPageLow(first + i);
      if ((low & HOST_PRESENT) === 0) continue;
      const frame = slot.core.hostPageHigh(first + i) * 2 ** 20 + (low >>> 12);
      if (frame === Number(pfn) + i) continue;
      yield `leads to frame 0x${(Number(pfn) + i).toString(16)}, the host has 0x${frame.toString(16)} at page ${first + i}`;
      return;
    }
  }

  /** What is wrong with an entry of a direct page that is not present and stands for `gfn`: another page's MMIO entry. */
  *absent(spte: bigint, gfn: bigint): Iterable<string> {
    const value = this.#record.mmioValue;
    if (value === 0n || spte & PRESENT || (spte & this.#record.mmioMask) !== value) return;
    const split = this.#record.nonpresentOrRsvd;
    const found = ((spte & this.#record.lowerGfn) | ((spte >> MOVED_GFN_LENGTH) & split)) >> 12n;
    if (found !== gfn) yield `is an MMIO entry of gfn 0x${found.toString(16)}`;
  }
}
