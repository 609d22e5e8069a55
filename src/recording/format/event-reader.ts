/** Reading events by the kinds and fields of events.ts. */
import { EVENTS, type FieldKind, isEventKind, type RecordedEvent } from "./events.js";
import type { JsonField } from "./json-field.js";

/** Ranges of fields that are counted with. */
const RANGES: Readonly<Record<string, readonly [least: number, most: number]>> = {
  level: [1, 5],
  bytes: [1, 8],
  as_id: [0, 1],
};

function readValue(field: JsonField, name: string, kind: FieldKind): bigint | number | string {
  const range = RANGES[name];
  switch (kind) {
    case "u32":
      return range === undefined ? field.int() : field.intFrom(...range);
    case "text":
      return field.text();
    default:
      return field.u64();
  }
}

/** One event; undefined where its kind is unknown, which `unknown` then counts. */
export function readEvent(field: JsonField, unknown: Map<string, number>): RecordedEvent | undefined {
  const name = field.get("ev").text();
  if (!isEventKind(name)) {
    unknown.set(name, (unknown.get(name) ?? 0) + 1);
    return undefined;
  }
  const event: Record<string, bigint | number | string> = { ev: name };
  for (const [key, kind] of Object.entries(EVENTS[name])) {
    event[key] = readValue(field.get(key), key, kind);
  }
  const { start, end } = event;
  if (typeof start === "bigint" && typeof end === "bigint" && end < start) {
    field.get("end").fail(`an address from 0x${start.toString(16)} on`);
  }
  return event as unknown as RecordedEvent;
}

export function readEvents(field: JsonField, unknown: Map<string, number>): RecordedEvent[] {
  const events: RecordedEvent[] = [];
  for (const item of field.array()) {
    const event = readEvent(item, unknown);
    if (event !== undefined) events.push(event);
  }
  return events;
}
