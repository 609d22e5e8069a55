/** KVM recordings and kernel trace text: read, replay, compare. For Node: recordings are folders, or packed files. */

export type { EventDifference } from "./compare/event-comparator.js";
export { IGNORED_FIELDS, RULES, type Rule, RuleCounts } from "./compare/rules.js";
export type { StateDifference } from "./compare/state-comparator.js";
export * from "./diff/diff.js";
export type { StepLinesOptions } from "./diff/step-lines.js";
export * from "./format/error.js";
export * from "./format/events.js";
export { findRecordings } from "./format/find-recordings.js";
export type { MemoryImage } from "./format/memory-image.js";
export { openRecording } from "./format/open-recording.js";
export { packRecording } from "./format/pack-folder.js";
export { isPackedFile, readRecording } from "./format/reader.js";
export type * from "./format/recording.js";
export type * from "./format/state.js";
export {
  normalizeAddresses,
  parseEvent,
  parseTraceLine,
  printEvent,
  TEXT_KINDS,
  type TraceLine,
} from "./format/trace-text.js";
export { engineTarget } from "./replay/engine-target.js";
export * from "./replay/replayer.js";
export type * from "./replay/target.js";
export * from "./report/describe.js";
export { isPass, ReplaySummary } from "./report/summary.js";
export { judgeWalks, type WalkDifference, type WalkReport } from "./walks/walk-judge.js";
