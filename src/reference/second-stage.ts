/** What a first-stage walk asks of a second stage (EPT or NPT). */
import type { Fault, Mapped, Rights } from "../api.js";
import type { SecondLeaf } from "./memory-type.js";
import type { StackMode } from "./shadow-stack.js";
import type { Trace } from "./trace.js";

/** Why a guest-physical address is translated. */
export type Purpose =
  /** The caller translates a guest-physical address by itself. */
  | "direct"
  /** The address of an entry of the guest's paging structures. */
  | "table"
  /** The latched PDPTEs, read by MOV to CR3. */
  | "pdptes"
  /** The translation of the linear address. */
  | "final";

export interface StageAccess {
  readonly purpose: Purpose;
  readonly write: boolean;
  readonly fetch: boolean;
  /** A user-mode access: CPL 3 and not implicit. */
  readonly user: boolean;
  /** EPT mode-based execute control: the linear address is a user-mode one. */
  readonly userAddress: boolean;
  /** What the guest's own paging allows, for the final address. */
  readonly guestRights?: Rights;
  /** A shadow-stack access, and whose. */
  readonly shadowStack: StackMode | undefined;
  /**
   * KVM's software walk makes the access: it asks for read and write access to every guest table, also to the PDPTEs,
   * and adds a read to every final access (paging_tmpl.h `nested_access`; `load_pdptrs`; `translate_nested_gpa`).
   */
  readonly kvm: boolean;
}

export interface StageMapped {
  readonly mapped: Mapped;
  /**
   * The fault of setting an accessed or dirty flag in the guest entry at this address; undefined where the
   * second stage lets it be written.
   */
  readonly updateFault: Fault | undefined;
  /** The leaf, as memory types need it. */
  readonly leaf: SecondLeaf;
}

export interface SecondStage {
  /** Translates a guest-physical address; entries read and bits to set go to `trace`. */
  translateGpa(gpa: bigint, access: StageAccess, trace: Trace): StageMapped | Fault;
}

export function isFault(outcome: StageMapped | Fault): outcome is Fault {
  return "ok" in outcome;
}

/** An access of the walk to the guest's paging-structure entries. */
export function tableAccess(purpose: "table" | "pdptes", kvm: boolean): StageAccess {
  return { purpose, write: false, fetch: false, user: false, userAddress: false, shadowStack: undefined, kvm };
}
