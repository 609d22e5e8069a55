/**
 * What processors remember of the tables: each translation that an access used, until its vCPU flushes, gets another root, or
 * is told to flush. Until then the processor may use it though the tables have it no more, and that must do no harm: it leads
 * to the host's page of now, and does not write where a write would have to be noticed.
 */
import { SHADOW_CODES } from "../../../src/abi/shadow.js";
import { Access } from "../../../src/index.js";
import type { PendingFlush, Vcpu, VirtualMachine } from "../../../src/mmu/index.js";
import { roleHasGptes, roleIsInvalid, roleSmm } from "../../../src/role/index.js";
import type { Host } from "./host.js";

/** By address and access: where the translation leads. */
type Remembered = Map<string, { readonly address: bigint; readonly access: number; readonly pa: bigint }>;

const PAGE = ~0xfffn;
const { LOW_LATCHED, MEMSLOT_READONLY: READ_ONLY } = SHADOW_CODES;

export class Tlbs {
  readonly #entries = new Map<Vcpu, Remembered>();
  readonly #roots = new Map<Vcpu, number>();

  constructor(
    readonly vm: VirtualMachine,
    readonly host: Host,
  ) {}

  #of(vcpu: Vcpu): Remembered {
    let found = this.#entries.get(vcpu);
    if (found === undefined) {
      found = new Map();
      this.#entries.set(vcpu, found);
    }
    return found;
  }

  /** An access has used a translation. */
  keep(vcpu: Vcpu, address: bigint, access: number, pa: bigint): void {
    this.#enter(vcpu);
    this.#of(vcpu).set(`${address & PAGE} ${access}`, { address: address & PAGE, access, pa: pa & PAGE });
  }

  /** The vCPU's guest flushes everything. */
  flush(vcpu: Vcpu): void {
    this.#entries.delete(vcpu);
  }

  /** The vCPU's guest flushes one address. */
  flushPage(vcpu: Vcpu, address: bigint): void {
    for (const [key, one] of this.#of(vcpu)) if (one.address === (address & PAGE)) this.#of(vcpu).delete(key);
  }

  /** Translations have the root that they came from: what another one gives is not mixed up with them. */
  #enter(vcpu: Vcpu): void {
    const root = vcpu.state.mmu.roots.current.page;
    if (this.#roots.get(vcpu) !== root) this.flush(vcpu);
    this.#roots.set(vcpu, root);
  }

  /** Serves what the MMU asks to be flushed, and throws where a translation that is still remembered does harm. */
  check(pending: PendingFlush = this.vm.takeFlushes()): void {
    if (pending === "all" || pending.length > 0) this.#entries.clear();
    const tables = this.#tables();
    for (const vcpu of [...this.#entries.keys()]) {
      this.#enter(vcpu);
      for (const { address, access, pa } of this.#of(vcpu).values()) {
        const what = `vCPU ${vcpu.id} was told of no flush of ${address.toString(16)} (access ${access})`;
        const hva = this.host.hvaOf(pa);
        if (hva === undefined) throw new Error(`${what}, where frame ${pa.toString(16)} is not the host's any more`);
        if ((access & Access.Write) === 0) continue;
        if (this.host.isShared(hva)) throw new Error(`${what}, where the page became shared`);
        const { space } = vcpu.state;
        const slot = this.vm.state.slots.slots.find(
          ({ addressSpace, flags, hva: from, pages }) =>
            addressSpace === space && !(flags & READ_ONLY) && hva >= from && hva < from + (BigInt(pages) << 12n),
        );
        if (slot === undefined) throw new Error(`${what}, where no slot is any more`);
        const page = (hva - slot.hva) >> 12n;
        if (slot.core.hasLog && !slot.core.isDirty(Number(page)))
          throw new Error(`${what}, where page ${page} of slot ${slot.id} is not in the log`);
        if (tables.has(`${space} ${slot.base + page}`)) throw new Error(`${what}, where a table is that is in sync`);
      }
    }
  }

  /** Address space and gfn of every table whose writes have to be noticed. */
  #tables(): Set<string> {
    const found = new Set<string>();
    const { pages } = this.vm.state;
    for (const page of pages.active()) {
      const { gfn, role, low, unsync } = pages.core.pages.header(page);
      const shadows = roleHasGptes(role) && (low & LOW_LATCHED) === 0;
      if (shadows && unsync === 0 && !roleIsInvalid(role) && !pages.isObsolete(page))
        found.add(`${roleSmm(role) === 0 ? 0 : 1} ${gfn}`);
    }
    return found;
  }
}
