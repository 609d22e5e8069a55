/** A walk as text and as JSON. */

import { bitOf } from "../abi/bits.js";
import type { EntryFormat } from "../abi/entry-format.js";
import { PFERR } from "../abi/faults.js";
import { Status } from "../abi/status.js";
import type { PagingMode, Walk } from "../api.js";
import { type DecodedEntry, decodeEntry, entryName } from "../decode/entry.js";
import { placeOf } from "../decode/fields.js";
import type { Explanation } from "../explain/index.js";
import { jsonText } from "../json-text.js";
import { pageSizeName } from "../maps/leaves.js";
import { decodeNotPresent, type NotPresentEntry, type NotPresentOptions, notPresentText } from "../maps/not-present.js";
import { decidingText, explanationJson, explanationLines } from "./explanation-text.js";
import { entryJson } from "./not-present-listing.js";
import type { Styler } from "./style.js";
import { hex, hex16 } from "./values.js";

const PFERR_P = bitOf(PFERR, "P");
const PFERR_RSVD = bitOf(PFERR, "RSVD");

/** How entries are to be read. */
export interface WalkText {
  readonly mode: PagingMode;
  /** CR4.PSE. */
  readonly pse: boolean;
  /** Every check is shown; else only the one that decides a fault. */
  readonly explain?: boolean;
  /** What reads entries that are not present, where they are to be read. */
  readonly notPresent?: NotPresentOptions;
}

/**
 * Lines for people: the address, each entry with its place, value and meaning, with an explanation each check, and the
 * outcome.
 */
export function walkLines(walk: Walk, how: WalkText, style: Styler, explanation?: Explanation): string[] {
  const lines = [style("bold", hex16(walk.address))];
  for (const step of walk.steps) {
    const entry = decodeEntry(how.mode as EntryFormat, step.level, step.entry, { pse: how.pse });
    const where = `${entry.name.padEnd(5)} at ${hex16(step.address)}`;
    lines.push(
      `  ${where} = ${hex16(step.entry)}  ${target(entry).padEnd(22)} ${style("cyan", flags(entry))}`.trimEnd(),
    );
  }
  if (explanation !== undefined && how.explain) lines.push("", ...explanationLines(explanation, style));
  lines.push(`  ${outcome(walk, style, explanation)}`);
  const notPresent = notPresentOf(walk, how);
  if (notPresent !== undefined) lines.push(`  ${how.notPresent!.system}: ${notPresentText(notPresent)}`);
  return lines;
}

/** One object, addresses as hexadecimal strings. */
export function walkJson(walk: Walk, how: WalkText, explanation?: Explanation): string {
  const { result } = walk;
  const notPresent = notPresentOf(walk, how);
  return jsonText({
    gva: hex(walk.address),
    steps: walk.steps.map((step) => {
      const entry = decodeEntry(how.mode as EntryFormat, step.level, step.entry, { pse: how.pse });
      return {
        name: entry.name,
        level: step.level,
        address: hex(step.address),
        entry: hex(step.entry),
        kind: entry.kind,
        target: entry.address === undefined ? null : hex(entry.address),
        fields: entry.fields.map((field) => ({ name: field.name, value: hex(field.value) })),
      };
    }),
    result: result.ok
      ? {
          mapped: true,
          gpa: hex(result.pa),
          pageSize: result.pageSize,
          user: result.rights.user,
          writable: result.rights.write,
          executable: result.rights.execute,
          protectionKey: result.protectionKey,
          global: result.global,
          pat: result.memoryType,
        }
      : {
          mapped: false,
          reason: faultReason(walk, explanation),
          vector: result.vector ?? null,
          errorCode: hex(result.errorCode),
          level: result.level,
          ...(notPresent === undefined ? {} : { notPresent: entryJson(notPresent) }),
        },
    ...(explanation !== undefined && how.explain ? { explanation: explanationJson(explanation) } : {}),
  });
}

/** What the entry that ends a walk says to the system, where it is not present. */
function notPresentOf({ result }: Walk, { mode, notPresent }: WalkText): NotPresentEntry | undefined {
  if (notPresent === undefined || result.ok || result.status !== Status.PageFault) return undefined;
  if ((result.errorCode & PFERR_P) !== 0n) return undefined;
  const pageSize = 1n << BigInt(12 + (mode === "32bit" ? 10 : 9) * (result.level - 1));
  return decodeNotPresent(result.entry, { ...notPresent, pageSize });
}

function target(entry: DecodedEntry): string {
  if (entry.kind === "not present") return "not present";
  if (entry.kind === "table") return `table ${hex(entry.address!)}`;
  return `${pageSizeName(entry.pageSize!)} page ${hex(entry.address!)}`;
}

function flags(entry: DecodedEntry): string {
  return entry.fields
    .map((field) => {
      const name = field.use === "read" ? field.name : `${field.name}[${placeOf(field)}]`;
      return field.value === 1n && field.width === 1 ? name : `${name}=${hex(field.value)}`;
    })
    .join(" ");
}

function outcome(walk: Walk, style: Styler, explanation?: Explanation): string {
  const { result } = walk;
  if (!result.ok) return style("red", `not mapped: ${faultReason(walk, explanation)}`);
  const { rights } = result;
  const words = [
    `${pageSizeName(result.pageSize)} page`,
    rights.user ? "user" : "supervisor",
    rights.write ? "writable" : "read-only",
    rights.execute ? "executable" : "no-execute",
  ];
  if (result.global) words.push("global");
  if (result.protectionKey !== 0) words.push(`key ${result.protectionKey}`);
  return `${style("green", `gpa ${hex(result.pa)}`)}  ${words.join(", ")}`;
}

/** Whether rights refuse the access: which of them, an explanation says. */
export function isDenied({ result }: Walk): boolean {
  if (result.ok || result.status !== Status.PageFault) return false;
  return (result.errorCode & (PFERR_P | PFERR_RSVD)) === PFERR_P;
}

/** Why an address is not mapped, or not accessible; with an explanation, which bits decide it. */
export function faultReason(walk: Walk, explanation?: Explanation): string {
  const { result } = walk;
  if (result.ok) return "";
  if (result.status === Status.NonCanonical) return "the address is not canonical";
  if (result.status === Status.SpaceSeparation) return "the address is in the other mode's half (CR4.LASS)";
  if (result.status === Status.OutsideMemory) return "a table is not in the dump";
  const code = `page fault, error code ${hex(result.errorCode)}`;
  const why = explanation && decidingText(explanation);
  const name = entryName(result.level);
  if ((result.errorCode & PFERR_P) === 0n) return `the ${name} is not present (${code})`;
  if ((result.errorCode & PFERR_RSVD) !== 0n) return `reserved bits in the ${name} (${code})`;
  return `${why ?? "the access is not allowed"}: ${code}`;
}
