/** Reads a trace's text as it comes, in chunks, and hands on its events. */
import type { BodyParser } from "../events/body-parser.js";
import { latin1 } from "../events/cursor.js";
import { KINDS, Kind, OLDER_NAMES } from "../events/kinds.js";
import { EventRecord } from "../events/record.js";
import { LineHeader, nameHash } from "./line-header.js";
import { LineSplitter } from "./line-splitter.js";
import { Notices } from "./notices.js";

/** What happens with an event; the record is another's at the next one. */
export type OnEvent = (record: EventRecord) => void;

/** Names of other events that are kept apart; those beyond are counted together. */
const MOST_NAMES = 1024;
const QUOTED = 512;

interface NamedEvent {
  readonly kind: number;
  readonly name: string;
  events: number;
}

export class TextReader {
  readonly notices = new Notices();
  /** Events of other names, beyond `MOST_NAMES` of them. */
  otherNames = 0;
  /** Events that were understood. */
  events = 0;
  /** Lines of known events whose text no kernel that is known prints. */
  malformed = 0;
  /** The input ended within a line. */
  brokenOff = false;
  /** perf printed it: systems stand before the names. */
  hasSystems = false;
  readonly #names = new Map<number, NamedEvent>();
  readonly #splitter = new LineSplitter((bytes, from, to) => this.#line(bytes, from, to));
  readonly #header = new LineHeader();
  readonly #record = new EventRecord();
  readonly #parser: BodyParser;
  readonly #onEvent: OnEvent;
  readonly #onLost: () => void;
  #bytes: Uint8Array = new Uint8Array(0);
  #from = 0;
  #to = 0;

  /** `onLost`: events were lost where the reader is. */
  constructor(parser: BodyParser, onEvent: OnEvent, onLost: () => void = () => {}) {
    this.#onLost = onLost;
    this.#parser = parser;
    this.#onEvent = onEvent;
    this.#record.source = {
      textOf: () => latin1(this.#bytes, this.#from, Math.min(this.#to, this.#from + QUOTED)).trim(),
    };
    for (const [kind, name] of KINDS.entries()) if (kind !== Kind.other) this.#know(name, kind);
    for (const [name, newer] of Object.entries(OLDER_NAMES)) this.#know(name, Kind[newer]);
  }

  get lines(): number {
    return this.#splitter.lines;
  }

  get overlong(): number {
    return this.#splitter.overlong;
  }

  /** Numbers of events by name, of known ones and others. */
  get names(): ReadonlyMap<string, number> {
    const all = new Map<string, number>();
    for (const { name, events } of this.#names.values()) if (events > 0) all.set(name, events);
    return all;
  }

  /** Those of the others alone. */
  get others(): ReadonlyMap<string, number> {
    const all = new Map<string, number>();
    for (const { kind, name, events } of this.#names.values()) if (kind === Kind.other) all.set(name, events);
    return all;
  }

  push(chunk: Uint8Array): void {
    this.#splitter.push(chunk);
  }

  finish(): void {
    this.brokenOff = this.#splitter.finish();
  }

  #know(name: string, kind: number): void {
    this.#names.set(nameHash(name), { kind, name, events: 0 });
  }

  #line(bytes: Uint8Array, start: number, to: number): void {
    const header = this.#header;
    const from = this.#splitter.lines === 1 && isMarked(bytes, start) ? start + BYTE_ORDER_MARK.length : start;
    if (!header.parse(bytes, from, to)) {
      const { lostPlaces } = this.notices;
      this.notices.take(bytes, from, to, this.#splitter.lines);
      if (this.notices.lostPlaces !== lostPlaces) this.#onLost();
      return;
    }
    const named = this.#named(bytes, header);
    if (named === undefined) {
      this.otherNames++;
      return;
    }
    named.events++;
    if (named.kind === Kind.other) {
      if (header.hasSystem) this.hasSystems = true;
      return;
    }
    const record = this.#record;
    if (!this.#parser.parse(named.kind, bytes, header.body, to, record)) {
      this.malformed++;
      this.notices.bad(latin1(bytes, from, Math.min(to, from + QUOTED)), this.#splitter.lines);
      return;
    }
    record.kind = named.kind;
    record.line = this.#splitter.lines;
    record.time = header.time;
    record.cpu = header.cpu;
    record.pid = header.pid;
    record.process = header.process;
    this.hasSystems = header.hasSystem;
    this.events++;
    this.#bytes = bytes;
    this.#from = from;
    this.#to = to;
    this.#onEvent(record);
  }

  /** The event's name, as far as names are kept apart. */
  #named(bytes: Uint8Array, { hash, nameFrom, nameTo }: LineHeader): NamedEvent | undefined {
    const known = this.#names.get(hash);
    if (known !== undefined && isText(bytes, nameFrom, nameTo, known.name)) return known;
    // Another name with the same hash is made to have it.
    if (known !== undefined || this.#names.size >= MOST_NAMES) return undefined;
    const added: NamedEvent = { kind: Kind.other, name: latin1(bytes, nameFrom, nameTo), events: 0 };
    this.#names.set(hash, added);
    return added;
  }
}

/** What editors write before UTF-8. */
const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];
const isMarked = (bytes: Uint8Array, at: number): boolean =>
  BYTE_ORDER_MARK.every((byte, index) => bytes[at + index] === byte);

function isText(bytes: Uint8Array, from: number, to: number, text: string): boolean {
  if (to - from !== text.length) return false;
  for (let i = 0; i < text.length; i++) if (bytes[from + i] !== text.charCodeAt(i)) return false;
  return true;
}
