/** Differential fuzzing of two walking engines. */
export { scenarios } from "./arbitrary.js";
export { compareEngines, type Outcome, runScenario, type ScenarioSetup, withScenario } from "./compare.js";
export { type Finding, fuzzRound } from "./round.js";
export {
  type AccessStep,
  type EntryWrite,
  formatScenario,
  type Scenario,
  type SecondStage,
  type SlotRange,
} from "./scenario.js";
