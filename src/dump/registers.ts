/** The registers that paging depends on, from a dump's notes, the caller, or inference, and which it was. */
import { bitOf } from "../abi/bits.js";
import { PTE, PTE32 } from "../abi/entries.js";
import { CR0, CR3_PAE, CR4, EFER } from "../abi/registers.js";
import type { Dump, DumpCpu } from "./dump.js";
import { DumpError } from "./errors.js";

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
}

/** Registers for an address space, each with where it came from. */
export interface DumpRegisters {
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly cr4: bigint;
  readonly efer: bigint;
  readonly maxPhysAddr: number;
  /** Where each value came from: "given", "note QEMU cpu 0", "inferred: ...", "assumed: ...". */
  readonly origin: Readonly<Record<"cr0" | "cr3" | "cr4" | "efer" | "maxPhysAddr", string>>;
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

/**
 * Finds CR0, CR3, CR4, EFER and MAXPHYADDR. No note carries EFER: LMA is set if and only if the ELF machine is x86-64
 * (and CR0.PG and CR4.PAE are set), which is how QEMU chooses the machine; NXE cannot be known and is taken as set in
 * PAE and long mode, because every current system sets it.
 * Throws a DumpError where CR3 cannot be known, or where its table is not in the dump.
 */
export function registersFromDump(dump: Dump, overrides: RegisterOverrides = {}): DumpRegisters {
  const found = fromNotes(dump, overrides.cpu) ?? fromVmcoreinfo(dump);
  const cr3 = given(overrides.cr3) ?? found?.cr3;
  if (cr3 === undefined) {
    throw new DumpError(dump.name, undefined, "expected a note with CR3, found none: CR3 must be given");
  }
  const wide = dump.machine !== "i386";
  const cr0 = given(overrides.cr0) ?? found?.cr0 ?? { value: PAGING_CR0, origin: "assumed: paging is on" };
  const cr4 = given(overrides.cr4) ?? found?.cr4 ?? assumedCr4(wide);
  const efer = given(overrides.efer) ?? inferEfer(dump, cr0.value, cr4.value);
  const maxPhysAddr = overrides.maxPhysAddr ?? 52;
  const registers: DumpRegisters = {
    cr0: cr0.value,
    cr3: cr3.value,
    cr4: cr4.value,
    efer: efer.value,
    maxPhysAddr,
    origin: {
      cr0: cr0.origin,
      cr3: cr3.origin,
      cr4: cr4.origin,
      efer: efer.origin,
      maxPhysAddr: overrides.maxPhysAddr === undefined ? "assumed: the largest, no note carries it" : "given",
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
  const root = rootTable(registers);
  if (!dump.touches(root & ~0xfffn, 4096n)) {
    throw new DumpError(
      dump.name,
      undefined,
      `CR3 0x${registers.cr3.toString(16)} (${registers.origin.cr3}): expected the root table at ` +
        `0x${root.toString(16)}, but that address is not in the dump`,
    );
  }
}

function given(value: bigint | undefined): Sourced | undefined {
  return value === undefined ? undefined : { value, origin: "given" };
}

interface FoundRegisters {
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
  const origin = `note QEMU cpu ${cpu.index}`;
  return {
    cr0: { value: cpu.cr0, origin },
    cr3: { value: cpu.cr3, origin },
    cr4: { value: cpu.cr4, origin },
  };
}

/**
 * A kdump has no control registers, but x86-64 Linux says in VMCOREINFO where its kernel tables are:
 * SYMBOL(swapper_pg_dir) is a linear address in the kernel image's mapping, which starts at __START_KERNEL_map and
 * maps physical address phys_base (arch/x86/kernel/machine_kexec_64.c, arch_crash_save_vmcoreinfo).
 */
function fromVmcoreinfo(dump: Dump): FoundRegisters | undefined {
  if (dump.vmcoreinfo === undefined || dump.machine !== "x86_64") return undefined;
  const pgd = /^SYMBOL\(swapper_pg_dir\)=([0-9a-f]{1,16})$/m.exec(dump.vmcoreinfo)?.[1];
  const physBase = /^NUMBER\(phys_base\)=(-?[0-9]{1,20})$/m.exec(dump.vmcoreinfo)?.[1];
  if (pgd === undefined || physBase === undefined) return undefined;
  const fiveLevel = /^NUMBER\(pgtable_l5_enabled\)=1$/m.test(dump.vmcoreinfo);
  const startKernelMap = 0xffff_ffff_8000_0000n;
  const cr3 = BigInt.asUintN(64, BigInt(`0x${pgd}`) - startKernelMap + BigInt(physBase));
  return {
    cr0: { value: PAGING_CR0, origin: "inferred: x86-64 Linux pages" },
    cr3: { value: cr3, origin: "inferred: VMCOREINFO, swapper_pg_dir (kernel tables)" },
    cr4: { value: PAE | (fiveLevel ? LA57 : 0n), origin: "inferred: VMCOREINFO, pgtable_l5_enabled" },
  };
}

function assumedCr4(wide: boolean): Sourced {
  return wide
    ? { value: PAE, origin: "assumed: 4-level paging" }
    : { value: PAE | bitOf(CR4, "PSE"), origin: "assumed: PAE paging" };
}

function inferEfer(dump: Dump, cr0: bigint, cr4: bigint): Sourced {
  const assumed = "NXE assumed, no note carries it";
  if ((cr0 & PG) === 0n || (cr4 & PAE) === 0n) {
    return { value: 0n, origin: "inferred: no PAE paging, so neither long mode nor NX" };
  }
  if (dump.machine === "i386") return { value: NXE, origin: `inferred: the ELF machine is i386, so LMA=0; ${assumed}` };
  const reason = dump.machine === "x86_64" ? "inferred: the ELF machine is x86-64, so LMA=1" : "assumed: long mode";
  return { value: LONG_MODE | NXE, origin: `${reason}; ${assumed}` };
}
