/**
 * The access word: what kind of access is translated.
 * Bits 4:1 are those of the page-fault error code, so that the core indexes its
 * permission table with them directly.
 */
import type { BitLayout } from "./bits.js";

/** What an access asks for, as the walks take it. */
export const ACCESS: BitLayout = {
  prefix: "ACCESS",
  title: "Access word",
  source: "x86-paging",
  fields: [
    { name: "WRITE", low: 1, meaning: "data write" },
    { name: "USER", low: 2, meaning: "CPL 3" },
    { name: "FETCH", low: 4, meaning: "instruction fetch" },
    {
      name: "IMPLICIT",
      low: 8,
      meaning: "implicit supervisor access (descriptor tables, TSS): supervisor whatever the CPL",
    },
    { name: "AC", low: 9, meaning: "EFLAGS.AC=1: explicit supervisor data accesses are exempt from SMAP" },
    { name: "PROBE", low: 10, meaning: "no accessed or dirty bit is set" },
    {
      name: "SHADOW_STACK",
      low: 12,
      meaning: "shadow-stack access (CET); comes with IMPLICIT, which then says no more",
    },
    { name: "OTHER_SEGMENT", low: 13, meaning: "data access by SS, FS or GS: EFER.UAIE does not concern it" },
  ],
};

/** How permissions and plans are found: W, U, the place of RSVD and I/D of an error code. */
export const CODE: BitLayout = {
  prefix: "CODE",
  title: "Error code of an access that is checked",
  source: "x86-paging",
  fields: [{ name: "INDEX", low: 1, width: 4, meaning: "number of the permissions and the plan" }],
};

/**
 * Access flags, to be OR-ed. An access without `Write` and `Fetch` is a data read;
 * `Write` and `Fetch` together are refused with a RangeError, and so are `Fetch` and `ShadowStack`.
 */
export const Access = {
  Read: 0,
  Write: 1 << 1,
  User: 1 << 2,
  Fetch: 1 << 4,
  Implicit: 1 << 8,
  Ac: 1 << 9,
  Probe: 1 << 10,
  /**
   * A shadow-stack access, which a processor makes with CR4.CET=1 and SH_STK_EN in IA32_U_CET or IA32_S_CET: that is the
   * caller's to know. With `User` it is a user one (CPL 3, WRUSS), without a supervisor one. It has the bit of `Implicit`
   * too, by which whatever knows the plain kinds only leaves it to the full walk.
   */
  ShadowStack: (1 << 12) | (1 << 8),
  /**
   * A data access by SS, FS or GS, whose address upper address ignore (EFER.UAIE) takes as it is; without it data accesses are
   * by DS or ES. It says nothing else.
   */
  OtherSegment: 1 << 13,
} as const;
