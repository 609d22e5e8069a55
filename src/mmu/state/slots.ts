/** Memslots in a state: what each is, what the core keeps for it, and which of the host's pages are looked at again. */
import { SHADOW_CODES } from "../../abi/shadow.js";
import type { PagePieces } from "../../core/mmu/state/page-state.js";
import { readSlotArrays, readSlotRmaps, writeSlotArrays, writeSlotRmaps } from "../../core/mmu/state/slot-state.js";
import { ConfigError, StateError } from "../../errors.js";
import type { StateReader } from "../../state/format/reader.js";
import type { StateWriter } from "../../state/format/writer.js";
import { checkSlotOptions } from "../config/check-config.js";
import type { SlotConfig } from "../config/config.js";
import type { Machine } from "../machine/machine.js";
import { flagsOf, type Memslot } from "../memory/memslots.js";
import { readPlaces, writePlaces } from "./places.js";

const { MEMSLOT_LOG, MEMSLOT_READONLY, MEMSLOT_INTERNAL, MEMSLOT_TYPE_SHIFT } = SHADOW_CODES;
const SPACES = [0, 1] as const;
const MOST_SLOTS = 128;

export function writeSlots(out: StateWriter, vm: Machine): void {
  for (const space of SPACES) out.u64(vm.slots.generation(space));
  out.list(vm.slots.slots, (slot) => {
    const { core, addressSpace, id, base, pages, hva, ram, ramSize, flags } = slot;
    for (const word of [addressSpace, id, pages, ram, ramSize, flags, core.memoryType]) out.u32(word);
    out.u64(base);
    out.u64(hva);
    out.flag(core.hasLog);
    writePlaces(out, core.places);
    writeSlotArrays(out, core);
    const absent = vm.hostPages.absent(slot);
    out.flag(absent !== undefined);
    out.list(absent ?? [], (gfn) => out.u64(gfn));
  });
}

/** Throws StateError and OutOfMemoryError. */
export function readSlots(from: StateReader, vm: Machine): void {
  for (const space of SPACES) vm.slots.setGeneration(space, from.u64());
  from.list(50, () => readSlot(from, vm), MOST_SLOTS, "slots");
}

function readSlot(from: StateReader, vm: Machine): void {
  const word = () => from.u32();
  const [addressSpace, id, pages, ram, ramSize] = [word(), word(), word(), word(), word()];
  const [flags, type] = [word(), word()];
  const [base, hva] = [from.u64(), from.u64()];
  const hasLog = from.flag("a dirty log");
  const places = readPlaces(from);
  // What the slot takes is in the state.
  if (pages * 8 > from.left) throw new StateError(`the state has a slot of ${pages} pages and no room for them`);
  const config = {
    ...{ addressSpace, id, gpa: base << 12n, size: pages * 4096, ram, ramSize, hva },
    logDirty: (flags & MEMSLOT_LOG) !== 0,
    readOnly: (flags & MEMSLOT_READONLY) !== 0,
    internal: (flags & MEMSLOT_INTERNAL) !== 0,
    ...(type === 0 ? {} : { memoryType: type >>> MEMSLOT_TYPE_SHIFT }),
  } as SlotConfig;
  checkSlot(vm, config);
  const slot = vm.core.atPlaces(places, () => {
    return vm.slots.prepare(config, undefined, hasLog ? { initial: false } : undefined);
  });
  vm.slots.add(slot);
  if (flagsOf(config) !== flags || slot.core.memoryType !== type) {
    throw new StateError(`the state has slot ${id} with flags ${flags} and memory type ${type}`);
  }
  readSlotArrays(from, slot.core, pages, vm.limits.hostPhysicalBits);
  readAbsent(from, vm, slot);
}

function checkSlot(vm: Machine, config: SlotConfig): void {
  try {
    checkSlotOptions(config, vm.core);
    if (config.size === 0 || vm.slots.classify(config) !== "create") throw new ConfigError(`slot ${config.id} again`);
  } catch (error) {
    if (error instanceof ConfigError) throw new StateError(`the state has what cannot be here: ${error.message}`);
    throw error;
  }
}

function readAbsent(from: StateReader, vm: Machine, slot: Memslot): void {
  const known = from.flag("pages that are absent");
  const absent = from.list(8, () => from.u64(), slot.pages, "absent pages");
  if (absent.some((gfn) => gfn < slot.base || gfn >= slot.base + BigInt(slot.pages))) {
    throw new StateError(`the state has an absent page outside of slot ${slot.id}`);
  }
  if (known !== (vm.hostPages.host !== undefined)) throw new StateError("the state has a host's pages, or none");
  if (known) vm.hostPages.setAbsent(slot, absent);
}

export function writeRmaps(out: StateWriter, vm: Machine, pieces: PagePieces): void {
  for (const { core } of vm.slots.slots) writeSlotRmaps(out, core, pieces);
}

export function readRmaps(from: StateReader, vm: Machine, pieces: PagePieces): void {
  for (const { core } of vm.slots.slots) readSlotRmaps(from, core, pieces);
}
