/**
 * Finds bits that stand as numbers where the tables of src/abi should name them.
 *
 * A bare bit is (1) an integer that is an operand of `&`, `|` or `^`, (2) a shift of one integer by another (`1n << 63n`,
 * `0xf << 19`), also before a mask (`(role >> 5) & 3`), (3) a variable that is given a hexadecimal whose bits stand
 * together (`0x40n`, `0x000f_ffff_ffff_f000n`).
 *
 * These are arithmetic, no bits: offsets, positions in a word and widths (masks of 5, 6, 8 and more low bits),
 * alignments (two and more high bits of 12, 32 or 64, `~7n`), 0, powers of two that are the size of a page or the end of
 * an address space, and `(word >> position) & 1`, whose position has a name.
 */
import { everyNode, type SyntaxNode, unwrapped } from "../syntax/node.js";

/** The places of bare bits in a file's tree, in order. */
export function bareBitsIn(text: string, tree: SyntaxNode): number[] {
  const found: number[] = [];
  for (const [node, parents] of everyNode(tree)) if (isBare(text, node, parents[0])) found.push(node.start);
  return found;
}

function isBare(text: string, node: SyntaxNode, parent: SyntaxNode | undefined): boolean {
  if (node.kind === "binary") {
    const [left, right] = node.children.map(unwrapped) as [SyntaxNode, SyntaxNode];
    if (node.operator === "<<") return isShiftedBit(left, right);
    if (!/^[&|^]=?$/.test(node.operator!)) return false;
    return isBareMask(left, right) || isBareMask(right, left);
  }
  if (node.kind !== "integer" || parent?.kind !== "variable") return false;
  return /^0x/i.test(text.slice(node.start, node.end)) && isField(node.value!);
}

function isShiftedBit(left: SyntaxNode, right: SyntaxNode): boolean {
  if (left.kind !== "integer" || right.kind !== "integer") return false;
  return !isSize(left.value! << right.value!);
}

/** Whether `mask` is a number that picks bits of `other`. */
function isBareMask(mask: SyntaxNode, other: SyntaxNode): boolean {
  if (mask.kind === "unary" && mask.operator === "~") {
    const inner = unwrapped(mask.children[0]!);
    return inner.kind === "integer" && !isLow(inner.value!);
  }
  if (mask.kind !== "integer" || mask.value === 0n) return false;
  const value = mask.value!;
  // A field that is cut out: its position is what has to have a name.
  if (isLow(value) && isShift(other)) return unwrapped(other.children[1]!).kind === "integer" && !isWidth(value);
  return !isWidth(value) && !isAlignment(value);
}

function isShift({ kind, operator }: SyntaxNode): boolean {
  return kind === "binary" && (operator === ">>" || operator === ">>>");
}

/** 1, 3, 7, 15 and so on. */
function isLow(value: bigint): boolean {
  return (value & (value + 1n)) === 0n;
}

function isWidth(value: bigint): boolean {
  return isLow(value) && (value === 31n || value === 63n || value >= 0xffn);
}

/** Bits that stand together, not at the low end. */
function isField(value: bigint): boolean {
  const lowest = value & -value;
  return lowest > 1n && isLow(value / lowest) && !isSize(value) && !isAlignment(value);
}

/** All bits of a page's offset, of 32 or of 64 bits but the low ones. */
function isAlignment(value: bigint): boolean {
  return [12n, 32n, 64n].some(
    (width) => value < 1n << width && value !== 1n << (width - 1n) && isLow((1n << width) - 1n - value),
  );
}

/** Bytes of a page, and the first number beyond 32, 40, 52 or 64 bits. */
function isSize(value: bigint): boolean {
  return [12n, 21n, 22n, 30n, 32n, 40n, 52n, 64n].some((width) => value === 1n << width);
}
