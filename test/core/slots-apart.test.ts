/** Tables that lie in slots of their own: the fast calls look each up, and give what the full walk gives. */
import { afterAll, describe, expect, it } from "vitest";
import { Access, bitOf, CR0, CR4, EFER } from "../../src/abi/index.js";
import { decodeFault, loadSync } from "../../src/core/index.js";

const core = loadSync();
const { linear } = core.internals();
const PAGE = 4096;
/** One slot for each of the six tables, with a page between them in guest-physical memory, in reverse order in linear memory. */
const TABLES = 6;
const table = (index: number) => index * 2 * PAGE;
const lent = linear.lend(TABLES * PAGE, PAGE);
afterAll(() => linear.takeBack(lent, TABLES * PAGE));

const P = 1n;
const WRITABLE = 2n;
const USER = 4n;
const LARGE = 0x80n;
const FULL = 0x67n; // P, RW, US, A, D
const XD = 1n << 63n;

const BASE = { cr0: bitOf(CR0, "PG") | bitOf(CR0, "WP") | bitOf(CR0, "PE"), cr3: BigInt(table(0)) };
const LONG = { ...BASE, cr4: bitOf(CR4, "PAE"), efer: bitOf(EFER, "LMA") | bitOf(EFER, "LME") | bitOf(EFER, "NXE") };
const LA57 = { ...LONG, cr4: LONG.cr4 | bitOf(CR4, "LA57") };
const PAE = { ...BASE, cr4: bitOf(CR4, "PAE"), efer: bitOf(EFER, "NXE") };
const KEYS = { ...LONG, cr4: LONG.cr4 | bitOf(CR4, "PKE"), pkru: 1 };
const NARROW = { ...BASE, cr4: bitOf(CR4, "PSE"), efer: 0n };

/** Entry 0 of each table leads to the next one, except that of the last, the leaf. */
const chain = (count: number, leaf: bigint) =>
  Array.from({ length: count }, (_, i) => (i === count - 1 ? leaf : BigInt(table(i + 1)) | FULL));
const narrowed = (entries: bigint[], index: number, clear: bigint) =>
  entries.map((entry, i) => (i === index ? entry & ~clear : entry));
const FRAME = 0x7_0000n;
const GIB = 1n << 30n;

const CASES: Record<string, { registers: typeof LONG & { pkru?: number }; entries: bigint[]; bytes?: 4 }> = {
  "4-level, 4 KiB": { registers: LONG, entries: chain(4, FRAME | FULL) },
  "4-level, 2 MiB": { registers: LONG, entries: chain(3, 0x40_0000n | FULL | LARGE) },
  "4-level, 1 GiB": { registers: LONG, entries: chain(2, GIB | FULL | LARGE) },
  "4-level, 1 GiB with a reserved bit": { registers: LONG, entries: chain(2, GIB | FULL | LARGE | (1n << 25n)) },
  "4-level, 2 MiB with a reserved bit": { registers: LONG, entries: chain(3, FULL | LARGE | (1n << 15n)) },
  "4-level, read-only above": { registers: LONG, entries: narrowed(chain(4, FRAME | FULL), 1, WRITABLE) },
  "4-level, supervisor above": { registers: LONG, entries: narrowed(chain(4, FRAME | FULL), 2, USER) },
  "4-level, no leaf": { registers: LONG, entries: narrowed(chain(4, FRAME | FULL), 3, P) },
  "4-level, no table": { registers: LONG, entries: narrowed(chain(4, FRAME | FULL), 1, P) },
  "4-level, no-execute": { registers: LONG, entries: chain(4, FRAME | FULL | XD) },
  "4-level, a table outside": { registers: LONG, entries: [BigInt(table(1)) | FULL, BigInt(table(1) + PAGE) | FULL] },
  "4-level, key 0 denied": { registers: KEYS, entries: chain(4, FRAME | FULL) },
  "5-level, 4 KiB": { registers: LA57, entries: chain(5, FRAME | FULL) },
  "PAE, 4 KiB": {
    registers: PAE,
    entries: [
      BigInt(table(1)) | P,
      ...chain(3, FRAME | FULL)
        .slice(1)
        .map(pae),
    ],
  },
  "PAE, 2 MiB": { registers: PAE, entries: [BigInt(table(1)) | P, 0x40_0000n | FULL | LARGE] },
  "32-bit, 4 KiB": { registers: NARROW, entries: chain(2, FRAME | FULL), bytes: 4 },
  "32-bit, 4 MiB": { registers: NARROW, entries: chain(1, 0x40_0000n | FULL | LARGE), bytes: 4 },
  "32-bit, no leaf": { registers: NARROW, entries: narrowed(chain(2, FRAME | FULL), 1, P), bytes: 4 },
  "32-bit, read-only above": { registers: NARROW, entries: narrowed(chain(2, FRAME | FULL), 0, WRITABLE), bytes: 4 },
};

function pae(entry: bigint, index: number): bigint {
  return index === 0 ? BigInt(table(2)) | FULL : entry;
}

const ACCESSES = [Access.Read, Access.Write, Access.Fetch].flatMap((kind) => [kind, kind | Access.User]);

describe.each([0, 64])("a space with %i TLB entries over tables in slots of their own", (tlbEntries) => {
  it.each(Object.entries(CASES))("%s", (_, { registers, entries, bytes }) => {
    const slots = Array.from({ length: TABLES }, (_, i) => ({
      gpa: table(i),
      size: PAGE,
      linear: lent + (TABLES - 1 - i) * PAGE,
    }));
    linear.u8.fill(0, lent, lent + TABLES * PAGE);
    const memory = core.createMemory({ slots });
    entries.forEach((entry, i) => {
      if (bytes === 4) memory.writeU32(table(i), Number(entry));
      else memory.writeU64(table(i), entry);
    });
    const space = core.createAddressSpace(memory, { ...registers, ...(tlbEntries !== 0 && { tlbEntries }) });
    const plain = core.createAddressSpace(memory, registers);
    for (const access of ACCESSES) {
      for (let round = 0; round < 2; round++) {
        const result = space.translateFast(0, 0x123, access);
        const expected = plain.translate(0x123, access);
        if (expected.ok) expect(result).toBe(Number(expected.pa));
        else expect(decodeFault(result)).toEqual({ status: expected.status, errorCode: Number(expected.errorCode) });
        const line = space.translateLine(0, 0x123, access);
        expect(line).toBe(expected.ok ? 0 : expected.status);
      }
    }
    memory.dispose();
  });
});
