/** Guest page-table entries as sync and prefetch read them, in the format that the context's space describes. */
import { EPT_A, EPT_D, EPT_R, EPT_W, EPT_X, PTE_A, PTE_D, PTE_P } from "../abi/bits";
import { Mmu, Vm } from "../abi/records";
import { FORMAT_32, FORMAT_64, FORMAT_EPT } from "../abi/shadow";
import { ACC_ALL, ACC_WRITE } from "../abi/spte";
import { aliasBits } from "../pages/alias";
import { eptRightsOf, isMisconfigured } from "../walk/ept";
import { rightsOf } from "../walk/legacy";
import { reservedBits } from "../walk/reserved";

// @ts-ignore: decorator
@inline export function gpteBytes(mmu: Mmu): u32 {
  return mmu.format == FORMAT_32 ? 4 : 8;
}

// @ts-ignore: decorator
@inline export function readGpte(mmu: Mmu, pointer: usize): u64 {
  return mmu.format == FORMAT_32 ? <u64>load<u32>(pointer) : load<u64>(pointer);
}

// @ts-ignore: decorator
@inline export function isEpt(mmu: Mmu): bool {
  return mmu.format == FORMAT_EPT;
}

/** Bit of an entry that says that it was used, and the one that says that the page was written. */
// @ts-ignore: decorator
@inline export function accessedBit(mmu: Mmu): u64 {
  return isEpt(mmu) ? EPT_A : PTE_A;
}

// @ts-ignore: decorator
@inline export function dirtyBit(mmu: Mmu): u64 {
  return isEpt(mmu) ? EPT_D : PTE_D;
}

// @ts-ignore: decorator
@inline export function gptePresent(mmu: Mmu, gpte: u64): bool {
  return (gpte & (isEpt(mmu) ? EPT_R | EPT_W | EPT_X : PTE_P)) != 0;
}

/** A level-1 entry that may be mapped without an access: present, accessed (where tables have A bits), well-formed. */
export function gpteUsable(mmu: Mmu, gpte: u64): bool {
  if (!gptePresent(mmu, gpte)) return false;
  if (mmu.haveAd != 0 && (gpte & accessedBit(mmu)) == 0) return false;
  const space = mmu.space;
  if (isEpt(mmu)) return !isMisconfigured(space, space.features, 1, true, gpte);
  return (gpte & reservedBits(space, 1, gpte)) == 0;
}

/** ACC_* bits of an entry; in EPT the user position means readable. */
// @ts-ignore: decorator
@inline export function gpteAccess(mmu: Mmu, gpte: u64): u32 {
  const space = mmu.space;
  return isEpt(mmu) ? eptRightsOf(space.features, gpte) & ACC_ALL : rightsOf(space, gpte);
}

/** gfn in an entry; its alias bits are no part of the space's address mask. */
// @ts-ignore: decorator
@inline export function gpteGfn(mmu: Mmu, gpte: u64): u64 {
  return (gpte & mmu.space.addressMask) >> 12;
}

/** Alias bits of the gfns in a leaf: what the address mask leaves out. Only 64-bit and PAE entries have them. */
// @ts-ignore: decorator
@inline export function gpteAlias(vm: Vm, mmu: Mmu, gpte: u64): u64 {
  return mmu.format == FORMAT_64 ? aliasBits(vm, gpte >> 12) : 0;
}

/** A page whose entry is not dirty is mapped read-only, so that the first write is seen and D can be set. */
// @ts-ignore: decorator
@inline export function protectClean(mmu: Mmu, access: u32, gpte: u64): u32 {
  if (mmu.haveAd == 0 || (gpte & dirtyBit(mmu)) != 0) return access;
  return access & ~ACC_WRITE;
}
