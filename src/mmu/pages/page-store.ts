/** The shadow pages of a VM: finding or making the one that the core asks for, and taking back what it has freed. */

import { bitOf } from "../../abi/index.js";
import { SHADOW_CODES } from "../../abi/shadow.js";
import { SPTE } from "../../abi/spte.js";
import type { ContextCore } from "../../core/mmu/context-core.js";
import type { MmuCore } from "../../core/mmu/mmu-core.js";
import { PageMemory } from "../../core/mmu/page-memory.js";
import type { VcpuCore } from "../../core/mmu/vcpu-core.js";
import { ROLE_DIRECT, ROLE_INVALID, ROLE_LEVEL_PROMOTED, ROLE_PAE_ROOT } from "../../role/index.js";
import type { EncryptionHooks } from "../config/config.js";
import { MemoryCaches } from "./memory-cache.js";

const { LOW_LATCHED } = SHADOW_CODES;

const MMU_PRESENT = bitOf(SPTE, "MMU_PRESENT");

export class PageStore {
  readonly caches: MemoryCaches;
  /** @internal */
  readonly memory: PageMemory;

  /** Throws OutOfMemoryError. */
  constructor(
    readonly core: MmuCore,
    encryption: EncryptionHooks | undefined,
  ) {
    this.memory = new PageMemory(core);
    this.caches = new MemoryCaches(this.memory, encryption);
  }

  /** Pages that can be found by name. */
  get named(): number {
    return this.memory.hash.size;
  }

  /** Whether a page can be found by name. */
  isNamed(page: number): boolean {
    return this.memory.hash.has(page);
  }

  /** A page cannot be found by name any more, though it is there: for tests of the audit. */
  forgetName(page: number): void {
    this.memory.hash.remove(page);
  }

  /**
   * Finds or makes the page that a vCPU's record asks for; the latched PDPTEs of `context` may belong to its name. `settle`
   * collects what taking a page as it is has zapped.
   */
  provide(vcpu: VcpuCore, context: ContextCore, settle: () => void): number {
    const { record } = vcpu;
    const { hash } = this.memory;
    const found = hash.find(record, context.space, this.core.vm.validGen);
    this.memory.reserve();
    const usable = vcpu.requestAdopt(found);
    settle();
    if (usable) return found;
    const role = record.reqRole;
    const latched = (record.reqLow & LOW_LATCHED) !== 0;
    const translations = (role & (ROLE_DIRECT | ROLE_LEVEL_PROMOTED)) === 0 && !latched;
    const page = this.caches.take((role & ROLE_PAE_ROOT) !== 0, translations);
    vcpu.requestCreate(page);
    hash.insert(page);
    return page;
  }

  /** Takes back the pages that the core has freed. */
  collectFreed(): void {
    this.memory.collectFreed((page, role) => this.caches.give(page, (role & ROLE_PAE_ROOT) !== 0));
  }

  /** The page that entry `index` of a page links to, 0 for none. */
  child(page: number, index: number): number {
    const { pages } = this.core;
    const spte = pages.spte(page, index);
    return (spte & MMU_PRESENT) === 0n ? 0 : pages.pageOfTable(pages.tableOf(spte));
  }

  isObsolete(page: number): boolean {
    const { role, tdp, generation } = this.core.pages.header(page);
    if ((role & ROLE_INVALID) !== 0) return true;
    // The TDP MMU's roots are invalidated one by one.
    return tdp === 0 && generation !== this.core.vm.validGen;
  }

  isUnsync(page: number): boolean {
    const { unsync, unsyncChildren } = this.core.pages.header(page);
    return unsync !== 0 || unsyncChildren !== 0;
  }

  /** The active pages, newest first. */
  active(): number[] {
    return this.core.pages.active();
  }

  /** @internal The tables of the low zone are read without encryption from here on. */
  decryptLow(): void {
    const roots = this.core.pages.bound(this.memory.blocks.tables).filter((page) => {
      return (this.core.pages.role(page) & ROLE_PAE_ROOT) !== 0;
    });
    this.caches.decryptLow(roots.map((page) => this.core.pages.header(page).spt));
  }

  /** @internal Frees everything as if it had never been made: nobody is told. */
  abandon(): void {
    this.memory.dispose();
  }

  /** Frees everything; nothing counts as stocked afterwards. */
  dispose(): void {
    this.caches.dispose();
  }
}
