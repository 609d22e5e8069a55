/** A paging context's records: its MMU record, and the SPACE record that its guest walks go by. */
import type { Allocations } from "../linear/allocations.js";
import { MmuRecord } from "../records/mmu.js";
import { SpaceRecord } from "../records/walk.js";
import type { Internals } from "./mmu-core.js";

const PREVIOUS_ROOTS = 3;
const PDPTES = 4;

export class ContextCore {
  readonly mmu: MmuRecord;
  readonly space: SpaceRecord;
  readonly #exports: Internals["exports"];

  /** `noRoot` is the guest pgd of a previous root that there is none of. Throws OutOfMemoryError. */
  constructor({ exports, linear, work }: Internals, memory: Allocations, noRoot: bigint) {
    this.#exports = exports;
    this.mmu = new MmuRecord(linear, memory.take(MmuRecord.SIZE));
    this.space = new SpaceRecord(linear, memory.take(SpaceRecord.SIZE));
    for (let i = 0; i < PREVIOUS_ROOTS; i++) this.mmu.setPreviousPgd(i, noRoot);
    this.mmu.space = this.space.at;
    this.space.work = work;
  }

  /** Derives what walks need of what the SPACE record says. */
  configure(): void {
    this.#exports.configure(this.space.at);
  }

  /** The guest's root table is another; nothing else changes for walks. */
  setRoot(root: bigint): void {
    this.#exports.setRoot(this.space.at, root);
  }

  /** The second stage of its walks. */
  set second(context: ContextCore) {
    this.mmu.second = context.mmu.at;
  }

  get pdptes(): bigint[] {
    return Array.from({ length: PDPTES }, (_, index) => this.space.pdptes(index));
  }

  set pdptes(values: readonly bigint[]) {
    values.forEach((value, index) => {
      this.space.setPdptes(index, value);
    });
  }
}
