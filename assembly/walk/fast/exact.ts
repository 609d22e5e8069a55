/**
 * One access in full, but without a record of it: the physical address or the fault, for batches. It covers every
 * legacy mode and any number of slots; what would change an entry, needs a second stage or a page that is not there is
 * NOT_FAST, like shadow-stack accesses, and the full walk takes it. The rules are those of `walkLegacy`.
 */
import {
  ACCESS_PROBE,
  ACCESS_SHADOW_STACK,
  BATCH_FAULT,
  PFERR_P,
  PFERR_RSVD,
  PFERR_U,
  PFERR_W,
  PTE_A,
  PTE_D,
  PTE_P,
  PTE_PKEY,
  PTE_PKEY_SHIFT,
} from "../../abi/bits";
import {
  FEATURE_ACCESSED_ON_FAULT,
  FEATURE_LIVE_PDPTES,
  KIND_GUEST,
  MODE_32BIT,
  MODE_NONE,
  MODE_PAE,
  NOT_READ,
  STATUS_NON_CANONICAL,
  STATUS_PAGE_FAULT,
  STATUS_SPACE_SEPARATION,
} from "../../abi/codes";
import { Space } from "../../abi/records";
import { resolve } from "../../memory/resolve";
import { guestCode } from "../access";
import { isLeaf, pageAddress, rightsOf } from "../legacy";
import { isCanonical, linearOf, violatesSeparation } from "../linear";
import { denies, keyDenial } from "../permissions";
import { NOT_FAST } from "../plan";
import { reservedBits } from "../reserved";

/** The physical address, BATCH_FAULT | status << 16 | error code, or NOT_FAST. */
export function walkExact(space: Space, given: u64, access: u32): u64 {
  const mode = space.mode;
  if (space.kind != KIND_GUEST || space.second != null || mode == MODE_NONE) return NOT_FAST;
  if ((space.features & FEATURE_ACCESSED_ON_FAULT) | (access & ACCESS_SHADOW_STACK)) return NOT_FAST;
  if (violatesSeparation(space, given, access)) return BATCH_FAULT | (STATUS_SPACE_SEPARATION << 16);
  const address = linearOf(space, given, access);
  if (!isCanonical(space, address)) return BATCH_FAULT | (STATUS_NON_CANONICAL << 16);

  const memory = space.memory;
  const addressMask = space.addressMask;
  const code = guestCode(access);
  const narrow = mode == MODE_32BIT;
  const indexBits: u64 = narrow ? 10 : 9;
  let level = space.rootLevel;
  let shift: u64 = 12 + <u64>(level - 1) * indexBits;
  let table = space.root;
  let rights: u32 = 7;
  let clear: u64 = 0;
  if (mode == MODE_PAE && !(space.features & FEATURE_LIVE_PDPTES)) {
    const pdpte = space.pdptes(<u32>(address >> 30));
    if (!(pdpte & PTE_P)) return fault(space, code, 0);
    if (pdpte & reservedBits(space, 3, pdpte)) return fault(space, code, PFERR_P | PFERR_RSVD);
    table = pdpte & addressMask;
    level = 2;
    shift = 21;
  }
  while (true) {
    const index = (address >> shift) & ((1 << indexBits) - 1);
    const pointer = resolve(memory, table + (narrow ? index << 2 : index << 3));
    if (pointer >= NOT_READ) return NOT_FAST;
    const entry = narrow ? <u64>load<u32>(pointer) : load<u64>(pointer);
    if (!(entry & PTE_P)) return fault(space, code, 0);
    if (entry & reservedBits(space, level, entry)) return fault(space, code, PFERR_P | PFERR_RSVD);
    if (mode != MODE_PAE || level != 3) {
      rights &= rightsOf(space, entry);
      clear |= ~entry & PTE_A;
      if (isLeaf(space, level, entry)) {
        const key: u32 = mode > MODE_PAE ? <u32>((entry & PTE_PKEY) >> PTE_PKEY_SHIFT) : 0;
        const denied = keyDenial(space, code, rights, key);
        if (denied || denies(space, code, rights)) return fault(space, code, PFERR_P | denied);
        if (code & PFERR_W) clear |= ~entry & PTE_D;
        if (clear != 0 && !(access & ACCESS_PROBE)) return NOT_FAST;
        const offsetMask: u64 = ((<u64>1) << shift) - 1;
        return pageAddress(space, level, entry, offsetMask) | (address & offsetMask);
      }
    }
    table = entry & addressMask;
    level--;
    shift -= indexBits;
  }
}

// @ts-ignore: decorator
@inline function fault(space: Space, code: u32, cause: u32): u64 {
  return BATCH_FAULT | (STATUS_PAGE_FAULT << 16) | cause | reportedCode(space, code);
}

/** The part of an error code that says what the access was. */
// @ts-ignore: decorator
@inline export function reportedCode(space: Space, code: u32): u32 {
  return code & (PFERR_W | PFERR_U | space.fetchCode);
}
