/** The structure checker. */
import type { VirtualMachine } from "./vm.js";

export interface AuditProblem {
  readonly invariant: string;
  /** Header of the page, and index of the entry, that break it. */
  readonly page: number;
  readonly index: number | undefined;
  readonly message: string;
}

export function audit(_vm: VirtualMachine): AuditProblem[] {
  return [];
}
