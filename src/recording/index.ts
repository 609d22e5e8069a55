/** KVM recordings and kernel trace text: read, replay, compare. For Node: recordings are folders. */
export * from "./describe.js";
export { engineTarget } from "./engine-target.js";
export * from "./error.js";
export * from "./events.js";
export { findRecordings } from "./find-recordings.js";
export type { MemoryImage } from "./memory-image.js";
export { readRecording } from "./reader.js";
export type * from "./recording.js";
export * from "./replayer.js";
export { IGNORED_FIELDS, RULES, type Rule, RuleCounts } from "./rules.js";
export { isPass, ReplaySummary } from "./summary.js";
export type * from "./target.js";
export {
  normalizeAddresses,
  parseEvent,
  parseTraceLine,
  printEvent,
  TEXT_KINDS,
  type TraceLine,
} from "./trace-text.js";
export { judgeWalks, type WalkDifference, type WalkReport } from "./walk-judge.js";
