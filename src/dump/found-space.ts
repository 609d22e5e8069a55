/** An address space that was found in a dump. */
import type { Mapped } from "./tables/table-reader.js";
import type { InspectedMode } from "./tables/table-shape.js";

/**
 * What a space is, by what its tables map: `process` has user pages; `kernel` the kernel's part alone; `other` maps things below the
 * kernel's part, but none for users: firmware, a trampoline, or a root that is no longer in use.
 */
export type SpaceKind = "process" | "kernel" | "other";

/** An address space that was found. */
export interface FoundSpace {
  /** Guest-physical address of the root: CR3 without its flags. */
  readonly root: bigint;
  readonly mode: InspectedMode;
  readonly kind: SpaceKind;
  /** With kernel page-table isolation, the root that user code runs by. */
  readonly userRoot: bigint | undefined;
  readonly mapped: Mapped;
  /** Numbers of the processors that ran by it when the dump was taken, by either root. */
  readonly cpus: readonly number[];
  /** VMCOREINFO names it as the kernel's own. */
  readonly isKernels: boolean;
  /** Spaces, this one included, that have the same kernel part. */
  readonly shared: number;
  /** The root of one of them, for all the same. */
  readonly kernelPart: bigint;
}
