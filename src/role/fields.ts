/**
 * The vocabulary of role fields: one width and one meaning per name, whatever
 * kernel's layout the field appears in. Positions are the layouts' business.
 *
 * A role is KVM's name for how a shadow page may be used: union kvm_mmu_page_role
 * (the page role) and union kvm_mmu_extended_role (the extended role, kept per vCPU).
 */
import type { BitField } from "../abi/bits.js";

interface Term {
  readonly width?: number;
  readonly meaning: string;
}

const VOCABULARY = {
  // page role
  level: { width: 4, meaning: "paging level of the page, 5 to 1; 0 in the CPU role of an unpaged vCPU" },
  cr4_pae: { meaning: "CR4.PAE: guest page-table entries have 8 bytes (page role: always 0 in a direct page)" },
  gpte_is_8_bytes: { meaning: "guest page-table entries have 8 bytes (always 1 in a direct page)" },
  has_4_byte_gpte: { meaning: "guest page-table entries have 4 bytes" },
  quadrant: { width: 2, meaning: "which part of a 4-byte-entry guest table the page shadows" },
  direct: { meaning: "linear range of guest frames, no guest table behind the page" },
  access: { width: 3, meaning: "rights inherited from the levels above" },
  invalid: { meaning: "zapped, kept alive only by its users" },
  nxe: { meaning: "EFER.NXE" },
  efer_nx: { meaning: "EFER.NXE" },
  cr0_wp: { meaning: "CR0.WP" },
  smep_andnot_wp: { meaning: "CR4.SMEP=1 and CR0.WP=0" },
  smap_andnot_wp: { meaning: "CR4.SMAP=1 and CR0.WP=0" },
  ad_disabled: { meaning: "SPTEs of the page have no accessed and dirty bits" },
  guest_mode: { meaning: "made for a nested guest (L2)" },
  passthrough: { meaning: "5-level page whose entry 0 leads to a 4-level guest root; no guest entries behind it" },
  is_mirror: { meaning: "mirrors a table that is kept outside KVM (TDX)" },
  level_promoted: { meaning: "level above the guest root: no guest entries behind it, gfn of the guest root" },
  pae_root: { meaning: "PAE page-directory-pointer table that is a root" },
  guest_level: { width: 3, meaning: "min(guest root level, page level); 0 in a direct page" },
  smm: { width: 8, meaning: "system-management mode's address space" },
  // extended role
  valid: { meaning: "the role has been computed" },
  execonly: { meaning: "nested EPT may map execute-only pages" },
  cr0_pg: { meaning: "CR0.PG" },
  cr4_pse: { meaning: "CR4.PSE" },
  cr4_pke: { meaning: "CR4.PKE" },
  cr4_smap: { meaning: "CR4.SMAP" },
  cr4_smep: { meaning: "CR4.SMEP" },
  cr4_la57: { meaning: "CR4.LA57" },
  efer_lma: { meaning: "EFER.LMA" },
  maxphyaddr: { width: 6, meaning: "the guest's MAXPHYADDR" },
  has_pferr_fetch: { meaning: "page-fault error codes have the fetch bit (SMEP or NXE)" },
} as const satisfies Record<string, Term>;

export type RoleFieldName = keyof typeof VOCABULARY;

/** A field at bit `low`; `override` where one kernel gives the name another width or meaning. */
export function roleField(name: RoleFieldName, low: number, override: Partial<Term> = {}): BitField {
  const term: Term = { ...VOCABULARY[name], ...override };
  return term.width === undefined
    ? { name, low, meaning: term.meaning }
    : { name, low, width: term.width, meaning: term.meaning };
}
