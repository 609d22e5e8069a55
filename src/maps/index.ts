/** `x86-paging/maps`: listing what a set of page tables maps, for people and in QEMU's form. */
export { LEAF_ATTRIBUTES, type LeafAttribute, leafAttribute } from "./attributes.js";
export {
  changesOf,
  type MappedAs,
  type MappingChange,
  type MappingDifference,
  mappingDifferences,
  type SameEntry,
} from "./difference.js";
export { INFO_TLB_PAGING_OFF, infoTlbLine } from "./info-tlb.js";
export { leafLine, pageSizeName, rightsLetters } from "./leaves.js";
export {
  MappingScan,
  type MappingScanOptions,
  type RangeVisitor,
  ScanRights,
} from "./mapping-scan.js";
export { type ModeRegisters, modeTitle, pagingModeOf } from "./mode.js";
export {
  decodeNotPresent,
  ENTRY_SYSTEMS,
  type EntrySystem,
  type NotPresentEntry,
  type NotPresentOptions,
  notPresentText,
} from "./not-present.js";
export { type NotPresentRange, notPresentRanges } from "./not-present-ranges.js";
export { type Overlap, type Owned, overlaps } from "./overlaps.js";
export { type MapsCsvOptions, type MapsRow, mapsCsvWriter, mapsJsonLine, type RowWriter } from "./rows.js";
export { type Alike, type Span, spansOf } from "./spans.js";
export {
  DEFAULT_MAX_MAPPINGS,
  inspectTables,
  type StructureOptions,
  type StructureRegisters,
  type TableStructureSummary,
} from "./structure.js";
