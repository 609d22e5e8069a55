/** What an SPTE is and grants, in words. */
import type { SpteLayout } from "../abi/spte-layout.js";
import type { DecodedSpte, SpteKind, SpteRights } from "./decode.js";
import type { SpteFormat } from "./masks.js";

const KINDS: Readonly<Record<Exclude<SpteKind, "removed">, string>> = {
  none: "empty: not present",
  mmio: "MMIO",
  "access-tracked": "leaf, rights taken away until the next access",
  leaf: "leaf",
  "non-leaf": "leads to a table",
  pdpte: "PAE page-directory-pointer-table entry",
  "special-root": "entry of a special root table (pae_root, pml4_root, pml5_root)",
  "not-present": "not present, and nothing that KVM stores",
};

/** What an entry is, by the kernel whose layout it has: `leaf`, `removed: a change of a TDP entry is under way`. */
export function spteKindText({ kind }: DecodedSpte, layout: SpteLayout): string {
  return kind === "removed" ? `${layout.marker!.word}: a change of a TDP entry is under way` : KINDS[kind];
}

/** Rights as letters, `rwx` and a fourth where users' fetches have a right of their own; outside EPT with whose they are. */
export function spteRightsText({ read, write, execute, user, userExecute }: SpteRights, format: SpteFormat): string {
  const both = userExecute === undefined ? "" : userExecute ? "u" : "-";
  const letters = `${read ? "r" : "-"}${write ? "w" : "-"}${execute ? "x" : "-"}${both}`;
  return format === "ept" ? letters : `${letters} ${user ? "user" : "supervisor"}`;
}
