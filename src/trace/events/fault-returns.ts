/** What fast_page_fault's `ret` says: its numbers differ from kernel to kernel, its text does not. */
import { bitOf } from "../../abi/bits.js";
import { PTE } from "../../abi/entries.js";
import { compareReleases, parseRelease } from "../../abi/release.js";
import { Slot } from "./kinds.js";
import type { EventRecord } from "./record.js";

/** RET_PF_FIXED and RET_PF_SPURIOUS of arch/x86/kvm/mmu/mmu_internal.h. */
export interface ReturnNumbers {
  readonly fixed: number;
  readonly spurious: number;
}

/** By the first release with those numbers. */
export const RETURNS: readonly (readonly [release: string, numbers: ReturnNumbers])[] = [
  ["5.10", { fixed: 3, spurious: 4 }],
  ["5.19", { fixed: 4, spurious: 5 }],
  ["6.12", { fixed: 5, spurious: 6 }],
];
const WRITABLE = Number(bitOf(PTE, "RW"));

export class FaultReturns {
  /** undefined: the field is a flag that says that the fault is over, as until 5.9. */
  numbers: ReturnNumbers | undefined = RETURNS[1]![1];

  /** Takes those of a release, where it is one. */
  use(name: string | undefined): void {
    const release = name === undefined ? undefined : parseRelease(name === "mainline" ? "7.3" : name);
    if (release === undefined) return;
    this.numbers = undefined;
    for (const [first, numbers] of RETURNS) {
      if (compareReleases(release, parseRelease(first)!) >= 0) this.numbers = numbers;
    }
  }

  /** Fills in the two flags that the text has. */
  finish(record: EventRecord): void {
    const ret = record.number(Slot.ret);
    const { numbers } = this;
    const satisfied = (slot: number) => (ret !== 0 && (record.low[slot]! & WRITABLE) !== 0 ? 1 : 0);
    const spurious = numbers === undefined ? satisfied(Slot.old_spte) : Number(ret === numbers.spurious);
    const fixed = numbers === undefined ? satisfied(Slot.new_spte) : Number(ret === numbers.fixed);
    record.set(Slot.spurious, spurious, 0);
    record.set(Slot.fixed, fixed, 0);
  }
}
