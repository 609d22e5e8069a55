/** The mistakes that are planted, one at a time, at places of the syntax tree: no refactoring takes their place away. */
import { everyNode, type SyntaxNode, unwrapped } from "../syntax/node.js";
import { parse } from "../syntax/parse.js";

/** Replacing source characters `start` to `end` (excluded) by `text`. */
export interface Mutant {
  readonly path: string;
  readonly line: number;
  readonly operator: string;
  readonly start: number;
  readonly end: number;
  readonly original: string;
  readonly text: string;
}

type Change = Pick<Mutant, "operator" | "start" | "end" | "text">;

/** Every mistake in a file, ordered by place. */
export function mutantsIn(path: string, text: string): Mutant[] {
  const changes: Change[] = [];
  for (const [node] of everyNode(parse(path, text))) changes.push(...changesOf(text, node));
  return changes
    .sort((a, b) => a.start - b.start || a.end - b.end || (a.text < b.text ? -1 : 1))
    .map((one) => ({
      path,
      line: text.slice(0, one.start).split("\n").length,
      original: text.slice(one.start, one.end),
      ...one,
    }));
}

/** `text` with a mistake in it. */
export function withMutant(text: string, { start, end, text: changed }: Mutant): string {
  return text.slice(0, start) + changed + text.slice(end);
}

function changesOf(text: string, node: SyntaxNode): Change[] {
  switch (node.kind) {
    case "binary":
      return [...otherOperators(node), ...droppedOperands(text, node)];
    case "unary":
      return otherUnary(text, node);
    case "integer":
      return otherIntegers(text, node);
    case "boolean":
      return [change("constant", node, node.name === "true" ? "false" : "true")];
    case "if":
    case "choice":
      return negated(text, node.children[0]!);
    case "loop":
      return node.hasCondition ? [change("condition", node.children[0]!, "false")] : [];
    case "statement":
      return [change("statement", node, "")];
    case "return":
      return otherReturn(node);
    default:
      return [];
  }
}

const OTHERS: Readonly<Record<string, readonly string[]>> = {
  "==": ["!="],
  "!=": ["=="],
  "===": ["!=="],
  "!==": ["==="],
  "<": ["<=", ">="],
  "<=": ["<", ">"],
  ">": [">=", "<="],
  ">=": [">", "<"],
  "&&": ["||"],
  "||": ["&&"],
  "??": ["&&"],
  "+": ["-"],
  "-": ["+"],
  "*": ["+"],
  "/": ["*"],
  "%": ["*"],
  "&": ["|", "^"],
  "|": ["&", "^"],
  "^": ["|"],
  "<<": [">>"],
  ">>": ["<<"],
  ">>>": ["<<"],
  "&=": ["|=", "="],
  "|=": ["&=", "="],
  "^=": ["|="],
  "+=": ["-="],
  "-=": ["+="],
  "<<=": [">>="],
  ">>=": ["<<="],
};

function otherOperators({ operator, operatorStart }: SyntaxNode): Change[] {
  const place = { start: operatorStart!, end: operatorStart! + operator!.length };
  return (OTHERS[operator!] ?? []).map((other) => ({ operator: `${operator} -> ${other}`, ...place, text: other }));
}

/** Only one side of `a && b`, `a || b`, `a | b`, `a & b`. */
function droppedOperands(text: string, node: SyntaxNode): Change[] {
  if (!/^(?:&&|\|\||\||&)$/.test(node.operator!)) return [];
  return node.children.map((side) => change("operand", node, text.slice(side.start, side.end)));
}

function otherUnary(text: string, node: SyntaxNode): Change[] {
  const { operator, operatorStart } = node;
  const place = { start: operatorStart!, end: operatorStart! + operator!.length };
  if (operator === "++" || operator === "--") {
    const text = operator === "++" ? "--" : "++";
    return [{ operator: `${operator} -> ${text}`, ...place, text }];
  }
  if (operator !== "!" && operator !== "~" && operator !== "-") return [];
  const operand = node.children[0]!;
  return [change(`without ${operator}`, node, text.slice(operand.start, operand.end))];
}

function otherIntegers(text: string, node: SyntaxNode): Change[] {
  const suffix = text[node.end - 1] === "n" ? "n" : "";
  const value = node.value!;
  const others = value === 0n ? [1n] : [value + 1n, value - 1n];
  return others.map((other) => change("constant", node, `${BigInt.asUintN(64, other)}${suffix}`));
}

function negated(text: string, condition: SyntaxNode): Change[] {
  return [change("condition", condition, `!(${text.slice(condition.start, condition.end)})`)];
}

function otherReturn(node: SyntaxNode): Change[] {
  const [value] = node.children;
  if (value === undefined || unwrapped(value).kind === "integer" || unwrapped(value).kind === "boolean") return [];
  return [change("return", value, "0")];
}

function change(operator: string, { start, end }: SyntaxNode, text: string): Change {
  return { operator, start, end, text };
}
