/** Layouts of events in the ring buffer, as Linux 6.1's events/<system>/<event>/format describes them. */

export interface FieldLayout {
  readonly name: string;
  readonly declaration: string;
  readonly offset: number;
  readonly size: number;
  readonly signed: boolean;
}

export interface EventLayout {
  readonly system: string;
  readonly name: string;
  readonly id: number;
  readonly fields: readonly FieldLayout[];
  readonly size: number;
  readonly print: string;
}

const SIZES: Readonly<Record<string, number>> = {
  u8: 1,
  bool: 1,
  char: 1,
  u16: 2,
  u32: 4,
  int: 4,
  u64: 8,
  ulong: 8,
  ptr: 8,
};
const HEADER = 8;
const FIRST_ID = 1200;

const PAGE = "mmu_valid_gen:u8 gfn:u64 role:u32 root_count:u32 unsync:bool";
const EXIT = "exit_reason:u32 guest_rip:ulong isa:u32 info1:u64 info2:u64 intr_info:u32 error_code:u32 vcpu_id:u32";
const PAGE_PRINT = '"%s", ({ role.has_4_byte_gpte ? 4 : 8; role.efer_nx; "---", "wux" })';

/** `name:type` of each field, in the order of TP_STRUCT__entry. */
const EVENTS: Readonly<Record<string, readonly [system: string, fields: string, print?: string]>> = {
  kvm_entry: ["kvm", "vcpu_id:u32 rip:ulong"],
  kvm_exit: ["kvm", EXIT],
  kvm_nested_vmexit: ["kvm", EXIT],
  kvm_page_fault: ["kvm", "vcpu_id:u32 guest_rip:ulong fault_address:u64 error_code:u64"],
  kvm_nested_vmenter: [
    "kvm",
    "rip:u64 vmcb:u64 nested_rip:u64 int_ctl:u32 event_inj:u32 tdp_enabled:bool guest_pgd:u64 isa:u32",
  ],
  kvm_nested_vmexit_inject: [
    "kvm",
    "exit_code:u32 exit_info1:u64 exit_info2:u64 exit_int_info:u32 exit_int_info_err:u32 isa:u32",
  ],
  kvm_cr: ["kvm", "rw:u32 cr:u32 val:ulong"],
  kvm_msr: ["kvm", "write:u32 ecx:u32 data:u64 exception:u8"],
  kvm_emulate_insn: ["kvm", "rip:u64 csbase:u32 len:u8 flags:u8 failed:u8"],
  kvm_mmu_pagetable_walk: ["kvmmmu", "addr:u64 pferr:u32"],
  kvm_mmu_paging_element: ["kvmmmu", "pte:u64 level:u32"],
  kvm_mmu_set_accessed_bit: ["kvmmmu", "gpa:u64"],
  kvm_mmu_set_dirty_bit: ["kvmmmu", "gpa:u64"],
  kvm_mmu_walker_error: ["kvmmmu", "pferr:u32"],
  kvm_mmu_get_page: ["kvmmmu", `${PAGE} created:bool`, PAGE_PRINT],
  kvm_mmu_sync_page: ["kvmmmu", PAGE, PAGE_PRINT],
  kvm_mmu_unsync_page: ["kvmmmu", PAGE, PAGE_PRINT],
  kvm_mmu_prepare_zap_page: ["kvmmmu", PAGE, PAGE_PRINT],
  mark_mmio_spte: ["kvmmmu", "sptep:ptr gfn:u64 access:u32 gen:u32"],
  handle_mmio_page_fault: ["kvmmmu", "addr:u64 gfn:u64 access:u32"],
  fast_page_fault: [
    "kvmmmu",
    "vcpu_id:int cr2_or_gpa:u64 error_code:u32 sptep:ptr old_spte:u64 new_spte:u64 ret:int",
    '"spurious %d fixed %d", REC->ret == RET_PF_SPURIOUS, REC->ret == RET_PF_FIXED',
  ],
  kvm_mmu_zap_all_fast: ["kvmmmu", "mmu_valid_gen:u8 mmu_used_pages:u32"],
  check_mmio_spte: ["kvmmmu", "kvm_gen:u32 spte_gen:u32 spte:u64"],
  kvm_mmu_set_spte: ["kvmmmu", "gfn:u64 spte:u64 sptep:u64 level:u8 r:bool x:bool u:char"],
  kvm_mmu_spte_requested: ["kvmmmu", "gfn:u64 pfn:u64 level:u8"],
  kvm_tdp_mmu_spte_changed: ["kvmmmu", "gfn:u64 old_spte:u64 new_spte:u64 level:u8 as_id:u8"],
  kvm_mmu_split_huge_page: ["kvmmmu", "gfn:u64 spte:u64 level:int errno:int"],
};

function layoutOf(name: string, id: number): EventLayout {
  const [system, text, print = '""'] = EVENTS[name]!;
  let at = HEADER;
  const fields = text.split(" ").map((field) => {
    const [own, type] = field.split(":") as [string, string];
    const size = SIZES[type]!;
    const offset = Math.ceil(at / size) * size;
    at = offset + size;
    return { name: own, declaration: `${type} ${own}`, offset, size, signed: type === "int" || type === "char" };
  });
  return { system, name, id, fields, size: Math.ceil(at / 8) * 8, print };
}

export const LAYOUTS: ReadonlyMap<string, EventLayout> = new Map(
  Object.keys(EVENTS).map((name, index) => [name, layoutOf(name, FIRST_ID + index)]),
);

/** The file `format` of an event. */
export function formatText({ name, id, fields, print }: EventLayout): string {
  const common = [
    "unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;",
    "unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;",
    "unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;",
    "int common_pid;\toffset:4;\tsize:4;\tsigned:1;",
  ];
  const own = fields.map(
    ({ declaration, offset, size, signed }) =>
      `${declaration};\toffset:${offset};\tsize:${size};\tsigned:${Number(signed)};`,
  );
  const lines = (all: readonly string[]) => all.map((line) => `\tfield:${line}\n`).join("");
  return `name: ${name}\nID: ${id}\nformat:\n${lines(common)}\n${lines(own)}\nprint fmt: ${print}\n`;
}
