// MMIO: the vCPU's one-entry cache, and faults on MMIO SPTEs (reserved-bit faults of the shadow tables).
import {
  EV_CHECK_MMIO,
  EV_HANDLE_MMIO,
  MMU_ROOT,
  RET_PF_EMULATE,
  RET_PF_INVALID,
  RET_PF_RETRY,
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
import { MMIO_GENERATION } from "../abi/spte";
import { isMmio, isPresent } from "../spte/predicates";
import { mmioAccess, mmioGeneration, mmioGfn } from "../spte/make";
import { gfnOfAddress } from "../pages/alias";
import { emit, tracing } from "../pages/event";
import { nextEntry, rootEntry } from "../pages/iterator";
import { isReservedSpte } from "../shadow/leaf";
import { levelOf } from "../pages/page";
import { slotGeneration } from "../pages/slot";
import { broken } from "../shadow/update";

/** The generation says that a slot update is in progress. */
// @ts-ignore: decorator
@inline const IN_PROGRESS: u64 = 1 << 63;

/** The cache is tagged with the generation of the normal address space, in SMM too. */
function normalGeneration(vcpu: usize): u64 {
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

/** A fault with the reserved bit: emulate where the SPTE is a current MMIO SPTE, walk again where it is an old one. */
export function mmioFault(vcpu: usize, address: u64, direct: bool): u32 {
  if (mmioCached(vcpu, address, direct)) return RET_PF_EMULATE;
  const vm: usize = load<u32>(vcpu, VCPU_VM);
  const mmu: usize = load<u32>(vcpu, VCPU_MMU);
  const root: usize = load<u32>(mmu, MMU_ROOT);
  let spte: u64 = 0;
  let level = levelOf(root);
  for (let sptep = rootEntry(root, address); sptep != 0; sptep = nextEntry(sptep, address, level), level--) {
    spte = load<u64>(sptep);
    if (isPresent(spte) && isReservedSpte(mmu, spte, level)) broken(vm);
  }
  if (!isMmio(vm, spte)) return RET_PF_RETRY;
  const generation = slotGeneration(vcpu);
  if (generation & IN_PROGRESS) return RET_PF_INVALID;
  const current = generation & MMIO_GENERATION;
  if (tracing(vm)) emit(vm, EV_CHECK_MMIO, <u32>current, <u32>mmioGeneration(spte), 0, spte, 0, 0);
  if (current != mmioGeneration(spte)) return RET_PF_INVALID;
  const gva = direct ? 0 : address;
  const gfn = mmioGfn(vm, spte);
  const access = mmioAccess(vm, spte);
  if (tracing(vm)) emit(vm, EV_HANDLE_MMIO, access, 0, 0, gva, gfn, 0);
  cacheMmioInfo(vcpu, gva, gfn, access);
  return RET_PF_EMULATE;
}
