/** `x86-paging/spte`: decoding and checking of shadow page-table entries. */
export type { SpteChange, SpteEra, SpteEraEntry } from "../abi/spte-eras.js";
export { SPTE_ERAS } from "../abi/spte-eras.js";
export type { GenerationPart, SpteLayout, SpteMarker } from "../abi/spte-layout.js";
export type { DecodedSpte, DecodeOptions, SpteKind, SpteRights } from "./decode.js";
export { decodeSpte, defaultMasks, spteFields } from "./decode.js";
export type { MmioSpte } from "./entry.js";
export { adType, isAccessTracked, isMmio, isPresent, isPresentIn, mmioGenerationOf, mmioOf } from "./entry.js";
export type { SpteCheck } from "./invariants.js";
export { brokenInvariants } from "./invariants.js";
export { spteEras, spteLayoutOf, spteLayoutOfKernel } from "./layouts.js";
export type { EptMaskOptions, MaskOptions, SpteFormat, SpteMasks } from "./masks.js";
export { eptMasks, legacyMasks, withMmioMark } from "./masks.js";
export type { EptReservedOptions, LegacyReservedOptions, ReservedBits } from "./reserved.js";
export { eptReserved, legacyReserved, reservedBitsSet } from "./reserved.js";
export { spteKindText, spteRightsText } from "./text.js";
