/** Saving and restoring virtual machines. */
export { createMachine, restoreMachine, type SaveMachineOptions, saveMachine } from "./machine-state.js";
