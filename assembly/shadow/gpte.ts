// Guest page-table entries as sync and prefetch read them, in the format that the context's space describes.
import { PTE32_ADDRESS, PTE_A, PTE_ADDRESS, PTE_D, PTE_P } from "../abi/bits";
import { FORMAT_32, MMU_FORMAT, MMU_HAVE_AD, MMU_SPACE } from "../abi/shadow";
import { ACC_WRITE } from "../abi/spte";
import { rightsOf } from "../walk/legacy";
import { reservedBits } from "../walk/reserved";

// @ts-ignore: decorator
@inline export function gpteBytes(mmu: usize): u32 {
  return load<u32>(mmu, MMU_FORMAT) == FORMAT_32 ? 4 : 8;
}

// @ts-ignore: decorator
@inline export function readGpte(mmu: usize, pointer: usize): u64 {
  return load<u32>(mmu, MMU_FORMAT) == FORMAT_32 ? <u64>load<u32>(pointer) : load<u64>(pointer);
}

/** A level-1 entry that may be mapped without an access: present, accessed (where tables have A bits), well-formed. */
export function gpteUsable(mmu: usize, gpte: u64): bool {
  const wanted = load<u32>(mmu, MMU_HAVE_AD) != 0 ? PTE_P | PTE_A : PTE_P;
  if ((gpte & wanted) != wanted) return false;
  return (gpte & reservedBits(load<u32>(mmu, MMU_SPACE), 1, gpte)) == 0;
}

/** ACC_* bits of an entry. */
// @ts-ignore: decorator
@inline export function gpteAccess(mmu: usize, gpte: u64): u32 {
  return rightsOf(load<u32>(mmu, MMU_SPACE), gpte);
}

// @ts-ignore: decorator
@inline export function gpteGfn(mmu: usize, gpte: u64): u64 {
  return (gpte & (load<u32>(mmu, MMU_FORMAT) == FORMAT_32 ? <u64>PTE32_ADDRESS : PTE_ADDRESS)) >> 12;
}

/** A page whose entry is not dirty is mapped read-only, so that the first write is seen and D can be set. */
// @ts-ignore: decorator
@inline export function protectClean(mmu: usize, access: u32, gpte: u64): u32 {
  if (load<u32>(mmu, MMU_HAVE_AD) == 0 || (gpte & PTE_D) != 0) return access;
  return access & ~ACC_WRITE;
}
