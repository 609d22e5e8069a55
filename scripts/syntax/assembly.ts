/** AssemblyScript as asc's own parser reads it. */
import * as asc from "assemblyscript";
import { operatorBetween, type SyntaxNode } from "./node.js";

export function parseAssembly(path: string, text: string): SyntaxNode {
  const parser = new asc.Parser();
  parser.parseFile(text, path, true);
  const [error] = parser.diagnostics;
  if (error) throw new SyntaxError(`${path}: ${error.message}`);
  return convert(parser.sources[0]!, text);
}

function convert(node: asc.Node, text: string): SyntaxNode {
  const { start, end } = node.range;
  const place = { start, end };
  const all = (...nodes: readonly (asc.Node | null)[]) =>
    nodes.filter((one) => one !== null).map((one) => convert(one, text));
  if (node instanceof asc.BinaryExpression) {
    const [left, right] = all(node.left, node.right) as [SyntaxNode, SyntaxNode];
    return { ...place, kind: "binary", children: [left, right], ...operatorBetween(text, left, right) };
  }
  if (node instanceof asc.UnaryExpression) {
    const children = all(node.operand);
    const isPrefix = node instanceof asc.UnaryPrefixExpression;
    const operator = (isPrefix ? text.slice(start, children[0]!.start) : text.slice(children[0]!.end, end)).trim();
    return { ...place, kind: "unary", children, operator, operatorStart: isPrefix ? start : end - operator.length };
  }
  if (node instanceof asc.IntegerLiteralExpression) {
    const value = BigInt.asUintN(64, BigInt(node.value.toString()));
    return { ...place, kind: "integer", children: [], value };
  }
  if (node instanceof asc.TrueExpression || node instanceof asc.FalseExpression) {
    return { ...place, kind: "boolean", children: [], name: text.slice(start, end) };
  }
  if (node instanceof asc.ParenthesizedExpression || node instanceof asc.AssertionExpression) {
    return { ...place, kind: "wrapper", children: all(node.expression) };
  }
  if (node instanceof asc.IfStatement) {
    return { ...place, kind: "if", children: all(node.condition, node.ifTrue, node.ifFalse) };
  }
  if (node instanceof asc.WhileStatement || node instanceof asc.DoStatement) {
    return { ...place, kind: "loop", hasCondition: true, children: all(node.condition, node.body) };
  }
  if (node instanceof asc.ForStatement) {
    const hasCondition = node.condition !== null;
    return {
      ...place,
      kind: "loop",
      hasCondition,
      children: all(node.condition, node.initializer, node.incrementor, node.body),
    };
  }
  if (node instanceof asc.TernaryExpression) {
    return { ...place, kind: "choice", children: all(node.condition, node.ifThen, node.ifElse) };
  }
  if (node instanceof asc.ReturnStatement) return { ...place, kind: "return", children: all(node.value) };
  if (node instanceof asc.ExpressionStatement) return { ...place, kind: "statement", children: all(node.expression) };
  if (node instanceof asc.VariableDeclaration) {
    return { ...place, kind: "variable", name: node.name.text, children: all(node.initializer) };
  }
  if (node instanceof asc.IdentifierExpression) return { ...place, kind: "name", name: node.text, children: [] };
  return { ...place, kind: "other", children: partsOf(node).map((one) => convert(one, text)) };
}

/** Declared names, types and modules are no code. */
function partsOf(node: asc.Node): asc.Node[] {
  if (node instanceof asc.ImportStatement || node instanceof asc.TypeNode) return [];
  return Object.entries(node)
    .filter(([key]) => !["name", "decorators", "signature", "typeParameters", "label", "property"].includes(key))
    .flatMap(([, value]) => (Array.isArray(value) ? (value as unknown[]) : [value as unknown]))
    .filter((one) => one instanceof asc.Node);
}
