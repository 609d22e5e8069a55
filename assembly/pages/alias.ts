/**
 * GPA aliases: bits of guest-physical addresses that a VM has made attributes, so that several addresses name one page.
 * An address keeps them, and so do tables indexed by it; a gfn never has them: memslots, rmap, dirty log and
 * write-tracking know the page only. No memslot holds a gfn with such a bit.
 */
import { SP_LOW, VCPU_F_ADDRESS, VCPU_VM, VM_ALIAS_MASK, VM_EXECUTE_ONLY } from "../abi/shadow";
import { ACC_ALL, ACC_EXEC } from "../abi/spte";

/** Alias bits start here, in a gfn: none lies below bit 32 of an address. */
// @ts-ignore: decorator
@inline const FIRST_BIT: u64 = 20;
/** Their place in SP_LOW. */
// @ts-ignore: decorator
@inline const LOW_SHIFT: u32 = 12;

/** The gfn without alias bits. */
// @ts-ignore: decorator
@inline export function plainGfn(vm: usize, gfn: u64): u64 {
  return gfn & ~load<u64>(vm, VM_ALIAS_MASK);
}

/** The gfn of a guest-physical address. */
// @ts-ignore: decorator
@inline export function gfnOfAddress(vm: usize, gpa: u64): u64 {
  return plainGfn(vm, gpa >> 12);
}

/** Alias bits of the gfns [gfn, gfn + pages), where they are the same for all; `gfn` as the table is indexed. */
// @ts-ignore: decorator
@inline export function aliasBits(vm: usize, gfn: u64): u64 {
  return gfn & load<u64>(vm, VM_ALIAS_MASK);
}

/** What a page's name has for its alias bits, and back. */
// @ts-ignore: decorator
@inline export function lowOfAlias(alias: u64): u32 {
  return (<u32>(alias >> FIRST_BIT)) << LOW_SHIFT;
}

/** Alias bits of a direct page's gfns. */
// @ts-ignore: decorator
@inline export function aliasOf(sp: usize): u64 {
  return (<u64>(load<u32>(sp, SP_LOW) >> LOW_SHIFT)) << FIRST_BIT;
}

/** Rights (ACC_* bits) that a direct mapping may give through an alias. */
// @ts-ignore: decorator
@inline export function aliasRights(vm: usize, alias: u64): u32 {
  return alias & load<u64>(vm, VM_EXECUTE_ONLY) ? ACC_EXEC : ACC_ALL;
}

/** Rights that a direct mapping may give to the address of the fault in progress. */
export function directRights(vcpu: usize): u32 {
  return aliasRights(load<u32>(vcpu, VCPU_VM), load<u64>(vcpu, VCPU_F_ADDRESS) >> 12);
}
