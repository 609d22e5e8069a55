/** Which layout an entry is edited by: one that is not present as if it were, so that its fields can be seen and set. */
import { bitOf, PTE } from "x86-paging/abi";
import { decodeEntry, type EntryFormat, type EntryKind } from "x86-paging/decode";

export function kindOf(format: EntryFormat, level: number, entry: bigint): EntryKind {
  const { kind } = decodeEntry(format, level, entry);
  if (kind !== "not present") return kind;
  return decodeEntry(format, level, entry | bitOf(PTE, "P")).kind;
}
