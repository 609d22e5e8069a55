/** Comparing the events of a step with the recorded ones, in order and field by field. */

import { ROLE_GUEST_MODE, ROLE_LEVEL } from "../../role/index.js";
import { EVENTS, type FieldKind, isProbeEvent, isTraceEvent } from "../format/events.js";
import { PageNames, recordedRole } from "./page-names.js";
import type { RuleCounts } from "./rules.js";

/** An event of either side, with the mode of the roots when it happened. */
export interface TaggedEvent {
  readonly event: { readonly ev: string } & Readonly<Record<string, unknown>>;
  /** The context's roots are special ones in the recorded kernel. */
  readonly special: boolean;
  /** Between mmu_load and its return. */
  readonly loading: boolean;
}

export interface EventDifference {
  readonly kind: "event";
  /** Position among the compared events of the step. */
  readonly index: number;
  readonly recorded: TaggedEvent["event"] | undefined;
  readonly replayed: TaggedEvent["event"] | undefined;
  /** Names of the fields that differ; empty where the kinds do. */
  readonly fields: readonly string[];
}

export interface EventContext {
  readonly emits: ReadonlySet<string>;
  readonly pageOffset: bigint;
  /** Accessed and dirty bits of SPTEs. */
  readonly hardwareBits: bigint;
  readonly recordedNames: PageNames;
  readonly replayedNames: PageNames;
  readonly rules: RuleCounts;
  /** guest_mmu, which nested guests' pages belong to, has special roots. */
  readonly nestedSpecial?: boolean;
  /** Special roots were in use in this recording, now or before. */
  readonly specialSeen?: boolean;
}

/** Probes that only say how special roots were loaded. */
const LOAD_PROBES = new Set([
  "mmu_load",
  "mmu_load_ret",
  "alloc_root",
  "free_roots",
  "sync_roots",
  "sync_prev_roots",
  "new_pgd",
  "free_obsolete_roots",
  "mmu_unload",
]);

function levelOf(event: TaggedEvent["event"]): number {
  return typeof event.role === "number" ? event.role & ROLE_LEVEL : 0;
}

/** Whether the special-root projection drops this event, from either side. */
function projected({ event, special, loading }: TaggedEvent, { rules, nestedSpecial }: EventContext): boolean {
  const nested = nestedSpecial === true && typeof event.role === "number" && (event.role & ROLE_GUEST_MODE) !== 0;
  if (!special && !nested) return false;
  if (event.ev === "kvm_mmu_get_page" && loading) {
    rules.use("special-root-load");
    return true;
  }
  if (LOAD_PROBES.has(event.ev) || (event.ev === "kvm_mmu_prepare_zap_page" && levelOf(event) >= 2)) {
    rules.use("special-root-free");
    return true;
  }
  return false;
}

/** The events of one side that are compared, in order. */
export function comparedEvents(events: readonly TaggedEvent[], context: EventContext): TaggedEvent["event"][] {
  const kept: TaggedEvent["event"][] = [];
  for (const tagged of events) {
    const { event } = tagged;
    if (!isTraceEvent(event.ev) && !isProbeEvent(event.ev)) continue;
    if (!context.emits.has(event.ev)) {
      if (isProbeEvent(event.ev)) context.rules.use("not-emitted");
      else kept.push(event);
      continue;
    }
    if (event.ev === "spte_clear" && event.old === 0n) {
      context.rules.use("spte-clear-zero");
      continue;
    }
    if (!projected(tagged, context)) kept.push(event);
  }
  return kept;
}

/** Names of the fields in which two events of one kind differ. */
function differingFields(
  recorded: TaggedEvent["event"],
  replayed: TaggedEvent["event"],
  context: EventContext,
): string[] {
  const kinds: Readonly<Record<string, FieldKind>> = EVENTS[recorded.ev as keyof typeof EVENTS];
  const level = typeof recorded.level === "number" ? recorded.level : undefined;
  const allowed = hardwareBitsOf(recorded, replayed, context);
  return Object.entries(kinds)
    .filter(([field, kind]) => {
      return !sameField(kind, field, recorded[field], replayed[field], level, { ...context, hardwareBits: allowed });
    })
    .filter(([field]) => !usedPages(field, context))
    .map(([field]) => field);
}

/**
 * Bits that hardware may have set in the SPTE of an event: those that it has on the recorded side before the change already,
 * where the event says what it was. A new SPTE is made by the kernel alone.
 */
function hardwareBitsOf(
  recorded: TaggedEvent["event"],
  replayed: TaggedEvent["event"],
  { hardwareBits }: EventContext,
): bigint {
  if (recorded.ev === "kvm_mmu_set_spte") return 0n;
  const [before, after] = [recorded.old_spte, replayed.old_spte];
  if (typeof before !== "bigint" || typeof after !== "bigint") return hardwareBits;
  return hardwareBits & before & ~after;
}

/** Number of shadow pages, of which this project has others where the recorded kernel has special roots. */
function usedPages(field: string, context: EventContext): boolean {
  if (field !== "mmu_used_pages" || context.specialSeen !== true) return false;
  context.rules.use("special-root-used");
  return true;
}

function sameField(
  kind: FieldKind,
  field: string,
  recorded: unknown,
  replayed: unknown,
  level: number | undefined,
  context: EventContext,
): boolean {
  switch (kind) {
    case "pointer":
    case "rip":
      return true;
    case "spte":
      return sameSpte(recorded as bigint, replayed as bigint, level, context);
    case "sptepPa":
      return sameSlot(recorded as bigint, replayed as bigint, context);
    case "sptep":
      return sameSlot((recorded as bigint) - context.pageOffset, replayed as bigint, context);
    case "rootHpa":
      return sameRoot(recorded as bigint, replayed as bigint, context);
    default:
      if (field === "role") return recorded === recordedRole(replayed as number);
      return recorded === replayed;
  }
}

/**
 * SPTE values: equal but for the address of a table and for bits that hardware set. An event that does not give a
 * level (spte_update, spte_clear) may hold either kind of SPTE: its address is a table's where a page lies there.
 */
function sameSpte(recorded: bigint, replayed: bigint, level: number | undefined, context: EventContext): boolean {
  if (recorded === replayed) return true;
  const table =
    level === undefined
      ? context.recordedNames.table(recorded).child !== undefined
      : PageNames.isTable(recorded, level) && PageNames.isTable(replayed, level);
  if (table) {
    const a = context.recordedNames.table(recorded);
    const b = context.replayedNames.table(replayed);
    context.rules.use("table-address");
    return a.bits === b.bits && (a.child === b.child || a.child === undefined || b.child === undefined);
  }
  if ((recorded & ~context.hardwareBits) === (replayed & ~context.hardwareBits) && (replayed & ~recorded) === 0n) {
    context.rules.use("hardware-ad-event");
    return true;
  }
  return false;
}

/** Addresses of SPTEs: the same index of the same page. */
function sameSlot(recorded: bigint, replayed: bigint, context: EventContext): boolean {
  if ((recorded & 0xfffn) !== (replayed & 0xfffn)) return false;
  const a = context.recordedNames.name(recorded & ~0xfffn);
  const b = context.replayedNames.name(replayed & ~0xfffn);
  if (a === undefined || b === undefined) {
    context.rules.use("short-lived-page");
    return true;
  }
  context.rules.use("table-address");
  return a === b;
}

function sameRoot(recorded: bigint, replayed: bigint, context: EventContext): boolean {
  const a = context.recordedNames.name(recorded);
  const b = context.replayedNames.name(replayed);
  if (a === undefined || b === undefined) {
    context.rules.use("short-lived-page");
    return true;
  }
  context.rules.use("table-address");
  return a === b;
}

/** How far ahead the comparator looks for a place where the two sides agree again. */
const RESYNC_WINDOW = 24;

/**
 * Compares the events of a step. After a difference it goes on where the kinds of the two sides meet again, so
 * that one missing event does not make all later ones differ.
 */
export function compareEvents(
  recorded: readonly TaggedEvent["event"][],
  replayed: readonly TaggedEvent["event"][],
  context: EventContext,
): EventDifference[] {
  const differences: EventDifference[] = [];
  let i = 0;
  let j = 0;
  while (i < recorded.length || j < replayed.length) {
    const a = recorded[i];
    const b = replayed[j];
    if (a !== undefined && b !== undefined && a.ev === b.ev) {
      const fields = differingFields(a, b, context);
      if (fields.length > 0) differences.push({ kind: "event", index: i, recorded: a, replayed: b, fields });
      i++;
      j++;
      continue;
    }
    const [skipA, skipB] = resync(recorded, replayed, i, j);
    for (let k = 0; k < Math.max(skipA, skipB); k++) {
      differences.push({
        kind: "event",
        index: i + k,
        recorded: k < skipA ? recorded[i + k] : undefined,
        replayed: k < skipB ? replayed[j + k] : undefined,
        fields: [],
      });
    }
    i += skipA;
    j += skipB;
  }
  return differences;
}

/** The smallest numbers of events to leave out on each side so that the next two kinds are equal. */
function resync(
  recorded: readonly TaggedEvent["event"][],
  replayed: readonly TaggedEvent["event"][],
  i: number,
  j: number,
): readonly [number, number] {
  for (let total = 1; total <= RESYNC_WINDOW; total++) {
    for (let skipA = 0; skipA <= total; skipA++) {
      const a = recorded[i + skipA];
      const b = replayed[j + total - skipA];
      if (a !== undefined && b !== undefined && a.ev === b.ev) return [skipA, total - skipA];
    }
  }
  return [recorded.length - i, replayed.length - j];
}
