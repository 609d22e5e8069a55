/** What a kernel's SPTEs look like, as a table; `spte-eras.ts` has one for every era of KVM. */
import type { BitField, BitLayout } from "./bits.js";
import { REMOVED_SPTE, SPTE, SPTE_EPT, SPTE_LEGACY, SPTE_MMIO } from "./spte.js";

/** The value of an entry of the TDP MMU whose change is under way, and the kernel's word for it. */
export interface SpteMarker {
  readonly word: "removed" | "frozen";
  readonly value: bigint;
}

/** A part of an MMIO entry's generation. */
export interface GenerationPart {
  readonly field: BitField;
  /** The generation's bit that the field's lowest bit holds. */
  readonly from: number;
}

/** The bits of an SPTE in the kernels of one era. */
export interface SpteLayout {
  /** The first release that has it. */
  readonly era: string;
  /** Which kernels use it. */
  readonly kernels: string;
  /**
   * Bits that both formats share. Without a field MMU_PRESENT every entry that is not empty, MMIO or the marker counts as
   * present (is_shadow_present_pte).
   */
  readonly software: BitLayout;
  /** Shadow paging and NPT. */
  readonly legacy: BitLayout;
  readonly ept: BitLayout;
  /** An MMIO entry's generation: all parts, combined by OR. */
  readonly generation: readonly GenerationPart[];
  /** Software bits that are set in MMIO entries, and whether they alone are looked at to recognise one (is_mmio_spte). */
  readonly mmioMark: { readonly bits: bigint; readonly alone: boolean };
  /** None where the TDP MMU has no such value, or there is no TDP MMU. */
  readonly marker: SpteMarker | undefined;
  /** An entry that stands for nothing. */
  readonly empty: bigint;
  /** Processors whose MMIO entries have the L1TF guard: those with the bug, or all with fewer than 47 address bits. */
  readonly guard: "bug" | "narrow";
  /** A host with 52 address bits: bit 51 is set in MMIO entries all the same. */
  readonly mmioAt52: boolean;
  /** EPT tables without A/D bits have accessed and dirty bits too, which software keeps. */
  readonly softwareAd: boolean;
  /** In EPT the user right stands for reading; else reading is a right of its own. */
  readonly userReads: boolean;
  /** A TDX guest's MMIO entries have no rights and suppress no #VE: their value is 0. */
  readonly tdx: boolean;
}

const MMIO_FIELDS = SPTE_MMIO.fields;

/** Linux 6.1: what the masks and the readers of single entries take where nobody says otherwise. */
export const SPTE_6_1: SpteLayout = {
  era: "5.13",
  kernels: "5.13 to 6.9",
  software: SPTE,
  legacy: SPTE_LEGACY,
  ept: SPTE_EPT,
  generation: [
    { field: MMIO_FIELDS[0]!, from: 0 },
    { field: MMIO_FIELDS[1]!, from: MMIO_FIELDS[0]!.width! },
  ],
  mmioMark: { bits: 0n, alone: false },
  marker: { word: "removed", value: REMOVED_SPTE },
  empty: 0n,
  guard: "bug",
  mmioAt52: false,
  softwareAd: false,
  userReads: true,
  tdx: false,
};
