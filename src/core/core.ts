/** The Wasm core: one instance over one linear memory, with any number of memories and address spaces in it. */
import type {
  AddressSpaceConfig,
  EptConfig,
  GuestMemory,
  NptConfig,
  PagingEngine,
  Releasable,
  SpaceConfiguration,
} from "../api.js";
import { checkOptions, isInstance, show, tagOf } from "../checks.js";
import { ConfigError, DisposedError } from "../errors.js";
import { withUnsignedRegisters } from "../options.js";
import type { WasmMemory } from "../platform.js";
import { LinearMemory, type Region, unclaim } from "./linear/linear-memory.js";
import { CoreMemory, type CoreMemoryConfig } from "./memory/memory.js";
import { PageWatch } from "./memory/page-watch.js";
import { WORK_OFFSET, WorkRecord } from "./records/walk.js";
import { BatchBuffer } from "./space/batch.js";
import { LeafColumns } from "./space/leaf-columns.js";
import { ResultLine } from "./space/result-line.js";
import { CoreSpace } from "./space/space.js";
import { eptFields, guestFields, nptFields, type SpaceFields } from "./space/space-config.js";
import { type CoreExports, instantiate } from "./wasm/exports.js";

/** Words of a result line. */
const WORDS = Object.keys(ResultLine).length;
/** 4 GiB, the most that 32-bit linear memory can be. */
const MAXIMUM_PAGES = 65536;

/** Where a core lives. */
export interface CoreOptions {
  /** The linear memory to work in, e.g. an emulator's own. Default: a new one that grows as needed. */
  readonly memory?: WasmMemory;
  /** The part of `memory` that the core may use for its own records; required with `memory`. */
  readonly region?: Region;
}

export class Core implements PagingEngine, Releasable {
  readonly #exports: CoreExports;
  readonly #linear: LinearMemory;
  readonly #work: WorkRecord;
  readonly #watch: PageWatch;
  #region: Region | undefined;
  #disposed = false;
  #line = new Int32Array(0);

  constructor(module: WebAssembly.Module, options: CoreOptions = {}) {
    checkOptions(options, { memory: true, region: true }, "the core's options");
    if (options.memory !== undefined && !isMemory(options.memory)) {
      throw new ConfigError(`memory is ${show(options.memory)}, expected a WebAssembly.Memory`);
    }
    if ((options.memory === undefined) !== (options.region === undefined)) {
      throw new ConfigError("memory and region go together: the region says which part of the memory the core may use");
    }
    const memory = options.memory ?? new WebAssembly.Memory({ initial: 4, maximum: MAXIMUM_PAGES });
    // Before anything is claimed: a module or a memory of another kind is refused.
    this.#exports = instantiate(module, memory);
    this.#linear = new LinearMemory(memory, options.region);
    this.#region = options.region;
    try {
      this.#work = new WorkRecord(this.#linear, this.#linear.allocate(WorkRecord.SIZE));
      this.#watch = new PageWatch(this.#linear, this.#work);
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  /**
   * Gives the region back to its owner: another core may have it then. What was made with this core must be done with, and is
   * refused afterwards where it is made (DisposedError). Idempotent.
   */
  dispose(): void {
    this.#disposed = true;
    this.#release();
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  #release(): void {
    if (this.#region !== undefined) unclaim(this.#linear.memory, this.#region.base);
    this.#region = undefined;
  }

  #requireLive(): void {
    if (this.#disposed) throw new DisposedError("the core was disposed of");
  }

  /**
   * What the last `translateLine` of any space of this core has left, by the numbers in `ResultLine`. A view, renewed after
   * the memory has grown: take it from here again after anything that may have made it grow.
   */
  get resultLine(): Int32Array {
    if (this.#line.length === 0) {
      this.#line = new Int32Array(this.#linear.memory.buffer, this.#work.at + WORK_OFFSET.result, WORDS);
    }
    return this.#line;
  }

  /**
   * Pages watched by memories of this core (`CoreMemory.watchWrites`) that were written and not taken yet: cheap enough to be
   * asked after each access.
   */
  get writtenPages(): number {
    return this.#watch.written;
  }

  /** The linear memory that everything lives in. */
  get linearMemory(): WasmMemory {
    return this.#linear.memory;
  }

  /** @internal The raw exports and the memory with its allocator: for src/core itself, tests and benchmarks. */
  internals(): { readonly exports: CoreExports; readonly linear: LinearMemory; readonly work: number } {
    return { exports: this.#exports, linear: this.#linear, work: this.#work.at };
  }

  /**
   * Arrays for `length` addresses and their results that `CoreSpace.translateBuffer` uses without copying. Throws RangeError
   * for a bad length, OutOfMemoryError where there is no room; `dispose` gives the memory back.
   */
  allocateBatch(length: number): BatchBuffer {
    this.#requireLive();
    return new BatchBuffer(this.#linear, length);
  }

  /**
   * Columns with room for `length` leaves, which listings of `CoreSpace.leafColumns` fill. Throws RangeError for a bad length,
   * OutOfMemoryError where there is no room; `dispose` gives the memory back.
   */
  allocateColumns(length: number): LeafColumns {
    this.#requireLive();
    return new LeafColumns(this.#linear, length);
  }

  /** Guest-physical memory. Throws ConfigError for a bad layout, OutOfMemoryError where it does not fit. */
  createMemory(config: CoreMemoryConfig): CoreMemory {
    this.#requireLive();
    return new CoreMemory(this.#exports, this.#linear, config, this.#watch);
  }

  /** A space that translates guest linear addresses. */
  createAddressSpace(memory: GuestMemory, config: AddressSpaceConfig): CoreSpace {
    const unsigned = withUnsignedRegisters(config);
    return this.#space(memory, guestFields(unsigned), { kind: "guest", config: unsigned });
  }

  /** A space that translates guest-physical addresses by EPT. */
  createEpt(memory: GuestMemory, config: EptConfig): CoreSpace {
    return this.#space(memory, eptFields(config), { kind: "ept", config });
  }

  /** A space that translates guest-physical addresses by NPT. */
  createNpt(memory: GuestMemory, config: NptConfig): CoreSpace {
    return this.#space(memory, nptFields(config), { kind: "npt", config });
  }

  #space(memory: GuestMemory, fields: SpaceFields, configuration: SpaceConfiguration): CoreSpace {
    this.#requireLive();
    if (!isInstance(memory, CoreMemory) || memory.linear !== this.#linear) {
      throw new ConfigError("the memory was not created by this core");
    }
    return new CoreSpace(this.#exports, this.#work, memory, fields, configuration);
  }
}

/** By its tag: a memory may come from another realm. */
function isMemory(value: unknown): boolean {
  return tagOf(value) === "[object WebAssembly.Memory]";
}
