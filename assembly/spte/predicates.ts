/** What an SPTE says. KVM's definitions are in arch/x86/kvm/mmu/spte.h; the masks are the VM's own. */
import { SPTE_AD_DISABLED, SPTE_AD_TYPE, SPTE_ADDRESS, SPTE_MMU_PRESENT, SPTE_PS, SPTE_W } from "../abi/spte";
import {
  VM_ACC_TRACK,
  VM_ACCESSED,
  VM_DIRTY,
  VM_MMIO_CACHING,
  VM_MMIO_MASK,
  VM_MMIO_VALUE,
  VM_MMU_WRITABLE,
  VM_NX,
  VM_X,
  VM_ME_VALUE,
} from "../abi/shadow";

// @ts-ignore: decorator
@inline export function isPresent(spte: u64): bool {
  return (spte & SPTE_MMU_PRESENT) != 0;
}

// @ts-ignore: decorator
@inline export function isLarge(spte: u64): bool {
  return (spte & SPTE_PS) != 0;
}

/** Maps memory rather than a table; the SPTE is present. */
// @ts-ignore: decorator
@inline export function isLast(spte: u64, level: u32): bool {
  return level == 1 || isLarge(spte);
}

// @ts-ignore: decorator
@inline export function isWritable(spte: u64): bool {
  return (spte & SPTE_W) != 0;
}

// @ts-ignore: decorator
@inline export function isMmuWritable(vm: usize, spte: u64): bool {
  return (spte & load<u64>(vm, VM_MMU_WRITABLE)) != 0;
}

// @ts-ignore: decorator
@inline export function isMmio(vm: usize, spte: u64): bool {
  return (spte & load<u64>(vm, VM_MMIO_MASK)) == load<u64>(vm, VM_MMIO_VALUE) && load<u32>(vm, VM_MMIO_CACHING) != 0;
}

// @ts-ignore: decorator
@inline export function adEnabled(spte: u64): bool {
  return (spte & SPTE_AD_TYPE) != SPTE_AD_DISABLED;
}

/** Dirty logging has to clear W, because the processor does not set (or log) D for this SPTE. */
// @ts-ignore: decorator
@inline export function adNeedsWriteProtect(spte: u64): bool {
  return (spte & SPTE_AD_TYPE) != 0;
}

// @ts-ignore: decorator
@inline export function accessedMask(vm: usize, spte: u64): u64 {
  return adEnabled(spte) ? load<u64>(vm, VM_ACCESSED) : 0;
}

// @ts-ignore: decorator
@inline export function dirtyMask(vm: usize, spte: u64): u64 {
  return adEnabled(spte) ? load<u64>(vm, VM_DIRTY) : 0;
}

/** Rights were taken away to notice the next access. */
// @ts-ignore: decorator
@inline export function isAccessTracked(vm: usize, spte: u64): bool {
  return !adEnabled(spte) && (spte & load<u64>(vm, VM_ACC_TRACK)) == 0;
}

// @ts-ignore: decorator
@inline export function isAccessed(vm: usize, spte: u64): bool {
  const mask = accessedMask(vm, spte);
  return mask != 0 ? (spte & mask) != 0 : !isAccessTracked(vm, spte);
}

// @ts-ignore: decorator
@inline export function isDirty(vm: usize, spte: u64): bool {
  const mask = dirtyMask(vm, spte);
  return mask != 0 ? (spte & mask) != 0 : isWritable(spte);
}

// @ts-ignore: decorator
@inline export function isExecutable(vm: usize, spte: u64): bool {
  const x = load<u64>(vm, VM_X);
  return (spte & (x | load<u64>(vm, VM_NX))) == x;
}

/**
 * Host-physical address bits of an entry; the encryption bit is none of them (SPTE_BASE_ADDR_MASK is physical_mask, from
 * which the kernel takes it).
 */
// @ts-ignore: decorator
@inline export function addressMask(vm: usize): u64 {
  return SPTE_ADDRESS & ~load<u64>(vm, VM_ME_VALUE);
}

// @ts-ignore: decorator
@inline export function addressOf(vm: usize, spte: u64): u64 {
  return spte & addressMask(vm);
}
