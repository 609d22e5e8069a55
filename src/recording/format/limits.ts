/**
 * How large a recording may be. Guests of recordings have some MiB and do some thousand steps; what is far beyond that
 * is broken, or made to keep a reader busy. Limits of single values are where the values are read.
 */

import { RecordingError } from "./error.js";
import type { RecordedEvent } from "./events.js";
import { MAX_MEMORY } from "./maxima.js";
import { mergeRanges } from "./ranges.js";
import type { Recording } from "./recording.js";

/** Values in the text. */
const MAX_VALUES = 2 ** 21;
const MAX_SLOTS = 64;
/** Bytes of memory, counted once for each change of a slot: some tools lay memory out anew then. */
const MAX_LAYOUTS = 2 ** 33;
const MAX_STEP_EVENTS = 2 ** 14;
/** Events in a step that something is done for, with a look at those that follow. */
const MAX_DOINGS = 2 ** 10;
const DOINGS: ReadonlySet<string> = new Set([
  "kvm_exit",
  "kvm_page_fault",
  "kvm_mmu_pagetable_walk",
  "kvm_nested_vmenter",
  "kvm_unmap_hva_range",
  "kvm_set_spte_hva",
  "kvm_age_hva",
  "kvm_test_age_hva",
  "mmu_load",
]);
const MAX_EVENTS = 2 ** 17;
/** Pages that the host's maps name, and pages that its notifiers concern. */
const MAX_HOST_PAGES = 2 ** 20;

const PAGE_SHIFT = 12n;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const BRACKET = 0x5b;
const BRACE = 0x7b;

/** Counts the values of a JSON text before it is parsed, which takes many times its size. */
export function checkValueCount(file: string, text: Uint8Array): void {
  let values = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const byte = text[i]!;
    if (inString) {
      if (byte === BACKSLASH) i++;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (byte === COMMA || byte === BRACKET || byte === BRACE) values++;
  }
  if (values > MAX_VALUES) {
    throw new RecordingError(file, "", `expected at most ${MAX_VALUES} values, found ${values}`);
  }
}

type Scenario = Pick<Recording, "slots" | "pfnMap" | "setupEvents" | "steps">;

/** Checks what is limited in all. Throws RecordingError. */
export function checkTotals(file: string, scenario: Scenario): void {
  const { slots, pfnMap, setupEvents, steps } = scenario;
  const refuse = (field: string, expected: string, found: number | bigint): never => {
    throw new RecordingError(file, field, `expected at most ${expected}, found ${found}`);
  };
  const inputs = steps.flatMap((step) => step.inputs.flatMap((input) => (input.kind === "slot" ? [input.slot] : [])));
  const ranges = mergeRanges([...slots, ...inputs]);
  const memory = ranges.reduce((sum, { size }) => sum + size, 0n);
  if (memory > BigInt(MAX_MEMORY)) refuse("slots", `${MAX_MEMORY} bytes of memory in all slots`, memory);
  const ids = new Set([...slots, ...inputs].map(({ addressSpace, id }) => `${addressSpace}:${id}`));
  if (ids.size > MAX_SLOTS) refuse("slots", `${MAX_SLOTS} slots`, ids.size);
  const layouts = memory * BigInt(inputs.length);
  if (layouts > BigInt(MAX_LAYOUTS)) refuse("slots", `${MAX_LAYOUTS} bytes of memory in all changes of slots`, layouts);
  let events = setupEvents.length;
  let mapped = pfnMap.reduce((sum, { count }) => sum + count, 0);
  if (mapped > MAX_HOST_PAGES) refuse("pfnmap", `${MAX_HOST_PAGES} pages in all maps`, mapped);
  let concerned = 0n;
  steps.forEach((step, index) => {
    const field = `steps[${index}]`;
    if (step.events.length > MAX_STEP_EVENTS) {
      refuse(`${field}.events`, `${MAX_STEP_EVENTS} events in a step`, step.events.length);
    }
    const doings = step.events.reduce((count, { ev }) => count + (DOINGS.has(ev) ? 1 : 0), 0);
    if (doings > MAX_DOINGS) {
      refuse(`${field}.events`, `${MAX_DOINGS} exits, faults, walks and notices in a step`, doings);
    }
    events += step.events.length;
    for (const runs of step.pfnMaps) for (const { count } of runs) mapped += count;
    for (const event of step.events) concerned += pagesConcerned(event, ranges);
    if (events > MAX_EVENTS) refuse(`${field}.events`, `${MAX_EVENTS} events in all`, events);
    if (mapped > MAX_HOST_PAGES) refuse(`${field}.pfnmaps`, `${MAX_HOST_PAGES} pages in all maps`, mapped);
    if (concerned > BigInt(MAX_HOST_PAGES)) {
      refuse(`${field}.events`, `${MAX_HOST_PAGES} pages in all notices of the host`, concerned);
    }
  });
}

/** Pages of the slots' memory that a notifier call is about. */
function pagesConcerned(
  event: RecordedEvent,
  ranges: readonly { readonly hva: bigint; readonly size: bigint }[],
): bigint {
  if (event.ev !== "kvm_unmap_hva_range" && event.ev !== "kvm_age_hva") return 0n;
  let pages = 0n;
  for (const { hva, size } of ranges) {
    const start = event.start > hva ? event.start : hva;
    const end = event.end < hva + size ? event.end : hva + size;
    if (end > start) pages += ((end - start) >> PAGE_SHIFT) + 1n;
  }
  return pages;
}
