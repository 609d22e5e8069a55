/** What a processor reports of a failed translation. */
import type { BitLayout } from "./bits.js";

/** Page-fault error codes. */
export const PFERR: BitLayout = {
  prefix: "PFERR",
  title: "Page-fault error code",
  source: 'SDM vol. 3, "Page-Fault Exceptions"; APM vol. 2, "Nested versus Guest Page Faults, Fault Ordering"',
  narrow: true,
  fields: [
    { name: "P", low: 0, meaning: "the translation was present (rights or reserved bits)" },
    { name: "W", low: 1, meaning: "write" },
    { name: "U", low: 2, meaning: "user-mode access" },
    { name: "RSVD", low: 3, meaning: "a reserved bit was set" },
    { name: "I", low: 4, meaning: "instruction fetch" },
    { name: "PK", low: 5, meaning: "protection key" },
    { name: "SS", low: 6, meaning: "shadow-stack access" },
    { name: "GUEST_FINAL", low: 32, meaning: "nested: fault on the final guest-physical address" },
    { name: "GUEST_PAGE", low: 33, meaning: "nested: fault on a guest page table" },
    {
      name: "SSS",
      low: 37,
      meaning: "nested: the leaf marks a supervisor shadow-stack page (supervisor shadow stack checks enabled)",
    },
  ],
};

/** Exit qualifications of EPT violations. */
export const EPT_QUAL: BitLayout = {
  prefix: "EPT_QUAL",
  title: "Exit qualification of an EPT violation",
  source: 'SDM vol. 3, "Exit Qualification for EPT Violations"',
  fields: [
    { name: "READ", low: 0, meaning: "data read" },
    { name: "WRITE", low: 1, meaning: "data write" },
    { name: "FETCH", low: 2, meaning: "instruction fetch" },
    { name: "READABLE", low: 3, meaning: "the address was readable" },
    { name: "WRITABLE", low: 4, meaning: "the address was writable" },
    { name: "EXECUTABLE", low: 5, meaning: "the address was executable (supervisor with mode-based execute control)" },
    { name: "USER_EXECUTABLE", low: 6, meaning: "the address was user-executable (mode-based execute control)" },
    { name: "GVA_VALID", low: 7, meaning: "the guest linear address is valid" },
    { name: "GVA_FINAL", low: 8, meaning: "the access was to the translated address, not to a guest page table" },
    { name: "USER_ADDRESS", low: 9, meaning: "advanced information: the guest's paging allows user-mode accesses" },
    { name: "WRITABLE_PAGE", low: 10, meaning: "advanced information: the guest's paging allows writes" },
    { name: "XD_PAGE", low: 11, meaning: "advanced information: the guest's paging forbids fetches" },
    { name: "SHADOW_STACK", low: 13, meaning: "shadow-stack access" },
    {
      name: "SSS",
      low: 14,
      meaning: "the leaf marks a supervisor shadow-stack page (supervisor shadow-stack control enabled)",
    },
  ],
};
