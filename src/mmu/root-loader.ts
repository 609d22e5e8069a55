/** Making a vCPU's root: an ordinary shadow page, with the tables right below it where it stands above the guest's own. */
import { OutOfMemoryError, UnsupportedError } from "../errors.js";
import { ROLE_DIRECT, ROLE_LEVEL_PROMOTED, ROLE_PAE_ROOT, roleLevel } from "../role/index.js";
import type { PagingContext } from "./context.js";
import { mmuRecord, PAGE_WORD, pageRecord, VCPU_WORD } from "./records.js";
import type { RootCache } from "./root-cache.js";
import type { Vcpu } from "./vcpu.js";
import type { VirtualMachine } from "./vm.js";

const ADDRESS = 0x000f_ffff_ffff_f000n;
/** SP_LOW: a page-directory-pointer table whose PDPTEs are latched; bits 11:5 are CR3's. */
const LATCHED_PDPT = 3;

export class RootLoader {
  readonly #vm: VirtualMachine;

  constructor(
    readonly vcpu: Vcpu,
    readonly context: PagingContext,
    readonly roots: RootCache,
  ) {
    this.#vm = vcpu.vm;
  }

  get #direct(): boolean {
    return (this.context.rootRole & ROLE_DIRECT) !== 0;
  }

  /** CR3 bits 11:5 and the latch, where the guest's root is a page-directory-pointer table; part of the root's name. */
  low(pgd: bigint): number {
    return this.context.guestLevel === 3 && !this.#direct ? Number(pgd & 0xfe0n) | LATCHED_PDPT : 0;
  }

  /** Loads the root for `pgd`. The caches were topped up. A table outside every slot is a triple fault: UnsupportedError. */
  load(pgd: bigint): void {
    const vm = this.#vm;
    const role = this.context.rootRole;
    const table = this.#direct ? 0n : pgd;
    const gfn = (table & ADDRESS) >> 12n;
    if (!this.#direct) this.#checkVisible(gfn);
    if (vm.exports.reserveRoom(vm.pointer) === 0) {
      throw new OutOfMemoryError("the limit on shadow pages leaves none for a root");
    }
    vm.settle();
    const words = vm.linear.u32;
    const request = this.vcpu.pointer >>> 2;
    words[request + VCPU_WORD.reqGfn] = Number(gfn & 0xffff_ffffn);
    words[request + VCPU_WORD.reqGfn + 1] = Number(gfn >> 32n);
    words[request + VCPU_WORD.reqRole] = role;
    words[request + VCPU_WORD.reqLow] = this.low(table);
    const page = vm.providePage(this.vcpu);
    pageRecord.set32(vm.linear, page, "ROOT_COUNT", pageRecord.get32(vm.linear, page, "ROOT_COUNT") + 1);
    this.roots.setCurrent({ page, pgd: table });
    this.fill(page);
  }

  #checkVisible(root: bigint): void {
    const pdptes = this.context.guestLevel === 3 ? this.context.pdptes.filter((pdpte) => pdpte & 1n) : [];
    for (const gfn of [root, ...pdptes.map((pdpte) => (pdpte & ADDRESS) >> 12n)]) {
      if (this.#vm.slots.visible(this.vcpu.space, gfn) !== undefined) continue;
      throw new UnsupportedError(`root table at gfn 0x${gfn.toString(16)} lies in no slot: triple fault`);
    }
  }

  /**
   * Links the tables right below a root that stands above the guest's own tables or holds its PDPTEs, down to level 2:
   * from here on the guest's writes to its top-level tables are seen, as a kernel with special roots sees them.
   */
  fill(page: number): void {
    const vm = this.#vm;
    const role = vm.linear.u32[(page >>> 2) + PAGE_WORD.role]!;
    const low = vm.linear.u32[(page >>> 2) + PAGE_WORD.low]!;
    const level = roleLevel(role);
    const stands = (role & (ROLE_PAE_ROOT | ROLE_LEVEL_PROMOTED)) !== 0 || low !== 0;
    if (!stands || level < 3 || (role & ROLE_DIRECT && !(role & ROLE_PAE_ROOT))) return;
    pageRecord.set32(vm.linear, page, "GAP", 0);
    for (let index = 0; index < (level === 3 ? 4 : 1); index++) {
      if (vm.exports.rootChildRequest(this.vcpu.pointer, page, index) === 1) {
        vm.providePage(this.vcpu);
        vm.exports.rootChildLink(this.vcpu.pointer, page, index);
        vm.settle();
      }
      const child = vm.childPage(page, index);
      if (level > 3 && child !== 0) this.fill(child);
    }
  }

  /** The processor's own check of the PDPTEs of a pae_root at VM entry: no reserved bit in a present entry. */
  check(): void {
    const { page } = this.roots.current;
    const { linear } = this.#vm;
    if (page === 0 || (linear.u32[(page >>> 2) + PAGE_WORD.role]! & ROLE_PAE_ROOT) === 0) return;
    const table = linear.u32[(page >>> 2) + PAGE_WORD.spt]!;
    const reserved = mmuRecord.get64(linear, this.context.pointer, "SHADOW_RESERVED", 2);
    for (let i = 0; i < 4; i++) {
      const entry = linear.u64[table / 8 + i]!;
      if (entry & 1n && entry & reserved) throw new RangeError(`PDPTE ${i} 0x${entry.toString(16)} has reserved bits`);
    }
  }
}
