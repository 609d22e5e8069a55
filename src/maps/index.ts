/** `x86-paging/maps`: listing what a set of page tables maps, for people and in QEMU's form. */
export { entryLayout, levelsOf } from "../abi/entry-format.js";
export { decodeEntry } from "../decode/entry.js";
export { INFO_TLB_PAGING_OFF, infoTlbLine } from "./info-tlb.js";
export { leafLine, pageSizeName, rightsLetters } from "./leaves.js";
export { type ModeRegisters, modeTitle, pagingModeOf } from "./mode.js";
export {
  DEFAULT_MAX_MAPPINGS,
  inspectTables,
  type StructureOptions,
  type StructureRegisters,
  type TableStructureSummary,
} from "./structure.js";
