/**
 * The structure checker: walks every shadow page, rmap, list and counter of a VM and names what does not fit.
 * Read-only; it takes time in proportion to the size of slots and tables.
 */
import { bitOf } from "../../abi/bits.js";
import { SHADOW_CODES } from "../../abi/shadow.js";
import { SPTE, SPTE_LEGACY } from "../../abi/spte.js";
import type { MmuCore } from "../../core/mmu/mmu-core.js";
import { placeOf, sptepOf } from "../../core/mmu/shadow-pages.js";
import {
  ACC_WRITE,
  childRole,
  ROLE_INVALID,
  roleAccess,
  roleGuestLevel,
  roleHas4ByteGpte,
  roleIsDirect,
  roleIsInvalid,
  roleIsPaeRoot,
  roleIsPromoted,
  roleLevel,
  roleQuadrant,
  roleSmm,
} from "../../role/index.js";
import type { Machine } from "../machine/machine.js";
import type { Memslot } from "../memory/memslots.js";
import type { AuditProblem, Invariant } from "./problem.js";
import { readPage, type ShadowPage } from "./snapshot.js";
import { SpteRules } from "./spte-rules.js";
import { auditTdp } from "./tdp-audit.js";

const PRESENT = bitOf(SPTE, "MMU_PRESENT");
const LARGE = bitOf(SPTE, "PS");
const WRITABLE = bitOf(SPTE_LEGACY, "RW");
/** A PAE root's entry: address, P and the MMU-present bit (and the encryption bit). */
const PDPTE_BITS = bitOf(SPTE, "ADDRESS") | PRESENT | bitOf(SPTE_LEGACY, "P");
/** Of SP.UNSYNC_BITMAP. */
const BITMAP_WORDS = 8;
/** A list with more free rmap blocks goes in a circle. */
const MOST_DESCS = 2 ** 24;

export function audit(vm: Machine): AuditProblem[] {
  return [...new Audit(vm).run(), ...auditTdp(vm)];
}

class Audit {
  readonly #problems: AuditProblem[] = [];
  readonly #core: MmuCore;
  readonly #pages: ShadowPage[];
  readonly #byPointer = new Map<number, ShadowPage>();
  /** Which gfn and level each leaf should be found under, by SPTE address. */
  readonly #leaves = new Map<number, { page: ShadowPage; index: number; gfn: bigint; slot: Memslot | undefined }>();
  readonly #parents = new Map<number, Set<number>>();
  readonly #rules: SpteRules;
  /** gfns of tables that must not be written unnoticed, ascending, by address space. */
  readonly #protected: readonly (readonly bigint[])[];

  constructor(readonly vm: Machine) {
    this.#rules = new SpteRules(vm);
    this.#core = vm.core;
    const active = vm.pages.active();
    const tdp = vm.tdpMmu?.pages() ?? [];
    const zapped = vm.cpus
      .flatMap((vcpu) => vcpu.rootPages())
      .filter((page) => !active.includes(page) && !tdp.includes(page));
    this.#pages = [...active, ...new Set(zapped)].map((pointer) => readPage(vm, pointer));
    for (const page of this.#pages) this.#byPointer.set(page.pointer, page);
    this.#protected = [0, 1].map((space) => {
      const tables = this.#pages.filter((page) => roleSmm(page.role) === space && this.#isProtected(page));
      return tables.map(({ gfn }) => gfn).sort((a, b) => (a < b ? -1 : 1));
    });
  }

  #isProtected(page: ShadowPage): boolean {
    return !roleIsInvalid(page.role) && !this.vm.pages.isObsolete(page.pointer) && this.#hasGptes(page) && !page.unsync;
  }

  run(): AuditProblem[] {
    for (const page of this.#pages) this.#page(page);
    for (const page of this.#pages) this.#parentList(page);
    for (const slot of this.vm.slots.slots) this.#slot(slot);
    for (const [sptep, { page, index }] of this.#leaves) {
      this.#report("rmap", page, index, `leaf at ${hex(sptep)} is in no rmap`);
    }
    this.#unsync();
    this.#counters();
    this.#descriptors();
    return this.#problems;
  }

  #report(invariant: Invariant, page: ShadowPage | undefined, index: number | undefined, message: string): void {
    const name = page === undefined ? "" : `page gfn ${hex(page.gfn)} role ${hex(page.role)}: `;
    const entry = index === undefined ? "" : `entry ${index}: `;
    this.#problems.push({ invariant, page: page?.pointer ?? 0, index, message: `${name}${entry}${message}` });
  }

  #hasGptes(page: ShadowPage): boolean {
    return !roleIsDirect(page.role) && !roleIsPromoted(page.role) && (page.low & SHADOW_CODES.LOW_LATCHED) === 0;
  }

  #pageOfTable(table: number): ShadowPage | undefined {
    return this.#byPointer.get(this.#core.pages.pageOfTable(table));
  }

  #page(page: ShadowPage): void {
    const { vm } = this;
    if (this.#pageOfTable(page.table) !== page) this.#report("page map", page, undefined, "its table leads elsewhere");
    if (!vm.pages.isNamed(page.pointer)) this.#report("hash", page, undefined, "not in the hash");
    if (!this.#core.pages.isInChain(page.pointer))
      this.#report("chain", page, undefined, "not among the pages of its gfn");
    const roots = vm.cpus.flatMap((vcpu) => vcpu.rootPages()).filter((root) => root === page.pointer).length;
    if (roots !== page.rootCount) {
      this.#report("root count", page, undefined, `counts ${page.rootCount} uses as a root, ${roots} exist`);
    }
    const contexts = vm.cpus.flatMap((vcpu) => [vcpu.rootMmu, vcpu.guestMmu]);
    const current = contexts.filter((context) => context.roots.current.page === page.pointer).length;
    if (this.#core.pages.header(page.pointer).current !== current) {
      this.#report("root count", page, undefined, `is not the current root of ${current} contexts as it thinks`);
    }
    if (isAboveGuest(page) && roots === 0 && this.#core.pages.header(page.pointer).parents === 0) {
      this.#report("parents", page, undefined, "stands above the guest's tables and no root leads to it");
    }
    this.#role(page);
    if (roleIsPaeRoot(page.role)) this.#paeRoot(page);
    for (const [index, spte] of page.entries) this.#entry(page, index, spte);
  }

  #role(page: ShadowPage): void {
    const { role } = page;
    const level = roleLevel(role);
    const guest = roleGuestLevel(role);
    const direct = roleIsDirect(role);
    const wrong = (what: string) => this.#report("role", page, undefined, what);
    if (level < 1 || level > 5) wrong(`level ${level}`);
    if (roleIsPromoted(role) && (direct || level <= guest)) wrong("level_promoted at or below the guest's root level");
    if (direct ? guest !== 0 : guest === 0 || guest > level) wrong(`guest level ${guest}`);
    if (roleIsPaeRoot(role) && level !== 3) wrong(`pae_root at level ${level}`);
    if (roleIsPromoted(role) && roleQuadrant(role) !== 0) wrong("a promoted page with a quadrant");
    if (!roleHas4ByteGpte(role) && roleQuadrant(role) !== 0) wrong("a quadrant without 4-byte entries");
  }

  #paeRoot(page: ShadowPage): void {
    if (page.hostAddress >= 1n << 32n) this.#report("pae_root", page, undefined, "its table lies above 4 GiB");
    for (const [index, spte] of page.entries) {
      if (index >= 4) this.#report("pae_root", page, index, "only four entries exist");
      if (spte & PRESENT && spte & ~(PDPTE_BITS | this.#core.vm.meValue)) {
        this.#report("pae_root", page, index, `${hex(spte)} has bits that a PDPTE reserves`);
      }
    }
  }

  #wrong(page: ShadowPage, index: number, spte: bigint, what: string): void {
    this.#report("spte", page, index, `${hex(spte)} ${what}`);
  }

  /** What an entry without a guest's behind it maps from. */
  #directGfn(page: ShadowPage, index: number): bigint {
    return this.vm.guest.plainGfn(page.gfn + (BigInt(index) << BigInt(9 * (roleLevel(page.role) - 1))));
  }

  #entry(page: ShadowPage, index: number, spte: bigint): void {
    if ((spte & PRESENT) === 0n) {
      if (!roleIsDirect(page.role)) return;
      for (const wrong of this.#rules.absent(spte, this.#directGfn(page, index))) this.#wrong(page, index, spte, wrong);
      return;
    }
    for (const wrong of this.#rules.present(page, spte)) this.#wrong(page, index, spte, wrong);
    const level = roleLevel(page.role);
    if (level > 1 && (spte & LARGE) === 0n) {
      const child = this.#pageOfTable(this.#core.pages.tableOf(spte));
      if (child === undefined) {
        this.#report("parents", page, index, `${hex(spte)} points to no page`);
        return;
      }
      if (roleLevel(child.role) !== level - 1)
        this.#report("parents", page, index, "points to a page of another level");
      const role = childRole(page.role, index, roleIsDirect(child.role), roleAccess(child.role));
      if ((child.role & ~ROLE_INVALID) >>> 0 !== role)
        this.#report("role", child, undefined, "not what its place says");
      const parents = this.#parents.get(child.pointer) ?? new Set<number>();
      this.#parents.set(child.pointer, parents.add(sptepOf(page.table, index)));
      return;
    }
    this.#leaf(page, index, spte);
  }

  #leaf(page: ShadowPage, index: number, spte: bigint): void {
    const mmuWritable = (spte & this.#core.vm.mmuWritable) !== 0n;
    const writable = (spte & WRITABLE) !== 0n;
    const level = roleLevel(page.role);
    const gfn = this.#hasGptes(page) ? (page.shadowed.get(index) ?? 0n) >> 12n : this.#directGfn(page, index);
    const space = roleSmm(page.role) === 0 ? 0 : 1;
    const slot = this.vm.slots.slots.find((one) => {
      return one.addressSpace === space && gfn >= one.base && gfn < one.base + BigInt(one.pages);
    });
    this.#leaves.set(sptepOf(page.table, index), { page, index, gfn, slot });
    if (slot === undefined) {
      this.#report("rmap", page, index, `gfn ${hex(gfn)} lies in no slot`);
      return;
    }
    for (const wrong of this.#rules.leaf(page, spte, gfn, slot)) this.#wrong(page, index, spte, wrong);
    if (mmuWritable && this.#forbidsWriting(slot, gfn, level)) {
      this.#report("write-protection", page, index, `${hex(spte)} lets the guest write a shadowed table`);
    }
    const rights = roleAccess(page.role);
    if (writable && roleIsDirect(page.role) && (rights & ACC_WRITE) === 0) {
      this.#report("spte", page, index, `${hex(spte)} is writable below a read-only page`);
    }
  }

  /** A table that must not be written unnoticed lies in the range of a leaf. */
  #forbidsWriting(slot: Memslot, gfn: bigint, level: number): boolean {
    const tables = this.#protected[slot.addressSpace]!;
    return lowerBound(tables, gfn) < lowerBound(tables, gfn + (1n << BigInt(9 * (level - 1))));
  }

  #parentList(page: ShadowPage): void {
    const wanted = this.#parents.get(page.pointer) ?? new Set<number>();
    const found = this.#core.pages.parents(page.pointer);
    const known = new Set(found);
    const missing = [...wanted].filter((sptep) => !known.has(sptep));
    const extra = found.filter((sptep) => !wanted.has(sptep));
    if (missing.length > 0) this.#report("parents", page, undefined, `the list lacks ${missing.map(hex).join(", ")}`);
    if (extra.length > 0 || found.length > wanted.size + extra.length) {
      this.#report("parents", page, undefined, `the list has ${extra.map(hex).join(", ")} too much`);
    }
  }

  #slot(slot: Memslot): void {
    for (let level = 1; level <= 3; level++) {
      const shift = BigInt(9 * (level - 1));
      const first = slot.base >> shift;
      for (let i = 0; i < slot.core.blocks(level); i++) {
        for (const sptep of this.#core.pages.rmap(slot.core.rmapHead(level, i))) {
          const leaf = this.#leaves.get(sptep);
          const right = leaf?.slot === slot && leaf.gfn >> shift === first + BigInt(i);
          if (leaf !== undefined && right && roleLevel(leaf.page.role) === level) this.#leaves.delete(sptep);
          else
            this.#report("rmap", leaf?.page, leaf?.index, `rmap of level ${level} has ${hex(sptep)} wrongly or twice`);
        }
      }
    }
    const tracked = new Map<bigint, number>();
    for (const page of this.#pages) {
      if (roleIsInvalid(page.role) || !this.#hasGptes(page) || roleLevel(page.role) === 1) continue;
      if (roleSmm(page.role) === slot.addressSpace) tracked.set(page.gfn, (tracked.get(page.gfn) ?? 0) + 1);
    }
    for (let i = 0; i < slot.pages; i++) {
      const count = slot.core.trackCount(i);
      const wanted = tracked.get(slot.base + BigInt(i)) ?? 0;
      if (count !== wanted) {
        this.#report(
          "write-track count",
          undefined,
          undefined,
          `gfn ${hex(slot.base + BigInt(i))}: ${count}, not ${wanted}`,
        );
      }
    }
    this.#largePages(slot);
  }

  /** Each page with guest tables behind it forbids the large pages around its gfn, besides the slot's own edges. */
  #largePages(slot: Memslot): void {
    const end = slot.base + BigInt(slot.pages);
    const own = this.#pages.filter(
      (page) => !roleIsInvalid(page.role) && this.#hasGptes(page) && roleSmm(page.role) === slot.addressSpace,
    );
    for (let level = 2; level <= 3; level++) {
      const shift = BigInt(9 * (level - 1));
      const mask = (1n << shift) - 1n;
      const first = slot.base >> shift;
      const last = (slot.base + BigInt(slot.pages) - 1n) >> shift;
      const skewed = ((slot.base ^ (slot.hva >> 12n)) & mask) !== 0n;
      for (let at = first; at <= last; at++) {
        const inside = own.filter((page) => page.gfn >> shift === at && page.gfn >= slot.base && page.gfn < end).length;
        const startsHere = at === first && (slot.base & mask) !== 0n;
        const endsHere = at === last && ((slot.base + BigInt(slot.pages)) & mask) !== 0n;
        const wanted = inside + (skewed || startsHere || endsHere ? 1 : 0);
        const found = slot.core.largePageCount(level, Number(at - first));
        if (found !== wanted) {
          this.#report(
            "large-page count",
            undefined,
            undefined,
            `level ${level} block ${hex(at)}: ${found}, not ${wanted}`,
          );
        }
      }
    }
  }

  #unsync(): void {
    for (const page of this.#pages) {
      const header = this.#core.pages.header(page.pointer);
      let bits = 0;
      for (let i = 0; i < BITMAP_WORDS; i++) bits += popcount(header.unsyncBitmap(i));
      if (bits !== page.unsyncChildren) {
        this.#report("unsync", page, undefined, `counts ${page.unsyncChildren} unsync entries, ${bits} are marked`);
      }
      if (page.unsync && (roleLevel(page.role) !== 1 || !this.#hasGptes(page))) {
        this.#report("unsync", page, undefined, "only level-1 pages of guest tables can be unsync");
      }
      if (!page.unsync && page.unsyncChildren === 0) continue;
      for (const sptep of this.#parents.get(page.pointer) ?? []) {
        const { table, index } = placeOf(sptep);
        const parent = this.#pageOfTable(table)!;
        const word = this.#core.pages.header(parent.pointer).unsyncBitmap(index >>> 6);
        if (((word >> BigInt(index & 63)) & 1n) === 0n) {
          this.#report("unsync", parent, index, "an unsync page below is not marked");
        }
      }
    }
  }

  #counters(): void {
    const used = this.#core.vm.used;
    const limited = this.#pages.filter((page) => !isAboveGuest(page)).length;
    if (used !== limited) this.#report("used pages", undefined, undefined, `${used} pages counted, ${limited} exist`);
    const indirect = this.#pages.filter((page) => this.#hasGptes(page) && !roleIsInvalid(page.role)).length;
    if (this.#core.vm.indirect !== indirect) {
      this.#report("indirect pages", undefined, undefined, `${this.#core.vm.indirect} counted, ${indirect} exist`);
    }
    if (this.vm.pages.named !== this.#pages.length) {
      this.#report(
        "hash",
        undefined,
        undefined,
        `${this.vm.pages.named} pages in the hash, ${this.#pages.length} exist`,
      );
    }
    if (this.#core.vm.broken !== 0) {
      this.#report("spte", undefined, undefined, `${this.#core.vm.broken} assertions of the core failed`);
    }
  }

  #descriptors(): void {
    const free = this.#core.pages.freeDescs(MOST_DESCS);
    const counted = this.#core.vm.descCount;
    if (free !== counted)
      this.#report("descriptors", undefined, undefined, `${counted} free ones counted, ${free} exist`);
  }
}

/** Pages above the tables of a guest with less than four levels do not count. */
function isAboveGuest({ role, low }: ShadowPage): boolean {
  return (
    roleIsPaeRoot(role) || (low & SHADOW_CODES.LOW_LATCHED) !== 0 || (roleIsPromoted(role) && roleGuestLevel(role) < 4)
  );
}

/** How many of `sorted` are less than `value`. */
function lowerBound(sorted: readonly bigint[], value: bigint): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

function popcount(bits: bigint): number {
  let count = 0;
  for (let rest = bits; rest !== 0n; rest &= rest - 1n) count++;
  return count;
}

function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}
