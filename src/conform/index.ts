/** Page-walk vectors: reading them, and judging an engine by them. */
export { KNOWN_EXCEPTIONS, type KnownException } from "./exceptions.js";
export { accessWord, runVector, type VectorOutcome } from "./run-vector.js";
export { type ConformanceOptions, type ConformanceSummary, runVectors } from "./summary.js";
export {
  parseVector,
  readVectors,
  type VectorAccess,
  type VectorEntry,
  type VectorExit,
  type VectorMode,
  type VectorResult,
  type VectorSecondStage,
  type WalkVector,
} from "./vector.js";
export { VectorError } from "./vector-error.js";
