/**
 * The records in linear memory that the core and the host share. Every record is
 * reached by a pointer; the core keeps no data at fixed addresses, so it can live
 * beside a caller's own data in an imported memory.
 */

export type FieldType = "u16" | "u32" | "u64";

/** One field of a record in linear memory. */
export interface RecordField {
  readonly name: string;
  readonly type: FieldType;
  /** Number of elements, 1 if absent. Arrays stand behind all other fields, so that those are a class in the core. */
  readonly count?: number;
  /** Of a pointer: the prefix of the record that it leads to, with `[]` the first of many records or numbers. */
  readonly to?: string;
  /** Of a pointer to a record: 0 leads to none. */
  readonly optional?: boolean;
  /** Of an array: the prefix of the records that it holds. */
  readonly of?: string;
  /** Of an array: the core takes its place, too, not only its elements. */
  readonly address?: boolean;
  readonly meaning: string;
}

/** A record that core and host share. */
export interface RecordLayout {
  /** The record's name in other tables and at the host. */
  readonly prefix: string;
  /** The name of its class in the core. */
  readonly className: string;
  readonly title: string;
  readonly fields: readonly RecordField[];
}

/** Addresses that a batch kernel takes at once. */
export const BLOCK_LANES = 256;

const SIZE: Record<FieldType, number> = { u16: 2, u32: 4, u64: 8 };

/** RAM slots and, behind them, the table of pages that were read from a source. */
export const MEMORY: RecordLayout = {
  prefix: "MEMORY",
  className: "Memory",
  title: "Guest-physical memory",
  fields: [
    { name: "SLOTS", type: "u32", to: "SLOT[]", meaning: "pointer to SLOT records in ascending order of address" },
    { name: "SLOT_COUNT", type: "u32", meaning: "number of slots" },
    {
      name: "INDEX",
      type: "u32",
      to: "SLOT_RANGE[]",
      meaning: "pointer to SLOT_RANGE records by the key of an address, 0 where there are few slots",
    },
    { name: "INDEX_KEYS", type: "u32", meaning: "their number: no slot is at a higher key" },
    { name: "INDEX_BITS", type: "u32", meaning: "bits of a page's number that tell keys of one magnitude apart" },
    { name: "LAST_SLOT", type: "u32", to: "SLOT", meaning: "pointer to the slot that was hit last" },
    {
      name: "PAGES",
      type: "u32",
      to: "PAGE[]",
      meaning: "pointer to the open-addressing table of PAGE records, 0 without a source",
    },
    { name: "PAGE_MASK", type: "u32", meaning: "capacity of that table minus 1 (a power of two minus 1)" },
  ],
};

/** A RAM slot. */
export const SLOT: RecordLayout = {
  prefix: "SLOT",
  className: "RamSlot",
  title: "RAM slot",
  fields: [
    { name: "BASE", type: "u64", meaning: "first guest-physical address" },
    { name: "SIZE", type: "u64", meaning: "bytes" },
    { name: "LINEAR", type: "u32", meaning: "linear address of the first byte" },
    { name: "READ_ONLY", type: "u32", meaning: "1: accessed and dirty bits are never written" },
  ],
};

/**
 * Which slots may hold an address of one key: (s << b) + (page >> s), page being the address's frame number, b INDEX_BITS and
 * s what the frame number has more than b + 1 bits. So keys are as fine as addresses are small, and few.
 */
export const SLOT_RANGE: RecordLayout = {
  prefix: "SLOT_RANGE",
  className: "SlotRange",
  title: "Slots that meet the addresses of one key",
  fields: [
    { name: "FIRST", type: "u32", meaning: "number of the first" },
    { name: "END", type: "u32", meaning: "number of the last, plus 1" },
  ],
};

/** A page of a source that the core holds. */
export const PAGE: RecordLayout = {
  prefix: "PAGE",
  className: "SourcePage",
  title: "Page that was read from a source",
  fields: [
    { name: "KEY", type: "u64", meaning: "guest frame number + 1; 0 is a free place" },
    {
      name: "LINEAR",
      type: "u32",
      meaning: "linear address of its 4096 bytes, or NO_MEMORY where the source has none",
    },
    { name: "PAD", type: "u32", meaning: "unused" },
  ],
};

/** An address space: what the host sets, then what `configure` derives of it. */
export const SPACE: RecordLayout = {
  prefix: "SPACE",
  className: "Space",
  title: "Address space",
  fields: [
    { name: "KIND", type: "u32", meaning: "KIND_GUEST, KIND_EPT or KIND_NPT" },
    { name: "FEATURES", type: "u32", meaning: "FEATURE_* bits" },
    { name: "MAXPHYADDR", type: "u32", meaning: "32 to 52" },
    { name: "CR0", type: "u32", meaning: "CR0" },
    { name: "CR4", type: "u32", meaning: "CR4, low half" },
    { name: "EFER", type: "u32", meaning: "IA32_EFER, low half" },
    { name: "CR3", type: "u64", meaning: "CR3, nCR3 or EPTP" },
    { name: "ENCRYPTION", type: "u64", meaning: "memory-encryption bits stripped from entries" },
    { name: "PKRU", type: "u32", meaning: "PKRU" },
    { name: "PKRS", type: "u32", meaning: "IA32_PKRS" },
    { name: "MEMORY", type: "u32", to: "MEMORY", meaning: "pointer to the MEMORY record that holds the tables" },
    {
      name: "SECOND",
      type: "u32",
      to: "SPACE",
      optional: true,
      meaning: "pointer to the second stage's SPACE, 0 for none",
    },
    { name: "WORK", type: "u32", to: "WORK", meaning: "pointer to the WORK record that results go to" },
    { name: "MODE", type: "u32", meaning: "derived: MODE_*" },
    { name: "ROOT_LEVEL", type: "u32", meaning: "derived: level of the root table, 0 with paging off" },
    { name: "LARGE_LEVELS", type: "u32", meaning: "derived: LARGE_* bits, n where PS in a level-n entry maps a page" },
    { name: "ROOT", type: "u64", meaning: "derived: physical address of the root table" },
    { name: "ADDRESS_MASK", type: "u64", meaning: "derived: address bits of an entry" },
    { name: "XD_MASK", type: "u64", meaning: "derived: bit 63 where it means no-execute, else 0" },
    { name: "WIDTH", type: "u32", meaning: "derived: bits of a linear (or guest-physical) address" },
    { name: "FETCH_CODE", type: "u32", meaning: "derived: the fetch bit where error codes report it, else 0" },
    { name: "KEYS_USER", type: "u32", meaning: "derived: PKRU where it applies, else 0" },
    { name: "KEYS_SUPERVISOR", type: "u32", meaning: "derived: IA32_PKRS where it applies, else 0" },
    { name: "LAM_USER", type: "u32", meaning: "derived: width of an untagged user address, 0 for no masking" },
    { name: "LAM_SUPERVISOR", type: "u32", meaning: "derived: width of an untagged supervisor address, 0 for none" },
    { name: "FAST", type: "u32", meaning: "derived: MODE_* where the fast walks may be tried, else 0" },
    {
      name: "TABLES_BASE",
      type: "u64",
      meaning: "derived: first guest-physical address of the slot that holds the root",
    },
    { name: "TABLES_SIZE", type: "u64", meaning: "derived: its bytes, 0 where the root lies in no slot" },
    { name: "TABLES_WINDOW", type: "u64", meaning: "derived: the largest power of two in TABLES_SIZE, minus 1" },
    { name: "TABLES_LINEAR", type: "u32", meaning: "derived: linear address of the slot's first byte" },
    { name: "ROOT_LINEAR", type: "u32", meaning: "derived: linear address of the root table, where QUICK is not 0" },
    { name: "QUICK", type: "u32", meaning: "derived: MODE_* where single calls may try the quick walk, else 0" },
    { name: "HALF", type: "u64", meaning: "derived: (address + HALF) & HIGH is 0 where an address needs no untagging" },
    { name: "HIGH", type: "u64", meaning: "derived: see HALF" },
    { name: "CR3_REFUSED", type: "u64", meaning: "bits of CR3 that `writeCr3` leaves to the host; all in EPT and NPT" },
    { name: "TLB", type: "u32", to: "TLB_ENTRY[]", meaning: "pointer to TLB_ENTRY records, 0 for no software TLB" },
    { name: "TLB_MASK", type: "u32", meaning: "their number, a power of two, minus 1" },
    { name: "TLB_CONTEXT", type: "u64", meaning: "number of the current context in the tags of entries" },
    {
      name: "TLB_GLOBAL",
      type: "u64",
      meaning: "the mark and number in the tags of global entries; 0: there are none",
    },
    {
      name: "TLB_LARGE",
      type: "u32",
      meaning: "bit n set: a piece of a level-n page was entered since the last full flush",
    },
    { name: "TLB_LINES", type: "u32", to: "TLB_LINE[]", meaning: "pointer to TLB_LINE records" },
    { name: "TLB_LINE_MASK", type: "u32", meaning: "their number, a power of two, minus 1" },
    { name: "TLB_NAMES", type: "u32", to: "TLB_NAMES", meaning: "pointer to the TLB_NAMES record" },
    { name: "PCID", type: "u32", meaning: "derived: the current PCID, 0 with CR4.PCIDE=0" },
    {
      name: "PLANS",
      type: "u64",
      count: 8 * 16,
      of: "PLAN",
      address: true,
      meaning: "derived: PLAN records by error-code bits 4:1 of the access",
    },
    { name: "RESERVED", type: "u64", count: 10, meaning: "derived: must-be-zero bits, [bit 7][level - 1]" },
    {
      name: "PERMISSIONS",
      type: "u16",
      count: 16,
      meaning: "derived: denied rights combinations by error-code bits 4:1",
    },
    { name: "PDPTES", type: "u64", count: 4, address: true, meaning: "latched PAE PDPTEs" },
  ],
};

/**
 * What the fast walks ask for one kind of access: the bits under a CHECK mask have to be as in NEED. A blocked plan
 * leaves every access to the full walk.
 */
export const PLAN: RecordLayout = {
  prefix: "PLAN",
  className: "Plan",
  title: "What the fast walks ask of the entries",
  fields: [
    { name: "NEED_TABLE", type: "u64", meaning: "P, A and required rights of an entry that leads to a table" },
    { name: "CHECK_TABLE", type: "u64", meaning: "what is checked of it" },
    { name: "NEED_LEAF", type: "u64", meaning: "the same of a leaf; D for a write" },
    { name: "CHECK_PAGE", type: "u64", meaning: "what is checked of a level-1 leaf" },
    { name: "CHECK_LARGE2", type: "u64", meaning: "what is checked of a level-2 leaf" },
    { name: "CHECK_LARGE3", type: "u64", meaning: "what is checked of a level-3 leaf" },
    { name: "BLOCK", type: "u64", meaning: "not 0: no access passes" },
    { name: "CHECK_TLB", type: "u64", meaning: "what is checked of a TLB entry, against NEED_LEAF" },
  ],
};

/** Words of 8 bytes from one field of the SPACE record to another. */
function between(from: string, to: string): number {
  const { offsets } = offsetsOf(SPACE);
  return (offsets[to]! - offsets[from]!) / 8;
}

/**
 * What `configure` derived for one setting of CR0, CR4 and EFER: the SPACE record's fields from MODE to before TLB, and its
 * arrays from PLANS to before PDPTES. What depends on CR3 and on the keys is derived again.
 */
export const SAVED_MODE: RecordLayout = {
  prefix: "SAVED_MODE",
  className: "SavedMode",
  title: "A paging mode that a space was in",
  fields: [
    { name: "CR0", type: "u32", meaning: "CR0" },
    { name: "CR4", type: "u32", meaning: "CR4, low half" },
    { name: "EFER", type: "u32", meaning: "IA32_EFER, low half" },
    {
      name: "FIELDS",
      type: "u64",
      count: /* @__PURE__ */ between("MODE", "TLB"),
      address: true,
      meaning: "the fields",
    },
    {
      name: "ARRAYS",
      type: "u64",
      count: /* @__PURE__ */ between("PLANS", "PDPTES"),
      address: true,
      meaning: "the arrays",
    },
  ],
};

/** Line tags, and numbers of contexts: those of a tag's 12 bits, of which 0 is none. */
const LINE_TAGS = 32;
const TLB_CONTEXTS = 4096;
const PCIDS = 4096;

/**
 * How the software TLB names what it holds: a context of a PCID has a number, and lines a tag. A flush gives the context
 * another number, so that nothing has to be looked through; when numbers or tags run out, everything goes.
 */
export const TLB_NAMES: RecordLayout = {
  prefix: "TLB_NAMES",
  className: "TlbNames",
  title: "Names of a software TLB's contexts",
  fields: [
    { name: "NEXT_CONTEXT", type: "u32", meaning: "number that the next new context gets" },
    { name: "NEXT_TAG", type: "u32", meaning: "tag that the next context gets whose lines are kept" },
    { name: "LIVE_TAGS", type: "u32", meaning: "bit t set: lines of tag t may be found" },
    { name: "PCIDS", type: "u32", meaning: "1 + the highest PCID that has a context" },
    { name: "FILLS", type: "u64", meaning: "statistics: translations that were entered" },
    { name: "FLUSHES", type: "u64", meaning: "statistics: times that a context, or all, went" },
    { name: "DROPS", type: "u64", meaning: "statistics: times that the page of an address went" },
    {
      name: "OWNERS",
      type: "u32",
      count: LINE_TAGS,
      address: true,
      meaning: "by tag: the context that has it, 0 none",
    },
    {
      name: "CONTEXTS",
      type: "u32",
      count: PCIDS,
      address: true,
      meaning: "by PCID: its context, and from bit 12 up the tag that it was given",
    },
  ],
};

/** A translation in the software TLB. */
export const TLB_ENTRY: RecordLayout = {
  prefix: "TLB_ENTRY",
  className: "TlbEntry",
  title: "One translation of the software TLB",
  fields: [
    {
      name: "TAG",
      type: "u64",
      meaning: "address of the page with its context's number, a global entry's with its mark",
    },
    { name: "DATA", type: "u64", meaning: "what it maps to, laid out like a leaf entry; P clear: not valid" },
  ],
};

/** A page and a kind of access that the software TLB has allowed; the host compares it by itself. */
export const TLB_LINE: RecordLayout = {
  prefix: "TLB_LINE",
  className: "TlbLine",
  title: "One line of the software TLB's first level",
  fields: [
    { name: "LOW", type: "u32", meaning: "bits 31:12 of the page, the access and LINE bits; 0 where it is not valid" },
    { name: "HIGH", type: "u32", meaning: "bits 63:32 of the page" },
    { name: "FRAME", type: "u32", meaning: "page frame number of what it maps to, 31 bits" },
    { name: "TAG", type: "u32", meaning: "of the first line: LINE bits of the current context; unused in others" },
  ],
};

/** What a walk leaves behind: its result, the entries it read and the entries to update. One per core instance. */
export const WORK: RecordLayout = {
  prefix: "WORK",
  className: "Work",
  title: "Results of a walk",
  fields: [
    { name: "PA", type: "u64", meaning: "physical address" },
    { name: "GPA", type: "u64", meaning: "what the first stage gave; equal to PA where there is only one stage" },
    { name: "CODE", type: "u64", meaning: "error code or exit qualification" },
    { name: "ADDRESS", type: "u64", meaning: "faulting address" },
    { name: "ENTRY", type: "u64", meaning: "leaf or faulting entry" },
    { name: "ENTRY_ADDRESS", type: "u64", meaning: "its physical address in its own stage" },
    { name: "LEVEL", type: "u32", meaning: "its level, 0 where no entry was read" },
    { name: "STAGE", type: "u32", meaning: "0 guest, 1 second" },
    { name: "RIGHTS", type: "u32", meaning: "RIGHT_* bits, ANDed over all levels" },
    { name: "SECOND_RIGHTS", type: "u32", meaning: "the same of the last second-stage walk" },
    { name: "SECOND_PA", type: "u64", meaning: "physical address that the last second-stage walk gave" },
    { name: "SECOND_ENTRY", type: "u64", meaning: "its leaf" },
    { name: "SECOND_ENTRY_ADDRESS", type: "u64", meaning: "physical address of that leaf" },
    { name: "SECOND_LEVEL", type: "u32", meaning: "level of that leaf, 0 with paging off" },
    { name: "MISSING_GFN", type: "u64", meaning: "frame to read for Status.MissingPage" },
    { name: "MISSING_ADDRESS", type: "u64", meaning: "the address that a single call has to be repeated for then" },
    { name: "MISSING_ACCESS", type: "u32", meaning: "its access" },
    { name: "TRACE_COUNT", type: "u32", meaning: "entries traced; counting stops at TRACE's capacity" },
    { name: "UPDATE_COUNT", type: "u32", meaning: "entries whose accessed or dirty bit is to be set" },
    { name: "NOTHING", type: "u64", meaning: "the entry that a failed lane of a batch reads" },
    {
      name: "BLOCK_NEED",
      type: "u64",
      meaning: "batch: what the leaf entries of a block have to be under BLOCK_CHECK",
    },
    { name: "BLOCK_CHECK", type: "u64", meaning: "batch: what is checked of them" },
    { name: "BLOCK_OFFSET", type: "u64", meaning: "batch: bits of an address that are the offset in the page" },
    { name: "BLOCK_FRAME", type: "u64", meaning: "batch: bits of an entry that are the page's address" },
    { name: "BLOCK_FAULT", type: "u64", meaning: "batch: result of a lane whose entry is not present" },
    { name: "BLOCK_PRESENT", type: "u64", meaning: "batch: the bit that says so" },
    { name: "BLOCK_ABSENCE", type: "u64", meaning: "batch: what it is then; with a software TLB what it never is" },
    { name: "TRACE", type: "u64", count: 3 * 48, of: "STEP", meaning: "STEP records" },
    { name: "RESULT", type: "u64", count: 9, of: "RESULT_LINE", meaning: "one RESULT_LINE record" },
    { name: "WATCH", type: "u64", count: 2, of: "PAGE_WATCH", meaning: "one PAGE_WATCH record" },
    { name: "UPDATES", type: "u64", count: 4 * 48, of: "UPDATE", meaning: "UPDATE records" },
    {
      name: "LANES",
      type: "u32",
      count: BLOCK_LANES,
      address: true,
      meaning: "batch: pointers to leaf entries, then indices of failed lanes",
    },
  ],
};

/** Pages of linear memory whose writes the host wants to know of. */
export const PAGE_WATCH: RecordLayout = {
  prefix: "PAGE_WATCH",
  className: "Watch",
  title: "Pages whose writes are noted",
  fields: [
    { name: "MAP", type: "u32", meaning: "pointer to a WATCH_* byte for each page of linear memory, 0 for none" },
    { name: "PAGES", type: "u32", meaning: "their number" },
    { name: "WRITTEN", type: "u32", meaning: "pages that are WATCH_WRITTEN" },
    { name: "PAD", type: "u32", meaning: "unused" },
  ],
};

/** What `translateLine` leaves for a host that has a TLB of its own: words, so that nothing needs a BigInt. */
export const RESULT_LINE: RecordLayout = {
  prefix: "RESULT_LINE",
  className: "ResultLine",
  title: "Result of an access, in words of 32 bits",
  fields: [
    { name: "STATUS", type: "u32", meaning: "a Status, 0 where the access is allowed" },
    { name: "PA_LOW", type: "u32", meaning: "physical address, bits 31:0" },
    { name: "PA_HIGH", type: "u32", meaning: "bits 63:32 of it" },
    {
      name: "GPA_LOW",
      type: "u32",
      meaning: "what the first stage gave; of a second stage's fault the address at fault",
    },
    { name: "GPA_HIGH", type: "u32", meaning: "bits 63:32 of it" },
    {
      name: "PAGE_SHIFT",
      type: "u32",
      meaning: "log2 of the bytes around the address that are mapped alike by every stage, 12 to 30",
    },
    { name: "RIGHTS", type: "u32", meaning: "RIGHT_* bits, ANDed over all levels of the first stage" },
    { name: "SECOND_RIGHTS", type: "u32", meaning: "the same of the second stage; all where there is none" },
    { name: "FLAGS", type: "u32", meaning: "LINE_FLAG bits" },
    { name: "KEY", type: "u32", meaning: "protection key of the leaf, 0 where there is none" },
    { name: "MEMORY_TYPE", type: "u32", meaning: "PAT index of the leaf, in EPT its memory type" },
    { name: "LEVEL", type: "u32", meaning: "level of the leaf, or of the entry at fault; 0 where none was read" },
    { name: "STAGE", type: "u32", meaning: "of a fault: 0 guest, 1 second" },
    { name: "CODE_LOW", type: "u32", meaning: "error code, exit qualification or EXITINFO1, bits 31:0" },
    { name: "CODE_HIGH", type: "u32", meaning: "bits 63:32 of it" },
    { name: "LINEAR_LOW", type: "u32", meaning: "the address that was asked for, bits 31:0" },
    { name: "LINEAR_HIGH", type: "u32", meaning: "bits 63:32 of it" },
    { name: "PAD", type: "u32", meaning: "unused" },
  ],
};

/** An entry that a walk read. */
export const STEP: RecordLayout = {
  prefix: "STEP",
  className: "Step",
  title: "One entry that a walk read",
  fields: [
    { name: "ADDRESS", type: "u64", meaning: "physical address of the entry in its own stage" },
    { name: "ENTRY", type: "u64", meaning: "its value" },
    { name: "LEVEL", type: "u32", meaning: "its level" },
    { name: "STAGE", type: "u32", meaning: "0 guest, 1 second" },
  ],
};

/** A write of accessed and dirty flags that a walk has yet to make. */
export const UPDATE: RecordLayout = {
  prefix: "UPDATE",
  className: "Update",
  title: "One entry whose accessed or dirty bit is to be set",
  fields: [
    { name: "POINTER", type: "u32", meaning: "linear address of the entry, 0 where it is in read-only memory" },
    { name: "BYTES", type: "u32", meaning: "4 or 8" },
    { name: "OLD", type: "u64", meaning: "the value that the walk read" },
    { name: "NEW", type: "u64", meaning: "the value to store" },
    { name: "ADDRESS", type: "u64", meaning: "its physical address in its own stage" },
  ],
};

/** Where an enumeration stands; survives any number of calls. */
export const CURSOR: RecordLayout = {
  prefix: "CURSOR",
  className: "Cursor",
  title: "Position of an enumeration",
  fields: [
    { name: "LEVEL", type: "u32", meaning: "level of the table being read, 0 when done" },
    { name: "STATUS", type: "u32", meaning: "why the last call stopped early: a Status" },
    { name: "TABLE", type: "u64", count: 6, meaning: "by level: physical address of the table" },
    { name: "BASE", type: "u64", count: 6, meaning: "by level: first address that the table translates" },
    { name: "INDEX", type: "u32", count: 6, meaning: "by level: next index" },
    { name: "RIGHTS", type: "u32", count: 6, meaning: "by level: rights accumulated above that table" },
  ],
};

/** An entry that maps a page, in a listing. */
export const LEAF: RecordLayout = {
  prefix: "LEAF",
  className: "Leaf",
  title: "One mapping of an enumeration",
  fields: [
    { name: "VA", type: "u64", meaning: "first address" },
    { name: "PA", type: "u64", meaning: "first physical address" },
    { name: "ENTRY", type: "u64", meaning: "the leaf entry" },
    { name: "RIGHTS", type: "u32", meaning: "RIGHT_* bits" },
    { name: "LEVEL", type: "u32", meaning: "level of the leaf" },
  ],
};

/** Every record of the walks. */
export const RECORDS: readonly RecordLayout[] = [
  MEMORY,
  SLOT,
  SLOT_RANGE,
  PAGE,
  SPACE,
  PLAN,
  SAVED_MODE,
  TLB_NAMES,
  TLB_ENTRY,
  TLB_LINE,
  WORK,
  RESULT_LINE,
  PAGE_WATCH,
  STEP,
  UPDATE,
  CURSOR,
  LEAF,
];

/** Entries that WORK has room for: 5 guest entries, each and the result behind up to 5 second-stage ones, is 35. */
export const WORK_CAPACITY = 48;

/** Numbers that cross the boundary but belong to no record. */
export const CODES = {
  KIND_GUEST: 0,
  KIND_EPT: 1,
  KIND_NPT: 2,

  MODE_NONE: 0,
  MODE_32BIT: 1,
  MODE_PAE: 2,
  MODE_4LEVEL: 3,
  MODE_5LEVEL: 4,
  MODE_EPT4: 5,
  MODE_EPT5: 6,

  FEATURE_PAGE_1G: 1 << 0,
  FEATURE_PAGE_2M: 1 << 1,
  FEATURE_PSE36: 1 << 2,
  FEATURE_AMD_BIT8: 1 << 3,
  FEATURE_EXECUTE_ONLY: 1 << 4,
  FEATURE_MODE_BASED_EXECUTE: 1 << 5,
  FEATURE_LIVE_PDPTES: 1 << 6,
  FEATURE_LENIENT: 1 << 7,
  FEATURE_KVM: 1 << 8,
  FEATURE_PKRS_USER: 1 << 9,
  FEATURE_ACCESSED_ON_FAULT: 1 << 10,
  /** NPT: VMCB offset 90h bit 4. */
  FEATURE_SHADOW_STACK_CHECK: 1 << 11,
  /** NPT: VMCB offset 90h bit 3. */
  FEATURE_GUEST_MODE_EXECUTE_TRAP: 1 << 12,
  /** EPT: bits 11:9 of exit qualifications. */
  FEATURE_ADVANCED_EXIT: 1 << 13,

  RIGHT_EXECUTE: 1 << 0,
  RIGHT_WRITE: 1 << 1,
  /** User-mode addresses; readable in an EPT entry. */
  RIGHT_USER: 1 << 2,
  /** EPT mode-based execute control: execute for user-mode addresses. */
  RIGHT_USER_EXECUTE: 1 << 3,

  /** `resolve`: nothing is there. */
  NO_MEMORY: 0xffffffff,
  /** `resolve`: the page has to be read from the source first. */
  NOT_READ: 0xfffffffe,

  /** `translateBatch`: the kernel is chosen by what the addresses look like. */
  KERNEL_AUTO: 0,
  /** Every address by itself. */
  KERNEL_SCALAR: 1,
  /** Blocks of addresses, one pass a level, the leaf entries in a pass of their own. */
  KERNEL_PHASES: 2,

  /** `translateBatch` has done nothing: an address is wider than the 32 bits of the mode. */
  BATCH_TOO_WIDE: 0xffffffff,

  /** `tlbFlush`: every entry; those that are not global; those of one PCID that are not global. */
  TLB_ALL: 0,
  TLB_NON_GLOBAL: 1,
  TLB_PCID: 2,

  /** A watched page since its writes were taken last; any other has 0. */
  WATCH_CLEAN: 1,
  WATCH_WRITTEN: 2,

  TLB_CONTEXTS,
  LINE_TAGS,
  /** A line's place is ((low ^ (high + kind) * LINE_HASH) >> 12) & TLB_LINE_MASK, kind being the access and the context's LINE
   * bits: it spreads pages that differ in their high halves. */
  LINE_HASH: 0x9e3779b1,

  /** `writeCr3`, `recallMode`: done, or left to the host with nothing changed. */
  REGISTER_DONE: 1,
  REGISTER_REFUSED: 0,

  WALK_PROBE: 1 << 0,
  WALK_TRACE: 1 << 1,
  /** The walk stands in for a guest's own table access (nested error code bit 33). */
  WALK_GUEST_TABLE: 1 << 2,
  /** The walk translates on behalf of a linear address. */
  WALK_LINEAR: 1 << 3,
  /** A supervisor shadow-stack access; comes with WALK_SHADOW_STACK. */
  WALK_SUPERVISOR_STACK: 1 << 4,
  /** A shadow-stack access; the bit is PFERR.SS. */
  WALK_SHADOW_STACK: 1 << 6,

  WORK_CAPACITY,
  BLOCK_LANES,
} as const;

/** Byte offsets of a record's fields, and its size rounded up to 8. */
export function offsetsOf(layout: RecordLayout): { offsets: Record<string, number>; size: number } {
  const offsets: Record<string, number> = {};
  let at = 0;
  for (const field of layout.fields) {
    const size = SIZE[field.type];
    at = Math.ceil(at / size) * size;
    offsets[field.name] = at;
    at += size * (field.count ?? 1);
  }
  return { offsets, size: Math.ceil(at / 8) * 8 };
}
