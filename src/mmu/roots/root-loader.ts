/** Making a vCPU's root: an ordinary shadow page, with the tables right below it where it stands above the guest's own. */

import { bitOf, PTE } from "../../abi/index.js";
import { SHADOW_CODES, SP_LOW } from "../../abi/shadow.js";
import { OutOfMemoryError } from "../../errors.js";
import { ROLE_DIRECT, ROLE_LEVEL_PROMOTED, ROLE_PAE_ROOT, roleGuestLevel, roleLevel } from "../../role/index.js";
import type { PagingContext } from "../context/context.js";
import type { Cpu } from "../machine/cpu.js";
import type { Machine } from "../machine/machine.js";

const { LOW_LATCHED, LOW_PDPT } = SHADOW_CODES;

const ADDRESS = bitOf(PTE, "ADDRESS");
const PRESENT = bitOf(PTE, "P");
/** Bits 11:5 of a PAE guest's CR3, which place its table in the page. */
const CR3_LOW = bitOf(SP_LOW, "CR3");

/** CR3 bits 11:5 and the latch, where the guest's root is a page-directory-pointer table; part of the root's name. */
export function rootLow(vm: Machine, context: PagingContext, pgd: bigint): number {
  if (context.guestLevel !== 3 || context.rootRole & ROLE_DIRECT) return 0;
  return Number(pgd & CR3_LOW) | LOW_PDPT | (latches(vm, context) ? LOW_LATCHED : 0);
}

function latches(vm: Machine, context: PagingContext): boolean {
  return !context.livePdptes || vm.nestedPdptes === "loaded";
}

/** Reads the PDPTEs of L1's PAE NPT where its root is named by them; those that lie in no slot count as not present. */
export function latchNestedPdptes(vm: Machine, cpu: Cpu, context: PagingContext): void {
  if (!context.livePdptes || context.guestLevel !== 3 || !latches(vm, context)) return;
  const table = context.pgd & (ADDRESS | CR3_LOW);
  const bytes = vm.guest.read(table, 32, cpu.space) ?? new Uint8Array(32);
  context.pdptes = [...new BigUint64Array(bytes.slice().buffer)];
}

/** Loads a context's root for its current guest table; false where that lies in no slot. The caches were topped up. */
export function loadRoot(vm: Machine, cpu: Cpu, context: PagingContext): boolean {
  latchNestedPdptes(vm, cpu, context);
  const role = context.rootRole;
  const direct = (role & ROLE_DIRECT) !== 0;
  const table = direct ? 0n : context.pgd;
  const gfn = (table & ADDRESS) >> 12n;
  if (direct && vm.tdpMmu !== undefined) {
    context.roots.setCurrent({ page: vm.tdpMmu.root(role), pgd: 0n });
    return true;
  }
  if (!direct && !isVisible(vm, cpu, context, gfn)) {
    if (!vm.has("dummy-root")) return false;
    context.roots.setDummy();
    return true;
  }
  if (!vm.core.makeRoom()) {
    throw new OutOfMemoryError("the limit on shadow pages leaves none for a root");
  }
  vm.settle();
  const page = vm.providePageNamed(cpu, { gfn, role, low: rootLow(vm, context, table) });
  vm.core.pages.header(page).rootCount++;
  context.roots.setCurrent({ page, pgd: table });
  fillRoot(vm, cpu, page);
  return true;
}

/**
 * The root table, and for a PAE guest each directory, is memory that the guest has (mmu_check_root). With dummy roots a
 * directory that is not is an entry of the root's that stays empty.
 */
function isVisible(vm: Machine, cpu: Cpu, context: PagingContext, root: bigint): boolean {
  const latched = context.guestLevel === 3 && latches(vm, context) && !vm.has("dummy-root");
  const pdptes = latched ? context.pdptes.filter((pdpte) => pdpte & PRESENT) : [];
  const gfns = [root, ...pdptes.map((pdpte) => vm.guest.gfnOf(pdpte & ADDRESS))];
  return gfns.every((gfn) => vm.slots.visible(cpu.space, gfn) !== undefined);
}

/**
 * Links the tables right below a root that stands above the guest's own tables or holds its PDPTEs, down to level 2:
 * from here on the guest's writes to its top-level tables are seen, as a kernel with special roots sees them. Guests
 * of four and five levels have one top-level table, which the first fault links.
 */
export function fillRoot(vm: Machine, cpu: Cpu, page: number): void {
  const header = vm.core.pages.header(page);
  const { role, low } = header;
  const level = roleLevel(role);
  const stands = (role & (ROLE_PAE_ROOT | ROLE_LEVEL_PROMOTED)) !== 0 || low !== 0;
  if (!stands || roleGuestLevel(role) > 3 || level < 3 || (role & ROLE_DIRECT && !(role & ROLE_PAE_ROOT))) return;
  header.gap = 0;
  for (let index = 0; index < (level === 3 ? 4 : 1); index++) {
    if (cpu.core.requestRootChild(page, index)) {
      vm.providePage(cpu);
      cpu.core.linkRootChild(page, index);
      vm.settle();
    }
    const child = vm.pages.child(page, index);
    if (level > 3 && child !== 0) fillRoot(vm, cpu, child);
  }
}

/** The processor's own check of the PDPTEs of a pae_root at VM entry: no reserved bit in a present entry. */
export function checkPaeRoot(vm: Machine, context: PagingContext): void {
  const page = context.roots.currentPage;
  const { pages } = vm.core;
  if (page === 0 || (pages.role(page) & ROLE_PAE_ROOT) === 0) return;
  const reserved = context.core.mmu.shadowReserved(2);
  for (let i = 0; i < 4; i++) {
    const entry = pages.spte(page, i);
    if (entry & PRESENT && entry & reserved)
      throw new RangeError(`PDPTE ${i} 0x${entry.toString(16)} has reserved bits`);
  }
}
