/** vCPUs in a state: registers, contexts with their roots, what they wait for. */
import { readContext, writeContext } from "../../core/mmu/state/context-state.js";
import type { PagePieces } from "../../core/mmu/state/page-state.js";
import { ConfigError, GeneralProtectionError, StateError } from "../../errors.js";
import { ROLE_DIRECT, ROLE_INVALID, roleLevel } from "../../role/index.js";
import type { StateReader } from "../../state/format/reader.js";
import type { StateWriter } from "../../state/format/writer.js";
import { checkControlRegisters } from "../config/check-config.js";
import type { PagingContext } from "../context/context.js";
import type { Cpu } from "../machine/cpu.js";
import type { Machine } from "../machine/machine.js";
import type { Vcpu } from "../vcpu.js";
import { readPlaces, writePlaces } from "./places.js";

const MASKS = 10;
const PDPTES = 4;
const MOST_LEVEL = 5;
/** REQUEST bits, and rights. */
const MOST_REQUESTS = 15;
const MOST_ACCESS = 7;

/** What `Vcpu.adopt` takes. */
export type KeptFaults = Vcpu["kept"];

export function writeCpu(out: StateWriter, vcpu: Vcpu, pieces: PagePieces): void {
  const cpu = vcpu.state;
  const { registers, smm, requests, inGuestMode, hardwarePdptes, pdpteFields, walksNested, record } = cpu.kept;
  writePlaces(out, cpu.core.places);
  for (const word of [registers.cr0, registers.cr4, registers.efer, requests]) out.u32(word);
  out.u64(registers.cr3);
  for (const flag of [smm, inGuestMode, walksNested, pdpteFields !== undefined]) out.flag(flag);
  for (const pdpte of [...hardwarePdptes, ...(pdpteFields ?? [])]) out.u64(pdpte);
  for (const word of [record.ac, record.pdptesRead, record.mmioAccess]) out.u32(word);
  for (const word of [record.mmioGva, record.mmioGfn, record.mmioGeneration]) out.u64(word);
  for (const context of cpu.contexts) {
    const { base, ext, root, stale, keyMask, guestReserved, hits, misses } = context.kept;
    for (const word of [base, ext, root, keyMask]) out.u32(word);
    out.flag(stale);
    for (const mask of guestReserved) out.u64(mask);
    out.f64(hits);
    out.f64(misses);
    writeContext(out, context.core, pieces);
  }
  writeFaults(out, vcpu.kept);
}

function writeFaults(out: StateWriter, { high, waits, last }: KeptFaults): void {
  out.u64(high);
  out.list(waits, ({ gfn, address, pgd }) => {
    out.u64(gfn);
    out.u64(address);
    writeOptional(out, pgd);
  });
  out.flag(last !== undefined);
  if (last === undefined) return;
  out.u64(last.address);
  writeOptional(out, last.rip);
}

function writeOptional(out: StateWriter, value: bigint | undefined): void {
  out.flag(value !== undefined);
  if (value !== undefined) out.u64(value);
}

/** Adds a vCPU; what its faults keep. Throws StateError and OutOfMemoryError. */
export function readCpu(from: StateReader, vm: Machine, pieces: PagePieces): KeptFaults {
  const places = readPlaces(from);
  const cpu = vm.core.atPlaces(places, () => vm.addCpu());
  const [cr0, cr4, efer] = [from.u32(), from.u32(), from.u32()];
  const requests = from.integer(0, MOST_REQUESTS, "requests");
  const registers = { cr0, cr3: from.u64(), cr4, efer };
  const [smm, inGuestMode, walksNested, fields] = [from.flag(), from.flag(), from.flag(), from.flag()];
  if (walksNested && (!inGuestMode || vm.tdp === undefined))
    throw new StateError("the state has a nested guest of none");
  const four = () => Array.from({ length: PDPTES }, () => from.u64());
  const hardwarePdptes = four();
  const pdpteFields = fields ? four() : undefined;
  const record = {
    ac: from.integer(0, 1, "EFLAGS.AC"),
    pdptesRead: from.integer(0, 1, "PDPTEs that were read"),
    mmioAccess: from.integer(0, MOST_ACCESS, "rights"),
    mmioGva: from.u64(),
    mmioGfn: from.u64(),
    mmioGeneration: from.u64(),
  };
  cpu.adopt({ registers, smm, requests, inGuestMode, hardwarePdptes, pdpteFields, walksNested, record });
  checkRegisters(cpu);
  for (const context of cpu.contexts) {
    readPagingContext(from, context, pieces);
    checkRoots(vm, context);
  }
  return readFaults(from);
}

function checkRegisters(cpu: Cpu): void {
  try {
    checkControlRegisters(cpu.controlRegisters);
  } catch (error) {
    if (!(error instanceof ConfigError || error instanceof GeneralProtectionError)) throw error;
    throw new StateError(`the state has what cannot be: ${error.message}`);
  }
}

function readPagingContext(from: StateReader, context: PagingContext, pieces: PagePieces): void {
  const [base, ext, root, keyMask] = [from.u32(), from.u32(), from.u32(), from.u32()];
  const stale = from.flag("a stale context");
  const guestReserved = Array.from({ length: MASKS }, () => from.u64());
  context.adopt({ base, ext, root, stale, keyMask, guestReserved, hits: from.f64(), misses: from.f64() });
  readContext(from, context.core, pieces);
  const { rootRole, guestLevel } = context.core.mmu;
  if (rootRole === root && guestLevel === roleLevel(base) && roleLevel(root) <= MOST_LEVEL) return;
  throw new StateError(`the state has a context of role 0x${root.toString(16)} and level ${guestLevel}`);
}

/** Faults descend from a root as the context's role says, whatever the page's own does. */
function checkRoots(vm: Machine, { rootRole, roots }: PagingContext): void {
  const { page: current } = roots.current;
  for (const page of roots.pages()) {
    const { role, tdp, sptep } = vm.core.pages.header(page);
    const wanted = page === current ? rootRole : role;
    const own = (role & ROLE_DIRECT) !== 0 && vm.tdpMmu !== undefined;
    const fits = ((role ^ wanted) & ~ROLE_INVALID) === 0 && own === (tdp !== 0) && sptep === 0;
    if (!fits)
      throw new StateError(
        `the state has a root of role 0x${role.toString(16)} in a context of 0x${wanted.toString(16)}`,
      );
  }
}

function readFaults(from: StateReader): KeptFaults {
  const high = from.u64();
  const waits = from.list(17, () => ({ gfn: from.u64(), address: from.u64(), pgd: readOptional(from) }));
  const last = from.flag() ? { address: from.u64(), rip: readOptional(from) } : undefined;
  return { high, waits, last };
}

function readOptional(from: StateReader): bigint | undefined {
  return from.flag() ? from.u64() : undefined;
}
