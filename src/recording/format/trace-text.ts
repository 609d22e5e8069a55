/**
 * The kernel's text of kvmmmu events and of kvm_page_fault: printing and parsing, from one table of formats.
 * Facts from TP_printk in Linux 6.1's and 6.12's arch/x86/kvm/mmu/mmutrace.h and arch/x86/kvm/trace.h.
 */

import { bitOf } from "../../abi/bits.js";
import { PTE } from "../../abi/entries.js";
import { PFERR } from "../../abi/faults.js";
import type { Kernel } from "../../abi/kernel-rules.js";
import { encodeWord, layoutOf, roleTraceText } from "../../role/index.js";
import { EVENTS, type EventKind, type MmuEvent, type RecordedEvent } from "./events.js";
import { faultReturnCode } from "./fault-return.js";

/** Names of PFERR bits that the kernel prints (kvm_mmu_trace_pferr_flags); other bits print as one hex number. */
const PFERR_NAMES: readonly (readonly [bigint, string])[] = [
  [bitOf(PFERR, "P"), "P"],
  [bitOf(PFERR, "W"), "W"],
  [bitOf(PFERR, "U"), "U"],
  [bitOf(PFERR, "RSVD"), "RSVD"],
  [bitOf(PFERR, "I"), "F"],
];

const PT_WRITABLE = bitOf(PTE, "RW");
/** The layout of the role words that are printed. */
const ROLE = layoutOf("5.19").base;
/** Values that its level can have. */
const LEVELS = 16;

/**
 * One format per kind. `{field:conversion}` prints a field; conversions are listed at `CONVERSIONS`.
 * `=` ones are derived from other fields: they are printed and, when parsed, checked by printing again.
 */
const FORMATS: Partial<Record<EventKind, string>> = {
  kvm_mmu_pagetable_walk: "addr {addr:x} pferr {pferr:x} {pferr:=pferr}",
  kvm_mmu_paging_element: "pte {pte:x} level {level:d}",
  kvm_mmu_set_accessed_bit: "gpa {gpa:x}",
  kvm_mmu_set_dirty_bit: "gpa {gpa:x}",
  kvm_mmu_walker_error: "pferr {pferr:x} {pferr:=pferr}",
  kvm_mmu_get_page:
    "sp gen {mmu_valid_gen:d} gfn {gfn:x} {role:page} root {root_count:d} {unsync:sync} {created:created}",
  kvm_mmu_sync_page: "sp gen {mmu_valid_gen:d} gfn {gfn:x} {role:page} root {root_count:d} {unsync:sync}",
  kvm_mmu_unsync_page: "sp gen {mmu_valid_gen:d} gfn {gfn:x} {role:page} root {root_count:d} {unsync:sync}",
  kvm_mmu_prepare_zap_page: "sp gen {mmu_valid_gen:d} gfn {gfn:x} {role:page} root {root_count:d} {unsync:sync}",
  mark_mmio_spte: "sptep:{sptep:p} gfn {gfn:x} access {access:x} gen {gen:x}",
  handle_mmio_page_fault: "addr:{addr:x} gfn {gfn:x} access {access:x}",
  fast_page_fault:
    "vcpu {vcpu_id:d} gva {cr2_or_gpa:x} error_code {error_code:pferr} sptep {sptep:p} old {old_spte:0x} new {new_spte:x} spurious {ret:=spurious} fixed {ret:=fixed}",
  kvm_mmu_zap_all_fast: "kvm-mmu-valid-gen {mmu_valid_gen:d} used_pages {mmu_used_pages:x}",
  check_mmio_spte: "spte {spte:x} kvm_gen {kvm_gen:x} spte-gen {spte_gen:x} valid {spte_gen:=valid}",
  kvm_mmu_set_spte: "gfn {gfn:x} spte {spte:x} ({r:r}{spte:=w}{x:exec}{u:user}) level {level:d} at {sptep:x}",
  kvm_mmu_spte_requested: "gfn {gfn:x} pfn {pfn:x} level {level:d}",
  kvm_mmu_split_huge_page: "gfn {gfn:x} spte {spte:x} level {level:d} errno {errno:d}",
  kvm_tdp_mmu_spte_changed: "as id {as_id:d} gfn {gfn:x} level {level:d} old_spte {old_spte:x} new_spte {new_spte:x}",
  kvm_page_fault: "vcpu {vcpu_id:d} rip 0x{guest_rip:x} address 0x{fault_address:016x} error_code 0x{error_code:x}",
};

/** Kinds that this module prints and parses. */
export const TEXT_KINDS: ReadonlySet<string> = new Set(Object.keys(FORMATS));

type Value = bigint | number | string;
type Values = Readonly<Record<string, Value>>;

interface Conversion {
  print(value: Value, event: Values, kernel: Kernel): string;
  /** The text this conversion accepts, and the value it stands for; absent for derived text. */
  readonly pattern: string;
  parse?(text: string): bigint;
}

/** __print_flags of a PFERR word. */
function pferrNames(value: bigint): string {
  const names: string[] = [];
  let rest = value;
  for (const [bit, name] of PFERR_NAMES) {
    if ((rest & bit) !== 0n) names.push(name);
    rest &= ~bit;
  }
  if (rest !== 0n) names.push(`0x${rest.toString(16)}`);
  return names.join("|");
}

function parsePferrNames(text: string): bigint {
  let value = 0n;
  for (const name of text.split("|")) {
    const known = PFERR_NAMES.find(([, candidate]) => candidate === name);
    value |= known === undefined ? BigInt(name) : known[0];
  }
  return value;
}

const ACCESS_NAMES = ["---", "--x", "w--", "w-x", "-u-", "-ux", "wu-", "wux"];

const PAGE_ROLE_PATTERN = String.raw`l\d+ [48]-byte q[0-3](?: direct)? [w-][u-][x-](?: invalid)? !?nxe !?ad`;

function parsePageRole(text: string): bigint {
  const words = text.split(" ");
  const has = (word: string): boolean => words.includes(word);
  const access = words.find((word) => ACCESS_NAMES.includes(word)) ?? "---";
  const role = encodeWord(ROLE, {
    level: Number(words[0]!.slice(1)) % LEVELS,
    has_4_byte_gpte: has("4-byte") ? 1 : 0,
    quadrant: Number(words[2]!.slice(1)),
    direct: has("direct") ? 1 : 0,
    access: ACCESS_NAMES.indexOf(access),
    invalid: has("invalid") ? 1 : 0,
    efer_nx: has("nxe") ? 1 : 0,
    ad_disabled: has("!ad") ? 1 : 0,
  });
  return BigInt(role);
}

const hex = (value: Value): string => BigInt(value).toString(16);
const parseHex = (text: string): bigint => BigInt(`0x${text}`);

/** A conversion between two words. */
function either(set: string, clear: string): Conversion {
  return {
    print: (value) => (Number(value) !== 0 ? set : clear),
    pattern: `(?:${set}|${clear})`,
    parse: (text) => (text === set ? 1n : 0n),
  };
}

/** Whether a fault's handler returned this. */
function returned(name: "spurious" | "fixed"): Conversion {
  return {
    print: (value, _event, kernel) => (value === faultReturnCode(kernel, name) ? "1" : "0"),
    pattern: "[01]",
  };
}

const CONVERSIONS: Readonly<Record<string, Conversion>> = {
  x: { print: hex, pattern: "[0-9a-f]+", parse: parseHex },
  "016x": { print: (value) => hex(value).padStart(16, "0"), pattern: "[0-9a-f]{16}", parse: parseHex },
  "0x": { print: (value) => `0x${hex(value)}`, pattern: "0x[0-9a-f]+", parse: (text) => BigInt(text) },
  /** %p: the kernel prints a hash of the pointer, so only its form says anything. */
  p: { print: (value) => hex(value).padStart(16, "0"), pattern: "[0-9a-f]{16}", parse: parseHex },
  d: { print: (value) => String(value), pattern: String.raw`-?\d+`, parse: (text) => BigInt(text) },
  pferr: { print: (value) => pferrNames(BigInt(value)), pattern: "[A-Z0-9a-fx|]*", parse: parsePferrNames },
  page: { print: (value) => roleTraceText(Number(value)), pattern: PAGE_ROLE_PATTERN, parse: parsePageRole },
  sync: either("unsync", "sync"),
  created: either("new", "existing"),
  r: either("r", "-"),
  exec: either("x", "-"),
  user: {
    print: (value) => (Number(value) === -1 ? "" : Number(value) !== 0 ? "u" : "-"),
    pattern: "[u-]?",
    parse: (text) => (text === "" ? -1n : text === "u" ? 1n : 0n),
  },
  "=pferr": { print: (value) => pferrNames(BigInt(value)), pattern: "[A-Z0-9a-fx|]*" },
  "=w": { print: (value) => ((BigInt(value) & PT_WRITABLE) !== 0n ? "w" : "-"), pattern: "[w-]" },
  "=valid": { print: (value, event) => (value === event.kvm_gen ? "1" : "0"), pattern: "[01]" },
  "=spurious": returned("spurious"),
  "=fixed": returned("fixed"),
};

interface Piece {
  readonly field: string;
  readonly conversion: Conversion;
}

interface Format {
  /** Literal text around the pieces: one more than pieces. */
  readonly literals: readonly string[];
  readonly pieces: readonly Piece[];
  readonly pattern: RegExp;
}

function compile(text: string): Format {
  const literals: string[] = [];
  const pieces: Piece[] = [];
  let pattern = "^";
  let position = 0;
  for (const match of text.matchAll(/\{(\w+):([^}]+)\}/g)) {
    const literal = text.slice(position, match.index);
    const conversion = CONVERSIONS[match[2]!];
    if (conversion === undefined) throw new RangeError(`format has no conversion ${match[2]}`);
    literals.push(literal);
    pieces.push({ field: match[1]!, conversion });
    pattern += `${literal.replace(/[()]/g, "\\$&")}(${conversion.pattern})`;
    position = match.index + match[0].length;
  }
  const tail = text.slice(position);
  literals.push(tail);
  return { literals, pieces, pattern: new RegExp(`${pattern}${tail.replace(/[()]/g, "\\$&")}$`) };
}

const COMPILED = new Map(Object.entries(FORMATS).map(([kind, text]) => [kind, compile(text)]));

/** The text after `kind: ` of the kernel that recorded it. Throws a RangeError for a kind outside TEXT_KINDS. */
export function printEvent(event: RecordedEvent | MmuEvent, kernel: Kernel = "6.1"): string {
  const format = COMPILED.get(event.ev);
  if (format === undefined) throw new RangeError(`no text format for ${event.ev}`);
  const values = event as unknown as Values;
  let text = format.literals[0]!;
  format.pieces.forEach((piece, index) => {
    text += piece.conversion.print(values[piece.field]!, values, kernel) + format.literals[index + 1]!;
  });
  return text;
}

/**
 * The event that `text` describes, or undefined where it is not of that form. The text does not hold everything:
 * of a role only level, entry size, quadrant, direct, access, invalid, efer_nx and ad_disabled; of a fast page
 * fault only whether `ret` is spurious or fixed (else 0); of a pointer only a hash.
 */
export function parseEvent(kind: EventKind, text: string, kernel: Kernel = "6.1"): RecordedEvent | undefined {
  const format = COMPILED.get(kind);
  const match = format?.pattern.exec(text);
  if (format === undefined || match === null || match === undefined) return undefined;
  const event: Record<string, Value> = { ev: kind };
  const kinds: Readonly<Record<string, string>> = EVENTS[kind];
  format.pieces.forEach((piece, index) => {
    const value = piece.conversion.parse?.(match[index + 1]!);
    if (value !== undefined) event[piece.field] = kinds[piece.field] === "u32" ? Number(value) : value;
  });
  if (kind === "fast_page_fault") {
    const [spurious, fixed] = match.slice(-2);
    const name = spurious === "1" ? "spurious" : fixed === "1" ? "fixed" : "continue";
    event.ret = faultReturnCode(kernel, name);
  }
  const parsed = event as unknown as RecordedEvent;
  return printEvent(parsed, kernel) === text ? parsed : undefined;
}

/** One line of the kernel's trace buffer. */
export interface TraceLine {
  readonly task: string;
  readonly cpu: number;
  /** irqs-off, need-resched, hardirq/softirq, preempt-depth, migrate-disable. */
  readonly flags: string;
  /** Seconds, as printed. */
  readonly time: string;
  readonly name: string;
  readonly body: string;
}

const LINE = /^\s*(\S.*-\d+)\s+\[(\d+)\] (\S+)\s+(\d+\.\d+): (\w+): (.*)$/;

/** A line of trace text; undefined for a comment or empty line, and for anything else that is not an event. */
export function parseTraceLine(line: string): TraceLine | undefined {
  const match = LINE.exec(line);
  if (match === null) return undefined;
  const [, task, cpu, flags, time, name, body] = match;
  return { task: task!, cpu: Number(cpu), flags: flags!, time: time!, name: name!, body: body! };
}

/** Pointers hashed by the kernel (%p) replaced by a word, so that two texts can be compared. */
export function normalizeAddresses(body: string): string {
  return body.replace(/sptep[: ][0-9a-f]{16}/, "sptep (hashed)");
}
