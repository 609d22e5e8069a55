/**
 * A memory's configuration in a state: slots, the gate of address line 20, the size of the source's cache; with `ram` also the
 * bytes of RAM that the memory has allocated itself. Everything is a list of records, each with a type and its length, so that
 * later ones have their place.
 */
import type { MemoryConfig, PageSource } from "../../api.js";
import { checkFlag, checkOptions, isInstance, show } from "../../checks.js";
import { ConfigError, StateError, UnsupportedError } from "../../errors.js";
import { STATE_KIND, seal, unseal } from "../../state/format/envelope.js";
import { fillPages, readPages, type SavedPage, writePages } from "../../state/format/pages.js";
import { StateReader } from "../../state/format/reader.js";
import { StateWriter } from "../../state/format/writer.js";
import type { Core } from "../core.js";
import type { LinearMemory } from "../linear/linear-memory.js";
import { CoreMemory } from "../memory/memory.js";
import { type CheckedSlot, checkSlot, type Slot, sortSlots } from "../memory/slot-config.js";
import type { State } from "./space-state.js";

export interface SaveMemoryOptions {
  /** With the bytes of RAM that the memory has allocated itself. Default false: they are the host's to keep. */
  readonly ram?: boolean;
}

export interface CreateMemoryOptions {
  /** Where the saved memory had a source: the one of now. */
  readonly source?: PageSource;
}

/** Types of records. */
const RECORD = { gate: 1, source: 2, slot: 3, ram: 4 } as const;
/** Least bytes of one. */
const RECORD_BYTES = 5;

/** What a state has of a memory. */
interface SavedMemory {
  readonly a20: boolean;
  readonly cachedPages: number | undefined;
  readonly slots: readonly CheckedSlot[];
  /** Bytes of RAM that is the memory's own, by the slot's first address. */
  readonly ram: ReadonlyMap<bigint, readonly SavedPage[]>;
}

/**
 * The configuration of `memory` as one buffer. Throws UnsupportedError where a slot is a window on what the core keeps, which
 * has no place of its own; DisposedError; ConfigError for a memory that is not of this package's core.
 */
export function saveMemory(memory: CoreMemory, options: SaveMemoryOptions = {}): ArrayBuffer {
  requireMemory(memory);
  checkOptions(options, { ram: true }, "the options");
  const withRam = checkFlag(options.ram, "ram") ?? false;
  const { slots, cachedPages } = memory.parts();
  const out = new StateWriter();
  const record = (type: number, write: (into: StateWriter) => void) => {
    const contents = new StateWriter();
    write(contents);
    out.u8(type);
    out.bytes(contents.written());
  };
  record(RECORD.gate, (into) => into.flag(memory.a20));
  if (cachedPages !== undefined) record(RECORD.source, (into) => into.u32(cachedPages));
  for (const slot of slots) {
    if (slot.window) {
      throw new UnsupportedError(`slot at 0x${slot.gpa.toString(16)} is a window, expected none in a memory to save`);
    }
    record(RECORD.slot, (into) => writeSlot(into, slot));
    if (!withRam || !slot.owned) continue;
    record(RECORD.ram, (into) => {
      into.u64(slot.gpa);
      writePages(into, memory.linear.u8.subarray(slot.linear, slot.linear + slot.size));
    });
  }
  return seal(STATE_KIND.memory, out);
}

/**
 * `memory` has the saved slots and gate from now on; RAM of its own keeps its bytes in slots that are the same, unless the state
 * has bytes for it. It has to have a source where the saved one had one. Spaces over it lose what their software TLBs hold:
 * restore them afterwards. Throws StateError, OutOfMemoryError or DisposedError with nothing changed.
 */
export function restoreMemory(memory: CoreMemory, state: State): void {
  requireMemory(memory);
  const { cachedPages } = memory.parts();
  const saved = readMemory(unseal(STATE_KIND.memory, state), memory.linear);
  if (saved.cachedPages !== cachedPages) {
    const source = (pages: number | undefined) => (pages === undefined ? "no source" : `a source, ${pages} pages kept`);
    throw new StateError(`the state is of a memory with ${source(saved.cachedPages)}, expected ${source(cachedPages)}`);
  }
  memory.adopt(saved.slots, saved.a20);
  for (const { gpa, linear, size } of memory.parts().slots) {
    const pages = saved.ram.get(gpa);
    if (pages === undefined) continue;
    fillPages(memory.linear.u8.subarray(linear, linear + size), pages);
    if (memory.watch.map !== 0) memory.watch.noteRange(linear, size);
  }
}

/**
 * A memory like the saved one. RAM of its own is zeroed where the state has no bytes for it. Throws StateError for what is no
 * state of a memory or does not fit, ConfigError and OutOfMemoryError as `createMemory` does; nothing stays allocated then.
 */
export function createMemory(core: Core, state: State, options: CreateMemoryOptions = {}): CoreMemory {
  checkOptions(options, { source: true }, "the options");
  const { linear } = core.internals();
  const { cachedPages } = readMemory(unseal(STATE_KIND.memory, state), linear);
  const { source } = options;
  if ((source === undefined) !== (cachedPages === undefined)) {
    throw new StateError(`the state is of a memory ${cachedPages === undefined ? "without" : "with"} a source`);
  }
  const config: MemoryConfig = source === undefined ? {} : { source };
  const memory = core.createMemory(cachedPages === undefined ? config : { ...config, cachedPages });
  try {
    restoreMemory(memory, state);
  } catch (error) {
    memory.dispose();
    throw error;
  }
  return memory;
}

function requireMemory(memory: CoreMemory): void {
  if (isInstance(memory, CoreMemory)) return;
  throw new ConfigError(`the memory is ${show(memory)}, expected one of a core of this package`);
}

function writeSlot(into: StateWriter, { gpa, size, linear, readOnly, owned }: Slot): void {
  into.u64(gpa);
  into.u32(size);
  into.flag(readOnly);
  into.flag(owned);
  into.u32(owned ? 0 : linear);
}

function readSlot(from: StateReader, linear: LinearMemory): CheckedSlot {
  const [gpa, size] = [from.u64(), from.u32()];
  const [readOnly, owned] = [from.flag("readOnly"), from.flag("owned")];
  const place = from.u32();
  const config = { gpa, size, readOnly, ...(owned ? {} : { linear: place }) };
  return asState(() => checkSlot(config, "a slot", linear));
}

/** What configurations may not be, states have not. */
function asState<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (error instanceof ConfigError) throw new StateError(`the state has what cannot be here: ${error.message}`);
    throw error;
  }
}

function readMemory(from: StateReader, linear: LinearMemory): SavedMemory {
  let a20: boolean | undefined;
  let cachedPages: number | undefined;
  const slots: CheckedSlot[] = [];
  const ram = new Map<bigint, SavedPage[]>();
  while (from.left >= RECORD_BYTES) {
    const type = from.u8();
    const contents = new StateReader(from.bytes());
    if (type === RECORD.gate) a20 = contents.flag("the gate");
    else if (type === RECORD.source) cachedPages = contents.integer(64, 2 ** 20, "pages kept of the source");
    else if (type === RECORD.slot) slots.push(readSlot(contents, linear));
    else if (type === RECORD.ram) {
      const gpa = contents.u64();
      const slot = slots.at(-1);
      if (slot === undefined || slot.gpa !== gpa || !slot.owned)
        throw new StateError("the state has RAM without a slot");
      ram.set(gpa, readPages(contents, slot.size));
    } else throw new StateError(`the state has a record of an unknown type ${type}`);
    contents.end();
  }
  from.end();
  if (a20 === undefined) throw new StateError("the state does not say whether address line 20 works");
  return { a20, cachedPages, slots: asState(() => sortSlots(slots)), ram };
}
