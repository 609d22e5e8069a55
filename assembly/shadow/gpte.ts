// Guest page-table entries in the three formats that can be shadowed.
import {
  FORMAT_32,
  FORMAT_EPT,
  MMU_FLAGS,
  MMU_FORMAT,
  MMU_GUEST_BAD_MT_XWR,
  MMU_GUEST_RESERVED,
  MMU_HAVE_AD,
  MMU_PSE,
} from "../abi/shadow";
import { ACC_EXEC, ACC_USER, ACC_WRITE } from "../abi/spte";

// @ts-ignore: decorator
@inline const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

// @ts-ignore: decorator
@inline export function gpteBytes(mmu: usize): u32 {
  return load<u32>(mmu, MMU_FORMAT) == FORMAT_32 ? 4 : 8;
}

// @ts-ignore: decorator
@inline export function readGpte(mmu: usize, pointer: usize): u64 {
  return load<u32>(mmu, MMU_FORMAT) == FORMAT_32 ? <u64>load<u32>(pointer) : load<u64>(pointer);
}

// @ts-ignore: decorator
@inline export function gptePresent(mmu: usize, gpte: u64): bool {
  return (gpte & (load<u32>(mmu, MMU_FORMAT) == FORMAT_EPT ? 7 : 1)) != 0;
}

/** Bit positions of accessed and dirty; dirty is the next bit in all formats. */
// @ts-ignore: decorator
@inline export function accessedBit(mmu: usize): u64 {
  return load<u32>(mmu, MMU_FORMAT) == FORMAT_EPT ? 1 << 8 : 1 << 5;
}

/** Linear-address bits below a level: 10 a level for 4-byte entries, else 9. */
// @ts-ignore: decorator
@inline export function levelShift(mmu: usize, level: u32): u64 {
  return 12 + <u64>(level - 1) * (load<u32>(mmu, MMU_FORMAT) == FORMAT_32 ? 10 : 9);
}

export function gpteReserved(mmu: usize, gpte: u64, level: u32): bool {
  const place = mmu + ((<usize>((gpte >> 7) & 1) * 5 + <usize>(level - 1)) << 3);
  if (gpte & load<u64>(place, MMU_GUEST_RESERVED)) return true;
  return load<u32>(mmu, MMU_FORMAT) == FORMAT_EPT && ((load<u64>(mmu, MMU_GUEST_BAD_MT_XWR) >> (gpte & 63)) & 1) != 0;
}

/** A leaf: level 1, or PS where PS maps a page (in 32-bit paging only with CR4.PSE). */
export function gpteLast(mmu: usize, gpte: u64, level: u32): bool {
  if (level == 1) return true;
  if ((gpte & 0x80) == 0) return false;
  return load<u32>(mmu, MMU_FORMAT) != FORMAT_32 || (load<u32>(mmu, MMU_FLAGS) & MMU_PSE) != 0;
}

/** ACC_* bits of an entry. EPT's read permission takes the place of the user bit. */
export function gpteAccess(mmu: usize, gpte: u64): u32 {
  if (load<u32>(mmu, MMU_FORMAT) == FORMAT_EPT) {
    return (gpte & 2 ? ACC_WRITE : 0) | (gpte & 4 ? ACC_EXEC : 0) | (gpte & 1 ? ACC_USER : 0);
  }
  return (<u32>gpte & 7) ^ <u32>(gpte >> 63);
}

// @ts-ignore: decorator
@inline export function gpteGfn(gpte: u64): u64 {
  return (gpte & ADDRESS) >> 12;
}

/** gfn of a large leaf. */
// @ts-ignore: decorator
@inline export function gpteGfnAt(mmu: usize, gpte: u64, level: u32): u64 {
  return (gpte & ADDRESS & ~((<u64>1 << levelShift(mmu, level)) - 1)) >> 12;
}

/** A page whose entry is not dirty is mapped read-only, so that the first write is seen and D can be set. */
// @ts-ignore: decorator
@inline export function protectClean(mmu: usize, access: u32, gpte: u64): u32 {
  if (load<u32>(mmu, MMU_HAVE_AD) == 0 || (gpte & (accessedBit(mmu) << 1)) != 0) return access;
  return access & ~ACC_WRITE;
}
