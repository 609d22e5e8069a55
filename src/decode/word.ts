/** What a control register, an error code or an exit qualification says. */
import { type BitField, bitOf, maskOf } from "../abi/bits.js";
import { EPT_QUAL, PFERR } from "../abi/faults.js";
import { CR0, CR3, CR4, EFER } from "../abi/registers.js";
import { WORDS, type Word, type WordName } from "../abi/words.js";
import { isUnknownValue, type WordField, wordField } from "./fields.js";

/** A register, an error code or an exit qualification in its fields. */
export interface DecodedWord {
  /** What the word is, as the manuals call it. */
  readonly title: string;
  /** The manual's section, or the kernel's source. */
  readonly source: string;
  /** Every field that is not zero, lowest first, and of fields with named values zero too; bits that must be 0 last. */
  readonly fields: readonly WordField[];
  /** The whole in a line; empty for words that are but their fields. */
  readonly summary: string;
  /** What cannot be: bits that must be 0, values that do not exist, bits that exclude each other. Mostly empty. */
  readonly problems: readonly string[];
}

/** The names of the words that `decodeWord` knows. */
export const wordNames = Object.keys(WORDS) as readonly WordName[];

/**
 * Decodes the word of that name. Throws a RangeError for an unknown name and for more bits than the word has (64; 32 for
 * `error-code` and `pkru`).
 */
export function decodeWord(name: WordName, value: bigint): DecodedWord {
  if (!Object.hasOwn(WORDS, name)) throw new RangeError(`expected one of ${wordNames.join(", ")}, found ${name}`);
  const word: Word = WORDS[name];
  if (value < 0n || value >= 1n << BigInt(word.bits)) {
    throw new RangeError(`expected ${word.bits} bits for ${name}, found 0x${value.toString(16)}`);
  }
  const known = [...word.fields, ...(word.ignored ?? [])].reduce((all, field) => all | maskOf(field), 0n);
  const reserved = value & ~known;
  const fields = word.fields.filter((field) => (value & maskOf(field)) !== 0n || field.values?.[0] !== undefined);
  const problems = word.fields
    .filter((field) => isUnknownValue(field, value))
    .map((field) => `${field.name} has the value ${wordField(field, value).value}, which does not exist`);
  if (reserved !== 0n) problems.unshift(`bits that must be 0 are set: 0x${reserved.toString(16)}`);
  return {
    title: word.title,
    source: word.source,
    fields: [
      ...fields.map((field) => wordField(field, value)),
      ...runsOf(reserved).map((run) =>
        wordField({ ...run, name: "RESERVED", meaning: "must be 0", use: "reserved" }, value),
      ),
    ],
    summary: SUMMARIES[name]?.(value) ?? "",
    problems: [...problems, ...(CONFLICTS[name] ?? []).filter(({ found }) => found(value)).map(({ text }) => text)],
  };
}

/** The runs of set bits in a mask, lowest first. */
function runsOf(mask: bigint): { low: number; width: number }[] {
  const runs: { low: number; width: number }[] = [];
  for (let bit = 0; mask >> BigInt(bit) !== 0n; bit++) {
    if (((mask >> BigInt(bit)) & 1n) === 0n) continue;
    const last = runs.at(-1);
    if (last !== undefined && last.low + last.width === bit) last.width++;
    else runs.push({ low: bit, width: 1 });
  }
  return runs;
}

/** Bits that cannot be so together. */
interface Conflict {
  readonly found: (value: bigint) => boolean;
  readonly text: string;
}

const PF = Object.fromEntries(PFERR.fields.map((field) => [field.name, maskOf(field)])) as Record<string, bigint>;
const EPT_BITS = Object.fromEntries(EPT_QUAL.fields.map((field) => [field.name, maskOf(field)])) as Record<
  string,
  bigint
>;

const only = (set: bigint, without: bigint) => (value: bigint) => (value & set) === set && (value & without) === 0n;
const both = (one: bigint, other: bigint) => (value: bigint) => (value & one) !== 0n && (value & other) !== 0n;

const PAGE_FAULT: readonly Conflict[] = [
  { found: only(PF.RSVD!, PF.P!), text: "RSVD without P: a reserved bit is found in an entry that is present" },
  { found: only(PF.PK!, PF.P!), text: "PK without P: keys are asked of a translation that is present" },
  { found: both(PF.W!, PF.I!), text: "W and I: a fetch is no write" },
  { found: both(PF.PK!, PF.I!), text: "PK and I: no key is asked for a fetch" },
];

const CONFLICTS: Partial<Record<WordName, readonly Conflict[]>> = {
  cr0: [
    { found: only(bitOf(CR0, "PG"), bitOf(CR0, "PE")), text: "PG without PE: MOV to CR0 raises #GP" },
    { found: only(bitOf(CR0, "NW"), bitOf(CR0, "CD")), text: "NW without CD: MOV to CR0 raises #GP" },
  ],
  cr4: [
    { found: only(bitOf(CR4, "PCIDE"), bitOf(CR4, "PAE")), text: "PCIDE without PAE: PCIDs exist in long mode only" },
    {
      found: only(bitOf(CR4, "LA57"), bitOf(CR4, "PAE")),
      text: "LA57 without PAE: 5-level paging exists in long mode only",
    },
  ],
  efer: [
    { found: only(bitOf(EFER, "LMA"), bitOf(EFER, "LME")), text: "LMA without LME: the processor sets LMA by LME" },
  ],
  "error-code": PAGE_FAULT,
  exitinfo1: [
    ...PAGE_FAULT,
    { found: both(PF.GUEST_FINAL!, PF.GUEST_PAGE!), text: "GUEST_FINAL and GUEST_PAGE: it is one of the two" },
  ],
  pferr: PAGE_FAULT,
  "ept-violation": [
    {
      found: only(EPT_BITS.GVA_FINAL!, EPT_BITS.GVA_VALID!),
      text: "GVA_FINAL without GVA_VALID: it says nothing where no linear address is known",
    },
  ],
};

const hex = (value: bigint) => `0x${value.toString(16)}`;
const has = (value: bigint, mask: bigint) => (value & mask) !== 0n;

function accessWords(value: bigint): string {
  const kind = has(value, PF.I!) ? "fetch" : has(value, PF.W!) ? "write" : "read";
  return `${has(value, PF.U!) ? "user" : "supervisor"}-mode ${has(value, PF.SS!) ? "shadow-stack " : ""}${kind}`;
}

function faultWords(value: bigint): string {
  const access = accessWords(value);
  if (!has(value, PF.P!)) return `${access}: not present`;
  if (has(value, PF.RSVD!)) return `${access}: a reserved bit is set in an entry`;
  if (has(value, PF.PK!)) return `${access}: refused by the protection key`;
  return `${access}: refused by the rights`;
}

function nestedFaultWords(value: bigint): string {
  const where = has(value, PF.GUEST_FINAL!)
    ? ", at the final guest-physical address"
    : has(value, PF.GUEST_PAGE!)
      ? ", at the address of a guest table"
      : "";
  return faultWords(value) + where;
}

/** Names of fields that are set, `and` before the last. */
function list(words: readonly string[], none: string): string {
  if (words.length < 2) return words[0] ?? none;
  return `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

function violationWords(value: bigint): string {
  const of = (names: Readonly<Record<string, string>>) =>
    Object.entries(names)
      .filter(([name]) => has(value, EPT_BITS[name]!))
      .map(([, text]) => text);
  const access = list(of({ READ: "read", WRITE: "write", FETCH: "fetch" }), "access of no kind");
  const rights = of({ READABLE: "readable", WRITABLE: "writable", EXECUTABLE: "executable" });
  const page = rights.length === 0 ? "not present" : `but ${list(rights, "")}`;
  if (!has(value, EPT_BITS.GVA_VALID!)) return `${access}: ${page}; no linear address`;
  return `${access}: ${page}; ${has(value, EPT_BITS.GVA_FINAL!) ? "the translated address" : "the address of a guest table"}`;
}

function controlWords(value: bigint): string {
  const field = (name: string) => wordField(WORDS["cr-access"].fields.find((one) => one.name === name)!, value);
  const type = field("TYPE").text!;
  if (!type.startsWith("MOV")) return type;
  const register = `CR${field("CR").value}`;
  return type === "MOV to CR"
    ? `MOV to ${register} from ${field("GPR").text}`
    : `MOV from ${register} to ${field("GPR").text}`;
}

function rootWords(field: BitField): (value: bigint) => string {
  return (value) => `root table at ${hex(value & maskOf(field))}`;
}

const rootField = (name: WordName): BitField =>
  WORDS[name].fields.find((field) => field.name === "ADDRESS" || field.name === "PDPT")!;

function cr0Words(value: bigint): string {
  if (!has(value, bitOf(CR0, "PE"))) return "real mode";
  return has(value, bitOf(CR0, "PG")) ? "protected mode with paging" : "protected mode without paging";
}

const SUMMARIES: Partial<Record<WordName, (value: bigint) => string>> = {
  cr0: cr0Words,
  cr3: rootWords(rootField("cr3")),
  "cr3-pcid": (value) => `${rootWords(rootField("cr3-pcid"))(value)}, PCID ${value & bitOf(CR3, "PCID")}`,
  "cr3-32bit": rootWords(rootField("cr3-32bit")),
  "cr3-pae": rootWords(rootField("cr3-pae")),
  eptp: rootWords(rootField("eptp")),
  "error-code": faultWords,
  exitinfo1: nestedFaultWords,
  pferr: nestedFaultWords,
  "ept-violation": violationWords,
  "cr-access": controlWords,
};
