/** The hole for devices below 4 GiB in a PC's memory: raw files of all RAM do not have it. */
import type { ByteSource } from "../bytes/byte-source.js";
import { DumpError } from "../bytes/errors.js";

/** Where the hole begins: as these machines have it, or an address. */
export type PcHole = PcMachine | bigint;
/** A machine whose hole below 4 GiB is known. */
export type PcMachine = "pc" | "q35" | "vmware";

/** The machines whose hole below 4 GiB is known. */
export const PC_MACHINES: readonly PcMachine[] = ["pc", "q35", "vmware"];

/** Where RAM goes on. */
const FOUR_GIB = 2 ** 32;

interface Machine {
  readonly title: string;
  /** More RAM than `most` is split at `split`; less has no part above 4 GiB. */
  readonly most: number;
  readonly split: number;
}

/**
 * QEMU's machines leave a hole as small as the RAM allows, and else split at a round address (hw/i386/pc_piix.c, pc_q35.c;
 * max-ram-below-4g changes it). VMware splits at 3 GiB.
 */
const MACHINES: Readonly<Record<PcMachine, Machine>> = {
  pc: { title: "QEMU's pc", most: 0xe000_0000 - 1, split: 0xc000_0000 },
  q35: { title: "QEMU's q35", most: 0xb000_0000 - 1, split: 0x8000_0000 },
  vmware: { title: "VMware's", most: 0xc000_0000, split: 0xc000_0000 },
};

export interface Hole {
  /** Bytes of RAM below the hole. */
  readonly start: number;
  /** Where RAM goes on. */
  readonly end: number;
  readonly title: string;
}

/** The hole in a memory of the file's size. Throws a DumpError for a hole that does not begin below 4 GiB. */
export function holeOf(source: ByteSource, hole: PcHole): Hole {
  if (typeof hole === "bigint") {
    if (hole <= 0n || hole >= BigInt(FOUR_GIB)) {
      const found = `found 0x${hole.toString(16)}`;
      throw new DumpError(source.name, undefined, `expected a hole that begins above 0 and below 4 GiB, ${found}`);
    }
    return checked(source, { start: Number(hole), end: FOUR_GIB, title: "as given" });
  }
  const { title, most, split } = MACHINES[hole];
  return checked(source, { start: source.size > most ? split : source.size, end: FOUR_GIB, title });
}

function checked(source: ByteSource, hole: Hole): Hole {
  if (source.size <= 2 ** 52 - FOUR_GIB) return hole;
  throw new DumpError(source.name, undefined, "expected raw memory below physical address 2^52, found more");
}
