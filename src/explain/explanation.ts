/** What `explain` returns. */
import type { Walk } from "../api.js";

/** The checks of a walk, in the processor's words. */
export type CheckName =
  /** The linear address is in the half that linear-address-space separation leaves to the access. */
  | "separation"
  /** The linear address is canonical, after linear-address masking. */
  | "canonical"
  /** With paging off nothing is checked. */
  | "paging"
  /** The guest-physical address is one that the second stage translates. */
  | "width"
  /** The entry can be read. */
  | "memory"
  | "present"
  | "reserved"
  /** EPT: the entry is no misconfiguration. */
  | "configuration"
  /** A user-mode access to a user-mode address. */
  | "user"
  /** A supervisor shadow-stack access to a supervisor-mode address. */
  | "supervisor"
  /** A shadow-stack access to a shadow-stack page; in a second stage to a supervisor shadow-stack page. */
  | "shadow stack"
  | "read"
  | "write"
  | "execute"
  | "smep"
  /** NPT with guest mode execute trap: a supervisor-mode fetch from a page whose U/S is 0. */
  | "gmet"
  | "smap"
  | "protection key"
  /** The second stage lets the accessed and dirty flags of the guest's entry be written. */
  | "flags";

/** One bit or field that a decision rests on. */
export interface Factor {
  /** The entry (PML5E, PML4E, PDPTE, PDE, PTE) or register (CR0, CR3, CR4, EFER, EFLAGS, PKRU, PKRS, EPTP, VMCB, CPU). */
  readonly of: string;
  /** Name of the bit or field, as in /abi. */
  readonly name: string;
  readonly value: bigint;
  /** Where the entry lies, in its own stage's space; undefined of registers. */
  readonly entryAddress?: bigint;
}

/** One check that a walk made, and how it ended. */
export interface Check {
  readonly name: CheckName;
  readonly passed: boolean;
  readonly stage: "guest" | "second";
  /** Level of the entry that is judged, 5 to 1; 0 where none is. */
  readonly level: number;
  readonly entryAddress: bigint;
  readonly entry: bigint;
  /** What decides: of the entry judged, of an entry above it that takes the right away, and of registers. */
  readonly factors: readonly Factor[];
  /** One clause for people. */
  readonly text: string;
}

/** One bit of an error code or exit qualification. */
export interface CodeBit {
  readonly name: string;
  readonly bit: number;
  readonly set: boolean;
  readonly reason: string;
}

/** Why an access ended as it did, check by check. */
export interface Explanation {
  readonly walk: Walk;
  /** Every check that was made, in order. */
  readonly checks: readonly Check[];
  /** The first that failed; undefined where the access succeeds. */
  readonly deciding: Check | undefined;
  /** Each bit of a fault's error code or exit qualification; empty where there is none. */
  readonly code: readonly CodeBit[];
}

/** A factor as text: `PTE.RW=0`, `CR0.WP=1`, `CPU.MAXPHYADDR=40`. */
export function factorText({ of, name, value }: Factor): string {
  return `${of}.${name}=${value > 9n ? `0x${value.toString(16)}` : value}`;
}
