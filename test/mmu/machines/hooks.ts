/** What a test does with the random machines besides running them: nothing, where none says so. */
import type { VirtualMachine } from "../../../src/mmu/index.js";

export const hooks: {
  /** Before each step, by number. */
  before: ((vm: VirtualMachine, step: number) => void) | undefined;
  /** Before a machine is disposed of. */
  after: ((vm: VirtualMachine) => void) | undefined;
  /** Of the machines' virtual machines. */
  eventCapacity: number;
} = { before: undefined, after: undefined, eventCapacity: 0 };
