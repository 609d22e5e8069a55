/** Differences in words: both sides, with role words and SPTEs decoded. */

import type { Kernel } from "../../abi/kernel-rules.js";
import { decodeRole, layoutOfKernel, roleTraceText, splitRole } from "../../role/index.js";
import { type DecodeOptions, decodeSpte, type SpteFormat, type SpteMasks } from "../../spte/index.js";
import type { TaggedEvent } from "../compare/event-comparator.js";
import { EVENTS, type FieldKind, isEventKind, type RecordedEvent } from "../format/events.js";
import type { RecordingConfig } from "../format/recording.js";
import { printEvent, TEXT_KINDS } from "../format/trace-text.js";
import type { Difference, StepDifference } from "../replay/replayer.js";

/** Layout of the role words in recordings. */
const KERNEL = "6.1";
const ABSENT = "nothing";

/** A difference in words. */
export interface DescribedDifference {
  readonly step: number;
  readonly op: string;
  readonly what: string;
  readonly recorded: string;
  readonly replayed: string;
}

/** Describes the differences of one recording. */
export class Describer {
  readonly #options: DecodeOptions;
  readonly #kernel: Kernel;

  constructor(config: RecordingConfig) {
    const format: SpteFormat = config.ept ? "ept" : config.npt ? "npt" : "shadow";
    const { masks, kernel } = config;
    const spteMasks: SpteMasks = {
      ...masks,
      mmio: masks.mmioMask,
      lowerGfn: masks.nonpresentOrRsvdLowerGfn,
    };
    this.#kernel = kernel;
    this.#options = { kernel, format, masks: spteMasks };
  }

  /** Puts a difference into words, with the events around it. */
  describe({ step, op, difference }: StepDifference): DescribedDifference {
    return { step, op, ...this.#sides(difference) };
  }

  #sides(difference: Difference): { what: string; recorded: string; replayed: string } {
    switch (difference.kind) {
      case "event": {
        const { recorded, replayed, fields, index } = difference;
        const kind = recorded?.ev ?? replayed?.ev ?? "";
        const what =
          fields.length > 0 ? `event ${index} ${kind}: ${fields.join(", ")}` : `event ${index}: another event`;
        return { what, recorded: this.#event(recorded), replayed: this.#event(replayed) };
      }
      case "state": {
        const { where, recorded, replayed, spteLevel } = difference;
        const side = (value: typeof recorded): string =>
          spteLevel !== undefined && typeof value === "bigint"
            ? this.#spte(value, spteLevel)
            : stateValue(where, value);
        return { what: where, recorded: side(recorded), replayed: side(replayed) };
      }
      case "result":
        return { what: difference.where, recorded: difference.recorded, replayed: difference.replayed };
    }
  }

  /** The event as the kernel prints it, then what its role and SPTEs mean. */
  #event(event: TaggedEvent["event"] | undefined): string {
    if (event === undefined) return ABSENT;
    const text = TEXT_KINDS.has(event.ev)
      ? printEvent(event as unknown as RecordedEvent, this.#kernel)
      : fieldsText(event);
    const notes: string[] = [];
    if (isEventKind(event.ev)) {
      const kinds: Readonly<Record<string, FieldKind>> = EVENTS[event.ev];
      const level = typeof event.level === "number" ? event.level : undefined;
      for (const [field, kind] of Object.entries(kinds)) {
        const value = event[field];
        if (kind === "spte" && typeof value === "bigint" && value !== 0n)
          notes.push(`${field} ${this.#spte(value, level)}`);
        if (field === "role" && typeof value === "number") notes.push(`role ${roleText(BigInt(value))}`);
      }
    }
    return [`${event.ev}: ${text}`, ...notes].join("; ");
  }

  #spte(value: bigint, level: number | undefined): string {
    const decoded = decodeSpte(value, { ...this.#options, ...(level === undefined ? {} : { level }) });
    const parts = [`0x${value.toString(16)}`, decoded.kind];
    if (decoded.rights !== undefined) {
      const { read, write, execute, user } = decoded.rights;
      parts.push(`${read ? "r" : "-"}${write ? "w" : "-"}${execute ? "x" : "-"}${user ? "u" : "-"}`);
    }
    if (decoded.address !== undefined) parts.push(`at 0x${decoded.address.toString(16)}`);
    if (decoded.mmio !== undefined)
      parts.push(`gfn 0x${decoded.mmio.gfn.toString(16)} generation ${decoded.mmio.generation}`);
    const fields = decoded.fields.map(({ name, value: field }) => (field === 1n ? name : `${name}=${field}`));
    if (fields.length > 0) parts.push(`(${fields.join(" ")})`);
    return parts.join(" ");
  }
}

function roleText(word: bigint): string {
  const { base, ext } = decodeRole(layoutOfKernel(KERNEL), splitRole(word));
  const set = (fields: Readonly<Record<string, number>>): string =>
    Object.entries(fields)
      .filter(([, value]) => value !== 0)
      .map(([name, value]) => (value === 1 ? name : `${name}=${value}`))
      .join(" ");
  const text = `0x${word.toString(16)} (${roleTraceText(Number(word & 0xffffffffn))}; ${set(base.fields)}`;
  return ext === undefined ? `${text})` : `${text} | ${set(ext.fields)})`;
}

function stateValue(where: string, value: bigint | number | string | boolean | undefined): string {
  if (value === undefined) return ABSENT;
  if (/_role$/.test(where) && typeof value !== "string" && typeof value !== "boolean") return roleText(BigInt(value));
  if (typeof value === "bigint") return `0x${value.toString(16)}`;
  if (typeof value === "number" && /permissions|pkru/.test(where)) return `0x${value.toString(16)}`;
  return String(value);
}

function fieldsText(event: TaggedEvent["event"]): string {
  return Object.entries(event)
    .filter(([name]) => name !== "ev")
    .map(([name, value]) => `${name}=${typeof value === "bigint" ? `0x${value.toString(16)}` : String(value)}`)
    .join(" ");
}
