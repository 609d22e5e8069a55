/** Where the pages of a recording's slots lie, by guest-physical and by host-virtual address. */
import fc from "fast-check";
import { expect, it } from "vitest";
import type { SlotInput } from "../../src/recording/format/state.js";
import { SlotTable } from "../../src/recording/world/slot-table.js";

const PAGE = 4096n;
const PAGES = 12;

const slot = fc
  .record({ addressSpace: fc.nat(1), id: fc.nat(3), at: fc.nat(PAGES - 1), pages: fc.nat(4), host: fc.nat(PAGES - 1) })
  .map(({ addressSpace, id, at, pages, host }): SlotInput => {
    return { addressSpace, id, flags: 0, gpa: BigInt(at) * PAGE, size: BigInt(pages) * PAGE, hva: BigInt(host) * PAGE };
  });

it("is what the last word on each slot says, each address space by itself", () => {
  fc.assert(
    fc.property(fc.array(slot, { maxLength: 8 }), (changes) => {
      const table = new SlotTable();
      const model = new Map<string, SlotInput>();
      for (const change of changes) {
        table.set(change);
        if (change.size === 0n) model.delete(`${change.addressSpace} ${change.id}`);
        else model.set(`${change.addressSpace} ${change.id}`, change);
      }
      const all = [...model.values()];
      expect(table.all()).toEqual(all);
      for (let at = 0n; at < BigInt(2 * PAGES) * PAGE; at += PAGE / 2n) {
        const normal = all.filter(({ addressSpace }) => addressSpace === 0);
        const behind = normal.filter(({ hva, size }) => at >= hva && at < hva + size);
        expect(table.gpas(at)).toEqual(behind.map(({ gpa, hva }) => gpa + at - hva));
        for (const space of [0, 1]) {
          const own = all.filter(({ addressSpace }) => addressSpace === space);
          const found = own.find(({ gpa, size }) => at >= gpa && at < gpa + size);
          expect(table.find(at, space)).toBe(found);
          expect(table.hva(at, space)).toBe(found && found.hva + at - found.gpa);
        }
      }
    }),
    { numRuns: 100 },
  );
});
