/** The MMIO access that a vCPU remembers, so that the next one to the page needs no walk (vcpu_match_mmio_info). */
import { Vcpu } from "../abi/records";
import { GENERATION_IN_PROGRESS } from "../abi/shadow";
import { gfnOfAddress } from "./alias";

/** The cache is tagged with the generation of the normal address space, in SMM too. */
export function normalGeneration(vcpu: Vcpu): u64 {
  return vcpu.vm.slots(0).generation;
}

export function cacheMmioInfo(vcpu: Vcpu, gva: u64, gfn: u64, access: u32): void {
  const generation = normalGeneration(vcpu);
  if (generation & GENERATION_IN_PROGRESS) return;
  const nested = vcpu.mmu != vcpu.walkMmu;
  vcpu.mmioGva = nested ? 0 : gva & ~(<u64>0xfff);
  vcpu.mmioGfn = gfn;
  vcpu.mmioAccess = access;
  vcpu.mmioGeneration = generation;
}

/** Forgets the cached access if it is for the page of `gva`. */
export function clearMmioInfo(vcpu: Vcpu, gva: u64): void {
  if (vcpu.mmioGva == (gva & ~(<u64>0xfff))) vcpu.mmioGva = 0;
}

export function mmioCached(vcpu: Vcpu, address: u64, direct: bool): bool {
  // A nested guest's fault address is not a guest-physical address of the first level.
  if (vcpu.mmu != vcpu.walkMmu) return false;
  if (vcpu.mmioGeneration != normalGeneration(vcpu)) return false;
  if (direct) {
    const gfn = vcpu.mmioGfn;
    return gfn != 0 && gfn == gfnOfAddress(vcpu.vm, address);
  }
  const gva = vcpu.mmioGva;
  return gva != 0 && gva == (address & ~(<u64>0xfff));
}
