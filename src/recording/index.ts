/** KVM recordings and kernel trace text: read, replay, compare. For Node: recordings are folders, or packed files. */
export * from "./browser.js";
export * from "./diff/diff.js";
export type { StepLinesOptions } from "./diff/step-lines.js";
export { findRecordings } from "./format/find-recordings.js";
export { packRecording } from "./format/pack-folder.js";
export { isPackedFile, readRecording } from "./format/reader.js";
