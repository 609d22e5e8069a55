/**
 * GPA aliases: bits of guest-physical addresses that a VM has made attributes, so that several addresses name one page.
 * An address keeps them, and so do tables indexed by it; a gfn never has them: memslots, rmap, dirty log and
 * write-tracking know the page only. No memslot holds a gfn with such a bit.
 */
import { ShadowPage, Vcpu, Vm } from "../abi/records";
import { ACC_ALL, ACC_EXEC } from "../abi/spte";

/** Alias bits start here, in a gfn: none lies below bit 32 of an address. */
// @ts-ignore: decorator
@inline const FIRST_BIT: u64 = 20;
/** Their place in a page's `low`. */
// @ts-ignore: decorator
@inline const LOW_SHIFT: u32 = 12;

/** The gfn without alias bits. */
// @ts-ignore: decorator
@inline export function plainGfn(vm: Vm, gfn: u64): u64 {
  return gfn & ~vm.aliasMask;
}

/** The gfn of a guest-physical address. */
// @ts-ignore: decorator
@inline export function gfnOfAddress(vm: Vm, gpa: u64): u64 {
  return plainGfn(vm, gpa >> 12);
}

/** Alias bits of the gfns [gfn, gfn + pages), where they are the same for all; `gfn` as the table is indexed. */
// @ts-ignore: decorator
@inline export function aliasBits(vm: Vm, gfn: u64): u64 {
  return gfn & vm.aliasMask;
}

/** What a page's name has for its alias bits, and back. */
// @ts-ignore: decorator
@inline export function lowOfAlias(alias: u64): u32 {
  return (<u32>(alias >> FIRST_BIT)) << LOW_SHIFT;
}

/** Alias bits of a direct page's gfns. */
// @ts-ignore: decorator
@inline export function aliasOf(sp: ShadowPage): u64 {
  return (<u64>(sp.low >> LOW_SHIFT)) << FIRST_BIT;
}

/** Rights (ACC_* bits) that a direct mapping may give through an alias. */
// @ts-ignore: decorator
@inline export function aliasRights(vm: Vm, alias: u64): u32 {
  return alias & vm.executeOnly ? ACC_EXEC : ACC_ALL;
}

/** Rights that a direct mapping may give to the address of the fault in progress. */
export function directRights(vcpu: Vcpu): u32 {
  return aliasRights(vcpu.vm, vcpu.fAddress >> 12);
}
