/** The VM record in a state: what it is made of, to be compared, and what changes. */
import { SHADOW_CODES } from "../../../abi/shadow.js";
import { StateError } from "../../../errors.js";
import type { StateReader } from "../../../state/format/reader.js";
import type { StateWriter } from "../../../state/format/writer.js";
import { EventRecord, type VmRecord } from "../../records/mmu.js";
import type { MmuCore } from "../mmu-core.js";

/** Settings, which are the same for life. */
const SETTINGS = [
  ...(["hostWritable", "mmuWritable", "nx", "x", "user", "accessed", "dirty", "mmioValue", "mmioMask"] as const),
  ...([
    "mmioAccess",
    "present",
    "memtype",
    "memtypeValue",
    "meValue",
    "meMask",
    "accTrack",
    "nonpresentOrRsvd",
  ] as const),
  ...(["lowerGfn", "empty", "maxGfn", "normalZone", "rules", "mmioCaching", "cpuDirtyLog", "nxHuge"] as const),
  ...(["maxHugeLevel", "tdp", "defaultPdpte", "askHost", "rangedFlush", "eventCapacity"] as const),
];

/** What changes, and is a number by itself. */
const NUMBERS = [
  ...([
    "invalidateSeq",
    "validGen",
    "used",
    "max",
    "indirect",
    "rootRequest",
    "flushes",
    "flushAll",
    "flushCount",
  ] as const),
  ...(["eventLost", "pfTaken", "pfFixed", "pfSpurious", "pfEmulate", "zapped", "flooded", "noHugeCount"] as const),
  ...(["recycled", "pteWrites", "unsync", "syncMismatch", "broken"] as const),
];

/** ROOT_REQUEST bits. */
const MOST_REQUESTS = 3;

const EVENT_TYPES = new Set<number>(
  Object.entries(SHADOW_CODES).flatMap(([name, code]) => (name.startsWith("EV_") ? [code] : [])),
);

/** The settings by name. */
export function vmSettings(vm: VmRecord): Record<string, number | bigint> {
  return Object.fromEntries(SETTINGS.map((name) => [name, vm[name]]));
}

/** Writes counters, what is to be flushed, and events that nobody has taken. */
export function writeVm(out: StateWriter, core: MmuCore): void {
  const { vm } = core;
  for (const name of NUMBERS) out.u32(vm[name]);
  for (let index = 0; index < vm.flushCount; index++) {
    const { gfn, pages } = core.flushRange(index);
    out.u64(gfn);
    out.u64(pages);
  }
  out.bytes(core.events.bytes());
}

/** Throws StateError. */
export function readVm(from: StateReader, core: MmuCore): void {
  const { vm } = core;
  for (const name of NUMBERS) vm[name] = from.u32();
  const { flushCount, flushAll, validGen, rootRequest } = vm;
  if (flushCount > SHADOW_CODES.FLUSH_CAPACITY || flushAll > 1 || validGen > 1 || rootRequest > MOST_REQUESTS) {
    throw new StateError("the state has numbers of a virtual machine that cannot be");
  }
  for (let index = 0; index < 2 * flushCount; index++) vm.setFlushRanges(index, from.u64());
  const events = from.bytes();
  const count = events.length / EventRecord.SIZE;
  if (!Number.isInteger(count) || count > vm.eventCapacity) {
    throw new StateError(`the state has ${events.length} bytes of events for ${vm.eventCapacity}`);
  }
  vm.eventCount = count;
  core.events.bytes().set(events);
  core.events.each(({ type }) => {
    if (!EVENT_TYPES.has(type)) throw new StateError(`the state has an event of an unknown type ${type}`);
  });
}
