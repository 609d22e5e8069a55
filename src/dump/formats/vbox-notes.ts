/**
 * The notes of VirtualBox's cores (VBoxManage debugvm dumpvmcore): VBCORE has DBGFCOREDESCRIPTOR, and a VBCPU for each
 * processor DBGFCORECPU (include/VBox/vmm/dbgfcorefmt.h).
 */
import { flagOf } from "../../abi/bits.js";
import { SELECTOR } from "../../abi/processor.js";
import type { DumpCpu } from "./content.js";

const RPL = flagOf(SELECTOR, "RPL");

/** DBGFCOREDESCRIPTOR. */
const CORE_NOTE = { magic: 0, formatVersion: 4, vboxVersion: 12, cpus: 20, leastSize: 24 } as const;
const CORE_MAGIC = 0xc01ac0de;
/** The version whose layout CPU_NOTE is; the high half counts incompatible changes. */
const FORMAT_VERSION = 0x0001_0006;

/** DBGFCORECPU: 18 general registers, six segments of 24 bytes, control and debug registers, tables, SYSENTER, MSRs. */
const CPU_NOTE = {
  rip: 112,
  rflags: 136,
  csSelector: 160,
  cr0: 288,
  cr2: 296,
  cr3: 304,
  cr4: 312,
  efer: 488,
  /** Bytes up to and with EFER. */
  leastSize: 496,
} as const;

/** What VBCORE says. */
export interface VboxCore {
  /** As 7.0.12. */
  readonly version: string;
  readonly cpus: number;
  /** Of another minor version than the one that is known. */
  readonly unknownVersion: string | undefined;
}

/** Reads a VBCORE note; `broken` makes the error of it. */
export function readVboxCore(view: DataView, at: number, size: number, broken: (problem: string) => Error): VboxCore {
  if (size < CORE_NOTE.leastSize) {
    throw broken(`expected a VirtualBox core descriptor of ${CORE_NOTE.leastSize} bytes or more, found ${size}`);
  }
  const u32 = (field: number) => view.getUint32(at + field, true);
  const magic = u32(CORE_NOTE.magic);
  if (magic !== CORE_MAGIC) {
    throw broken(`expected VirtualBox core magic 0x${CORE_MAGIC.toString(16)}, found 0x${magic.toString(16)}`);
  }
  const format = u32(CORE_NOTE.formatVersion);
  if (format >>> 16 !== FORMAT_VERSION >>> 16) {
    throw broken(`expected VirtualBox core format ${FORMAT_VERSION >>> 16}, found 0x${format.toString(16)}`);
  }
  const version = u32(CORE_NOTE.vboxVersion);
  return {
    // VBOX_FULL_VERSION: 8 bits, 8 bits and 16 bits.
    version: `${version >>> 24}.${(version >>> 16) % 256}.${version % 2 ** 16}`,
    cpus: u32(CORE_NOTE.cpus),
    unknownVersion: format === FORMAT_VERSION ? undefined : `0x${format.toString(16)}`,
  };
}

/** Reads the VBCPU note of the processor at position `index` among them. */
export function readVboxCpu(
  view: DataView,
  at: number,
  size: number,
  index: number,
  broken: (problem: string) => Error,
): DumpCpu {
  if (size < CPU_NOTE.leastSize) {
    throw broken(`expected a VirtualBox processor state of ${CPU_NOTE.leastSize} bytes or more, found ${size}`);
  }
  const u64 = (field: number) => view.getBigUint64(at + field, true);
  return {
    index,
    origin: "note VBCPU",
    cr0: u64(CPU_NOTE.cr0),
    cr2: u64(CPU_NOTE.cr2),
    cr3: u64(CPU_NOTE.cr3),
    cr4: u64(CPU_NOTE.cr4),
    efer: u64(CPU_NOTE.efer),
    rip: u64(CPU_NOTE.rip),
    rflags: u64(CPU_NOTE.rflags),
    cpl: view.getUint16(at + CPU_NOTE.csSelector, true) & RPL,
  };
}

/** What is to be said of a core whose notes do not fit together. */
export function vboxWarnings(core: VboxCore, cpus: number): string[] {
  const warnings: string[] = [];
  if (core.unknownVersion !== undefined) {
    const known = `0x${FORMAT_VERSION.toString(16)}`;
    warnings.push(`its VirtualBox core format is ${core.unknownVersion}, and registers are read as ${known} has them`);
  }
  if (core.cpus !== cpus) {
    warnings.push(`VirtualBox says that there are ${core.cpus} processors, and there are notes of ${cpus}`);
  }
  return warnings;
}
