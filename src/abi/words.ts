/**
 * The words of a processor that people ask about, whole: control registers, EFER, error codes, exit qualifications. What
 * paging reads of them is in registers.ts, faults.ts and memory-types.ts and is taken from there; the rest stands here.
 */
import { type BitField, type BitLayout, fieldOf } from "./bits.js";
import { EPT_QUAL, PFERR } from "./faults.js";
import { PAT, TYPE_NUMBERS } from "./memory-types.js";
import { CR0, CR3, CR3_PAE, CR4, EFER, EPTP, KEY_RIGHTS } from "./registers.js";

const CR0_OTHERS: readonly BitField[] = [
  { name: "MP", low: 1, meaning: "WAIT heeds TS" },
  { name: "NE", low: 5, meaning: "x87 errors raise #MF" },
  { name: "AM", low: 18, meaning: "RFLAGS.AC enables alignment checks" },
];

const CR4_OTHERS: readonly BitField[] = [
  { name: "VME", low: 0, meaning: "virtual-8086 mode extensions" },
  { name: "PVI", low: 1, meaning: "protected-mode virtual interrupts" },
  { name: "TSD", low: 2, meaning: "RDTSC for supervisors only" },
  { name: "DE", low: 3, meaning: "debugging extensions" },
  { name: "MCE", low: 6, meaning: "machine-check exceptions" },
  { name: "PCE", low: 8, meaning: "RDPMC at any privilege level" },
  { name: "OSFXSR", low: 9, meaning: "the system saves SSE state" },
  { name: "OSXMMEXCPT", low: 10, meaning: "unmasked SIMD floating-point exceptions raise #XM" },
  { name: "UMIP", low: 11, meaning: "no SGDT, SIDT, SLDT, SMSW, STR in user mode" },
  { name: "VMXE", low: 13, meaning: "VMX" },
  { name: "SMXE", low: 14, meaning: "SMX" },
  { name: "FSGSBASE", low: 16, meaning: "RDFSBASE and its kind in user mode" },
  { name: "OSXSAVE", low: 18, meaning: "XSAVE" },
  { name: "KL", low: 19, meaning: "Key Locker" },
  { name: "UINTR", low: 25, meaning: "user interrupts" },
  { name: "FRED", low: 32, meaning: "flexible return and event delivery" },
];

const EFER_OTHERS: readonly BitField[] = [
  { name: "SCE", low: 0, meaning: "SYSCALL" },
  { name: "SVME", low: 12, meaning: "AMD: SVM" },
  { name: "LMSLE", low: 13, meaning: "AMD: segment limits in long mode" },
  { name: "FFXSR", low: 14, meaning: "AMD: fast FXSAVE" },
  { name: "TCE", low: 15, meaning: "AMD: INVLPG keeps cached entries of upper levels that it need not drop" },
  { name: "MCOMMIT", low: 17, meaning: "AMD: MCOMMIT" },
  { name: "INTWB", low: 18, meaning: "AMD: WBINVD and WBNOINVD can be interrupted" },
  { name: "AIBRSE", low: 21, meaning: "AMD: automatic IBRS" },
];

const PFERR_OTHERS: readonly BitField[] = [
  { name: "HLAT", low: 7, meaning: "Intel: no translation by HLAT paging" },
  { name: "SGX", low: 15, meaning: "Intel: refused by SGX, not by paging" },
  { name: "RMP", low: 31, meaning: "AMD: refused by the reverse map table (SEV-SNP)" },
];

const NPF_OTHERS: readonly BitField[] = [
  { name: "ENC", low: 34, meaning: "SEV-SNP: the access was to encrypted memory" },
  { name: "SIZEM", low: 35, meaning: "SEV-SNP: page sizes of nested table and reverse map table differ" },
  { name: "VMPL", low: 36, meaning: "SEV-SNP: refused by the rights of the privilege level (VMPL)" },
];

const KVM_PFERR: readonly BitField[] = [
  { name: "IMPLICIT_ACCESS", low: 48, meaning: "KVM's own: an implicit supervisor access (5.19 and later)" },
  { name: "PRIVATE_ACCESS", low: 49, meaning: "KVM's own: the address is private memory (6.11 and later)" },
];

const EPT_QUAL_OTHERS: readonly BitField[] = [
  { name: "NMI_UNBLOCKING", low: 12, meaning: "NMI unblocking due to IRET" },
  { name: "GUEST_PAGING", low: 15, meaning: "refused by guest-paging verification" },
  { name: "ASYNCHRONOUS", low: 16, meaning: "not by an instruction (trace output, event buffers)" },
];

/** IA32_PAT's bytes: three bits of type below five that must be 0. */
const PAT_WORD: BitLayout = {
  ...PAT,
  fields: PAT.fields.map((field) => ({
    ...field,
    width: 3,
    values: Object.fromEntries(Object.entries(TYPE_NUMBERS).map(([name, number]) => [number, name])),
  })),
};

/** Two bits for each of sixteen keys. */
const RIGHTS_OF_KEYS = Array.from({ length: 16 }, (_, key) =>
  KEY_RIGHTS.fields.map((field): BitField => {
    return { name: `${field.name}${key}`, low: 2 * key + field.low, meaning: `key ${key}: ${field.meaning}` };
  }),
).flat();

/** In the order of their numbers. */
const GENERAL_REGISTERS = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15";

const CR_ACCESS: BitLayout = {
  prefix: "CR_ACCESS",
  title: "Exit qualification of a control-register access",
  source: 'SDM vol. 3, "Exit Qualification for Control-Register Accesses"',
  fields: [
    { name: "CR", low: 0, width: 4, meaning: "number of the register" },
    {
      name: "TYPE",
      low: 4,
      width: 2,
      meaning: "kind of access",
      values: { 0: "MOV to CR", 1: "MOV from CR", 2: "CLTS", 3: "LMSW" },
    },
    { name: "LMSW_MEMORY", low: 6, meaning: "LMSW's operand is in memory" },
    {
      name: "GPR",
      low: 8,
      width: 4,
      meaning: "general-purpose register of a MOV",
      values: Object.fromEntries(GENERAL_REGISTERS.split(" ").entries()),
    },
    { name: "LMSW_SOURCE", low: 16, width: 16, meaning: "LMSW's source" },
  ],
};

/** A word whose bits that are in no field must be 0. */
export interface Word {
  readonly title: string;
  readonly source: string;
  readonly bits: 32 | 64;
  /** Lowest bit first; none overlap. */
  readonly fields: readonly BitField[];
  /** Bits that the processor ignores. */
  readonly ignored?: readonly BitField[];
}

function word(layout: BitLayout, bits: 32 | 64, more: readonly BitField[] = [], ignored?: readonly BitField[]): Word {
  const fields = [...layout.fields, ...more].sort((a, b) => a.low - b.low);
  return { title: layout.title, source: layout.source, bits, fields, ...(ignored === undefined ? {} : { ignored }) };
}

const ADDRESS = fieldOf(EPTP, "ADDRESS");
const ROOT: BitField = { ...ADDRESS, meaning: "physical address of the root table" };
const LAM = [fieldOf(CR3, "LAM_U57"), fieldOf(CR3, "LAM_U48")];

/** CR3 as the modes read it; PCIDE exists with 4 and 5 levels. */
function cr3(modes: string, fields: readonly BitField[], ignored: readonly BitField[]): Word {
  return word({ ...CR3, title: `CR3 with ${modes}`, fields }, 64, [], ignored);
}

const ignored = (low: number, width: number): BitField => ({ name: "IGNORED", low, width, meaning: "ignored" });
const CACHE = [fieldOf(CR3, "PWT"), fieldOf(CR3, "PCD")];
const ROOT_32: BitField = { ...ROOT, width: 20 };

/** Every word that can be decoded, by the name that it is asked for with. */
export const WORDS = {
  cr0: word(CR0, 64, CR0_OTHERS),
  cr3: cr3("4-level and 5-level paging, CR4.PCIDE=0", [...CACHE, ROOT, ...LAM], [ignored(0, 3), ignored(5, 7)]),
  "cr3-pcid": cr3(
    "4-level and 5-level paging, CR4.PCIDE=1",
    [fieldOf(CR3, "PCID"), ROOT, ...LAM, fieldOf(CR3, "NOFLUSH")],
    [],
  ),
  "cr3-32bit": cr3("32-bit paging", [...CACHE, ROOT_32], [ignored(0, 3), ignored(5, 7)]),
  "cr3-pae": { ...cr3("PAE paging", [...CACHE, ...CR3_PAE.fields], [ignored(0, 3)]), source: CR3_PAE.source },
  cr4: word(CR4, 64, CR4_OTHERS),
  efer: word(EFER, 64, EFER_OTHERS),
  eptp: word({ ...EPTP, fields: EPTP.fields.filter(({ name }) => name !== "RESERVED") }, 64),
  "error-code": word({ ...PFERR, fields: PFERR.fields.filter(({ low }) => low < 32) }, 32, PFERR_OTHERS),
  exitinfo1: {
    ...word(PFERR, 64, [...PFERR_OTHERS, ...NPF_OTHERS]),
    title: "EXITINFO1 of a nested page fault",
    source: 'APM vol. 2, "Nested versus Guest Page Faults, Fault Ordering"',
  },
  pferr: {
    ...word(PFERR, 64, [...PFERR_OTHERS, ...NPF_OTHERS, ...KVM_PFERR]),
    title: "KVM's error code of a page fault",
    source: "Linux 6.12 arch/x86/include/asm/kvm_host.h (PFERR_*)",
  },
  "ept-violation": word(EPT_QUAL, 64, EPT_QUAL_OTHERS),
  "cr-access": word(CR_ACCESS, 64),
  pat: word(PAT_WORD, 64),
  pkru: { ...word({ ...KEY_RIGHTS, fields: RIGHTS_OF_KEYS }, 32), title: "PKRU or IA32_PKRS" },
} as const satisfies Readonly<Record<string, Word>>;

/** The name of a word that can be decoded. */
export type WordName = keyof typeof WORDS;
