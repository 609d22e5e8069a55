/** The comparison of events: nothing differs if and only if the sequences are equal, wherever it is that they differ. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { compareEvents, type EventContext, type TaggedEvent } from "../../src/recording/compare/event-comparator.js";
import { PageNames } from "../../src/recording/compare/page-names.js";
import { RuleCounts } from "../../src/recording/compare/rules.js";

type Event = TaggedEvent["event"];

const context: EventContext = {
  emits: new Set(),
  pageOffset: 0n,
  hardwareBits: 0n,
  recordedNames: new PageNames([]),
  replayedNames: new PageNames([]),
  rules: new RuleCounts(),
};

const event: fc.Arbitrary<Event> = fc.oneof(
  fc.nat(2).map((n) => ({ ev: "kvm_mmu_set_dirty_bit", gpa: BigInt(n) })),
  fc.nat(2).map((n) => ({ ev: "kvm_mmu_set_accessed_bit", gpa: BigInt(n) })),
  fc.nat(1).map((n) => ({ ev: "kvm_mmu_walker_error", pferr: n })),
);
const show = (events: readonly Event[]) => events.map((one) => Object.values(one).join(" ")).join(", ");

it("finds a difference in any two sequences that are not the same", () => {
  const sequences = fc.tuple(fc.array(event, { maxLength: 6 }), fc.array(event, { maxLength: 6 }));
  fc.assert(
    fc.property(sequences, ([a, b]) => {
      expect(compareEvents(a, a, context)).toEqual([]);
      expect(compareEvents(a, b, context).length === 0, `${show(a)} / ${show(b)}`).toBe(show(a) === show(b));
    }),
    { numRuns: 500 },
  );
});

it("finds each event that one side has more, at the beginning, between others and at the end", () => {
  fc.assert(
    fc.property(fc.array(event, { maxLength: 6 }), fc.nat(6), ([...events], place) => {
      const more = [...events];
      // Of a kind that no other event has, so that it cannot be taken for one of them.
      more.splice(Math.min(place, events.length), 0, { ev: "kvm_mmu_paging_element", pte: 1n, level: 1 });
      for (const [a, b] of [
        [more, events],
        [events, more],
      ] as const) {
        const found = compareEvents(a, b, context);
        expect(found.map(({ recorded, replayed }) => [recorded?.ev, replayed?.ev])).toEqual([
          a === more ? ["kvm_mmu_paging_element", undefined] : [undefined, "kvm_mmu_paging_element"],
        ]);
      }
    }),
    { numRuns: 200 },
  );
});
