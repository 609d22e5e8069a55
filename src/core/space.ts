/** An address space of the Wasm core. */
import { ACCESS, Access, bitOf, CODES, CR4, CURSOR, Status } from "../abi/index.js";
import type { AddressSpace, AddressSpaceConfig, Leaf, PagingMode, Translation, U64, Walk } from "../api.js";
import { ConfigError, GeneralProtectionError, MemoryRangeError, PdpteLoadError, UnsupportedError } from "../errors.js";
import { mergeRuns, type Run } from "../runs.js";
import { type BatchBuffer, type BatchKernel, kernelCode } from "./batch.js";
import type { CoreExports } from "./exports.js";
import { checkInvpcid } from "./invpcid.js";
import { checkLinear } from "./linear-address.js";
import type { LinearMemory } from "./linear-memory.js";
import type { CoreMemory } from "./memory.js";
import { toU64 } from "./numbers.js";
import { RecordType } from "./record.js";
import { leafRecord, MODES, readLeaf, readSteps, readTranslation, workRecord } from "./results.js";
import { guestFields, type SpaceFields, spaceRecord, writeFields } from "./space-config.js";
import { SpaceTlb, splitCr3 } from "./space-tlb.js";

const cursorRecord = new RecordType(CURSOR);
/** Leaves that one call into the core may list. */
const LEAF_BATCH = 1024;
const ACCESS_BITS = Number(ACCESS.fields.reduce((mask, field) => mask | bitOf(ACCESS, field.name), 0n));
/** `translate` gives this for a page that has to be read first; no error code comes with it. */
const MISSING = -1 - (Status.MissingPage << 16);

/** Splits what `translateFast` returned for a fault. */
export function decodeFault(result: number): { status: number; errorCode: number } {
  const packed = -1 - result;
  return { status: packed >>> 16, errorCode: packed & 0xffff };
}

export class CoreSpace implements AddressSpace {
  /**
   * Linear address of the SPACE record, the first argument of the core's calls. `declare`: a field that begins as
   * undefined would be checked for being a number in every call.
   */
  declare readonly pointer: number;
  readonly #exports: CoreExports;
  /** The fast calls' functions by themselves: one look-up less for each address. */
  readonly #translate: CoreExports["translate"];
  readonly #translate32: CoreExports["translate32"];
  readonly #linear: LinearMemory;
  readonly #work: number;
  readonly #second: CoreSpace | undefined;
  #config: AddressSpaceConfig | undefined;
  #mode: PagingMode;
  #tlb: SpaceTlb | undefined;
  /** The first level of the software TLB, if there is one: TLB_LINE records. */
  #lines: Int32Array | undefined;
  /** The same where linear addresses have 32 bits, so that every line's HIGH is 0. */
  #lines32: Int32Array | undefined;
  /** Its words minus 4. */
  #lineMask = 0;
  #disposed = false;

  /**
   * Throws GeneralProtectionError where loading the registers would raise #GP, PdpteLoadError where the second stage stops
   * the loading of PDPTEs; nothing stays allocated then.
   */
  constructor(
    exports: CoreExports,
    work: number,
    readonly memory: CoreMemory,
    fields: SpaceFields,
    config?: AddressSpaceConfig,
  ) {
    const second = config?.secondStage;
    if (second !== undefined && !(second instanceof CoreSpace && second.#config === undefined)) {
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
    this.#config = config;
    this.#second = second;
    this.pointer = this.#linear.allocate(spaceRecord.size);
    try {
      spaceRecord.set32(this.#linear, this.pointer, "MEMORY", memory.pointer);
      spaceRecord.set32(this.#linear, this.pointer, "SECOND", second?.pointer ?? 0);
      spaceRecord.set32(this.#linear, this.pointer, "WORK", work);
      this.#tlb = config?.tlbEntries ? new SpaceTlb(exports, this.#linear, this.pointer, config) : undefined;
      this.#mode = this.#apply(fields);
      this.#viewLines();
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  get mode(): PagingMode {
    return this.#mode;
  }

  /**
   * Loads other registers or options, as MOV to a control register does: latched PDPTEs are read again, and the software
   * TLB loses what such a change invalidates (a CR3 is loaded without bit 63).
   * Throws what creating the space would; nothing has changed then.
   */
  update(changes: Partial<AddressSpaceConfig>): void {
    const before = this.#config;
    this.#change(changes);
    this.#tlb?.afterUpdate(before!, this.#config!, "cr3" in changes);
  }

  /**
   * MOV to CR3: bit 63 keeps the TLB entries of the new PCID (CR4.PCIDE=1), else those that are not global go.
   * Throws GeneralProtectionError as the instruction would; nothing has changed then.
   */
  writeCr3(value: U64): void {
    const config = this.#guestConfig("CR3 is");
    const { cr3, keep } = splitCr3(toU64(value, "CR3"), BigInt(config.cr4));
    this.#change({ cr3 }, true);
    if (!keep) this.#tlb?.flushContext(config, cr3);
  }

  /** INVLPG: drops `address`'s page, whatever its size, in the current PCID and as a global page. */
  invlpg(address: U64): void {
    const config = this.#guestConfig("INVLPG is");
    const at = this.#address(address);
    this.#tlb?.dropPage(at, config);
  }

  /**
   * INVPCID: 0 one address of a PCID, 1 a PCID, both but for global pages; 2 everything, 3 everything but global pages.
   * Throws GeneralProtectionError for what the instruction refuses.
   */
  invpcid(type: number, pcid: number, address: U64 = 0n): void {
    const config = this.#guestConfig("INVPCID is");
    const at = toU64(address, "address");
    const pcide = (BigInt(config.cr4) & bitOf(CR4, "PCIDE")) !== 0n;
    checkInvpcid(type, pcid, at, { pcide, width: WIDTHS[this.#mode] ?? 32 });
    this.#tlb?.invalidate(type, pcid, at);
  }

  #guestConfig(what: string): AddressSpaceConfig {
    if (this.#config === undefined) throw new UnsupportedError(`${what} not for EPT and NPT spaces`);
    return this.#config;
  }

  #change(changes: Partial<AddressSpaceConfig>, fromMemory = false): void {
    if (this.#config === undefined) throw new UnsupportedError("EPT and NPT spaces are not updated, make a new one");
    if ("secondStage" in changes && changes.secondStage !== this.#config.secondStage) {
      throw new UnsupportedError("the second stage of a space cannot be changed, make a new space");
    }
    if ("tlbEntries" in changes && changes.tlbEntries !== this.#config.tlbEntries) {
      throw new UnsupportedError("the software TLB of a space cannot be changed, make a new space");
    }
    const config = { ...this.#config, ...changes };
    // MOV to CR3 reads the PDPTEs, whatever values were given before.
    if (fromMemory) delete (config as { pdpteValues?: unknown }).pdpteValues;
    const fields = guestFields(config);
    const before = this.#linear.u8.slice(this.pointer, this.pointer + spaceRecord.size);
    try {
      this.#mode = this.#apply(fields);
      this.#config = config;
      this.#viewLines();
    } catch (error) {
      this.#linear.u8.set(before, this.pointer);
      throw error;
    }
  }

  translate(address: U64, access: number = Access.Read): Translation {
    const status = this.#run(address, checkAccess(access));
    return readTranslation(this.#linear, this.#work, this.#mode, status);
  }

  /**
   * The fast call: translates `high:low` (two unsigned 32-bit halves) for a word of Access flags, which is not checked.
   * Returns the physical address, or a negative number for `decodeFault`.
   */
  translateFast(high: number, low: number, access: number): number {
    const lines = this.#lines;
    // CODES.LINE_HASH, LINE_VALID and MISSING are written out: V8 would load what a module holds in each call.
    if (lines !== undefined) {
      const kind = access & 0xfff;
      const at = ((low ^ Math.imul(high + kind, 0x9e3779b1)) >>> 10) & this.#lineMask;
      if (lines[at] === ((low & 0xfffff000) | kind | 1) && lines[at + 1] === (high | 0)) {
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
      const kind = access & 0xfff;
      const at = ((address ^ Math.imul(kind, 0x9e3779b1)) >>> 10) & this.#lineMask;
      if (lines[at] === ((address & 0xfffff000) | kind | 1)) return lines[at + 2]! * 4096 + (address & 0xfff);
      if (lines.length === 0) this.#viewLines();
    }
    const translate = this.#translate32;
    const result = translate(this.pointer, address, access);
    return result + 0.5 === -458752.5 ? this.#translateAgain() : result;
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
    const code = kernelCode(kernel);
    if (output.length < input.length) {
      throw new RangeError(`output has room for ${output.length} addresses, expected at least ${input.length}`);
    }
    checkAccess(access);
    const bytes = input.length * 8;
    const from = this.#linear.allocate(bytes * 2);
    try {
      this.#linear.u64.set(input, from / 8);
      const to = from + bytes;
      this.#translateBetween(from, to, input.length, access, code);
      output.set(this.#linear.u64.subarray(to / 8, to / 8 + input.length));
      return this.#countFaults(to, input.length);
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
    count: number = buffer.length,
  ): number {
    const code = kernelCode(kernel);
    if (buffer.linear !== this.#linear) throw new ConfigError("the batch buffer was not allocated by this core");
    if (!Number.isInteger(count) || count < 0 || count > buffer.length) {
      throw new RangeError(`count is ${count}, expected an integer from 0 to ${buffer.length}`);
    }
    checkAccess(access);
    const to = buffer.address + buffer.length * 8;
    this.#translateBetween(buffer.address, to, count, access, code);
    return this.#countFaults(to, count);
  }

  #translateBetween(from: number, to: number, count: number, access: number, kernel: number): void {
    for (let done = 0; done < count; ) {
      const at = done * 8;
      const more = this.#exports.translateBatch(this.pointer, from + at, to + at, count - done, access, kernel) >>> 0;
      if (more === CODES.BATCH_TOO_WIDE) this.#refuseWide(from + at, count - done);
      done += more;
      if (done < count) this.#supply();
    }
  }

  /** Some of `count` addresses is one that the mode does not have. */
  #refuseWide(from: number, count: number): never {
    for (const address of this.#linear.u64.subarray(from / 8, from / 8 + count)) this.#address(address);
    throw new RangeError("no address is wider than 32 bits");
  }

  walk(address: U64, access: number = Access.Read): Walk {
    const at = this.#address(address);
    checkAccess(access);
    let status = this.#exports.explain(this.pointer, at, access);
    while (status === Status.MissingPage) {
      this.#supply();
      status = this.#exports.explain(this.pointer, at, access);
    }
    return {
      address: at,
      result: readTranslation(this.#linear, this.#work, this.#mode, status),
      steps: readSteps(this.#linear, this.#work),
    };
  }

  leaves(): IterableIterator<Leaf> {
    if (this.#second !== undefined) {
      throw new UnsupportedError("leaves() of a space with a second stage: enumerate each stage by itself");
    }
    return this.#leaves();
  }

  /** Contiguous runs of mappings with equal rights and page size, aliases included, in ascending order. */
  mappings(): IterableIterator<Run> {
    return mergeRuns(this.leaves());
  }

  *#leaves(): IterableIterator<Leaf> {
    const cursor = this.#linear.allocate(cursorRecord.size);
    const output = this.#linear.allocate(LEAF_BATCH * leafRecord.size);
    try {
      this.#exports.startEnumeration(this.pointer, cursor);
      while (cursorRecord.get32(this.#linear, cursor, "LEVEL") !== 0) {
        const count = this.#exports.enumerate(this.pointer, cursor, output, LEAF_BATCH);
        const status = cursorRecord.get32(this.#linear, cursor, "STATUS");
        for (let index = 0; index < count; index++) {
          yield readLeaf(this.#linear, output + index * leafRecord.size, this.#mode);
        }
        if (status === Status.MissingPage) {
          const level = cursorRecord.get32(this.#linear, cursor, "LEVEL");
          this.memory.supply(cursorRecord.get64(this.#linear, cursor, "TABLE", level) >> 12n);
        } else if (status !== Status.Ok) this.#throwTableOutside(cursor);
      }
    } finally {
      this.#linear.free(output, LEAF_BATCH * leafRecord.size);
      this.#linear.free(cursor, cursorRecord.size);
    }
  }

  /** Frees the space. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#tlb?.dispose();
    this.#linear.free(this.pointer, spaceRecord.size);
  }

  /** Faults among batch results: those with bit 63 set. */
  #countFaults(results: number, count: number): number {
    const words = this.#linear.u32;
    let faults = 0;
    for (let index = 0; index < count; index++) faults += words[results / 4 + index * 2 + 1]! >>> 31;
    return faults;
  }

  #apply(fields: SpaceFields): PagingMode {
    writeFields(this.#linear, this.pointer, fields);
    if (this.#exports.configure(this.pointer) === 0) {
      throw new GeneralProtectionError(
        `CR3 0x${fields.cr3.toString(16)} has bits at or above MAXPHYADDR ${fields.maxPhysAddr} set`,
      );
    }
    const mode = MODES[spaceRecord.get32(this.#linear, this.pointer, "MODE")]!;
    const live = (fields.features & CODES.FEATURE_LIVE_PDPTES) !== 0;
    if (mode === "pae" && !live) this.#latchPdptes(fields.pdptes !== undefined);
    return mode;
  }

  #latchPdptes(given: boolean): void {
    if (given) {
      this.#requireGoodPdptes(this.#exports.checkPdptes(this.pointer));
      return;
    }
    let status = this.#exports.loadPdptes(this.pointer);
    while (status === Status.MissingPage) {
      this.#supply();
      status = this.#exports.loadPdptes(this.pointer);
    }
    this.#requireGoodPdptes(status);
  }

  #requireGoodPdptes(status: number): void {
    if (status === Status.Ok) return;
    const at = workRecord.get64(this.#linear, this.#work, "ENTRY_ADDRESS").toString(16);
    const entry = workRecord.get64(this.#linear, this.#work, "ENTRY").toString(16);
    if (status === Status.PageFault)
      throw new GeneralProtectionError(`PDPTE 0x${entry} at 0x${at} has reserved bits set`);
    const table = spaceRecord.get64(this.#linear, this.pointer, "ROOT").toString(16);
    const result = readTranslation(this.#linear, this.#work, "pae", status);
    if (!result.ok && result.stage === "second") {
      throw new PdpteLoadError(`the PDPTEs at 0x${table} are not accessible by the second stage`, result);
    }
    throw new GeneralProtectionError(`the PDPTEs at 0x${table} cannot be read`);
  }

  #run(address: U64, access: number): number {
    const at = this.#address(address);
    let result = this.#exports.translateWide(this.pointer, at, access);
    while (result === MISSING) {
      this.#supply();
      result = this.#exports.translateWide(this.pointer, at, access);
    }
    return result < 0 ? decodeFault(result).status : Status.Ok;
  }

  /** An address to translate; throws RangeError or, for a linear address that the mode does not have, ConfigError. */
  #address(address: U64): bigint {
    const at = toU64(address, "address");
    if (this.#config !== undefined) checkLinear(at, isWide(this.#mode));
    return at;
  }

  /**
   * Reads the page that the last fast call found missing, and repeats it. An address that the mode does not have comes here
   * too, because the fast calls look for one odd result only.
   */
  #translateAgain(): number {
    let result = MISSING;
    while (result === MISSING) {
      const address = workRecord.get64(this.#linear, this.#work, "MISSING_ADDRESS");
      const access = workRecord.get32(this.#linear, this.#work, "MISSING_ACCESS");
      this.#address(address);
      this.#supply();
      result = this.#exports.translateWide(this.pointer, address, access);
    }
    return result;
  }

  #viewLines(): void {
    this.#lines = this.#tlb?.lines();
    this.#lineMask = (this.#lines?.length ?? 0) - 4;
    this.#lines32 = isWide(this.#mode) ? undefined : this.#lines;
  }

  /** Reads the page that the last call found missing. */
  #supply(): void {
    this.memory.supply(workRecord.get64(this.#linear, this.#work, "MISSING_GFN"));
  }

  #throwTableOutside(cursor: number): never {
    const level = cursorRecord.get32(this.#linear, cursor, "LEVEL");
    const table = cursorRecord.get64(this.#linear, cursor, "TABLE", level);
    throw new MemoryRangeError(`the level-${level} table at 0x${table.toString(16)} lies outside the memory`);
  }
}

/** Bits of a linear address in long mode. */
const WIDTHS: Partial<Record<PagingMode, number>> = { "4level": 48, "5level": 57 };

/** Whether linear addresses may have more than 32 bits. */
function isWide(mode: PagingMode): boolean {
  return mode === "4level" || mode === "5level";
}

function checkAccess(access: number): number {
  const exclusive = Access.Write | Access.Fetch;
  if (!Number.isInteger(access) || (access & ~ACCESS_BITS) !== 0 || (access & exclusive) === exclusive) {
    throw new RangeError(`access is ${access}, expected Access flags without both Write and Fetch`);
  }
  return access;
}
