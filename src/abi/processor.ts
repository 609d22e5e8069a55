/** What a processor has besides paging structures and control registers, as recordings, dumps and the host's tools show it. */
import type { BitLayout } from "./bits.js";

export const RFLAGS: BitLayout = {
  prefix: "RFLAGS",
  title: "RFLAGS",
  source: 'SDM vol. 1, "EFLAGS Register"',
  fields: [{ name: "AC", low: 18, meaning: "explicit supervisor data accesses are exempt from SMAP" }],
};

export const SELECTOR: BitLayout = {
  prefix: "SELECTOR",
  title: "Segment selector",
  source: 'SDM vol. 3, "Segment Selectors"',
  fields: [{ name: "RPL", low: 0, width: 2, meaning: "requested privilege level; CPL in CS" }],
};

/** CPUID leaf 80000001H. */
export const CPUID_EXTENDED = 0x8000_0001;

/** Its EDX. */
export const CPUID_EXTENDED_EDX: BitLayout = {
  prefix: "CPUID_EXTENDED_EDX",
  title: "CPUID.80000001H:EDX",
  source: 'SDM vol. 2, "CPUID-CPU Identification"',
  fields: [
    { name: "NX", low: 20, meaning: "execute-disable bit" },
    { name: "PAGE_1G", low: 26, meaning: "1 GiB pages" },
  ],
};

/** The number of IA32_EFER. */
export const MSR_EFER = 0xc000_0080;

/** VMX's interruption information and SVM's EVENTINJ. */
export const EVENT_INFO: BitLayout = {
  prefix: "EVENT_INFO",
  title: "Event that is delivered",
  source: 'SDM vol. 3, "VM-Entry Controls for Event Injection"; APM vol. 2, "Event Injection"',
  fields: [
    { name: "VECTOR", low: 0, width: 8, meaning: "its vector" },
    { name: "TYPE", low: 8, width: 3, meaning: "3: an exception" },
    { name: "VALID", low: 31, meaning: "there is one" },
  ],
};

/** EVENT_INFO.TYPE of an exception. */
export const EVENT_EXCEPTION = 3;

/** Exit reasons (SDM vol. 3, "VMX Basic Exit Reasons"; APM vol. 2, "SVM Intercept Exit Codes"). */
export const EXIT = {
  svmMsr: 0x7c,
  vmxMsrWrite: 0x20,
  eptViolation: 0x30,
  eptMisconfiguration: 0x31,
  invept: 0x32,
  invpcid: 0x3a,
  vmptrld: 0x15,
  /** VMX instructions: the first and the last. */
  vmxFirst: 0x12,
  vmxLast: 0x1b,
  svmNestedPageFault: 0x400,
} as const;
