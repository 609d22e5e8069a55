/**
 * A virtual machine in a state: all that its MMU knows. What the state is of is made anew beside what there is, looked through
 * as `audit` does, and takes its place then; so a state that does not fit changes nothing.
 */
import { KERNELS } from "../../abi/kernel-rules.js";
import { checkFlag, checkOptions, isInstance, show } from "../../checks.js";
import type { Core } from "../../core/core.js";
import { readPages as readShadowPages, writePages as writeShadowPages } from "../../core/mmu/state/page-state.js";
import { readVm, writeVm } from "../../core/mmu/state/vm-state.js";
import { ConfigError, StateError } from "../../errors.js";
import { STATE_KIND, seal, unseal } from "../../state/format/envelope.js";
import { fillPages, readPages, type SavedPage, writePages } from "../../state/format/pages.js";
import type { StateReader } from "../../state/format/reader.js";
import { StateWriter } from "../../state/format/writer.js";
import type { AliasConfig, VirtualMachineConfig } from "../config/config.js";
import { audit } from "../inspect/audit.js";
import { Machine } from "../machine/machine.js";
import type { MmuTraceEvent } from "../trace/events.js";
import { Vcpu } from "../vcpu.js";
import { VirtualMachine } from "../vm.js";
import { type KeptFaults, readCpu, writeCpu } from "./cpus.js";
import { type Place, readPlaces, writePlaces } from "./places.js";
import { checkSettings, writeSettings } from "./settings.js";
import { readRmaps, readSlots, writeRmaps, writeSlots } from "./slots.js";

export interface SaveMachineOptions {
  /** With the bytes of RAM that `createRam` gave. Default false: they are the host's to keep. */
  readonly ram?: boolean;
}

type State = ArrayBufferLike | ArrayBufferView;

/** RAM that `createRam` gave, and its bytes where the state has them. */
interface SavedRam {
  readonly place: Place;
  readonly pages: readonly SavedPage[] | undefined;
}

/** A machine made of a state, and what is not in its records. */
interface Built {
  readonly machine: Machine;
  readonly faults: readonly KeptFaults[];
  readonly ram: readonly SavedRam[];
  readonly events: { readonly waiting: readonly MmuTraceEvent[]; readonly lost: number };
}

/**
 * All of the MMU's state of `vm` as one buffer: slots, shadow pages, roots, vCPUs, pending events and flushes, counters. Guest
 * memory and what the host has behind it are the host's to keep. Throws DisposedError; BusyError in a callback of the host's
 * and while events are passed on; ConfigError for what is no virtual machine.
 */
export function saveMachine(vm: VirtualMachine, options: SaveMachineOptions = {}): ArrayBuffer {
  checkOptions(options, { ram: true }, "the options");
  const withRam = checkFlag(options.ram, "ram") ?? false;
  const machine = requireMachine(vm);
  machine.beginAlone();
  const { core } = machine;
  if (core.vm.freed !== 0) machine.settle();
  const { waiting, lost } = machine.events.kept;
  const out = new StateWriter();
  writeSettings(out, machine);
  const { aliasMask, executeOnlyAliases } = machine.limits;
  out.u64(aliasMask);
  out.u64(executeOnlyAliases);
  out.u32(machine.requestedPages);
  out.flag(machine.zapsAll);
  out.f64(machine.stats.hostCalls);
  writePlaces(out, [...core.places, ...machine.pages.memory.places]);
  writePlaces(out, core.lent);
  out.flag(withRam);
  if (withRam) for (const place of core.lent) writePages(out, core.ram(place));
  writeSlots(out, machine);
  const { stock } = machine.pages.caches;
  const pieces = writeShadowPages(out, core, machine.pages.memory, machine.tdpMmu?.core, stock);
  out.u32(stock.made);
  out.flag(stock.stocked);
  writeRmaps(out, machine, pieces);
  out.list(vm.vcpus, (vcpu) => writeCpu(out, vcpu, pieces));
  writeVm(out, core);
  out.f64(lost);
  out.list(waiting, (event) => out.value(event));
  return seal(STATE_KIND.machine, out, kernelNumber(machine.config));
}

/**
 * `vm` becomes what was saved: of a VM with the same configuration, here or in another process. Its `vcpus` are the same
 * objects as far as there were as many; `state` and what was taken from it are others. RAM that `createRam` gave stays, and has
 * to be where it was. Throws StateError, OutOfMemoryError (both are there for a moment), DisposedError or BusyError with nothing
 * changed.
 */
export function restoreMachine(vm: VirtualMachine, state: State): void {
  const old = requireMachine(vm);
  old.beginAlone();
  // Throws while events are passed on.
  void old.events.kept;
  const { config } = old;
  const { engine } = old.core;
  let built = build(engine, config, state, old);
  takePlace(vm, old, built);
  old.dispose();
  // Where the old one was in the way of its tables, there is room for them now.
  if (!liesAsSaved(built)) built = settleDown(vm, engine, built, state);
  finish(built);
}

/**
 * A virtual machine like the saved one; `config` is what that was made with, its callbacks those of now. Throws StateError for
 * what is no state of such a VM, or where RAM that `createRam` gave cannot be where it was; ConfigError and OutOfMemoryError as
 * the constructor does. Nothing stays allocated then.
 */
export function createMachine(core: Core, config: VirtualMachineConfig, state: State): VirtualMachine {
  const built = build(core, config, state, undefined);
  const vm = new VirtualMachine(core, config, built.machine);
  addVcpus(vm, built);
  built.machine.events.adopt(built.events);
  finish(built);
  return vm;
}

function requireMachine(vm: VirtualMachine): Machine {
  if (isInstance(vm, VirtualMachine)) return vm.state;
  throw new ConfigError(`the virtual machine is ${show(vm)}, expected a VirtualMachine`);
}

function kernelNumber({ kernel = "6.1" }: VirtualMachineConfig): number {
  return KERNELS.indexOf(kernel) + 1;
}

/** Makes a machine of a state; of `old` it takes the RAM over later. Throws with nothing allocated. */
function build(
  core: ConstructorParameters<typeof Machine>[0],
  config: VirtualMachineConfig,
  state: State,
  old: Machine | undefined,
  isNew = true,
): Built {
  // Asked before the state is, so that a wrong configuration is named.
  const probe = old ?? new Machine(core, config);
  let from: StateReader;
  let header: Header;
  try {
    from = unseal(STATE_KIND.machine, state, kernelNumber(config));
    header = readHeader(from, probe);
  } finally {
    if (probe !== old) probe.abandon();
  }
  const fresh = header.lent.filter((place) => !isLent(old, place));
  const make = () => probe.core.atPlaces(header.places, () => new Machine(core, config));
  const machine = probe.core.sparing(fresh, make);
  try {
    return fill(from, machine, header, old, isNew);
  } catch (error) {
    machine.abandon();
    throw error;
  }
}

interface Header {
  readonly aliases: Required<AliasConfig>;
  readonly requestedPages: number;
  readonly zapsAll: boolean;
  readonly hostCalls: number;
  readonly places: readonly Place[];
  /** RAM that `createRam` gave. */
  readonly lent: readonly Place[];
}

/** The part that is read before anything is made. */
function readHeader(from: StateReader, machine: Machine): Header {
  checkSettings(from, machine);
  const config = { mask: from.u64(), executeOnly: from.u64() };
  return {
    aliases: asState(() => machine.checkAliases(config)),
    requestedPages: from.u32(),
    zapsAll: from.flag(),
    hostCalls: from.f64(),
    places: readPlaces(from),
    lent: readPlaces(from),
  };
}

function asState<T>(run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (error instanceof ConfigError) throw new StateError(`the state has what cannot be: ${error.message}`);
    throw error;
  }
}

/** `isNew`: nothing has looked at the state yet. */
function fill(from: StateReader, machine: Machine, header: Header, old: Machine | undefined, isNew: boolean): Built {
  machine.applyAliases(header.aliases);
  machine.requestedPages = header.requestedPages;
  machine.zapsAll = header.zapsAll;
  machine.stats.hostCalls = header.hostCalls;
  const ram = readRam(from, machine, header.lent, old);
  readSlots(from, machine);
  checkSlotRam(machine, old, ram);
  const { core, pages } = machine;
  const { pieces, stock } = readShadowPages(from, core, pages.memory, machine.tdpMmu?.core);
  pages.caches.stock = { ...stock, made: from.u32(), stocked: from.flag() };
  readRmaps(from, machine, pieces);
  const faults = from.list(100, () => readCpu(from, machine, pieces));
  readVm(from, core);
  const lost = from.f64();
  const waiting = from.list(1, () => readEvent(from));
  from.end();
  if (isNew) checkStructure(machine);
  return { machine, faults, ram, events: { waiting, lost } };
}

/** RAM that the old machine has is taken over, other RAM is lent where it was. */
function readRam(from: StateReader, machine: Machine, lent: readonly Place[], old: Machine | undefined): SavedRam[] {
  for (const place of lent) {
    if (place.size === 0 || place.size % 4096 !== 0) throw new StateError(`the state has ${place.size} bytes of RAM`);
    if (!isLent(old, place)) machine.core.lendAt(place);
  }
  const withBytes = from.flag("RAM");
  return lent.map((place) => ({ place, pages: withBytes ? readPages(from, place.size) : undefined }));
}

function isLent(machine: Machine | undefined, { address, size }: Place): boolean {
  return machine?.core.lent.some((one) => one.address === address && one.size === size) ?? false;
}

/** No slot shows RAM that goes with the old machine. */
function checkSlotRam(machine: Machine, old: Machine | undefined, ram: readonly SavedRam[]): void {
  const goes = old?.core.lent.filter((one) => !ram.some(({ place }) => place.address === one.address)) ?? [];
  for (const slot of machine.slots.slots) {
    const end = slot.ram + slot.ramSize;
    if (!goes.some(({ address, size }) => slot.ram < address + size && end > address)) continue;
    throw new StateError(`the state has slot ${slot.id} in RAM that was created later`);
  }
}

function readEvent(from: StateReader): MmuTraceEvent {
  const event = from.value() as MmuTraceEvent;
  if (typeof event?.ev !== "string") throw new StateError("the state has an event without a name");
  return event;
}

/** Lists, counters, links and rmaps fit each other. */
function checkStructure(machine: Machine): void {
  const [problem] = audit(machine);
  if (problem !== undefined) throw new StateError(`the state does not fit together: ${problem.message}`);
}

/** The VM and its vCPUs are the built machine's. */
function takePlace(vm: VirtualMachine, old: Machine, built: Built): void {
  const { machine, events } = built;
  const receiver = old.events;
  receiver.adopt(events, machine.events.ring);
  machine.events = receiver;
  machine.core.takeOver(
    old.core,
    built.ram.map(({ place }) => place).filter((place) => isLent(old, place)),
  );
  vm.adopt(machine);
  vm.vcpus.length = Math.min(vm.vcpus.length, machine.cpus.length);
  vm.vcpus.forEach((vcpu, id) => {
    vcpu.adopt(machine, machine.cpus[id]!, built.faults[id]!);
  });
  addVcpus(vm, built);
}

/** vCPUs that there are no objects for yet. */
function addVcpus(vm: VirtualMachine, { machine, faults }: Built): void {
  for (let id = vm.vcpus.length; id < machine.cpus.length; id++) {
    const vcpu = new Vcpu(machine, machine.cpus[id]!);
    vcpu.adopt(machine, machine.cpus[id]!, faults[id]!);
    vm.vcpus.push(vcpu);
  }
}

/** Every block of tables lies where it was saved. */
function liesAsSaved({ machine }: Built): boolean {
  return machine.pages.memory.isPlaced;
}

/** Makes the machine once more where its tables lay; where that does not go, it stays as it is. */
function settleDown(
  vm: VirtualMachine,
  engine: ConstructorParameters<typeof Machine>[0],
  first: Built,
  state: State,
): Built {
  let second: Built;
  try {
    second = build(engine, first.machine.config, state, first.machine, false);
  } catch {
    return first;
  }
  if (!liesAsSaved(second)) {
    second.machine.abandon();
    return first;
  }
  takePlace(vm, first.machine, second);
  first.machine.abandon();
  return second;
}

/** What nobody may see before all is done: RAM's bytes, and tables that a processor reads without encryption. */
function finish({ machine, ram }: Built): void {
  for (const { place, pages } of ram) if (pages !== undefined) fillPages(machine.core.ram(place), pages);
  machine.pages.decryptLow();
}
