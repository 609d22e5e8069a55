/** Parses what stands behind an event's name, by the texts of formats.ts. */
import { bitOf } from "../../abi/bits.js";
import { PFERR } from "../../abi/faults.js";
import { ascii, Cursor, latin1 } from "./cursor.js";
import { fieldSlot } from "./fields.js";
import { type Conversion, type FieldName, FORMATS, type TextFormat } from "./formats.js";
import { ExitReason, Kind, Slot } from "./kinds.js";
import type { EventRecord } from "./record.js";
import type { RoleForm } from "./role.js";
import { type PluginRoles, RoleText } from "./role-text.js";

const NOT_KEPT = -1;
const PFERR_NAMES: ReadonlyMap<string, number> = new Map(
  PFERR.fields.map(({ name }) => [name === "I" ? "F" : name, Number(bitOf(PFERR, name))]),
).set("SGX", 2 ** 15);

interface Step {
  readonly before: Uint8Array;
  readonly conversion: Conversion;
  readonly slot: number;
}

/** A text, ready to be looked for. */
interface Compiled {
  readonly format: TextFormat;
  readonly steps: readonly Step[];
  readonly tail: Uint8Array;
  /** Events of that text so far. */
  used: number;
}

function compile(format: TextFormat): Compiled {
  const steps: Step[] = [];
  let at = 0;
  for (const match of format.text.matchAll(/\{(\w+):([\w-]+)\}/g)) {
    const name = match[1] as FieldName;
    const slot = name === "_" ? NOT_KEPT : Slot[name];
    steps.push({ before: ascii(format.text.slice(at, match.index)), conversion: match[2] as Conversion, slot });
    at = match.index + match[0].length;
  }
  return { format, steps, tail: ascii(format.text.slice(at)), used: 0 };
}

const RAW = ascii("[FAILED TO PARSE]");
const NEW = ascii("new");
const EXISTING = ascii("existing");
const UNSYNC = ascii("unsync");
const SYNC = ascii("sync");
const WRITE = ascii("write");
const READ = ascii("read");
const ENTERING = ascii("entering");
const LEAVING = ascii("leaving");
const RIP = ascii(" rip");
const SPACE = " ".charCodeAt(0);
const DASH = "-".charCodeAt(0);
const LETTER = { r: "r".charCodeAt(0), w: "w".charCodeAt(0), x: "x".charCodeAt(0), u: "u".charCodeAt(0) } as const;

/** Exit reasons that say which tables the guest runs on; as the kernel and the plugin print them. */
const REASONS: ReadonlyMap<string, number> = new Map([
  ["EPT_VIOLATION", ExitReason.EptViolation],
  ["EPT_MISCONFIG", ExitReason.EptMisconfig],
  ["npf", ExitReason.Npf],
  ["EXIT_NPF", ExitReason.Npf],
  ["PF excp", ExitReason.PageFault],
  ["EXIT_EXCP_PF", ExitReason.PageFault],
  ["write_cr3", ExitReason.WriteCr3],
  ["EXIT_WRITE_CR3", ExitReason.WriteCr3],
  ["write_cr0", ExitReason.WriteMode],
  ["EXIT_WRITE_CR0", ExitReason.WriteMode],
  ["cr0_sel_write", ExitReason.WriteMode],
  ["EXIT_CR0_SEL_WRITE", ExitReason.WriteMode],
  ["write_cr4", ExitReason.WriteMode],
  ["EXIT_WRITE_CR4", ExitReason.WriteMode],
  ["CR_ACCESS", ExitReason.CrAccess],
  ["MSR_WRITE", ExitReason.MsrWrite],
  ["msr", ExitReason.MsrWrite],
  ["EXIT_MSR", ExitReason.MsrWrite],
  ["rsm", ExitReason.Rsm],
  ["EXIT_RSM", ExitReason.Rsm],
  ["INVPCID", ExitReason.Invpcid],
  ["invpcid", ExitReason.Invpcid],
  ["EXIT_INVPCID", ExitReason.Invpcid],
]);
/** A reason is looked up where it can be one of those. */
const REASON_INITIALS = new Set([..."EnPwcCMmrIi"].map((letter) => letter.charCodeAt(0)));

export class BodyParser {
  readonly #cursor = new Cursor();
  readonly #role = new RoleText();
  /** Roles of the plugin's text. */
  readonly plugin: PluginRoles;
  /** By kind; the text that fitted last is the first. */
  readonly #texts: Compiled[][] = [];
  /** Events that libtraceevent could not print, as fields. */
  rawForm = 0;

  constructor(plugin: PluginRoles) {
    this.plugin = plugin;
    for (const format of FORMATS) {
      const kind = Kind[format.kind];
      this.#texts[kind] ??= [];
      this.#texts[kind].push(compile(format));
    }
  }

  /** How roles were printed so far. */
  get roleForm(): RoleForm | undefined {
    return this.#role.form;
  }

  /** The texts that events had, with their numbers. */
  get used(): { readonly format: TextFormat; readonly events: number }[] {
    return this.#texts.flat().flatMap(({ format, used }) => (used > 0 ? [{ format, events: used }] : []));
  }

  /** Fills `record` from the text; false where it is none of the kind's. */
  parse(kind: number, bytes: Uint8Array, from: number, to: number, record: EventRecord): boolean {
    const texts = this.#texts[kind]!;
    for (let i = 0; i < texts.length; i++) {
      const text = texts[i]!;
      record.clear();
      this.#cursor.reset(bytes, from, to);
      if (!this.#fits(text, record)) continue;
      text.used++;
      if (i > 0) {
        texts.splice(i, 1);
        texts.unshift(text);
      }
      if (kind === Kind.kvm_mmu_spte_requested && record.has[Slot.access] === 1) this.plugin.fourRights = true;
      return true;
    }
    record.clear();
    this.#cursor.reset(bytes, from, to);
    if (!this.#cursor.literal(RAW) || !this.#fields(kind, record)) return false;
    this.rawForm++;
    return true;
  }

  #fits({ steps, tail }: Compiled, record: EventRecord): boolean {
    const cursor = this.#cursor;
    for (let i = 0; i < steps.length; i++) {
      const step = steps[i]!;
      if (!cursor.literal(step.before) || !this.#value(step.conversion)) return false;
      if (step.slot !== NOT_KEPT) record.set(step.slot, cursor.low, cursor.high);
    }
    if (!cursor.literal(tail)) return false;
    // The plugin ends some texts with a zero byte.
    while (!cursor.atEnd && (cursor.bytes[cursor.at] === 0 || cursor.bytes[cursor.at] === SPACE)) cursor.at++;
    return cursor.atEnd;
  }

  /** Reads one value into the cursor's halves. */
  #value(conversion: Conversion): boolean {
    const cursor = this.#cursor;
    switch (conversion) {
      case "x":
        return cursor.hex();
      case "0x":
        return cursor.hex0x();
      case "d":
        return cursor.decimal();
      case "pferr":
        return cursor.flags(PFERR_NAMES);
      case "role":
        return this.#role.read(cursor);
      case "plugin-role":
        return this.plugin.read(cursor);
      case "sync":
        return this.#either(UNSYNC, SYNC);
      case "created":
        return this.#either(NEW, EXISTING);
      case "rw":
        return this.#either(WRITE, READ);
      case "entering":
        return this.#either(ENTERING, LEAVING);
      case "r":
        return this.#letter(LETTER.r);
      case "w":
        return this.#letter(LETTER.w);
      case "exec":
        return this.#letter(LETTER.x);
      case "user":
        this.#letter(LETTER.u);
        return true;
      case "reason":
        return this.#reason();
      case "word":
        return this.#word();
      case "rest":
        cursor.at = cursor.end;
        cursor.low = 0;
        cursor.high = 0;
        return true;
    }
  }

  #either(one: Uint8Array, other: Uint8Array): boolean {
    const cursor = this.#cursor;
    cursor.high = 0;
    cursor.low = cursor.literal(one) ? 1 : 0;
    return cursor.low === 1 || cursor.literal(other);
  }

  #letter(letter: number): boolean {
    const cursor = this.#cursor;
    const found = cursor.bytes[cursor.at];
    if (cursor.atEnd || (found !== letter && found !== DASH)) return false;
    cursor.at++;
    cursor.low = found === letter ? 1 : 0;
    cursor.high = 0;
    return true;
  }

  /** A word: 1 where it says yes (`npt: on`, `nested_npt=y`), else 0; a pointer that is a number is one. */
  #word(): boolean {
    const cursor = this.#cursor;
    const from = cursor.at;
    if (!cursor.word()) return false;
    const { bytes, at: end } = cursor;
    const last = bytes[end - 1];
    cursor.high = 0;
    cursor.low = 0;
    if (end - from === 16) {
      cursor.at = from;
      if (!cursor.hex() || cursor.at !== end) cursor.low = 0;
      cursor.at = end;
    } else cursor.low = last === "y".charCodeAt(0) || latin1(bytes, from, end) === "on" ? 1 : 0;
    return true;
  }

  /** The reason of an exit, which may have spaces in it, until ` rip`. */
  #reason(): boolean {
    const cursor = this.#cursor;
    const { bytes, at: from } = cursor;
    for (let at = from; at < cursor.end; at++) {
      if (bytes[at] !== SPACE || bytes[at + 1] !== RIP[1]) continue;
      cursor.at = at;
      if (!cursor.literal(RIP)) continue;
      cursor.at = at + 1;
      cursor.high = 0;
      cursor.low = 0;
      if (REASON_INITIALS.has(bytes[from]!)) cursor.low = REASONS.get(latin1(bytes, from, at)) ?? ExitReason.Other;
      return true;
    }
    return false;
  }

  /** `name=value` pairs, as libtraceevent prints an event whose format it cannot use. */
  #fields(kind: number, record: EventRecord): boolean {
    const cursor = this.#cursor;
    let kept = 0;
    while (!cursor.atEnd) {
      if (cursor.bytes[cursor.at] === SPACE || cursor.bytes[cursor.at] === 0) {
        cursor.at++;
        continue;
      }
      const from = cursor.at;
      while (!cursor.atEnd && cursor.bytes[cursor.at] !== EQUALS && cursor.bytes[cursor.at] !== SPACE) cursor.at++;
      if (cursor.bytes[cursor.at] !== EQUALS) continue;
      const slot = fieldSlot(kind, latin1(cursor.bytes, from, cursor.at));
      cursor.at++;
      const hex = cursor.bytes[cursor.at] === ZERO && cursor.bytes[cursor.at + 1] === LETTER.x;
      const valid = hex ? cursor.hex0x() : cursor.decimal();
      if (slot !== undefined && valid) {
        record.set(slot, cursor.low, cursor.high);
        kept++;
      }
      cursor.word();
    }
    if (kept > 0) this.plugin.finish(kind, record);
    return kept > 0;
  }
}

const EQUALS = "=".charCodeAt(0);
const ZERO = "0".charCodeAt(0);
