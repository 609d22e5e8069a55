/** Small machines for the tests: 1 MiB of RAM at 0, tables at fixed places. */
import type {
  AddressSpace,
  AddressSpaceConfig,
  EptConfig,
  Fault,
  GuestMemory,
  Mapped,
  NptConfig,
  Translation,
} from "../../src/api.js";
import { createEngine } from "../engine.js";

/** Entry bits. */
export const P = 1n;
export const W = 2n;
export const U = 4n;
export const A = 1n << 5n;
export const D = 1n << 6n;
export const PS = 1n << 7n;
export const G = 1n << 8n;
export const XD = 1n << 63n;
export const pkey = (key: number): bigint => BigInt(key) << 59n;
/** EPT entry bits. */
export const R = 1n;
export const EW = 2n;
export const X = 4n;
export const RWX = 7n;
export const EA = 1n << 8n;
export const ED = 1n << 9n;
export const XU = 1n << 10n;
export const WB = 6n << 3n;

export const CR0 = { base: 0x80000001n, wp: 0x10000n };
export const CR4 = {
  pse: 1n << 4n,
  pae: 1n << 5n,
  la57: 1n << 12n,
  smep: 1n << 20n,
  smap: 1n << 21n,
  pke: 1n << 22n,
  cet: 1n << 23n,
  pks: 1n << 24n,
  lass: 1n << 27n,
  lamSup: 1n << 28n,
};
export const EFER = { long: 0x500n, nxe: 0x800n, uaie: 1n << 20n };

/** Where the tables of each level stand. */
export const PML5 = 0x6000n;
export const PML4 = 0x1000n;
export const PDPT = 0x2000n;
export const PD = 0x3000n;
export const PT = 0x4000n;
export const PAGE = 0x5000n;

export const engine = createEngine();

export function ram(size = 1 << 20): GuestMemory {
  return engine.createMemory({ slots: [{ gpa: 0, size }] });
}

/** Registers of 4-level paging with everything but protections on; changes go on top. */
export function longMode(changes: Partial<AddressSpaceConfig> = {}): AddressSpaceConfig {
  return { cr0: CR0.base | CR0.wp, cr3: PML4, cr4: CR4.pae, efer: EFER.long | EFER.nxe, ...changes };
}

/** The default chain of tables for address 0: all rights, nothing accessed. */
export function chain(memory: GuestMemory, bits = P | W | U): void {
  memory.writeU64(PML5, PML4 | bits);
  memory.writeU64(PML4, PDPT | bits);
  memory.writeU64(PDPT, PD | bits);
  memory.writeU64(PD, PT | bits);
  memory.writeU64(PT, PAGE | bits);
}

export interface Machine {
  readonly memory: GuestMemory;
  readonly space: AddressSpace;
}

/** A 4-level space over the default chain, with entries changed by `edit`. */
export function machine(changes: Partial<AddressSpaceConfig> = {}, edit?: (memory: GuestMemory) => void): Machine {
  const memory = ram();
  chain(memory);
  edit?.(memory);
  return { memory, space: engine.createAddressSpace(memory, longMode(changes)) };
}

/** EPT tables that map the first 2 MiB to themselves, 4 KiB pages, all rights. Root at 0x10000. */
export const EPT_ROOT = 0x10000n;
export const EPT_PDPT = 0x11000n;
export const EPT_PD = 0x12000n;
export const EPT_PT = 0x13000n;
export const EPTP = EPT_ROOT | (3n << 3n) | 6n;
export const EPTP_AD = EPTP | (1n << 6n);

export function eptIdentity(memory: GuestMemory): void {
  memory.writeU64(EPT_ROOT, EPT_PDPT | RWX);
  memory.writeU64(EPT_PDPT, EPT_PD | RWX);
  memory.writeU64(EPT_PD, EPT_PT | RWX);
  for (let page = 0n; page < 256n; page++) memory.writeU64(EPT_PT + 8n * page, (page << 12n) | RWX | WB);
}

/** The EPT leaf of a guest-physical page. */
export const eptLeafOf = (gpa: bigint): bigint => EPT_PT + 8n * (gpa >> 12n);

export function eptSpace(memory: GuestMemory, changes: Partial<EptConfig> = {}): AddressSpace {
  return engine.createEpt(memory, { eptp: EPTP, ...changes });
}

/** NPT tables that map the first 2 MiB to themselves for user accesses. They stand where the EPT ones would. */
export function nptIdentity(memory: GuestMemory): void {
  memory.writeU64(EPT_ROOT, EPT_PDPT | P | W | U);
  memory.writeU64(EPT_PDPT, EPT_PD | P | W | U);
  memory.writeU64(EPT_PD, EPT_PT | P | W | U);
  for (let page = 0n; page < 256n; page++) memory.writeU64(EPT_PT + 8n * page, (page << 12n) | P | W | U);
}

export function nptSpace(memory: GuestMemory, changes: Partial<NptConfig> = {}): AddressSpace {
  return engine.createNpt(memory, { ncr3: EPT_ROOT, ...changes });
}

export function mapped(result: Translation): Mapped {
  if (!result.ok) throw new Error(`fault: status ${result.status}, error code ${result.errorCode}`);
  return result;
}

export function fault(result: Translation): Fault {
  if (result.ok) throw new Error(`translated to ${result.pa.toString(16)}`);
  return result;
}

/** The error code of a page fault. */
export function errorCode(result: Translation): number {
  return Number(fault(result).errorCode);
}
