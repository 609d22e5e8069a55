/** The registers that paging depends on, from a dump's notes, the caller, or inference, and which it was. */
import { bitOf } from "../abi/bits.js";
import { PTE, PTE32 } from "../abi/entries.js";
import { CR0, CR3_PAE, CR4, EFER } from "../abi/registers.js";
import { DumpError } from "./bytes/errors.js";
import type { Dump } from "./dump.js";
import type { DumpCpu } from "./formats/content.js";
import { inspectRoot } from "./root-inspection.js";
import type { InspectedMode } from "./tables/table-shape.js";
import { type KernelRoot, kernelRoot } from "./vmcoreinfo.js";
import type { FoundVmcoreinfo } from "./vmcoreinfo-scan.js";

/** Values that a caller gives instead of what the dump says. */
export interface RegisterOverrides {
  readonly cr0?: bigint | undefined;
  readonly cr3?: bigint | undefined;
  readonly cr4?: bigint | undefined;
  readonly efer?: bigint | undefined;
  /** MAXPHYADDR, 32 to 52. */
  readonly maxPhysAddr?: number | undefined;
  /** Which processor's registers to take, by its position among the notes. Default 0. */
  readonly cpu?: number | undefined;
  /** The memory-encryption bit of entries (AMD's C-bit), 0 for none. */
  readonly encryptionMask?: bigint | undefined;
  /** VMCOREINFO that was found in RAM (`VmcoreinfoScan`), for dumps without the note. */
  readonly vmcoreinfo?: FoundVmcoreinfo | undefined;
}

/** Which registers have an origin. */
export type RegisterName = "cr0" | "cr3" | "cr4" | "efer" | "maxPhysAddr" | "encryptionMask";

/** Registers for an address space, each with where it came from. */
export interface DumpRegisters {
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
  readonly maxPhysAddr: number;
  /** The bit of entries that says that a page is encrypted; 0n where there is none. */
  readonly encryptionMask: bigint;
  /** Where each value came from: "given", "note QEMU cpu 0", "note VBCPU cpu 1", "inferred: ...", "assumed: ...". */
  readonly origin: Readonly<Record<RegisterName, string>>;
}

interface Sourced {
  readonly value: bigint;
  readonly origin: string;
}

const PG = bitOf(CR0, "PG");
const PAE = bitOf(CR4, "PAE");
const LA57 = bitOf(CR4, "LA57");
/** CR0 of a system that pages: PE, WP, PG. */
const PAGING_CR0 = bitOf(CR0, "PE") | bitOf(CR0, "WP") | PG;
const LONG_MODE = bitOf(EFER, "LME") | bitOf(EFER, "LMA");
const NXE = bitOf(EFER, "NXE");

/** CR3 is in no note, and not given. */
export class UnknownRootError extends DumpError {
  override name = "UnknownRootError";
}

/**
 * Finds CR0, CR3, CR4, EFER and MAXPHYADDR: what is given wins, then what notes say, VMCOREINFO (of a note, or found in
 * RAM), and what the tables look like. Only VirtualBox's notes carry EFER. Of others, for LMA see `Dump.longMode`; NXE
 * cannot be known and is taken as set in PAE and long mode, because every current system sets it.
 * Throws an UnknownRootError where CR3 cannot be known, and a DumpError where its table is not in the dump.
 */
export function registersFromDump(dump: Dump, overrides: RegisterOverrides = {}): DumpRegisters {
  const kernel = kernelOf(dump, overrides);
  const found = fromNotes(dump, overrides.cpu) ?? fromHeader(dump) ?? fromKernel(kernel);
  const cr3 = given(overrides.cr3) ?? found?.cr3;
  if (cr3 === undefined) {
    throw new UnknownRootError(dump.name, undefined, "expected a note with CR3, found none: CR3 must be given");
  }
  const encryption = given(overrides.encryptionMask) ?? encryptionOf(kernel);
  const knownCr4 = given(overrides.cr4) ?? found?.cr4;
  const mode = modeOf(dump, kernel, { cr3: cr3.value, cr4: knownCr4?.value, mask: encryption.value });
  const cr0 = given(overrides.cr0) ?? found?.cr0 ?? { value: PAGING_CR0, origin: "assumed: paging is on" };
  const cr4 = knownCr4 ?? mode.cr4;
  const efer = given(overrides.efer) ?? found?.efer ?? eferOf(mode, cr0.value, cr4.value);
  const registers: DumpRegisters = {
    cr0: cr0.value,
    cr3: cr3.value,
    cr4: cr4.value,
    efer: efer.value,
    maxPhysAddr: overrides.maxPhysAddr ?? 52,
    encryptionMask: encryption.value,
    origin: {
      cr0: cr0.origin,
      cr3: cr3.origin,
      cr4: cr4.origin,
      efer: efer.origin,
      maxPhysAddr: overrides.maxPhysAddr === undefined ? "assumed: the largest, no note carries it" : "given",
      encryptionMask: encryption.origin,
    },
  };
  requireRoot(dump, registers);
  return registers;
}

/** Physical address of the root table: what CR3 holds besides flags and PCID. */
function rootTable(registers: { cr3: bigint; cr4: bigint; efer: bigint }): bigint {
  if ((registers.cr4 & PAE) === 0n) return registers.cr3 & bitOf(PTE32, "ADDRESS");
  if ((registers.efer & bitOf(EFER, "LMA")) === 0n) return registers.cr3 & bitOf(CR3_PAE, "PDPT");
  return registers.cr3 & bitOf(PTE, "ADDRESS");
}

function requireRoot(dump: Dump, registers: DumpRegisters): void {
  if ((registers.cr0 & PG) === 0n) return;
  const root = rootTable(registers) & ~registers.encryptionMask;
  const presence = dump.presence(root & ~0xfffn, 4096n);
  if (presence === "held") return;
  const why = {
    absent: "that address is not in the dump",
    excluded: "the dump's writer left that page out",
    cut: "the file breaks off, or a part of it is missing",
  }[presence];
  throw new DumpError(
    dump.name,
    undefined,
    `CR3 0x${registers.cr3.toString(16)} (${registers.origin.cr3}): expected the root table at ` +
      `0x${root.toString(16)}, but ${why}`,
  );
}

function given(value: bigint | undefined): Sourced | undefined {
  return value === undefined ? undefined : { value, origin: "given" };
}

interface FoundRegisters {
  readonly efer?: Sourced;
  readonly cr0: Sourced;
  readonly cr3: Sourced;
  readonly cr4: Sourced | undefined;
}

function fromNotes(dump: Dump, index: number | undefined): FoundRegisters | undefined {
  const cpu: DumpCpu | undefined = dump.cpus[index ?? 0];
  if (cpu === undefined) {
    if (index === undefined) return undefined;
    const count = dump.cpus.length;
    throw new DumpError(dump.name, undefined, `expected a note of processor ${index}, found notes of ${count}`);
  }
  const origin = `${cpu.origin} cpu ${cpu.index}`;
  return {
    ...(cpu.efer === undefined ? {} : { efer: { value: cpu.efer, origin } }),
    cr0: { value: cpu.cr0, origin },
    cr3: { value: cpu.cr3, origin },
    cr4: { value: cpu.cr4, origin },
  };
}

/** What a header says that has CR3 alone. */
function fromHeader({ root, longMode }: Dump): FoundRegisters | undefined {
  if (root === undefined) return undefined;
  const { cr3, origin, pae } = root;
  return {
    cr0: { value: PAGING_CR0, origin: `inferred: the system pages with ${longMode?.active ? "64" : "32"} bits` },
    cr3: { value: cr3, origin },
    cr4: pae && { value: bitOf(CR4, "PSE") | (pae.enabled ? PAE : 0n), origin: pae.origin },
  };
}

/** What VMCOREINFO says, and where it is from. */
interface Kernel {
  readonly root: KernelRoot;
  readonly where: string;
}

function kernelOf(dump: Dump, { vmcoreinfo }: RegisterOverrides): Kernel | undefined {
  const where = vmcoreinfo === undefined ? "VMCOREINFO" : `VMCOREINFO in RAM at 0x${vmcoreinfo.gpa.toString(16)}`;
  const root = kernelRoot(vmcoreinfo?.text ?? dump.vmcoreinfo ?? "");
  return root && { root, where };
}

function fromKernel(kernel: Kernel | undefined): FoundRegisters | undefined {
  if (kernel === undefined) return undefined;
  const { root, where } = kernel;
  const system = root.bits === 64 ? "x86-64 Linux" : "i386 Linux";
  const cr4 = (root.pae ? PAE : bitOf(CR4, "PSE")) | (root.fiveLevel ? LA57 : 0n);
  const reason = root.bits === 64 ? "pgtable_l5_enabled" : "CONFIG_X86_PAE";
  return {
    cr0: { value: PAGING_CR0, origin: `inferred: ${system} pages` },
    cr3: { value: root.cr3, origin: `inferred: ${where}, swapper_pg_dir (kernel tables)` },
    cr4: { value: cr4, origin: `inferred: ${where}, ${reason}` },
  };
}

function encryptionOf(kernel: Kernel | undefined): Sourced {
  const mask = kernel?.root.encryptionMask ?? 0n;
  if (mask === 0n) return { value: 0n, origin: "assumed: no memory encryption" };
  return { value: mask, origin: `inferred: ${kernel!.where}, sme_mask` };
}

/** CR4 and long mode where no note has them. */
interface Mode {
  readonly cr4: Sourced;
  readonly longMode: boolean;
  readonly reason: string;
}

function modeOf(
  dump: Dump,
  kernel: Kernel | undefined,
  { cr3, cr4, mask }: { cr3: bigint; cr4: bigint | undefined; mask: bigint },
): Mode {
  const wide: Sourced = { value: PAE, origin: "assumed: 4-level paging" };
  const narrow: Sourced = { value: PAE | bitOf(CR4, "PSE"), origin: "assumed: PAE paging" };
  if (dump.longMode !== undefined) {
    const { active, reason } = dump.longMode;
    if (active && cr4 === undefined) {
      const root = rootTable({ cr3, cr4: PAE, efer: LONG_MODE }) & ~mask;
      const five = inspectRoot(dump.tableSource, root, (gpa) => dump.presence(gpa, 4096n), ["5level", "4level"]);
      if (five !== undefined) return { cr4: levelsOf(five), longMode: true, reason: `inferred: ${reason}` };
    }
    return { cr4: active ? wide : narrow, longMode: active, reason: `inferred: ${reason}` };
  }
  if (kernel !== undefined) {
    const longMode = kernel.root.bits === 64;
    const reason = `inferred: ${kernel.where} is of ${longMode ? "x86-64, so LMA=1" : "i386, so LMA=0"}`;
    return { cr4: fromKernel(kernel)!.cr4!, longMode, reason };
  }
  // Of a PAE root the place in its page counts, too.
  const root = (rootTable({ cr3, cr4: PAE, efer: LONG_MODE }) & ~mask) | (cr3 & bitOf(CR3_PAE, "PDPT") & 0xfffn);
  const seen = inspectRoot(dump.tableSource, root, (gpa) => dump.presence(gpa, 4096n), modesOf(cr4));
  if (seen !== undefined) {
    const seenCr4 = levelsOf(seen);
    return { cr4: seenCr4, longMode: /level/.test(seen), reason: seenCr4.origin };
  }
  if (dump.machine === "i386")
    return { cr4: narrow, longMode: false, reason: "assumed: the machine is i386, so LMA=0" };
  return { cr4: wide, longMode: true, reason: "assumed: long mode" };
}

/** CR4 of tables that look like this mode's. */
function levelsOf(seen: InspectedMode): Sourced {
  const values = { "32bit": bitOf(CR4, "PSE"), pae: PAE | bitOf(CR4, "PSE"), "4level": PAE, "5level": PAE | LA57 };
  const title = { "32bit": "32-bit", pae: "PAE", "4level": "4-level", "5level": "5-level" }[seen];
  return { value: values[seen], origin: `inferred: the tables look like ${title} paging` };
}

/** The modes that CR4 leaves open. */
function modesOf(cr4: bigint | undefined): readonly InspectedMode[] {
  if (cr4 === undefined) return ["5level", "4level", "pae", "32bit"];
  if ((cr4 & PAE) === 0n) return ["32bit"];
  return (cr4 & LA57) === 0n ? ["4level", "pae"] : ["5level", "pae"];
}

function eferOf({ longMode, reason }: Mode, cr0: bigint, cr4: bigint): Sourced {
  const assumed = "NXE assumed, no note carries it";
  if ((cr0 & PG) === 0n || (cr4 & PAE) === 0n) {
    return { value: 0n, origin: "inferred: no PAE paging, so neither long mode nor NX" };
  }
  return { value: longMode ? LONG_MODE | NXE : NXE, origin: `${reason}; ${assumed}` };
}
