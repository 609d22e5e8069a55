/** An address space of the Wasm core. */

import { ACCESS, Access, bitOf, CODES, CR4, Status } from "../../abi/index.js";
import type {
  AddressSpace,
  AddressSpaceConfig,
  Fault,
  GuestMemory,
  Leaf,
  PagingMode,
  Releasable,
  SpaceConfiguration,
  Translation,
  U64,
  Walk,
} from "../../api.js";
import { checkArray, checkInteger, checkOptions, isInstance, type OptionNames } from "../../checks.js";
import { ConfigError, DisposedError, UnsupportedError } from "../../errors.js";
import { GUEST_OPTIONS, withUnsignedRegisters } from "../../options.js";
import { splitCr3 } from "../../registers/cr3.js";
import { checkInvpcid } from "../../registers/invpcid.js";
import { checkLinear } from "../../registers/linear-address.js";
import type { Run } from "../../runs.js";
import { decodeFault } from "../access/fault-number.js";
import { translateRange } from "../access/range.js";
import type { RangeFault, RangeRun } from "../access/results.js";
import { SpaceMemory } from "../access/space-memory.js";
import { checkAccess } from "../checks/access.js";
import { toU64 } from "../checks/numbers.js";
import { lasting } from "../linear/lasting.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import { CoreMemory } from "../memory/memory.js";
import { SpaceRecord, type WorkRecord } from "../records/walk.js";
import type { CoreExports } from "../wasm/exports.js";
import { hasAttributes, makesExceptions, SpaceAttributes, withConvertible } from "./attributes.js";
import { BatchBuffer, type BatchKernel, kernelCode } from "./batch.js";
import { LeafBlocks } from "./leaf-blocks.js";
import { LeafColumnListing } from "./leaf-columns.js";
import { throwBadPdptes } from "./pdpte-errors.js";
import { MODES, pageShift, readSteps, readTranslation } from "./results.js";
import { guestFields, type SpaceFields, writeFields } from "./space-config.js";
import { LeafListing, RunListing } from "./space-leaves.js";
import { type KeptModes, SpaceRegisters } from "./space-registers.js";
import { SpaceTlb, type TlbStatistics } from "./space-tlb.js";

/** What of an access word a line is compared with: bits below those of the page. A shadow-stack access has Implicit there. */
const LINE_BITS = Number(ACCESS.fields.reduce((mask, field) => mask | bitOf(ACCESS, field.name), 0n)) & 0xfff;
const ALL_BITS = 0xffff_ffff_ffff_ffffn;
/** Empty, as the lines of a memory that has grown are. */
const NO_LINES = new Int32Array(0);
/** `translate` gives this for a page that has to be read first; no error code comes with it. */
const MISSING = -1 - (Status.MissingPage << 16);

/** Registers of a guest's space: as its guest would read them. */
export interface GuestRegisters {
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
  readonly pkru: number;
  /** IA32_PKRS. */
  readonly pkrs: number;
}

/** @internal */
export interface SpaceParts {
  readonly linear: LinearMemory;
  readonly record: SpaceRecord;
  readonly registers: SpaceRegisters | undefined;
  readonly second: AddressSpace | undefined;
}

export class CoreSpace implements AddressSpace, Releasable {
  /**
   * Linear address of the SPACE record, the first argument of the core's calls. `declare`: a field that begins as
   * undefined would be checked for being a number in every call.
   */
  declare readonly pointer: number;
  readonly #exports: CoreExports;
  /** The fast calls' functions by themselves, never changed: V8 takes them for constants. */
  readonly #translate: CoreExports["translate"];
  readonly #translate32: CoreExports["translate32"];
  readonly #linear: LinearMemory;
  readonly #work: WorkRecord;
  readonly #record: SpaceRecord;
  #memory: CoreMemory;
  readonly #second: CoreSpace | undefined;
  /** Spaces whose second stage this is: they end with it. */
  readonly #firstStages = new Set<CoreSpace>();
  #made: SpaceConfiguration;
  /** Of a guest's space. */
  readonly #registers: SpaceRegisters | undefined;
  #mode: PagingMode;
  #tlb: SpaceTlb | undefined;
  /** The first level of the software TLB, if there is one: TLB_LINE records. */
  #lines: Int32Array | undefined;
  /** The same where linear addresses have 32 bits, so that every line's HIGH is 0. */
  #lines32: Int32Array | undefined;
  /** Its words minus 4. */
  #lineMask = 0;
  /** LINE bits of the current context, where no access has one. */
  #lineTag = 0;
  #data: SpaceMemory | undefined;
  /** Where results have more to say than rights. */
  #attributes: SpaceAttributes | undefined;
  #disposed = false;

  /**
   * Throws GeneralProtectionError where loading the registers would raise #GP, PdpteLoadError where the second stage stops
   * the loading of PDPTEs; nothing stays allocated then.
   */
  constructor(
    exports: CoreExports,
    work: WorkRecord,
    memory: CoreMemory,
    fields: SpaceFields,
    configuration: SpaceConfiguration,
  ) {
    const config = configuration.kind === "guest" ? configuration.config : undefined;
    const second = config?.secondStage;
    if (second !== undefined && !(isInstance(second, CoreSpace) && second.#registers === undefined)) {
      throw new ConfigError("secondStage is not an EPT or NPT space of this core");
    }
    if (second !== undefined && second.memory !== memory) {
      throw new ConfigError("secondStage lies in another memory than the address space");
    }
    this.#exports = exports;
    this.#translate = exports.translate;
    this.#translate32 = exports.translate32;
    this.#linear = memory.linear;
    this.#work = work;
    this.#memory = memory;
    this.#made = configuration;
    this.#second = second;
    if (second !== undefined) second.#requireLive();
    memory.requireLive();
    this.pointer = this.#linear.allocate(SpaceRecord.SIZE);
    this.#record = new SpaceRecord(this.#linear, this.pointer);
    memory.attach(this);
    if (second !== undefined) second.#firstStages.add(this);
    try {
      this.#record.memory = memory.pointer;
      this.#record.second = second?.pointer ?? 0;
      this.#record.work = work.at;
      this.#tlb = config?.tlbEntries ? new SpaceTlb(exports, this.#linear, this.#record, config) : undefined;
      this.#registers = config && new SpaceRegisters(exports, this.#linear, this.#record, config, fields);
      let missing = this.#apply(fields);
      while (missing !== undefined) {
        this.#supply(missing);
        missing = this.#apply(fields);
      }
      this.#mode = this.#modeNow();
      this.#setAttributes(config);
      if (config !== undefined) this.#registers!.replace(config, fields);
      else this.#record.cr3Refused = ALL_BITS;
      this.#viewLines();
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** What physical addresses lead to. */
  get memory(): CoreMemory {
    return this.#memory;
  }

  /**
   * Goes on over another memory of this core, e.g. the view that a processor in SMM has: tables are read there, and `data` reads and
   * writes there. Latched PDPTEs stay; the software TLB is empty. Of a second stage its first stages go along. Throws
   * ConfigError for a memory of another core and for a space that has a second stage, whose memory it shares.
   */
  useMemory(memory: GuestMemory): void {
    this.#requireLive();
    if (!isInstance(memory, CoreMemory) || memory.linear !== this.#linear) {
      throw new ConfigError("the memory was not created by this core");
    }
    if (this.#second !== undefined) {
      throw new ConfigError("a space with a second stage has that one's memory: give the second stage another one");
    }
    memory.requireLive();
    if (memory !== this.#memory) this.#moveTo(memory);
  }

  #moveTo(memory: CoreMemory): void {
    memory.attach(this);
    this.#memory.detach(this);
    this.#memory = memory;
    this.#record.memory = memory.pointer;
    this.#data?.moveTo(memory);
    this.memoryChanged();
    for (const first of this.#firstStages) first.#moveTo(memory);
  }

  get mode(): PagingMode {
    return this.#mode;
  }

  get configuration(): SpaceConfiguration {
    return this.#registers === undefined ? this.#made : { kind: "guest", config: this.#registers.config };
  }

  /** The registers of a guest's space as they are now; of EPT and NPT, which have others, undefined. */
  get registers(): GuestRegisters | undefined {
    if (this.#registers === undefined) return undefined;
    const { cr0, cr3, cr4, efer, pkru = 0, pkrs = 0 } = this.#registers.config;
    return { cr0: BigInt(cr0), cr3: BigInt(cr3), cr4: BigInt(cr4), efer: BigInt(efer), pkru, pkrs };
  }

  /** The latched PDPTEs; undefined outside PAE paging, and where they are read in each walk. */
  get pdptes(): readonly [bigint, bigint, bigint, bigint] | undefined {
    this.#requireLive();
    const { mode, features } = this.#record;
    if (mode !== CODES.MODE_PAE || (features & CODES.FEATURE_LIVE_PDPTES) !== 0) return undefined;
    return [0, 1, 2, 3].map((index) => this.#record.pdptes(index)) as [bigint, bigint, bigint, bigint];
  }

  /** What the software TLB did; undefined where there is none. */
  get tlbStatistics(): TlbStatistics | undefined {
    this.#requireLive();
    return this.#tlb?.statistics;
  }

  /** @internal What a saved state is made of (src/core/state). */
  parts(): SpaceParts {
    this.#requireLive();
    return { linear: this.#linear, record: this.#record, registers: this.#registers, second: this.#second };
  }

  /**
   * @internal Becomes what was saved, and lets `fill` do the same with its software TLB. Throws GeneralProtectionError for
   * PDPTEs that cannot be, with nothing changed.
   */
  adopt(configuration: SpaceConfiguration, fields: SpaceFields, kept: KeptModes, fill: () => void): void {
    this.#requireLive();
    const record = this.#record;
    const before = this.#linear.u8.slice(this.pointer, this.pointer + SpaceRecord.SIZE);
    const { tlb } = record;
    // Until it is sure that this succeeds, no context of the TLB gets another name.
    record.tlb = 0;
    try {
      this.#apply(fields);
    } catch (error) {
      this.#linear.u8.set(before, this.pointer);
      throw error;
    }
    record.tlb = tlb;
    if (configuration.kind === "guest") {
      this.#registers!.adopt(configuration.config, fields, kept);
      this.#apply(fields);
      this.#registers!.replace(configuration.config, fields);
      this.#setAttributes(configuration.config);
    } else this.#made = configuration;
    this.#mode = this.#modeNow();
    fill();
    this.#tlb?.reenter();
    this.#viewLines();
  }

  /**
   * Loads other registers or options, as MOV to a control register does: latched PDPTEs are read again, and the software
   * TLB loses what such a change invalidates (a CR3 is loaded without bit 63).
   * Throws what creating the space would; nothing has changed then.
   */
  update(changes: Partial<AddressSpaceConfig>): void {
    this.#requireLive();
    if (isObject(changes) && this.#registers?.tryWrite(changes)) {
      this.#followMode();
      return;
    }
    checkOptions(changes, GUEST_OPTIONS as OptionNames<Partial<AddressSpaceConfig>>, "the change");
    const before = this.#change(withUnsignedRegisters(changes));
    this.#tlb?.afterUpdate(before, this.#registers!.config, "cr3" in changes);
    this.#followTag();
  }

  /**
   * MOV to CR3: bit 63 keeps the TLB entries of the new PCID (CR4.PCIDE=1), else those that are not global go.
   * Throws GeneralProtectionError as the instruction would; nothing has changed then.
   */
  writeCr3(value: U64): void {
    if (this.#disposed) throwDisposed();
    if (this.#registers?.tryWriteCr3(value)) {
      this.#followTag();
      return;
    }
    const config = this.#guestConfig("CR3 is");
    const { cr3: written } = withUnsignedRegisters({ cr3: value });
    const { cr3, keep } = splitCr3(toU64(written, "CR3"), BigInt(config.cr4));
    this.#change({ cr3, loadedBy: "mov" }, true);
    if (!keep) this.#tlb?.flushContext();
    this.#followTag();
  }

  /** WRPKRU. Throws RangeError for what has no 32 bits. */
  setPkru(value: number): void {
    this.#keys("PKRU is").writeKeys(toRegister32(value, "PKRU"), this.#record.pkrs);
    this.#followTag();
  }

  /** WRMSR to IA32_PKRS. Throws RangeError for what has no 32 bits. */
  setPkrs(value: number): void {
    this.#keys("IA32_PKRS is").writeKeys(this.#record.pkru, toRegister32(value, "IA32_PKRS"));
    this.#followTag();
  }

  #keys(what: string): SpaceRegisters {
    this.#requireLive();
    if (this.#registers === undefined) throw new UnsupportedError(`${what} not for EPT and NPT spaces`);
    return this.#registers;
  }

  /** INVLPG: drops `address`'s page, whatever its size, in the current PCID and as a global page. */
  invlpg(address: U64): void {
    this.#keys("INVLPG is");
    const at = this.#address(address);
    this.#tlb?.dropPage(at);
  }

  /**
   * INVPCID: 0 one address of a PCID, 1 a PCID, both but for global pages; 2 everything, 3 everything but global pages.
   * Throws GeneralProtectionError for what the instruction refuses.
   */
  invpcid(type: number, pcid: number, address: U64 = 0n): void {
    const config = this.#guestConfig("INVPCID is");
    const at = toU64(address, "address");
    const pcide = (BigInt(config.cr4) & bitOf(CR4, "PCIDE")) !== 0n;
    checkInvpcid(type, pcid, at, { pcide, longMode: isWide(this.#mode), la57: config.cpu?.la57 ?? true });
    this.#tlb?.invalidate(type, pcid, at);
    this.#followTag();
  }

  #guestConfig(what: string): AddressSpaceConfig {
    return this.#keys(what).config;
  }

  /** Returns the configuration before. */
  #change(changes: Partial<AddressSpaceConfig>, fromMemory = false): AddressSpaceConfig {
    while (true) {
      const before = this.#guestConfig("an update is");
      const missing = this.#tryChange(before, changes, fromMemory);
      if (missing === undefined) return before;
      // The source may use this very space: it is what it was, and what it may have become is what is changed then.
      this.#supply(missing);
    }
  }

  /** The frame of PDPTEs that have to be read first: nothing has changed then. */
  #tryChange(
    before: AddressSpaceConfig,
    changes: Partial<AddressSpaceConfig>,
    fromMemory: boolean,
  ): bigint | undefined {
    if ("secondStage" in changes && changes.secondStage !== before.secondStage) {
      throw new UnsupportedError("the second stage of a space cannot be changed, make a new space");
    }
    if ("tlbEntries" in changes && changes.tlbEntries !== before.tlbEntries) {
      throw new UnsupportedError("the software TLB of a space cannot be changed, make a new space");
    }
    const config = { ...before, ...changes };
    // MOV to CR3 reads the PDPTEs, whatever values were given before.
    if (fromMemory) delete (config as { pdpteValues?: unknown }).pdpteValues;
    const registers = this.#registers!;
    const fields = guestFields(config, registers.fields);
    if (config.cr0 !== before.cr0 || config.cr4 !== before.cr4 || config.efer !== before.efer) registers.remember();
    const record = this.#linear.u8.slice(this.pointer, this.pointer + SpaceRecord.SIZE);
    let done = false;
    try {
      const missing = this.#apply(fields);
      done = missing === undefined;
      if (!done) return missing;
    } finally {
      if (!done) {
        this.#linear.u8.set(record, this.pointer);
        this.#tlb?.reenter();
        this.#followTag();
      }
    }
    this.#mode = this.#modeNow();
    this.#setAttributes(config);
    registers.replace(config, fields);
    registers.remember();
    this.#viewLines();
    return undefined;
  }

  #setAttributes(config: AddressSpaceConfig | undefined): void {
    this.#attributes = hasAttributes(config) ? new SpaceAttributes() : undefined;
  }

  /** The mode may be another one than before the core changed registers. */
  #followMode(): void {
    this.#followTag();
    const mode = this.#modeNow();
    if (mode === this.#mode) return;
    this.#mode = mode;
    this.#viewLines();
  }

  translate(address: U64, access: number = Access.Read): Translation {
    this.#requireLive();
    const status = this.#run(address, checkAccess(access));
    return this.#described(status, access);
  }

  /** A fault, with whether it can become an exception where that is asked for. */
  #told(fault: Fault): Fault {
    const { mode, configuration } = this.#second ?? this;
    return makesExceptions(configuration) ? withConvertible(fault, mode) : fault;
  }

  /** The result that the last walk left, with the attributes that the configuration asks for. */
  #described(status: number, access: number): Translation {
    const result = readTranslation(this.#work, this.#mode, status);
    if (!result.ok) return this.#told(result);
    if (this.#attributes === undefined) return result;
    return this.#attributes.describe(result, this.#work, this.#mode, access, this.#registers!.config, this.#second);
  }

  /**
   * The fast call: translates `high:low` (two unsigned 32-bit halves) for a word of Access flags, which is not checked.
   * Returns the physical address, or a negative number for `decodeFault`.
   */
  translateFast(high: number, low: number, access: number): number {
    const lines = this.#lines;
    // CODES.LINE_HASH and MISSING are written out: V8 would load what a module holds in each call.
    if (lines !== undefined) {
      const kind = (access & LINE_BITS) + this.#lineTag;
      const at = ((low ^ Math.imul(high + kind, 0x9e3779b1)) >>> 10) & this.#lineMask;
      if (lines[at] === ((low & 0xfffff000) | kind) && lines[at + 1] === (high | 0)) {
        return lines[at + 2]! * 4096 + (low & 0xfff);
      }
      // Growing the memory empties its views: nothing is found in them.
      if (lines.length === 0) this.#viewLines();
    }
    const translate = this.#translate;
    const result = translate(this.pointer, high, low, access);
    // MISSING and a half: V8 takes the result for the double that it is then, whatever its value.
    return result + 0.5 === -458752.5 ? this.#translateAgain() : result;
  }

  /** The fast call for a linear address of 32 bits, an unsigned or signed integer: faster than the other in 32-bit modes. */
  translateFast32(address: number, access: number): number {
    const lines = this.#lines32;
    if (lines !== undefined) {
      const kind = (access & LINE_BITS) + this.#lineTag;
      const at = ((address ^ Math.imul(kind, 0x9e3779b1)) >>> 10) & this.#lineMask;
      if (lines[at] === ((address & 0xfffff000) | kind)) return lines[at + 2]! * 4096 + (address & 0xfff);
      if (lines.length === 0) this.#viewLines();
    }
    const translate = this.#translate32;
    const result = translate(this.pointer, address, access);
    return result + 0.5 === -458752.5 ? this.#translateAgain() : result;
  }

  /**
   * Translates `high:low` (two 32-bit halves, signed or not) for a word of Access flags, and leaves all that a TLB entry is
   * made of in `Core.resultLine`: no BigInt, nothing allocated. Returns the Status. A/D flags are set as by `translate`;
   * what a line allows later accesses is in docs/embedding.md. Throws ConfigError for an address that the mode does not have.
   */
  translateLine(high: number, low: number, access: number): number {
    if (this.#disposed) throwDisposed();
    if (high !== 0 && !isWide(this.#mode)) this.#address(wide(high, low));
    const status = this.#exports.translateLine(this.pointer, high, low, access);
    return status === Status.MissingPage ? this.#lineAgain(high, low, access) : status;
  }

  #lineAgain(high: number, low: number, access: number): number {
    let status: number = Status.MissingPage;
    while (status === Status.MissingPage) {
      this.#supply(this.#missingGfn());
      this.#address(wide(high, low));
      status = this.#exports.translateLine(this.pointer, high, low, access);
    }
    return status;
  }

  /**
   * Translates `input` into `output`, which must be as long, and returns the number of faults.
   * An output is a physical address, or bit 63 | status << 16 | error code. `kernel` changes the time, not the results.
   */
  translateBatch(
    input: BigUint64Array,
    output: BigUint64Array,
    access: number = Access.Read,
    kernel: BatchKernel = "auto",
  ): number {
    this.#requireLive();
    const code = kernelCode(kernel);
    checkArray(input, "BigUint64Array", "input");
    checkArray(output, "BigUint64Array", "output");
    if (output.length < input.length) {
      throw new RangeError(`output has room for ${output.length} addresses, expected at least ${input.length}`);
    }
    checkAccess(access);
    const { length } = input;
    const bytes = length * 8;
    const [inputNow, outputNow] = [lasting(input, this.#linear), lasting(output, this.#linear)];
    const from = this.#linear.allocate(bytes * 2);
    try {
      this.#linear.u64.set(inputNow(), from / 8);
      const to = from + bytes;
      this.#translateBetween(from, to, length, access, code);
      outputNow().set(this.#linear.u64.subarray(to / 8, to / 8 + length));
      return this.#countFaults(to, length);
    } finally {
      this.#linear.free(from, bytes * 2);
    }
  }

  /**
   * The same for the first `count` addresses of a buffer from `Core.allocateBatch`, without copying: `count` results are
   * in its output afterwards. Returns the number of faults. Throws ConfigError for a buffer of another core.
   */
  translateBuffer(
    buffer: BatchBuffer,
    access: number = Access.Read,
    kernel: BatchKernel = "auto",
    count?: number,
  ): number {
    this.#requireLive();
    const code = kernelCode(kernel);
    if (!isInstance(buffer, BatchBuffer) || buffer.linear !== this.#linear)
      throw new ConfigError("the batch buffer was not allocated by this core");
    const wanted = checkInteger(count ?? buffer.length, 0, buffer.length, "count", RangeError);
    checkAccess(access);
    const to = buffer.address + buffer.length * 8;
    this.#translateBetween(buffer.address, to, wanted, access, code, () => buffer.address);
    return this.#countFaults(to, wanted);
  }

  /** `requireBuffer` throws where the addresses are gone: asked after each call of the source. */
  #translateBetween(
    from: number,
    to: number,
    count: number,
    access: number,
    kernel: number,
    requireBuffer?: () => void,
  ): void {
    for (let done = 0; done < count; ) {
      const at = done * 8;
      const more = this.#exports.translateBatch(this.pointer, from + at, to + at, count - done, access, kernel) >>> 0;
      if (more === CODES.BATCH_TOO_WIDE) this.#refuseWide(from + at, count - done);
      done += more;
      if (done === count) return;
      this.#supply(this.#missingGfn());
      requireBuffer?.();
    }
  }

  /** Some of `count` addresses is one that the mode does not have. */
  #refuseWide(from: number, count: number): never {
    for (const address of this.#linear.u64.subarray(from / 8, from / 8 + count)) this.#address(address);
    throw new RangeError("no address is wider than 32 bits");
  }

  /** Guest memory by linear address: reads, writes, values and strings. */
  get data(): SpaceMemory {
    this.#data ??= new SpaceMemory(this);
    return this.#data;
  }

  /**
   * Where `length` bytes from `address` on lie (up to 2^64-1, in constant memory): runs that are contiguous in physical
   * memory, ending with the first fault if there is one. Translates each page, of whatever size, once and as it is asked
   * for: with Access.Probe nothing is marked accessed. Throws what `translate` throws.
   */
  translateRange(address: U64, length: U64, access: number = Access.Read): IterableIterator<RangeRun | RangeFault> {
    this.#requireLive();
    return translateRange(this, address, length, access);
  }

  /** @internal Linear addresses have 32 bits. */
  get isNarrow(): boolean {
    return this.#registers !== undefined && !isWide(this.#mode);
  }

  /** @internal Bytes of the page, of two stages the smaller one, that `translate` found last; with paging off 4 GiB. */
  lastPageBytes(): number {
    const work = this.#work;
    const shift = leafShift(this.#mode, work.level);
    return 2 ** (this.#second === undefined ? shift : Math.min(shift, leafShift(this.#second.#mode, work.secondLevel)));
  }

  walk(address: U64, access: number = Access.Read): Walk {
    this.#requireLive();
    const at = this.#address(address);
    checkAccess(access);
    let status = this.#exports.explain(this.pointer, at, access);
    while (status === Status.MissingPage) {
      this.#supply(this.#missingGfn());
      status = this.#exports.explain(this.pointer, at, access);
    }
    return {
      address: at,
      result: this.#described(status, access),
      steps: readSteps(this.#linear, this.#work),
    };
  }

  /**
   * Every leaf in ascending order. Where the memory's source throws, so does `next`, and the next call goes on there: a source may
   * fetch what it lacks meanwhile (`listAsync` of x86-paging/dump).
   */
  leaves(): IterableIterator<Leaf> {
    return new LeafListing(this.#leafBlocks("leaves()"));
  }

  /**
   * The same leaves as columns of numbers, which take a tenth of the time of objects: `listing.fill(columns)`, with columns from
   * `Core.allocateColumns`, until it returns 0.
   */
  leafColumns(): LeafColumnListing {
    return new LeafColumnListing(this.#leafBlocks("leafColumns()"));
  }

  #leafBlocks(what: string): LeafBlocks {
    this.#requireLive();
    if (this.#second !== undefined) {
      throw new UnsupportedError(`${what} of a space with a second stage: enumerate each stage by itself`);
    }
    const mode = this.#mode;
    const memory = this.#memory;
    const isSame = () => !this.#disposed && this.#mode === mode && this.#memory === memory;
    return new LeafBlocks(this.#exports, this, isSame, () => this.#requireLive());
  }

  /** Contiguous runs of mappings with equal rights and page size, aliases included, in ascending order. */
  mappings(): IterableIterator<Run> {
    return new RunListing(this.#leafBlocks("mappings()"));
  }

  /** @internal Slots or pages of the memory are others: what rests on where the tables lay is derived again. */
  memoryChanged(): void {
    this.#exports.slotsChanged(this.pointer);
    this.#followTag();
  }

  /** Frees the space. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const first of this.#firstStages) first.dispose();
    this.#memory.detach(this);
    if (this.#second !== undefined) this.#second.#firstStages.delete(this);
    // The fast calls find that these have to be viewed again, which throws.
    this.#lines = NO_LINES;
    this.#lines32 = NO_LINES;
    this.#tlb?.dispose();
    this.#registers?.dispose();
    this.#linear.free(this.pointer, SpaceRecord.SIZE);
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  #requireLive(): void {
    if (this.#disposed) throwDisposed();
  }

  /** Faults among batch results: those with bit 63 set. */
  #countFaults(results: number, count: number): number {
    const words = this.#linear.u32;
    let faults = 0;
    for (let index = 0; index < count; index++) faults += words[results / 4 + index * 2 + 1]! >>> 31;
    return faults;
  }

  /** Writes the record; the frame of PDPTEs that have to be read first, if there is one. */
  #apply(fields: SpaceFields): bigint | undefined {
    writeFields(this.#record, fields);
    this.#exports.configure(this.pointer);
    const live = (fields.features & CODES.FEATURE_LIVE_PDPTES) !== 0;
    if (this.#modeNow() !== "pae" || live) return undefined;
    const given = fields.pdptes !== undefined;
    const status = given ? this.#exports.checkPdptes(this.pointer) : this.#exports.loadPdptes(this.pointer);
    if (status === Status.MissingPage) return this.#missingGfn();
    if (status !== Status.Ok) throwBadPdptes(this.#work, this.#record, status, (fault) => this.#told(fault));
    return undefined;
  }

  /** What the record says. */
  #modeNow(): PagingMode {
    return MODES[this.#record.mode]!;
  }

  #run(address: U64, access: number): number {
    const at = this.#address(address);
    let result = this.#exports.translateWide(this.pointer, at, access);
    if (result === MISSING) result = this.#translateOn(at, access);
    return result < 0 ? decodeFault(result).status : Status.Ok;
  }

  /** An address to translate; throws RangeError or, for a linear address that the mode does not have, ConfigError. */
  #address(address: U64): bigint {
    const at = toU64(address, "address");
    if (this.#registers !== undefined) checkLinear(at, isWide(this.#mode));
    return at;
  }

  /**
   * Reads the page that the last fast call found missing, and repeats it. An address that the mode does not have comes here
   * too, because the fast calls look for one odd result only.
   */
  #translateAgain(): number {
    return this.#translateOn(this.#work.missingAddress, this.#work.missingAccess);
  }

  /** Repeats an access until no page is missing. The WORK record is not what it was after asking the source. */
  #translateOn(address: bigint, access: number): number {
    let result = MISSING;
    while (result === MISSING) {
      this.#address(address);
      this.#supply(this.#missingGfn());
      result = this.#exports.translateWide(this.pointer, address, access);
    }
    return result;
  }

  #viewLines(): void {
    this.#requireLive();
    this.#lines = this.#tlb?.lines();
    this.#lineMask = (this.#lines?.length ?? 0) - 4;
    this.#lines32 = isWide(this.#mode) ? undefined : this.#lines;
    this.#followTag();
  }

  /** The current context's lines may have another tag: the core keeps it in the fourth word of the first line. */
  #followTag(): void {
    const lines = this.#lines;
    if (lines !== undefined) this.#lineTag = lines[3] ?? 0;
  }

  /** The page that the last call found missing; to be read before the source is asked. */
  #missingGfn(): bigint {
    return this.#work.missingGfn;
  }

  /** Has a page read by the source, which may do anything meanwhile, disposing of this space included. */
  #supply(gfn: bigint): void {
    this.#memory.supply(gfn);
    this.#requireLive();
  }
}

function wide(high: number, low: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}

function throwDisposed(): never {
  throw new DisposedError("the space was disposed of, or the memory or second stage that it needs");
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}

/** Whether linear addresses may have more than 32 bits. */
function isWide(mode: PagingMode): boolean {
  return mode === "4level" || mode === "5level";
}

/** A register of 32 bits, which emulators often hold as a signed integer. */
function toRegister32(value: number, what: string): number {
  if (Number.isInteger(value) && value >= -0x8000_0000 && value <= 0xffff_ffff) return value >>> 0;
  return checkInteger(value, -0x8000_0000, 0xffff_ffff, what, RangeError);
}

/** log2 of the bytes that a leaf maps; without paging, where there is none, addresses have 32 bits. */
function leafShift(mode: PagingMode, level: number): number {
  return level === 0 ? 32 : pageShift(mode, level);
}
