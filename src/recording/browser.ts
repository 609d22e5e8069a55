/** `x86-paging/recording` in browsers: all of it but what reads folders, and `diffRecordings`, which needs another package. */

export type { EventDifference } from "./compare/event-comparator.js";
export { IGNORED_FIELDS, RULES, type Rule, RuleCounts } from "./compare/rules.js";
export type { StateDifference } from "./compare/state-comparator.js";
export * from "./format/error.js";
export * from "./format/events.js";
export type { MemoryImage } from "./format/memory-image.js";
export { openRecording } from "./format/open-recording.js";
export { isPacked as isPackedRecording } from "./format/pack.js";
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
