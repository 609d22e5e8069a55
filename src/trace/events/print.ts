/** Prints an event as the kernel would: of a trace.dat file, which has fields instead of text. */
import { bitOf } from "../../abi/bits.js";
import { PTE } from "../../abi/entries.js";
import { PFERR } from "../../abi/faults.js";
import { type Conversion, FORMATS } from "./formats.js";
import { ExitReason, KINDS, Slot, type SlotName } from "./kinds.js";
import type { EventRecord } from "./record.js";
import { type RoleForm, roleText } from "./role.js";

const WRITABLE = bitOf(PTE, "RW");
const PFERR_NAMES: readonly (readonly [bigint, string])[] = ["P", "W", "U", "RSVD", "I"].map((name) => [
  bitOf(PFERR, name),
  name === "I" ? "F" : name,
]);

/** `kvm_mmu_paging_element: pte 101027 level 4`: the first text of the kind all of whose fields the event has. */
export function printBody(record: EventRecord, form: RoleForm): string {
  const kind = KINDS[record.kind]!;
  const texts = FORMATS.filter((format) => format.kind === kind && format.plugin === undefined);
  const fits = texts.find(({ text }) =>
    [...text.matchAll(/\{(\w+):(\S+?)\}/g)].every(
      ([, name, conversion]) => name === "_" || conversion === "w" || has(record, name!),
    ),
  );
  const text = (fits ?? texts[0])?.text ?? "";
  const body = text.replace(/\{(\w+):([\w-]+)\}/g, (_, name: string, conversion: Conversion) =>
    name === "_" ? "" : shown(record, name as SlotName, conversion, form),
  );
  return `${kind}: ${body.trim()}`;
}

const has = (record: EventRecord, name: string): boolean => record.has[Slot[name as SlotName]] === 1;

function shown(record: EventRecord, name: SlotName, conversion: Conversion, form: RoleForm): string {
  const value = record.big(Slot[name]);
  const either = (one: string, other: string) => (value === 1n ? one : other);
  switch (conversion) {
    case "x":
      return value.toString(16);
    case "0x":
      return `0x${value.toString(16)}`;
    case "d":
      return value.toString();
    case "role":
      return roleText(Number(value), form);
    case "sync":
      return either("unsync", "sync");
    case "created":
      return either("new", "existing");
    case "rw":
      return either("write", "read");
    case "entering":
      return either("entering", "leaving");
    case "r":
      return either("r", "-");
    case "w":
      return (record.big(Slot.spte) & WRITABLE) !== 0n ? "w" : "-";
    case "exec":
      return either("x", "-");
    case "user":
      return value > 1n ? "" : either("u", "-");
    case "pferr":
      return PFERR_NAMES.filter(([bit]) => (value & bit) !== 0n)
        .map(([, flag]) => flag)
        .join("|");
    case "reason":
      return `${reasonText(Number(value))} `;
    case "word":
      return value.toString(16).padStart(16, "0");
    default:
      return "";
  }
}

/** Only the reasons that are told apart have their names. */
function reasonText(reason: number): string {
  return Object.entries(ExitReason).find(([, one]) => one === reason)?.[0] ?? "Other";
}
