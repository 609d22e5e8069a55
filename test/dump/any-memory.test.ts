/** Dumps made at random: whatever their segments are, each byte of memory is what the segments say, and nothing else is there. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MemoryByteSource, openDump } from "../../src/dump/index.js";
import { elfCore, limeRange, qemuNote, type Segment } from "./builders.js";

/** Memory that is looked at. */
const PAGES = 8;
const END = PAGES * 4096;
/** What a page's buffer holds before it is read. */
const OLD = 0xee;

/** By address: what the dump has there, `undefined` for nothing. */
type Model = (number | undefined)[];

interface Part {
  readonly gpa: number;
  readonly bytes: Uint8Array;
  /** Bytes of memory behind those of the file, which are left out because they are zero. */
  readonly zeros: number;
}

/** Ends are at multiples of 256, so that parts often touch and overlap, inside pages and at their ends. */
const place = fc.nat(END / 256 - 1).map((at) => at * 256);
const length = fc.nat(40).map((at) => at * 256);
const part = fc
  .record({ gpa: place, size: length, zeros: fc.oneof(fc.constant(0), length), seed: fc.integer({ min: 1, max: 200 }) })
  .map(({ gpa, size, zeros, seed }): Part => {
    const bytes = Uint8Array.from({ length: Math.min(size, END - gpa) }, (_, i) => 1 + ((seed + i) % 250));
    return { gpa, bytes, zeros: Math.min(zeros, END - gpa - bytes.length) };
  })
  .filter(({ bytes, zeros }) => bytes.length + zeros > 0);

/** The file's bytes win over zeros, and among each the part that comes first. */
function modelOf(parts: readonly Part[], zerosCount: boolean): Model {
  const model: Model = new Array(END).fill(undefined);
  for (const { gpa, bytes } of parts)
    bytes.forEach((byte, i) => {
      model[gpa + i] ??= byte;
    });
  if (zerosCount)
    for (const { gpa, bytes, zeros } of parts) for (let i = 0; i < zeros; i++) model[gpa + bytes.length + i] ??= 0;
  return model;
}

function compare(file: Uint8Array, model: Model): void {
  const dump = openDump(new MemoryByteSource(file, "dump"));
  for (let gfn = 0; gfn < PAGES; gfn++) {
    const wanted = model.slice(gfn * 4096, gfn * 4096 + 4096);
    const exists = wanted.some((byte) => byte !== undefined);
    const buffer = new Uint8Array(4096).fill(OLD);
    expect(dump.pageSource.readPage(BigInt(gfn), buffer), `page ${gfn}`).toBe(exists);
    if (exists)
      expect(
        Buffer.compare(
          buffer,
          Uint8Array.from(wanted, (byte) => byte ?? 0),
        ),
      ).toBe(0);
  }
  const ranges: { gpa: bigint; size: bigint }[] = [];
  model.forEach((byte, at) => {
    if (byte === undefined) return;
    if (model[at - 1] === undefined) ranges.push({ gpa: BigInt(at), size: 0n });
    ranges.at(-1)!.size++;
  });
  expect(dump.ranges).toEqual(ranges);
  const wrong: string[] = [];
  for (let at = 0; at < END; at += 128) {
    for (const size of [1, 128, 4096]) {
      let touched = false;
      for (let i = at; i < at + size && !touched; i++) touched = model[i] !== undefined;
      if (dump.touches(BigInt(at), BigInt(size)) !== touched) wrong.push(`${size} bytes at ${at}`);
    }
  }
  expect(wrong).toEqual([]);
}

describe("any dump has the memory that it says", () => {
  it("as an ELF core", () => {
    const core = fc.record({
      bits: fc.constantFrom(32 as const, 64 as const),
      parts: fc.array(part, { minLength: 1, maxLength: 8 }),
      gap: fc.nat(70),
      xnum: fc.boolean(),
      qemu: fc.boolean(),
      /** Segments follow each other in the file as they do in memory, or the other way round. */
      sorted: fc.constantFrom(-1, 0, 1),
    });
    fc.assert(
      fc.property(core, ({ bits, parts, gap, xnum, qemu, sorted }) => {
        const ordered = sorted === 0 ? parts : [...parts].sort((a, b) => sorted * (a.gpa - b.gpa));
        // QEMU leaves out what is not zero in linear mappings alone (paging=true).
        const vaddr = qemu ? (bits === 64 ? 0xffff_8880_0000_0000n : 0xc000_0000n) : 0n;
        const segments = ordered.map(({ gpa, bytes, zeros }): Segment => {
          return { gpa: BigInt(gpa), bytes, memsz: BigInt(bytes.length + zeros), vaddr };
        });
        const notes = qemu ? { notes: qemuNote({}) } : {};
        const model = modelOf(ordered, !qemu);
        fc.pre(model.some((byte) => byte !== undefined));
        compare(elfCore({ bits, segments, gap, xnum, ...notes }), model);
      }),
      { numRuns: 120 },
    );
  });

  it("as LiME", () => {
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 6 }), (parts) => {
        const filled = parts.filter(({ bytes }) => bytes.length > 0);
        fc.pre(filled.length > 0);
        const file = Buffer.concat(filled.map(({ gpa, bytes }) => limeRange(BigInt(gpa), bytes)));
        compare(Uint8Array.from(file), modelOf(filled, false));
      }),
      { numRuns: 80 },
    );
  });
});
