/** The words of a result line, for hosts that fill a TLB of their own from it. */
import { bitOf, LINE_FLAG } from "../../abi/index.js";
import { RESULT_LINE_OFFSET } from "../records/walk.js";

/** Numbers of the words in `Core.resultLine`: all are bits, to be read with `>>> 0` where they are unsigned. */
export const ResultLine = {
  /** A Status; with 0 the words of a translation mean something, else those of a fault. */
  status: RESULT_LINE_OFFSET.status / 4,
  /** Physical address, after every stage. */
  paLow: RESULT_LINE_OFFSET.paLow / 4,
  paHigh: RESULT_LINE_OFFSET.paHigh / 4,
  /** What the first stage gave; of a second stage's fault the guest-physical address at fault, 0 of another. */
  gpaLow: RESULT_LINE_OFFSET.gpaLow / 4,
  gpaHigh: RESULT_LINE_OFFSET.gpaHigh / 4,
  /** log2 of the bytes around the address that are mapped alike by every stage: 12, 21, 22 or 30. */
  pageShift: RESULT_LINE_OFFSET.pageShift / 4,
  /** Rights, ANDed over all levels of the first stage: 1 execute, 2 write, 4 user (in EPT read), 8 EPT user-mode execute. */
  rights: RESULT_LINE_OFFSET.rights / 4,
  /** The same of the second stage, 15 where there is none. */
  secondRights: RESULT_LINE_OFFSET.secondRights / 4,
  /** `global`, `dirty` and `watched`. */
  flags: RESULT_LINE_OFFSET.flags / 4,
  /** Protection key of the leaf. */
  key: RESULT_LINE_OFFSET.key / 4,
  /** PAT index of the leaf (PAT, PCD, PWT), in EPT its memory type. */
  memoryType: RESULT_LINE_OFFSET.memoryType / 4,
  /** Level of the (first stage's) leaf, or of the entry at fault; 0 where none was read. */
  level: RESULT_LINE_OFFSET.level / 4,
  /** Of a fault: 0 in the guest's tables, 1 in the second stage. */
  stage: RESULT_LINE_OFFSET.stage / 4,
  /** Error code, exit qualification or EXITINFO1, whole. */
  codeLow: RESULT_LINE_OFFSET.codeLow / 4,
  codeHigh: RESULT_LINE_OFFSET.codeHigh / 4,
  /** The address that was asked for: CR2 of a page fault. */
  linearLow: RESULT_LINE_OFFSET.linearLow / 4,
  linearHigh: RESULT_LINE_OFFSET.linearHigh / 4,
} as const;

/** Bits of `ResultLine.flags`. */
export const ResultFlag = {
  /** The page outlives a write to CR3: its leaf has G, and CR4.PGE is set. */
  global: Number(bitOf(LINE_FLAG, "GLOBAL")),
  /** Writes need no walk to set a dirty flag. Without it an entry for reads must not serve writes. */
  dirty: Number(bitOf(LINE_FLAG, "DIRTY")),
  /** Writes to the 4 KiB page of `pa` are noted (`CoreMemory.watchWrites`): a TLB's entry must not let them pass. */
  watched: Number(bitOf(LINE_FLAG, "WATCHED")),
} as const;
