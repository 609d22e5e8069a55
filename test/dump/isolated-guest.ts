/** A made system with page-table isolation, as a dump. */
import { elfCore, page } from "./builders.js";

export const P = 0x21n;
export const RW = 2n;
export const USER = 4n;
export const XD = 1n << 63n;

/** Pages by frame number, each a table of so many entries. */
export type Tables = Record<number, Record<number, bigint>>;

export function dumpOf(tables: Tables) {
  const segments = Object.entries(tables).map(([gfn, entries]) => {
    const bytes = page(0);
    for (const [index, entry] of Object.entries(entries))
      new DataView(bytes.buffer).setBigUint64(Number(index) * 8, entry, true);
    return { gpa: BigInt(gfn) << 12n, bytes };
  });
  return elfCore({ segments });
}

export const at = (gfn: number, flags = P | RW) => (BigInt(gfn) << 12n) | flags;

/**
 * In the third and fourth MiB, which a kernel maps by a large page as if it were all of memory: its own root 0x210; a process with
 * page-table isolation, 0x220, and 0x221 for users, with a page that is writable and executable for users alone.
 */
export const SYSTEM: Tables = {
  528: { 300: at(0x300) },
  544: { 0: at(0x240, P | RW | USER | XD), 300: at(0x300) },
  545: { 0: at(0x240, P | RW | USER), 511: at(0x301) },
  576: { 0: at(0x241, P | RW | USER) },
  577: { 0: at(0x242, P | RW | USER) },
  578: { 0: at(0x250, P | RW | USER), 1: at(0x251, P | USER) },
  768: { 0: at(0x302) },
  769: { 0: at(0x302) },
  770: { 0: 0x20_00e3n | XD },
};
