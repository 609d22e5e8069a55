/** What the structure checker finds. */

/** What can be wrong. */
export type Invariant =
  | "rmap"
  | "parents"
  | "write-protection"
  | "write-track count"
  | "large-page count"
  | "unsync"
  | "hash"
  | "chain"
  | "used pages"
  | "indirect pages"
  | "root count"
  | "role"
  | "spte"
  | "pae_root"
  | "descriptors"
  | "page map"
  | "tdp tree";

/** What an audit found wrong. */
export interface AuditProblem {
  readonly invariant: Invariant;
  /** Header of the page that breaks it; 0 where it is a counter of the VM. */
  readonly page: number;
  /** Index of the entry, where one breaks it. */
  readonly index: number | undefined;
  readonly message: string;
}
