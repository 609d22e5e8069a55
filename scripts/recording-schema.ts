/** Writes docs/recording.schema.json: the JSON schema of a recording's scenario.json, its events from src/recording/format/events.ts. */
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { EVENTS, type FieldKind } from "../src/recording/format/events.js";

type Schema = Readonly<Record<string, unknown>>;

const U64 = { $ref: "#/$defs/u64" };
const U32 = { $ref: "#/$defs/u32" };
const FLAG = { enum: [0, 1] };
const TEXT = { type: "string" };
const list = (items: Schema, length?: number): Schema => ({
  type: "array",
  items,
  ...(length === undefined ? {} : { minItems: length, maxItems: length }),
});
/** Members that are there, and members that may be; a recorder may write more. */
const object = (
  required: Readonly<Record<string, Schema>>,
  optional: Readonly<Record<string, Schema>> = {},
): Schema => ({
  type: "object",
  required: Object.keys(required),
  properties: { ...required, ...optional },
});

function fieldSchema(kind: FieldKind): Schema {
  if (kind === "text") return TEXT;
  return kind === "u32" ? U32 : U64;
}

/** An event of each known kind has its fields; kinds that are not known are counted and left out. */
const events = Object.entries(EVENTS).map(([name, fields]) => ({
  if: { required: ["ev"], properties: { ev: { const: name } } },
  // biome-ignore lint/suspicious/noThenProperty: JSON schema's own word
  then: object(Object.fromEntries(Object.entries(fields).map(([field, kind]) => [field, fieldSchema(kind)]))),
}));

const REGISTERS = { cr0: U64, cr3: U64, cr4: U64, efer: U64 };
const SLOT = { id: U32, flags: { enum: [0, 1, 2, 3] }, gpa: U64, size: U64, hva: U64 };
const words = { type: "object", propertyNames: { pattern: "^[0-9]+$" }, additionalProperties: U64 };

const context = object({
  ...{ root_pgd: U64, root_hpa: U64, cpu_role: U64, root_role: U32, prev: list(list(U64, 2)) },
  ...{ perm: { type: "string", pattern: "^[0-9a-f]{32}$" }, pkru_mask: U32 },
  ...{ grsvd: list(U64), szero: list(U64), pdptrs: list(U64) },
});
const page = object(
  {
    ...{ spt: U64, role: U32, gfn: U64, rc: U32, unsync: FLAG, uc: U32, gen: U32, flood: U32, nohuge: FLAG, tdp: FLAG },
    e: words,
  },
  { st: words },
);
const snapshot = object(
  {
    ...{ vcpu: U32, mmu: { enum: ["root_mmu", "guest_mmu"] }, walk_mmu: { enum: ["root_mmu", "nested_mmu"] } },
    ...{ ...REGISTERS, hflags: U64, used: U32, gen: U32, mmio: list({}, 4), root_mmu: context, sps: list(page) },
  },
  {
    ...{ guest_mmu: context, nested_mmu: context, indirect: U32, shadow_root_allocated: FLAG },
    ...{ tdp_mmu_pages: U32, tdp_walked: U32 },
  },
);

const runs = list({ type: "array", items: U64, minItems: 3, maxItems: 3 });
const inputs = ["slot", "get_dirty_log", "clear_dirty_log", "smi", "set_nr_mmu_pages", "set_sregs"];
const extras = ["slot", "quirk", "prefault", "dirtylog", "clearlog", "note", "vmcb", "vmcs12"];
const step = object(
  { n: U32, kind: { enum: ["guest", "vmm"] }, op: TEXT, events: list({ $ref: "#/$defs/event" }), snap: snapshot },
  {
    ...{ in: object({ t: { enum: inputs } }), extra: list(object({ t: { enum: extras } })) },
    ...{ vcpu: U32, cpl: { enum: [0, 1, 2, 3] }, gva: U64, val: U64, size: { enum: [1, 2, 4, 8] }, rflags: U64 },
    ...{ pre: object(REGISTERS), post: object(REGISTERS), exits: list({ type: "object" }) },
    ...{ res: { enum: ["ok", "exception", "internal-error", "shutdown"] }, exc: U32, err: U32, cr2: U64 },
    ...{ memdiff: list(list(U64, 3)), pfnmaps: list(object({ runs })), host_ro: list(list(U64, 2)) },
    ...{ l2: TEXT, l2_addr: U64, l2_rip: U64, ncr3: U64, l2_cr3: U64, l2_cr0: U64, eptp: U64, invept: U32 },
  },
);
const config = object(
  {
    ...{ scenario: TEXT, cfg: TEXT, npt: FLAG, tdp_mmu: FLAG, nested: FLAG, host_la57: FLAG },
    ...{ host_maxphyaddr: U32, guest_maxphyaddr: U32, root_gpa: U64, page_offset: U64, manual_dirty_log: U32 },
    guest_mode: { enum: ["lm4", "lm5", "pae", "32", "32pse", "nopg"] },
    ...{ init: object(REGISTERS), masks: { type: "object" }, backing: list(list(U64, 3)) },
  },
  { kernel: TEXT, empty_spte: U64, ept: FLAG, eptad: FLAG, pml: FLAG, kvm_pdpte_bit5_patch: FLAG },
);

export const recordingSchema: Schema = {
  $schema: "https://json-schema.org/draft/2020-12/schema",
  title: "scenario.json of a recording of KVM's MMU",
  $defs: {
    u64: {
      description: "64 bits, unsigned: hexadecimal, or a number that is exact",
      anyOf: [
        { type: "string", pattern: "^0x[0-9a-fA-F]{1,16}$" },
        { type: "integer", minimum: 0 },
      ],
    },
    u32: {
      description: "32 bits, signed or not",
      anyOf: [
        { type: "string", pattern: "^0x[0-9a-fA-F]{1,16}$" },
        { type: "integer", minimum: -(2 ** 31), maximum: 2 ** 32 - 1 },
      ],
    },
    event: { type: "object", required: ["ev"], properties: { ev: TEXT }, allOf: events },
  },
  ...object(
    {
      config,
      slots: list(object(SLOT, { as: FLAG })),
      pfnmap: runs,
      setup_events: list({ $ref: "#/$defs/event" }),
      steps: list(step),
    },
    { extra: list(object({ t: TEXT })) },
  ),
};

export const SCHEMA_FILE = join(dirname(fileURLToPath(import.meta.url)), "..", "docs", "recording.schema.json");

if (process.argv[1]?.endsWith("recording-schema.ts")) {
  writeFileSync(SCHEMA_FILE, `${JSON.stringify(recordingSchema, null, 1)}\n`);
}
