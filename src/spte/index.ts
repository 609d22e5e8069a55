/** `x86-paging/spte`: decoding and checking of shadow page-table entries. */
export type { DecodedSpte, DecodeOptions, MmioSpte, SpteKind, SpteRights } from "./decode.js";
export {
  adType,
  decodeSpte,
  defaultMasks,
  isAccessTracked,
  isMmio,
  isPresent,
  mmioGenerationOf,
  mmioOf,
} from "./decode.js";
export type { SpteCheck } from "./invariants.js";
export { brokenInvariants } from "./invariants.js";
export type { EptMaskOptions, MaskOptions, SpteFormat, SpteMasks } from "./masks.js";
export { eptMasks, legacyMasks, withMmioMark } from "./masks.js";
export type { EptReservedOptions, LegacyReservedOptions, ReservedBits } from "./reserved.js";
export { eptReserved, legacyReserved, reservedBitsSet } from "./reserved.js";
