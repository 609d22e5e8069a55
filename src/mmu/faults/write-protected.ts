/**
 * A fault that write protection of a table caused (kvm_mmu_write_protect_fault, __kvm_mmu_unprotect_gfn_and_retry of Linux
 * 6.12): the table may be given up, so that the guest's own instruction can write it, instead of having it emulated.
 */
import { flagOf, PFERR as PFERR_TABLE } from "../../abi/index.js";
import type { Cpu } from "../machine/cpu.js";
import type { Machine } from "../machine/machine.js";
import type { FaultOptions, WalkOutcome } from "./outcome.js";

const PFERR = { p: flagOf(PFERR_TABLE, "P"), w: flagOf(PFERR_TABLE, "W"), u: flagOf(PFERR_TABLE, "U") } as const;

/** The instruction and the address. */
export interface LastRetry {
  readonly rip: bigint | undefined;
  readonly address: bigint;
}

export class WriteProtectedFaults {
  /** @internal What the vCPU gave a table up for last, where nothing else came since. */
  last: LastRetry | undefined;

  constructor(
    readonly vm: Machine,
    readonly cpu: Cpu,
    readonly walk: (address: bigint, code: number) => WalkOutcome,
  ) {}

  /** Whether the access can be made again instead of being emulated: a table was given up for it. */
  handle(address: bigint, errorCode: number, options: FaultOptions): boolean {
    const { rip } = options;
    // Given up once already: the instruction needs the table to run.
    if (this.last !== undefined && this.last.rip === rip && this.last.address === address) return false;
    this.last = undefined;
    const tableWrite = options.guestTable === true && (errorCode & PFERR.p) !== 0 && (errorCode & PFERR.w) !== 0;
    const wanted = this.cpu.isDirect ? tableWrite : options.eventDelivery === true;
    return wanted && this.unprotect(address, options, false);
  }

  /**
   * Gives up the table that the guest's `address` leads to; whether there was one. With `always` the access counts as made
   * again all the same.
   */
  unprotect(address: bigint, { rip, cpl }: FaultOptions, always: boolean): boolean {
    const found = this.#zap(address, cpl === 3 ? PFERR.w | PFERR.u : PFERR.w);
    if (found || always) this.last = { rip, address };
    return found;
  }

  #zap(address: bigint, code: number): boolean {
    const { vm, cpu } = this;
    if (vm.core.vm.indirect === 0) return false;
    if (cpu.isDirect) return vm.unprotect(vm.guest.gfnOf(address));
    const walk = this.walk(address, code);
    return walk.ok && vm.unprotect(vm.guest.gfnOf(walk.gpa));
  }
}
