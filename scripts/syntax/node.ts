/** What the lint of bits and the mutation tool see of a source file: the same for assembly and TypeScript. */

export type Kind =
  /** Two operands and an operator; assignments, too: their operator ends in `=`. Children: left, right. */
  | "binary"
  /** An operator in front of its operand, `++` and `--` behind it, too. Child: the operand. */
  | "unary"
  | "integer"
  | "boolean"
  /** A name that is read, not declared. */
  | "name"
  /** `(...)` and casts. Child: what stands in it. */
  | "wrapper"
  /** Children: the condition and the branches. */
  | "if"
  /** Its condition is the first child, if `hasCondition`. */
  | "loop"
  /** Children: condition, two values. */
  | "choice"
  /** Child: the value, if any. */
  | "return"
  /** An expression that stands as a statement. Child: the expression. */
  | "statement"
  /** A variable and its first value. Children: the value. */
  | "variable"
  | "other";

export interface SyntaxNode {
  readonly kind: Kind;
  /** Offsets in the source; `end` is behind the last character. */
  readonly start: number;
  readonly end: number;
  readonly children: readonly SyntaxNode[];
  readonly operator?: string;
  /** Of an operator: where it stands. */
  readonly operatorStart?: number;
  readonly value?: bigint;
  readonly name?: string;
  readonly hasCondition?: boolean;
}

/** `node` and all below it, each with those it stands in, closest first. */
export function* everyNode(
  node: SyntaxNode,
  parents: readonly SyntaxNode[] = [],
): Generator<readonly [SyntaxNode, readonly SyntaxNode[]]> {
  yield [node, parents];
  for (const child of node.children) yield* everyNode(child, [node, ...parents]);
}

/** What parentheses and casts hold. */
export function unwrapped(node: SyntaxNode): SyntaxNode {
  return node.kind === "wrapper" && node.children.length === 1 ? unwrapped(node.children[0]!) : node;
}

/** The operator between two operands, and its place: nothing else stands there but comments and blanks. */
export function operatorBetween(text: string, left: SyntaxNode, right: SyntaxNode) {
  const between = text
    .slice(left.end, right.start)
    .replace(/\/\/[^\n]*|\/\*[\s\S]*?\*\//g, (one) => " ".repeat(one.length));
  const operator = between.trim();
  if (!/^[-+*/%&|^<>=!?]+$/.test(operator)) throw new Error(`offset ${left.end}: ${operator} is no operator`);
  return { operator, operatorStart: left.end + between.indexOf(operator) };
}
