/** The address spaces that callers hold. */
import { Access } from "../abi/access.js";
import { Status } from "../abi/status.js";
import type { AddressSpace, Leaf, PagingMode, SpaceConfiguration, Translation, U64, Walk } from "../api.js";
import { UnsupportedError } from "../errors.js";
import { decodeAccess, type MemoryAccess } from "./access.js";
import { EptStage } from "./ept-walk.js";
import { nonCanonical, separated } from "./faults.js";
import { eptLeaves, legacyLeaves } from "./leaves.js";
import { type LegacyTables, walkLegacy } from "./legacy-walk.js";
import { linearAddress, violatesSeparation } from "./linear-address.js";
import type { NptStage } from "./npt-stage.js";
import { isFault } from "./second-stage.js";
import { Trace } from "./trace.js";
import { toU64 } from "./values.js";

abstract class ReferenceSpace implements AddressSpace {
  abstract readonly configuration: SpaceConfiguration;
  abstract readonly mode: PagingMode;
  abstract leaves(): IterableIterator<Leaf>;
  /** The walk itself: gathers entries read and bits to set in `trace`; those of a second stage it sets, if `trace` is live. */
  protected abstract probe(address: bigint, access: MemoryAccess, trace: Trace): Translation;

  translate(address: U64, access: number = Access.Read): Translation {
    const at = toU64(address, "address");
    const decoded = decodeAccess(access);
    while (true) {
      const trace = new Trace(!decoded.probe);
      const result = this.probe(at, decoded, trace);
      // Of a page fault only what `accessedOnFault` gathered is left to be done, of other faults nothing.
      const settles = result.ok || result.status === Status.PageFault;
      if (!settles || trace.commit()) return result;
    }
  }

  walk(address: U64, access: number = Access.Read): Walk {
    const trace = new Trace(false);
    const from = toU64(address, "address");
    const result = this.probe(from, decodeAccess(access), trace);
    return { address: from, result, steps: trace.steps };
  }
}

/** Translates linear addresses, in one stage or two. */
export class LinearSpace extends ReferenceSpace {
  readonly mode: PagingMode;

  constructor(
    readonly tables: LegacyTables,
    readonly configuration: SpaceConfiguration,
  ) {
    super();
    this.mode = tables.registers.mode;
  }

  leaves(): IterableIterator<Leaf> {
    if (this.tables.secondStage !== undefined) {
      throw new UnsupportedError("leaves() of a space with a second stage: enumerate each stage by itself");
    }
    return legacyLeaves(this.tables);
  }

  protected override probe(address: bigint, access: MemoryAccess, trace: Trace): Translation {
    if (violatesSeparation(this.tables.registers, access, address)) return separated(address);
    const linear = linearAddress(this.tables.registers, access, address);
    return linear === undefined ? nonCanonical(address) : walkLegacy(this.tables, linear, access, trace);
  }
}

/** Translates guest-physical addresses by EPT or NPT; may serve as a second stage. */
export class GuestPhysicalSpace extends ReferenceSpace {
  readonly mode: PagingMode;

  constructor(
    readonly stage: EptStage | NptStage,
    readonly configuration: SpaceConfiguration,
  ) {
    super();
    this.mode =
      stage instanceof EptStage ? (stage.settings.rootLevel === 4 ? "ept4" : "ept5") : stage.tables.registers.mode;
  }

  leaves(): IterableIterator<Leaf> {
    return this.stage instanceof EptStage ? eptLeaves(this.stage) : legacyLeaves(this.stage.tables);
  }

  protected override probe(address: bigint, access: MemoryAccess, trace: Trace): Translation {
    const outcome = this.stage.translateGpa(
      address,
      {
        purpose: "direct",
        write: access.write,
        fetch: access.fetch,
        user: access.user,
        userAddress: access.user,
        shadowStack: access.shadowStack,
        kvm: false,
      },
      trace,
    );
    return isFault(outcome) ? outcome : outcome.mapped;
  }
}
