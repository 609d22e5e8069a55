/** Formats of events as the kernel describes them (events/<system>/<event>/format), which trace.dat files have in them. */
import { fieldSlot } from "../events/fields.js";
import { Kind, OLDER_NAMES } from "../events/kinds.js";
import type { EventRecord } from "../events/record.js";

/** A field that a record keeps. */
interface KeptField {
  readonly slot: number;
  readonly offset: number;
  /** Bytes: 1, 2, 4 or 8. */
  readonly size: number;
  readonly signed: boolean;
}

export interface EventFormat {
  readonly id: number;
  readonly name: string;
  /** See `KINDS`; 0 for events that are only counted. */
  readonly kind: number;
  readonly fields: readonly KeptField[];
  /** Where the event's thread is. */
  readonly pidOffset: number;
  /** Bytes that the fields need. */
  readonly size: number;
  /** RET_PF_FIXED and RET_PF_SPURIOUS, where the format of fast_page_fault spells them out. */
  readonly returns?: { readonly fixed: number; readonly spurious: number };
}

const FIELD = /^\s*field:([^;]*);\s*offset:(\d+);\s*size:(\d+);(?:\s*signed:(\d+);)?/;
const SIZES = new Set([1, 2, 4, 8]);
const DEFAULT_PID_OFFSET = 4;
/** Fields of no event are further from its beginning. */
const MOST = 2 ** 16;

/** A format's text; undefined where it is none. */
export function parseEventFormat(text: string): EventFormat | undefined {
  const name = /^name: (\S+)/m.exec(text)?.[1];
  const id = /^ID: (\d{1,9})/m.exec(text)?.[1];
  if (name === undefined || id === undefined) return undefined;
  const kind = Kind[(OLDER_NAMES[name] ?? name) as keyof typeof Kind] ?? Kind.other;
  const fields: KeptField[] = [];
  let pidOffset = DEFAULT_PID_OFFSET;
  let end = 8;
  const [body = "", print = ""] = text.split(/^print fmt:/m);
  for (const line of body.split("\n")) {
    const match = FIELD.exec(line);
    if (match === null) continue;
    const [, declaration, at, length, sign] = match;
    const field = /(\w+)(?:\[\d*\])?$/.exec(declaration!.trim())?.[1];
    const [offset, size] = [Number(at), Number(length)];
    if (field === undefined || offset > MOST) continue;
    if (field === "common_pid") pidOffset = offset;
    const slot = kind === Kind.other || field.startsWith("common_") ? undefined : fieldSlot(kind, field);
    if (slot === undefined || !SIZES.has(size)) continue;
    fields.push({ slot, offset, size, signed: sign === "1" });
    end = Math.max(end, offset + size);
  }
  const [, spurious, fixed] = /REC->ret == (\d+), REC->ret == (\d+)/.exec(print) ?? [];
  const returns = fixed === undefined ? undefined : { fixed: Number(fixed), spurious: Number(spurious) };
  return { id: Number(id), name, kind, fields, pidOffset, size: end, ...(returns !== undefined && { returns }) };
}

/** Fills `record` with the fields of an event whose bytes begin at `from`. */
export function decodeFields({ fields }: EventFormat, view: DataView, from: number, record: EventRecord): void {
  record.clear();
  for (let i = 0; i < fields.length; i++) {
    const { slot, offset, size, signed } = fields[i]!;
    const at = from + offset;
    switch (size) {
      case 8:
        record.set(slot, view.getUint32(at, true), view.getUint32(at + 4, true));
        break;
      case 4:
        record.set(slot, view.getUint32(at, true), 0);
        break;
      case 2:
        record.set(slot, signed ? view.getInt16(at, true) : view.getUint16(at, true), 0);
        break;
      default:
        record.set(slot, signed ? view.getInt8(at) : view.getUint8(at), 0);
    }
  }
}
