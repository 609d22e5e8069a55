/** The MMIO access that a vCPU remembers, so that the next one to the page needs no walk (vcpu_match_mmio_info). */
import {
  SLOTSET_GENERATION,
  VCPU_MMIO_ACCESS,
  VCPU_MMIO_GENERATION,
  VCPU_MMIO_GFN,
  VCPU_MMIO_GVA,
  VCPU_MMU,
  VCPU_VM,
  VCPU_WALK_MMU,
  VM_SLOTS,
} from "../abi/shadow";
import { gfnOfAddress } from "./alias";

/** The generation says that a slot update is in progress. */
// @ts-ignore: decorator
@inline export const IN_PROGRESS: u64 = 1 << 63;

/** The cache is tagged with the generation of the normal address space, in SMM too. */
export function normalGeneration(vcpu: usize): u64 {
  const set: usize = load<u32>(<usize>load<u32>(vcpu, VCPU_VM), VM_SLOTS);
  return load<u64>(set, SLOTSET_GENERATION);
}

export function cacheMmioInfo(vcpu: usize, gva: u64, gfn: u64, access: u32): void {
  const generation = normalGeneration(vcpu);
  if (generation & IN_PROGRESS) return;
  const nested = load<u32>(vcpu, VCPU_MMU) != load<u32>(vcpu, VCPU_WALK_MMU);
  store<u64>(vcpu, nested ? 0 : gva & ~(<u64>0xfff), VCPU_MMIO_GVA);
  store<u64>(vcpu, gfn, VCPU_MMIO_GFN);
  store<u32>(vcpu, access, VCPU_MMIO_ACCESS);
  store<u64>(vcpu, generation, VCPU_MMIO_GENERATION);
}

/** Forgets the cached access if it is for the page of `gva`. */
export function clearMmioInfo(vcpu: usize, gva: u64): void {
  if (load<u64>(vcpu, VCPU_MMIO_GVA) == (gva & ~(<u64>0xfff))) store<u64>(vcpu, 0, VCPU_MMIO_GVA);
}

export function mmioCached(vcpu: usize, address: u64, direct: bool): bool {
  // A nested guest's fault address is not a guest-physical address of the first level.
  if (load<u32>(vcpu, VCPU_MMU) != load<u32>(vcpu, VCPU_WALK_MMU)) return false;
  if (load<u64>(vcpu, VCPU_MMIO_GENERATION) != normalGeneration(vcpu)) return false;
  if (direct) {
    const gfn = load<u64>(vcpu, VCPU_MMIO_GFN);
    return gfn != 0 && gfn == gfnOfAddress(load<u32>(vcpu, VCPU_VM), address);
  }
  const gva = load<u64>(vcpu, VCPU_MMIO_GVA);
  return gva != 0 && gva == (address & ~(<u64>0xfff));
}
