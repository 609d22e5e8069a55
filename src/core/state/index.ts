/** Saving and restoring spaces and memories. */
export {
  type CreateMemoryOptions,
  createMemory,
  restoreMemory,
  type SaveMemoryOptions,
  saveMemory,
} from "./memory-state.js";
export { type CreateSpaceOptions, createSpace, restoreSpace, type State, saveSpace } from "./space-state.js";
