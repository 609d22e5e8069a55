/** Everything that a VM's direct tables map, page by page: what an operation took from it, and whether a flush covers that. */
import type { PendingFlush, VirtualMachine } from "../../../src/mmu/index.js";
import { roleIsInvalid, roleLevel, roleSmm } from "../../../src/role/index.js";

/** What a 4 KiB page is mapped to. */
export interface Mapped {
  readonly frame: number;
  readonly level: number;
  readonly writable: boolean;
  /** A processor may hold it in a TLB: some right is there. */
  readonly reachable: boolean;
}

const PRESENT = 1n << 11n;
const LARGE = 1n << 7n;
const ADDRESS = 0x000f_ffff_ffff_f000n;

export class LeafMap {
  /** By 2^41 * address space + gfn with alias bits. */
  readonly pages = new Map<number, Mapped>();

  constructor(vm: VirtualMachine) {
    const encryption = vm.state.limits.encryptionMask;
    for (const { role, gfn, alias, entries, pointer } of vm.allPages()) {
      if (roleIsInvalid(role) || vm.state.pages.isObsolete(pointer)) continue;
      const level = roleLevel(role);
      for (const [index, spte] of entries) {
        if ((spte & PRESENT) === 0n || (level > 1 && (spte & LARGE) === 0n)) continue;
        const size = 512 ** (level - 1);
        const first = Number(gfn | alias) + index * size + roleSmm(role) * SPACE;
        const frame = Number((spte & ADDRESS & ~encryption) >> 12n);
        const rights = { level, writable: (spte & 2n) !== 0n, reachable: (spte & 7n) !== 0n };
        for (let i = 0; i < size; i++) this.pages.set(first + i, { frame: frame + i, ...rights });
      }
    }
  }

  /** Pages that lost their mapping, their frame or the right to write since `before`. */
  lostSince(before: LeafMap): number[] {
    const lost: number[] = [];
    for (const [page, was] of before.pages) {
      if (!was.reachable) continue;
      const now = this.pages.get(page);
      if (now === undefined || now.frame !== was.frame || (was.writable && !now.writable)) lost.push(page);
    }
    return lost;
  }
}

/** Some leaf went or leads elsewhere, a processor's or one that waits for an access to be noticed. */
export function anyGone(before: LeafMap, after: LeafMap): boolean {
  for (const [page, { frame }] of before.pages) if (after.pages.get(page)?.frame !== frame) return true;
  return false;
}

/** Pages of an address space. */
export const SPACE = 2 ** 41;

/** A page that a flush does not cover, undefined for none. */
export function uncovered(lost: readonly number[], flush: PendingFlush): number | undefined {
  if (flush === "all") return undefined;
  return lost.find((page) => {
    const gfn = BigInt(page % SPACE);
    return !flush.some((range) => gfn >= range.gfn && gfn < range.gfn + range.pages);
  });
}
