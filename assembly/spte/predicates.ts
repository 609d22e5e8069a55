/** What an SPTE says. KVM's definitions are in arch/x86/kvm/mmu/spte.h; the masks are the VM's own. */
import { Vm } from "../abi/records";
import { SPTE_ADDRESS, SPTE_AD_DISABLED, SPTE_AD_TYPE, SPTE_MMU_PRESENT, SPTE_PS, SPTE_W } from "../abi/spte";

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
@inline export function isMmuWritable(vm: Vm, spte: u64): bool {
  return (spte & vm.mmuWritable) != 0;
}

// @ts-ignore: decorator
@inline export function isMmio(vm: Vm, spte: u64): bool {
  return (spte & vm.mmioMask) == vm.mmioValue && vm.mmioCaching != 0;
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
@inline export function accessedMask(vm: Vm, spte: u64): u64 {
  return adEnabled(spte) ? vm.accessed : 0;
}

// @ts-ignore: decorator
@inline export function dirtyMask(vm: Vm, spte: u64): u64 {
  return adEnabled(spte) ? vm.dirty : 0;
}

/** Rights were taken away to notice the next access. */
// @ts-ignore: decorator
@inline export function isAccessTracked(vm: Vm, spte: u64): bool {
  return !adEnabled(spte) && (spte & vm.accTrack) == 0;
}

// @ts-ignore: decorator
@inline export function isAccessed(vm: Vm, spte: u64): bool {
  const mask = accessedMask(vm, spte);
  return mask != 0 ? (spte & mask) != 0 : !isAccessTracked(vm, spte);
}

// @ts-ignore: decorator
@inline export function isDirty(vm: Vm, spte: u64): bool {
  const mask = dirtyMask(vm, spte);
  return mask != 0 ? (spte & mask) != 0 : isWritable(spte);
}

// @ts-ignore: decorator
@inline export function isExecutable(vm: Vm, spte: u64): bool {
  const x = vm.x;
  return (spte & (x | vm.nx)) == x;
}

/**
 * Host-physical address bits of an entry; the encryption bit is none of them (SPTE_BASE_ADDR_MASK is physical_mask, from
 * which the kernel takes it).
 */
// @ts-ignore: decorator
@inline export function addressMask(vm: Vm): u64 {
  return SPTE_ADDRESS & ~vm.meValue;
}

// @ts-ignore: decorator
@inline export function addressOf(vm: Vm, spte: u64): u64 {
  return spte & addressMask(vm);
}
