/** Reading the steps of a recording: what the guest or the VMM does, and what came of it. */
import { bitOf } from "../../abi/bits.js";
import { QUIRK } from "../../abi/kvm.js";
import { readEvents } from "./event-reader.js";
import type { JsonField } from "./json-field.js";
import { MAX_MEMORY } from "./maxima.js";
import type { GuestStep, NestedStep, PfnRun, Step, StepAnswer, VmmInput } from "./recording.js";
import { readRegisters, readSnapshot } from "./snapshot-reader.js";
import type { SlotInput } from "./state.js";

/** KVM_USER_MEM_SLOTS and KVM_MAX_VCPUS of x86, and the memory flags that Linux 6.1 knows. */
const MAX_SLOT_ID = 32763;
const MAX_VCPU = 1023;
const SLOT_FLAGS = 3;

const PHYSICAL_LIMIT = 1n << 52n;
const MAX_FRAME = 1n << 40n;
const LINEAR_LIMIT = 1n << 64n;

/** A slot of `slots`, of `extra` or of `in`; the address space is 0 unless `as` says otherwise. */
export function readSlot(field: JsonField): SlotInput {
  const size = field.get("size").pages(BigInt(MAX_MEMORY));
  return {
    addressSpace: field.get("as").maybe((item) => item.intFrom(0, 1)) ?? 0,
    id: field.get("id").intFrom(0, MAX_SLOT_ID),
    flags: field.get("flags").intFrom(0, SLOT_FLAGS),
    gpa: field.get("gpa").pages(PHYSICAL_LIMIT - size),
    size,
    hva: field.get("hva").pages(LINEAR_LIMIT - size),
  };
}

export function readPfnRuns(field: JsonField): PfnRun[] {
  return field.map((item) => {
    const run = item.array();
    if (run.length !== 3) item.fail("[gfn, pfn, count]");
    const count = run[2]!.intFrom(1, MAX_MEMORY / 4096);
    const frame = (item: JsonField): bigint => {
      const value = item.u64();
      if (value + BigInt(count) > MAX_FRAME) item.fail("a page frame number below 2^40");
      return value;
    };
    return { gfn: frame(run[0]!), pfn: frame(run[1]!), count };
  });
}

function readInput(field: JsonField): VmmInput {
  const kind = field.get("t").oneOf("slot", "get_dirty_log", "clear_dirty_log", "smi", "set_nr_mmu_pages", "set_sregs");
  switch (kind) {
    case "slot":
      return { kind: "slot", slot: readSlot(field) };
    case "get_dirty_log":
      return { kind: "getDirtyLog", slot: field.get("slot").intFrom(0, MAX_SLOT_ID) };
    case "clear_dirty_log":
      field.get("bitmap").oneOf("ones");
      return {
        kind: "clearDirtyLog",
        slot: field.get("slot").intFrom(0, MAX_SLOT_ID),
        first: field.get("first").intFrom(0, MAX_MEMORY / 4096),
        count: field.get("num").intFrom(0, MAX_MEMORY / 4096),
      };
    case "smi":
      return { kind: "smi" };
    case "set_nr_mmu_pages":
      return { kind: "setMmuPages", count: field.get("n").intFrom(0, 2 ** 31 - 1) };
    case "set_sregs":
      return { kind: "setSregs", registers: readRegisters(field) };
  }
}

const SLOT_ZAP_ALL = bitOf(QUIRK, "SLOT_ZAP_ALL");
const NESTED_EXITS = ["vmcb", "vmcs12"] as const;

/** One element of `extra`: a slot is an input, the others are answers. */
function readExtra(field: JsonField, inputs: VmmInput[], answers: StepAnswer[]): void {
  const kind = field.get("t").oneOf("slot", "quirk", "prefault", "dirtylog", "clearlog", "note", ...NESTED_EXITS);
  switch (kind) {
    case "slot":
      inputs.push({ kind: "slot", slot: readSlot(field) });
      return;
    case "quirk":
      if (field.get("disable").u64() !== SLOT_ZAP_ALL) field.get("disable").fail("0x80, KVM_X86_QUIRK_SLOT_ZAP_ALL");
      answers.push({ kind: "status", rc: field.get("rc").int() });
      if (field.get("rc").int() === 0) inputs.push({ kind: "zapSlotsAlone" });
      return;
    case "prefault":
      inputs.push({ kind: "preFault", gpa: field.get("gpa").u64(), size: field.get("size").u64() });
      answers.push({
        kind: "preFault",
        gpa: field.get("left_gpa").u64(),
        size: field.get("left").u64(),
        errno: field.get("rc").int() === 0 ? 0 : field.get("errno").int(),
      });
      return;
    case "dirtylog":
      answers.push({
        kind: "dirtyLog",
        slot: field.get("slot").int(),
        gfns: field.get("gfns").map((item) => item.u64()),
      });
      return;
    case "clearlog":
    case "note":
      answers.push({ kind: "status", rc: field.get("rc").int() });
      return;
    default: {
      const fields: Record<string, bigint> = {};
      for (const key of Object.keys(field.object())) {
        if (key !== "t" && key !== "n" && key !== "rip") fields[key] = field.get(key).u64();
      }
      answers.push({ kind: "nestedExit", rip: field.get("rip").u64(), fields });
    }
  }
}

/** Bytes that a step writes. */
function readOperandSize(field: JsonField): number {
  const size = field.int();
  if (size !== 1 && size !== 2 && size !== 4 && size !== 8) field.fail("1, 2, 4 or 8");
  return size;
}

function readNested(field: JsonField): NestedStep | undefined {
  if (!field.get("l2").present) return undefined;
  const u64 = (name: string): bigint | undefined => field.get(name).maybe((item) => item.u64());
  return {
    op: field.get("l2").text(),
    address: field.get("l2_addr").u64(),
    rip: field.get("l2_rip").u64(),
    ncr3: u64("ncr3"),
    cr3: u64("l2_cr3"),
    cr0: u64("l2_cr0"),
    eptp: u64("eptp"),
  };
}

/** One element of `steps`. */
export function readStep(field: JsonField, unknown: Map<string, number>): Step {
  const inputs: VmmInput[] = [];
  const answers: StepAnswer[] = [];
  field.get("in").maybe((item) => inputs.push(readInput(item)));
  field.get("extra").maybe((item) => {
    for (const element of item.array()) readExtra(element, inputs, answers);
  });
  const base = {
    n: field.get("n").int(),
    op: field.get("op").text(),
    inputs,
    answers,
    events: readEvents(field.get("events"), unknown),
    pfnMaps: field.get("pfnmaps").maybe((item) => item.map((map) => readPfnRuns(map.get("runs")))) ?? [],
    hostReadOnly: field.get("host_ro").maybe((item) =>
      item.map((element) => {
        const pair = element.array();
        if (pair.length !== 2) element.fail("[gfn, level]");
        return { gfn: pair[0]!.u64(), level: pair[1]!.int() };
      }),
    ),
    snapshot: readSnapshot(field.get("snap")),
  };
  if (field.get("kind").oneOf("guest", "vmm") === "vmm") return { kind: "vmm", ...base };
  const result = field.get("res").oneOf("ok", "exception", "internal-error", "shutdown");
  const guest: GuestStep = {
    kind: "guest",
    ...base,
    vcpu: field.get("vcpu").intFrom(0, MAX_VCPU),
    cpl: field.get("cpl").intFrom(0, 3),
    gva: field.get("gva").u64(),
    value: field.get("val").u64(),
    size: field.get("size").maybe(readOperandSize),
    rflags: field.get("rflags").u64(),
    pre: readRegisters(field.get("pre")),
    post: readRegisters(field.get("post")),
    result,
    exception:
      result === "exception"
        ? { vector: field.get("exc").int(), errorCode: field.get("err").int(), cr2: field.get("cr2").u64() }
        : undefined,
    memoryChanges: field.get("memdiff").map((item) => {
      const triple = item.array();
      if (triple.length !== 3) item.fail("[gpa, old qword, new qword]");
      return { gpa: triple[0]!.u64(), before: triple[1]!.u64(), after: triple[2]!.u64() };
    }),
    mmio: field
      .get("exits")
      .array()
      .filter((item) => item.get("mmio").present)
      .map((item) => item.get("mmio").u64()),
    nested: readNested(field),
    invept: field.get("invept").maybe((item) => item.int()),
  };
  return guest;
}
