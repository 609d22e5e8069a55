/**
 * What the processor makes of a write to a control register: the checks that raise #GP(0), and what follows for
 * paging (kvm_set_cr0, kvm_set_cr3, kvm_set_cr4 and set_efer of Linux 6.1; SDM, "Control Registers").
 */
import { bitOf, CR0 as CR0_TABLE, CR3, CR4 as CR4_TABLE, EFER as EFER_TABLE, flagOf } from "../abi/index.js";
import { GeneralProtectionError } from "../errors.js";

/** The control registers that paging depends on. */
export interface ControlRegisters {
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
}

/** The same as unsigned numbers, CR3 in full. */
export interface PagingRegisters {
  readonly cr0: number;
  readonly cr3: bigint;
  readonly cr4: number;
  readonly efer: number;
}

/** Registers after a write. */
export interface RegisterWrite {
  readonly registers: PagingRegisters;
  /** The PDPTEs are loaded again. */
  readonly reloadsPdptes: boolean;
  /** The roles change: every root goes. */
  readonly changesRoles: boolean;
  /** CR0.WP changes and nothing else. */
  readonly changesOnlyWriteProtect?: boolean;
  /** The guest's whole TLB goes. What only the current PCID loses is in no table of the MMU's. */
  readonly flushes: boolean;
}

const CR0 = {
  pe: flagOf(CR0_TABLE, "PE"),
  et: flagOf(CR0_TABLE, "ET"),
  wp: flagOf(CR0_TABLE, "WP"),
  nw: flagOf(CR0_TABLE, "NW"),
  cd: flagOf(CR0_TABLE, "CD"),
  pg: flagOf(CR0_TABLE, "PG"),
} as const;
/** EM and TS, which SMM clears with PE and PG. */
const CR0_EM_TS = flagOf(CR0_TABLE, "EM") | flagOf(CR0_TABLE, "TS");
export const CR4 = {
  pse: flagOf(CR4_TABLE, "PSE"),
  pae: flagOf(CR4_TABLE, "PAE"),
  pge: flagOf(CR4_TABLE, "PGE"),
  la57: flagOf(CR4_TABLE, "LA57"),
  pcide: flagOf(CR4_TABLE, "PCIDE"),
  smep: flagOf(CR4_TABLE, "SMEP"),
  smap: flagOf(CR4_TABLE, "SMAP"),
  pke: flagOf(CR4_TABLE, "PKE"),
} as const;
const EFER = { lme: flagOf(EFER_TABLE, "LME"), lma: flagOf(EFER_TABLE, "LMA"), nx: flagOf(EFER_TABLE, "NXE") } as const;

/** Bits that reload the PDPTEs, and bits that the roles depend on. */
const CR0_PDPTR = CR0.cd | CR0.nw | CR0.pg;
const CR0_ROLE = CR0.pg | CR0.wp;
const CR4_PDPTR = CR4.pge | CR4.pse | CR4.pae | CR4.smep;
const CR4_ROLE = CR4.pse | CR4.pae | CR4.la57 | CR4.smep | CR4.smap | CR4.pke;
const EFER_ROLE = EFER.lme | EFER.nx;

export const CR3_NO_FLUSH = bitOf(CR3, "NOFLUSH");
export const PCID = bitOf(CR3, "PCID");

export function numbersOf({ cr0, cr3, cr4, efer }: ControlRegisters): PagingRegisters {
  const low = (value: bigint) => Number(value & 0xffff_ffffn);
  return { cr0: low(cr0), cr3, cr4: low(cr4), efer: low(efer) };
}

export function isPaging({ cr0 }: PagingRegisters): boolean {
  return (cr0 & CR0.pg) !== 0;
}

export function isWriteProtect({ cr0 }: PagingRegisters): boolean {
  return (cr0 & CR0.wp) !== 0;
}

export function isLongMode({ efer }: PagingRegisters): boolean {
  return (efer & EFER.lma) !== 0;
}

export function isPaePaging(registers: PagingRegisters): boolean {
  return isPaging(registers) && (registers.cr4 & CR4.pae) !== 0 && !isLongMode(registers);
}

/**
 * What MOV to a control register refuses of a change from `old` to `next` (SDM vol. 3, "Control Registers", "Process-Context
 * Identifiers (PCIDs)"): CR4.PAE and LA57 stay in long mode; CR4.PCIDE begins in long mode under PCID 0, and paging does not go
 * off under it. Several registers that change at once stand for writes in the best order. Throws GeneralProtectionError.
 */
export function checkChange(old: PagingRegisters, next: PagingRegisters): void {
  const changed = old.cr4 ^ next.cr4;
  const longMode = isLongMode(next);
  if (isLongMode(old) && longMode && (!(next.cr4 & CR4.pae) || changed & CR4.la57)) {
    throw new GeneralProtectionError("CR4.PAE and LA57 cannot change in long mode");
  }
  if (!isPaging(next) && next.cr4 & CR4.pcide) throw new GeneralProtectionError("CR0.PG=0 with CR4.PCIDE=1");
  const startsPcid = (next.cr4 & changed & CR4.pcide) !== 0;
  if (startsPcid && (!longMode || (old.cr3 & PCID && next.cr3 & PCID))) {
    throw new GeneralProtectionError("CR4.PCIDE needs long mode and CR3 bits 11:0 zero");
  }
}

/** MOV to CR0. Long mode begins and ends with paging while EFER.LME is set. Throws GeneralProtectionError. */
export function writeCr0(old: PagingRegisters, value: bigint): RegisterWrite {
  const cr0 = (Number(value & 0xffff_ffffn) | CR0.et) >>> 0;
  const wasPaging = isPaging(old);
  const paging = (cr0 & CR0.pg) !== 0;
  const lme = (old.efer & EFER.lme) !== 0;
  const pae = (old.cr4 & CR4.pae) !== 0;
  if (paging && !(cr0 & CR0.pe)) throw new GeneralProtectionError("CR0.PG=1 with PE=0");
  if (lme && !wasPaging && paging && !pae) throw new GeneralProtectionError("long mode needs CR4.PAE=1");
  const changed = cr0 ^ old.cr0;
  let { efer } = old;
  if (lme && paging !== wasPaging) efer = paging ? efer | EFER.lma : efer & ~EFER.lma;
  const registers = { ...old, cr0, efer };
  checkChange(old, registers);
  return {
    registers,
    reloadsPdptes: !lme && paging && pae && (changed & CR0_PDPTR) !== 0,
    changesRoles: (changed & CR0_ROLE) !== 0,
    changesOnlyWriteProtect: changed === CR0.wp,
    flushes: (changed & CR0.pg) !== 0 && !paging,
  };
}

/** MOV to CR4. Throws GeneralProtectionError. */
export function writeCr4(old: PagingRegisters, value: bigint): RegisterWrite & { readonly freesRoots: boolean } {
  const cr4 = Number(value & 0xffff_ffffn);
  const changed = cr4 ^ old.cr4;
  const startsPcid = (cr4 & changed & CR4.pcide) !== 0;
  const registers = { ...old, cr4 };
  checkChange(old, registers);
  return {
    registers,
    reloadsPdptes: !isLongMode(old) && isPaging(old) && (cr4 & CR4.pae) !== 0 && (changed & CR4_PDPTR) !== 0,
    changesRoles: (changed & CR4_ROLE) !== 0,
    flushes: (changed & CR4.pge) !== 0 || ((changed & CR4.pcide) !== 0 && !startsPcid),
    // A root that was cached without PCIDs must not come back under a PCID without a flush.
    freesRoots: startsPcid,
  };
}

/** WRMSR to IA32_EFER; LMA keeps its value. Throws GeneralProtectionError. */
export function writeEfer(old: PagingRegisters, value: bigint): RegisterWrite {
  const efer = (Number(value & 0xffff_ffffn) & ~EFER.lma) | (old.efer & EFER.lma);
  const changed = efer ^ old.efer;
  if (isPaging(old) && changed & EFER.lme) throw new GeneralProtectionError("EFER.LME cannot change under paging");
  return {
    registers: { ...old, efer },
    reloadsPdptes: false,
    changesRoles: (changed & EFER_ROLE) !== 0,
    flushes: false,
  };
}

/** Registers as system-management mode begins (enter_smm). */
export function smmRegisters(old: PagingRegisters): PagingRegisters {
  return { cr0: (old.cr0 & ~(CR0.pe | CR0.pg | CR0_EM_TS)) >>> 0, cr3: old.cr3, cr4: 0, efer: 0 };
}
