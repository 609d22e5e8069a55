/** The example of a host's own TLB: it finds what a walk finds, whatever registers do, as long as it is told what they flush. */
import fc from "fast-check";
import { expect, it } from "vitest";

const GUEST = { cr0: 0x80010001, cr3: 0x1000, cr4: 0x20, pkru: 0 };
const CR4 = { pge: 0x80, pcide: 0x20000, smep: 0x100000, smap: 0x200000, pke: 0x400000 };
/** Rights of a leaf: user, writable, dirty, no-execute, global, and a protection key. */
const LEAVES = [
  0x67n,
  0x63n,
  0x65n,
  0x27n,
  0x25n,
  0x67n | (1n << 63n),
  0x167n,
  0x127n,
  0x67n | (1n << 59n),
  0x67n | (2n << 59n),
  0n,
];

type Step = readonly [what: number, page: number, value: number];

it("equals the walk over random accesses, edits and register writes", { timeout: 60_000 }, async () => {
  const example: string = "../../examples/own-tlb.mjs";
  const { OwnTlb } = (await import(/* @vite-ignore */ example)) as { OwnTlb: new (...a: unknown[]) => Own };
  const built: string = "x86-paging";
  const { Access, loadSync } = (await import(/* @vite-ignore */ built)) as typeof import("../../src/index.js");
  const core = loadSync();
  const kinds = [0, Access.Write, Access.Fetch].flatMap((kind) => {
    return [0, Access.User, Access.Ac, Access.Implicit, Access.Probe].map((mode) => kind | mode);
  });
  let hits = 0;
  const run = (steps: readonly Step[]) => {
    // Two guests alike: one is looked at through the TLB, one by walks.
    const memories = [0, 1].map(() => core.createMemory({ slots: [{ gpa: 0, size: 0x8000 }] }));
    const write = (gpa: number, value: bigint) => {
      for (const memory of memories) memory.writeU64(gpa, value);
    };
    const leaf = (page: number) => 0x4000 + 8 * page;
    write(0x1000, 0x2067n);
    write(0x2000, 0x3067n);
    write(0x3000, 0x4067n);
    write(0x3008, 0x20_00e7n);
    for (let page = 0; page < 16; page++) write(leaf(page), BigInt(page << 12) | LEAVES[page % LEAVES.length]!);
    const registers = { ...GUEST };
    const [space, walker] = memories.map((memory) => core.createAddressSpace(memory, { ...registers, efer: 0xd00 }));
    const tlb = new OwnTlb(core, space, registers);
    const update = (name: keyof typeof registers, value: number) => {
      const before = registers[name];
      registers[name] = value;
      for (const one of [space, walker]) one!.update({ [name]: value });
      const changed = before ^ value;
      if (name === "cr4" && (changed & (CR4.pge | CR4.pcide) || changed & value & CR4.smep)) tlb.flush(true);
    };
    for (const [what, page, value] of steps) {
      const address = page === 16 ? 0x20_3000 : page << 12;
      if (what < 20) {
        const access = kinds[value % kinds.length]!;
        const walked = walker!.translate(address, access);
        expect(tlb.translate(0, address, access)).toBe(walked.ok ? Number(walked.pa) : -1);
        const at = page === 16 ? 0x3008 : leaf(page);
        expect(memories[0]!.readU64(at)).toBe(memories[1]!.readU64(at));
      } else if (what < 24) {
        write(
          page === 16 ? 0x3008 : leaf(page),
          BigInt((value & 0xff) << 21) | LEAVES[value % LEAVES.length]! | (page === 16 ? 0x80n : 0n),
        );
        tlb.invlpg(0, address);
      } else if (what === 24) update("pkru", [0, 4, 8, 0xc, 0x10, 0x20][value % 6]!);
      else if (what === 25) update("cr0", registers.cr0 ^ 0x10000);
      else if (what === 26) {
        const names = Object.values(CR4);
        const bit = names[value % names.length]!;
        if (bit !== CR4.pcide || (registers.cr3 & 0xfff) === 0) update("cr4", registers.cr4 ^ bit);
      } else {
        registers.cr3 = 0x1000 | (registers.cr4 & CR4.pcide ? value % 3 : 0);
        for (const one of [space, walker]) one!.writeCr3(registers.cr3);
        tlb.flush();
      }
    }
    hits += tlb.hits;
    for (const memory of memories) memory.dispose();
  };
  const step = fc.tuple(fc.nat(27), fc.nat(16), fc.nat(999));
  fc.assert(fc.property(fc.array(step, { maxLength: 300, size: "max" }), run), { numRuns: 300 });
  expect(hits).toBeGreaterThan(1000);
});

interface Own {
  readonly hits: number;
  translate(high: number, low: number, access: number): number;
  invlpg(high: number, low: number): void;
  flush(all?: boolean): void;
}
