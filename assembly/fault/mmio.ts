/** MMIO: the vCPU's one-entry cache, and faults on MMIO SPTEs (reserved-bit faults of the shadow tables). */
import { Vcpu } from "../abi/records";
import {
  EV_CHECK_MMIO,
  EV_HANDLE_MMIO,
  GENERATION_IN_PROGRESS,
  RET_PF_EMULATE,
  RET_PF_INVALID,
  RET_PF_RETRY,
} from "../abi/shadow";
import { MMIO_GENERATION } from "../abi/spte";
import { broken } from "../pages/counters";
import { emit, tracing } from "../pages/event";
import { nextEntry, rootEntry } from "../pages/iterator";
import { cacheMmioInfo, mmioCached } from "../pages/mmio-info";
import { levelOf } from "../pages/page";
import { slotGeneration } from "../pages/slot";
import { isReservedSpte } from "../shadow/leaf";
import { mmioAccess, mmioGeneration, mmioGfn } from "../spte/make";
import { isMmio, isPresent } from "../spte/predicates";

/** A fault with the reserved bit: emulate where the SPTE is a current MMIO SPTE, walk again where it is an old one. */
export function mmioFault(vcpu: Vcpu, address: u64, direct: bool): u32 {
  if (mmioCached(vcpu, address, direct)) return RET_PF_EMULATE;
  const vm = vcpu.vm;
  const mmu = vcpu.mmu;
  const root = mmu.root;
  let spte: u64 = 0;
  let level = levelOf(root);
  for (let sptep = rootEntry(root, address); sptep != 0; sptep = nextEntry(sptep, address, level), level--) {
    spte = load<u64>(sptep);
    if (isPresent(spte) && isReservedSpte(mmu, spte, level)) broken(vm);
  }
  if (!isMmio(vm, spte)) return RET_PF_RETRY;
  const generation = slotGeneration(vcpu);
  if (generation & GENERATION_IN_PROGRESS) return RET_PF_INVALID;
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
