/** One line a leaf mapping: `va pa size uwx [why]`, with rights ANDed over all levels. */
import type { Leaf } from "../api.js";

/** A page size as the field writes it: 4K, 2M, 4M, 1G. */
export function pageSizeName(size: bigint | number): string {
  const bytes = Number(size);
  if (bytes >= 2 ** 30) return `${bytes / 2 ** 30}G`;
  return bytes >= 2 ** 20 ? `${bytes / 2 ** 20}M` : `${bytes / 2 ** 10}K`;
}

/** Rights as three letters: user, writable, executable. */
export function rightsLetters(rights: Leaf["rights"]): string {
  return `${rights.user ? "u" : "-"}${rights.write ? "w" : "-"}${rights.execute ? "x" : "-"}`;
}

/** One line without its end; `presence` says why the page's target is not in the dump (absent, excluded, cut), or `held`. */
export function leafLine(leaf: Leaf, presence: string): string {
  const va = leaf.va.toString(16).padStart(16, "0");
  const line = `${va} ${leaf.pa.toString(16)} ${pageSizeName(leaf.size)} ${rightsLetters(leaf.rights)}`;
  return presence === "held" ? line : `${line} ${presence}`;
}
