/** Fields of the tracepoints as their formats name them, in trace.dat files and where libtraceevent prints them. */
import { KINDS, type KindName, Slot, type SlotName } from "./kinds.js";

/** Names that stand for a slot of another name, whatever the event. */
const COMMON: Readonly<Record<string, SlotName>> = {
  fault_address: "address",
  addr: "address",
  gva: "address",
  cr2_or_gpa: "address",
  mmu_valid_gen: "gen",
  mmu_used_pages: "used_pages",
  exit_reason: "reason",
  exit_code: "reason",
  val: "value",
  tdp_enabled: "nested_tdp",
  npt: "nested_tdp",
  guest_pgd: "value",
};

/** Those of one event alone. */
const OWN: Partial<Record<KindName, Readonly<Record<string, SlotName>>>> = {
  kvm_msr: { write: "rw", ecx: "cr", data: "value" },
  fast_page_fault: { retry: "ret" },
};

const SLOT_NAMES: ReadonlySet<string> = new Set(Object.keys(Slot));

/** The slot that an event's field goes to; undefined for a field that is not kept. */
export function fieldSlot(kind: number, field: string): number | undefined {
  const own = OWN[KINDS[kind]!]?.[field];
  const name = own ?? COMMON[field] ?? (SLOT_NAMES.has(field) ? (field as SlotName) : undefined);
  return name === undefined ? undefined : Slot[name];
}
