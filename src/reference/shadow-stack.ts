/**
 * Shadow stacks: which pages a shadow-stack access may use, stage by stage (SDM vol. 3, "Determination of Access Rights" and
 * "EPT Violations"; APM vol. 2, "Shadow Stacks" and "Supervisor Shadow Stacks").
 */
import { bitOf } from "../abi/bits.js";
import { EPT, PTE } from "../abi/entries.js";
import type { Rights } from "../api.js";

/** Whose stack it is: by CPL, but WRUSS makes user accesses at CPL 0. */
export type StackMode = "user" | "supervisor";

/**
 * How tables judge shadow-stack accesses:
 * - "pages": a guest's own, which has shadow-stack pages;
 * - "plain": nested tables, to which they are reads and writes like others;
 * - "checked": nested tables with supervisor shadow stack checks enabled;
 * - "unknown": KVM's software walk of Linux 6.1, which takes no notice that an access is one.
 */
export type StackRule = "pages" | "plain" | "checked" | "unknown";

const RW = bitOf(PTE, "RW");
const US = bitOf(PTE, "US");
const D = bitOf(PTE, "D");
const XD = bitOf(PTE, "XD");
const EPT_R = bitOf(EPT, "R");
const EPT_W = bitOf(EPT, "W");
const EPT_SSS = bitOf(EPT, "SSS");

/** R/W=0 and D=1 in the leaf, R/W=1 in all entries above it, whose rights are `above`. */
export function isShadowStackAddress(above: Rights, leaf: bigint): boolean {
  return above.write && (leaf & (RW | D)) === D;
}

/** A nested leaf that designates a supervisor shadow-stack page: NX=1 and U/S=0. */
export function isNestedStackLeaf(leaf: bigint): boolean {
  return (leaf & (XD | US)) === XD;
}

/** A page that supervisor shadow-stack accesses may use: such a leaf, and R/W=1 in all nested entries above it. */
export function isNestedStackPage(above: Rights, leaf: bigint): boolean {
  return above.write && isNestedStackLeaf(leaf);
}

/** An EPT leaf that designates a supervisor shadow-stack page. */
export function isEptStackLeaf(leaf: bigint): boolean {
  return (leaf & EPT_SSS) !== 0n;
}

/**
 * A page that supervisor shadow-stack accesses may use under supervisor shadow-stack control: such a leaf, readable in all
 * entries and writable in all above the leaf (`above`); the leaf's own W says nothing.
 */
export function isEptStackPage(above: bigint, leaf: bigint): boolean {
  const readable = (above & leaf & EPT_R) !== 0n;
  return readable && (above & EPT_W) !== 0n && isEptStackLeaf(leaf);
}
