/** The shadow pages of a VM: finding or making the one that the core asks for, and taking back what it has freed. */

import { SHADOW_CODES } from "../../abi/shadow.js";
import type { CoreExports } from "../../core/exports.js";
import type { LinearMemory } from "../../core/linear-memory.js";
import { ROLE_DIRECT, ROLE_INVALID, ROLE_LEVEL_PROMOTED, ROLE_PAE_ROOT } from "../../role/index.js";
import type { EncryptionHooks } from "../config/config.js";
import { PAGE_WORD, pageRecord, VCPU_WORD, VM_WORD, vmRecord } from "../memory/records.js";
import { GfnChains } from "./gfn-chains.js";
import { linkedPages } from "./linked-pages.js";
import { MemoryCaches } from "./memory-cache.js";
import { PageHash } from "./page-hash.js";

const { LOW_LATCHED } = SHADOW_CODES;

const SPTE_PRESENT = 0x800n;
const TABLE_ADDRESS = 0xffff_f000n;

export class PageStore {
  readonly hash: PageHash;
  readonly caches: MemoryCaches;
  readonly #chains: GfnChains;

  /** `pointer` is the VM record. Throws OutOfMemoryError. */
  constructor(
    readonly linear: LinearMemory,
    readonly exports: CoreExports,
    readonly pointer: number,
    encryption: EncryptionHooks | undefined,
  ) {
    this.#chains = new GfnChains(linear);
    this.#chains.attach(pointer);
    this.caches = new MemoryCaches(linear, pointer, encryption);
    this.hash = new PageHash(linear);
  }

  /**
   * Finds or makes the page of the request in the VCPU record at `vcpu`; `pdptes` is the linear address of the latched
   * PDPTEs, which may belong to its name. `settle` collects what taking a page as it is has zapped.
   */
  provide(vcpu: number, pdptes: number, settle: () => void): number {
    const { exports } = this;
    const words = this.linear.u32;
    const request = vcpu >>> 2;
    const generation = words[(this.pointer >>> 2) + VM_WORD.validGen]!;
    const found = this.hash.find(vcpu, pdptes, generation);
    this.hash.reserve();
    this.#chains.reserve(exports, this.pointer, this.hash.size);
    const usable = exports.requestAdopt(vcpu, found) !== 0;
    settle();
    if (usable) return found;
    const role = this.linear.u32[request + VCPU_WORD.reqRole]!;
    const latched = (this.linear.u32[request + VCPU_WORD.reqLow]! & LOW_LATCHED) !== 0;
    const translations = (role & (ROLE_DIRECT | ROLE_LEVEL_PROMOTED)) === 0 && !latched;
    const page = this.caches.take((role & ROLE_PAE_ROOT) !== 0, translations);
    exports.requestCreate(vcpu, page);
    this.hash.insert(page);
    return page;
  }

  /** Takes back the pages that the core has freed. */
  collectFreed(): void {
    const words = this.linear.u32;
    const record = this.pointer >>> 2;
    for (let page = words[record + VM_WORD.freed]!; page !== 0; ) {
      const next = words[(page >>> 2) + PAGE_WORD.link]!;
      this.hash.remove(page);
      this.caches.give(page, (words[(page >>> 2) + PAGE_WORD.role]! & ROLE_PAE_ROOT) !== 0);
      page = next;
    }
    words[record + VM_WORD.freed] = 0;
  }

  /** The page that entry `index` of a page links to, 0 for none. */
  child(page: number, index: number): number {
    const { linear } = this;
    const spte = linear.u64[linear.u32[(page >>> 2) + PAGE_WORD.spt]! / 8 + index]!;
    if ((spte & SPTE_PRESENT) === 0n) return 0;
    const table = Number(spte & TABLE_ADDRESS);
    return linear.u32[(vmRecord.get32(linear, this.pointer, "PAGE_MAP") >>> 2) + (table >>> 12)]!;
  }

  isObsolete(page: number): boolean {
    const words = this.linear.u32;
    const header = page >>> 2;
    if ((words[header + PAGE_WORD.role]! & ROLE_INVALID) !== 0) return true;
    // The TDP MMU's roots are invalidated one by one.
    if (words[header + PAGE_WORD.tdp] !== 0) return false;
    return words[header + PAGE_WORD.generation] !== words[(this.pointer >>> 2) + VM_WORD.validGen];
  }

  isUnsync(page: number): boolean {
    return (
      pageRecord.get32(this.linear, page, "UNSYNC") !== 0 ||
      pageRecord.get32(this.linear, page, "UNSYNC_CHILDREN") !== 0
    );
  }

  /** Headers of the active pages, newest first. */
  active(): number[] {
    return linkedPages(this.linear, this.pointer + vmRecord.offset("ACTIVE"));
  }

  /** Frees everything; nothing counts as stocked afterwards. */
  dispose(): void {
    this.caches.dispose();
    this.#chains.dispose();
  }
}
