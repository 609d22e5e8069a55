/** The bits of an error code or exit qualification, each with its reason. */
import { type BitField, bitOf, maskOf } from "../abi/bits.js";
import { EPT_QUAL, PFERR } from "../abi/faults.js";
import { Status } from "../abi/status.js";
import type { Fault } from "../api.js";
import { entryName } from "../decode/entry.js";
import type { MemoryAccess } from "../reference/access.js";
import type { Check, CodeBit } from "./explanation.js";

/** What the reasons are taken from. */
export interface CodeContext {
  readonly fault: Fault;
  /** The access as the stage at fault sees it. */
  readonly access: MemoryAccess;
  readonly deciding: Check;
  readonly checks: readonly Check[];
  /** Of the stage at fault. */
  readonly smep: boolean;
  readonly gmet: boolean;
  readonly nxe: boolean;
}

/** Empty where the fault has no code. */
export function codeBits(context: CodeContext): CodeBit[] {
  const { status } = context.fault;
  if (status === Status.PageFault)
    return bitsOf(
      context,
      PFERR.fields.filter(({ low }) => low < 32),
      pageFaultReason,
    );
  if (status === Status.NestedPageFault) return bitsOf(context, PFERR.fields, pageFaultReason);
  if (status === Status.EptViolation) return bitsOf(context, EPT_QUAL.fields, violationReason);
  return [];
}

type Reason = (name: string, set: boolean, context: CodeContext) => string;

function bitsOf(context: CodeContext, fields: readonly BitField[], reason: Reason): CodeBit[] {
  return fields.map((field) => {
    const set = (context.fault.errorCode & maskOf(field)) !== 0n;
    return { name: field.name, bit: field.low, set, reason: reason(field.name, set, context) };
  });
}

function pageFaultReason(name: string, set: boolean, context: CodeContext): string {
  const { access, deciding, smep, gmet, nxe } = context;
  const entry = entryName(deciding.level);
  switch (name) {
    case "P":
      return set ? "every entry that was read is present" : `the ${entry} is not present`;
    case "W":
      return set ? "the access is a write" : "the access is no write";
    case "U":
      if (set) return "a user-mode access";
      return access.implicit ? "an implicit access is a supervisor-mode one" : "a supervisor-mode access";
    case "RSVD":
      return set ? `the ${entry} has reserved bits` : "no reserved bit is set";
    case "I":
      if (!access.fetch) return "the access is no fetch";
      if (!set) return "a fetch, which is reported with CR4.SMEP or EFER.NXE only";
      return `a fetch, reported with ${[smep ? "CR4.SMEP=1" : "", gmet ? "GMET" : "", nxe ? "EFER.NXE=1" : ""].filter(Boolean).join(" and ")}`;
    case "PK": {
      const check = context.checks.find((one) => one.name === "protection key" && one.stage === "guest");
      return check?.text ?? "no protection key is asked";
    }
    case "SS":
      return set ? "a shadow-stack access" : "no shadow-stack access";
    case "SSS":
      return stackLeafReason(set);
    case "GUEST_FINAL":
      return set ? "the translation of the final address" : "not the final address";
    default:
      return set ? "the translation of a guest table's address" : "no guest table's address";
  }
}

function stackLeafReason(set: boolean): string {
  return set ? "the leaf marks a supervisor shadow-stack page" : "no such mark in a leaf, or nothing that looks for it";
}

/** Bits of advanced VM-exit information are 0 where there is none. */
function advancedClear(what: string): string {
  return `${what} to the guest's paging, or no advanced information`;
}

function violationReason(name: string, set: boolean, context: CodeContext): string {
  const code = context.fault.errorCode;
  const onTable = (code & bitOf(EPT_QUAL, "GVA_VALID")) !== 0n && (code & bitOf(EPT_QUAL, "GVA_FINAL")) === 0n;
  const what = onTable ? "the access to the guest's table" : "the access";
  const granted = (right: string) =>
    set ? `every entry grants ${right}` : `an entry is not present or does not grant ${right}`;
  switch (name) {
    case "READ":
      return `${what} ${set ? "reads" : "does not read"}`;
    case "WRITE":
      if (set && context.deciding.name === "flags") return "a flag of the guest's entry is to be set";
      return `${what} ${set ? "writes" : "does not write"}`;
    case "FETCH":
      return `${what} ${set ? "is a fetch" : "is no fetch"}`;
    case "READABLE":
      return granted("reading");
    case "WRITABLE":
      return granted("writing");
    case "EXECUTABLE":
      return granted("execution");
    case "USER_EXECUTABLE":
      return set ? granted("user-mode execution") : "not granted, or no mode-based execute control";
    case "USER_ADDRESS":
      return set ? "the guest's paging has it as a user-mode address" : advancedClear("a supervisor-mode address");
    case "WRITABLE_PAGE":
      return set ? "the guest's paging allows writes" : advancedClear("a read-only page");
    case "XD_PAGE":
      return set ? "the guest's paging forbids fetches" : advancedClear("executable");
    case "SHADOW_STACK":
      return set ? "a shadow-stack access" : "no shadow-stack access";
    case "SSS":
      return stackLeafReason(set);
    case "GVA_VALID":
      return set ? "a linear address is translated" : "no linear address is translated";
    default:
      return set ? "the access to the final address" : "not the access to the final address";
  }
}
