import { EVENTS, type FieldKind, isEventKind, type RecordedEvent } from "./events.js";
import type { JsonField } from "./json-field.js";

function readValue(field: JsonField, kind: FieldKind): bigint | number | string {
  switch (kind) {
    case "u32":
      return field.int();
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
  for (const [key, kind] of Object.entries(EVENTS[name])) event[key] = readValue(field.get(key), kind);
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
