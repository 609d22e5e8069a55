/** Predicates and parts of an SPTE, by its VM's masks and its kernel's layout (Linux 6.1 where none is given). */
import { bitOf, fieldOf, maskOf, valueIn } from "../abi/bits.js";
import { NONPRESENT_OR_RSVD_BITS, SPTE_AD } from "../abi/spte.js";
import { SPTE_6_1, type SpteLayout } from "../abi/spte-layout.js";
import type { SpteMasks } from "./masks.js";

/** What an MMIO SPTE holds. */
export interface MmioSpte {
  /** Guest frame number. */
  readonly gfn: bigint;
  /** ACC_* bits: write 2, user 4; always 0 in EPT. */
  readonly access: number;
  /** The bits of the memslot generation that the entry keeps: the low 19 in Linux 6.1. */
  readonly generation: number;
}

const PRESENT = "MMU_PRESENT";
const RSVD_SHIFT = BigInt(NONPRESENT_OR_RSVD_BITS);

/** The bit that says that an entry is present; 0n where none does. */
export function presentBit({ software }: SpteLayout): bigint {
  return software.fields.some(({ name }) => name === PRESENT) ? bitOf(software, PRESENT) : 0n;
}

/** Whether the entry is backed by memory (is_shadow_present_pte of Linux 5.13 and later). */
export function isPresent(spte: bigint): boolean {
  return (spte & presentBit(SPTE_6_1)) !== 0n;
}

/** The same for every kernel (is_shadow_present_pte): before 5.13 whatever is not empty, MMIO or removed. */
export function isPresentIn(layout: SpteLayout, spte: bigint, masks: SpteMasks): boolean {
  const bit = presentBit(layout);
  if (bit !== 0n) return (spte & bit) !== 0n;
  return spte !== layout.empty && spte !== layout.marker?.value && !isMmio(spte, masks);
}

/** Whether the entry marks MMIO (is_mmio_spte). */
export function isMmio(spte: bigint, masks: SpteMasks): boolean {
  const cached = masks.mmioValue !== 0n || masks.mmioZero === true;
  return cached && (spte & masks.mmio) === masks.mmioValue;
}

/** SPTE_AD of a present entry. */
export function adType(spte: bigint, layout: SpteLayout = SPTE_6_1): number {
  return Number(valueIn(fieldOf(layout.software, "AD_TYPE"), spte));
}

/** Whether the rights of a present entry are taken away to track accesses (is_access_track_spte). */
export function isAccessTracked(spte: bigint, masks: SpteMasks, layout: SpteLayout = SPTE_6_1): boolean {
  return masks.accTrack !== 0n && adType(spte, layout) === SPTE_AD.Disabled && (spte & masks.accTrack) === 0n;
}

/** The bits in which access tracking saves rights, in place. */
export function savedBits({ software }: SpteLayout): bigint {
  return software.fields.reduce((all, field) => (field.name.startsWith("SAVED_") ? all | maskOf(field) : all), 0n);
}

/** An access-tracked entry with its rights back (restore_acc_track_spte), without its writing right. */
export function withSavedRights(spte: bigint, layout: SpteLayout): bigint {
  return spte | ((spte & savedBits(layout)) >> BigInt(fieldOf(layout.software, "SAVED_R").low));
}

/** Guest frame, rights and generation of an MMIO entry. */
export function mmioOf(spte: bigint, masks: SpteMasks, layout: SpteLayout = SPTE_6_1): MmioSpte {
  const gpa = (spte & masks.lowerGfn) | ((spte >> RSVD_SHIFT) & masks.nonpresentOrRsvd);
  return {
    gfn: gpa >> 12n,
    access: Number(spte & masks.mmioAccess),
    generation: mmioGenerationOf(spte, layout),
  };
}

/** The bits of an MMIO entry's generation (get_mmio_spte_generation): 19 in Linux 6.1. */
export function mmioGenerationOf(spte: bigint, layout: SpteLayout = SPTE_6_1): number {
  let generation = 0n;
  for (const { field, from } of layout.generation) generation |= valueIn(field, spte) << BigInt(from);
  return Number(generation);
}
