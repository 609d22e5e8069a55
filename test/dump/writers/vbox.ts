/** Writes the notes of VirtualBox's cores, field after field in the order of include/VBox/vmm/dbgfcorefmt.h. */
import { concat, note } from "../builders.js";

export interface VboxRegisters {
  cr0?: bigint;
  cr2?: bigint;
  cr3?: bigint;
  cr4?: bigint;
  efer?: bigint;
  rip?: bigint;
  rflags?: bigint;
  cs?: number;
}

function words(...values: bigint[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(values).buffer);
}

/** DBGFCORESEL: base, limit and attributes, selector, reserved. */
function selector(value: number): Uint8Array {
  return words(0x1111_1111n, 0xffff_ffffn, BigInt(value));
}

/** A name is written with its NUL, padded to 8 bytes, and its size is that of the padded one. */
function vboxNote(name: string, type: number, description: Uint8Array): Uint8Array {
  return note(name.padEnd(7, "\0"), type, description);
}

/** DBGFCOREDESCRIPTOR. */
export function vboxCoreNote(
  cpus: number,
  {
    magic = 0xc01ac0de,
    format = 0x10006,
    version = 0x0700_000c,
  }: { magic?: number; format?: number; version?: number } = {},
): Uint8Array {
  return vboxNote("VBCORE", 0xb00, new Uint8Array(Uint32Array.of(magic, format, 24, version, 0x1234, cpus).buffer));
}

/** DBGFCORECPU; what is not given has a value that is none of a control register. */
export function vboxCpuNote(registers: VboxRegisters, length?: number): Uint8Array {
  const junk = (count: number) => words(...Array.from({ length: count }, (_, i) => 0xdead_0000n + BigInt(i)));
  const description = concat(
    // rax, rbx, rcx, rdx, rsi, rdi, r8 to r15
    junk(14),
    words(registers.rip ?? 0n),
    // rsp, rbp
    junk(2),
    words(registers.rflags ?? 2n),
    selector(registers.cs ?? 0x10),
    // ds, es, fs, gs, ss
    ...[1, 2, 3, 4, 5].map(() => selector(0x2b)),
    words(registers.cr0 ?? 0x8005_0033n, registers.cr2 ?? 0n, registers.cr3 ?? 0n, registers.cr4 ?? 0x20n),
    // dr[8]; gdtr, idtr; ldtr, tr; sysenter
    junk(8),
    junk(4),
    selector(0),
    selector(0x40),
    junk(3),
    words(registers.efer ?? 0xd01n),
    // STAR, PAT, LSTAR, CSTAR, SFMASK, KernelGSBase, ApicBase, TscAux, XCR0 and 1, the size of what follows
    junk(11),
    new Uint8Array(8192),
  );
  return vboxNote("VBCPU", 0xb01, description.subarray(0, length));
}
