/** TypeScript as oxc-parser reads it. */
import { parseSync } from "oxc-parser";
import { operatorBetween, type SyntaxNode } from "./node.js";

/** As much of the parser's nodes as is looked at. */
interface Parsed {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [key: string]: unknown;
}

export function parseModule(path: string, text: string): SyntaxNode {
  const { program, errors } = parseSync(path, text);
  if (errors[0]) throw new SyntaxError(`${path}: ${errors[0].message}`);
  return convert(program as unknown as Parsed, text);
}

function convert(node: Parsed, text: string): SyntaxNode {
  const { start, end, type } = node;
  const place = { start, end };
  const all = (...names: readonly string[]) =>
    names.flatMap((name) => (node[name] ? [convert(node[name] as Parsed, text)] : []));
  switch (type) {
    case "BinaryExpression":
    case "LogicalExpression":
    case "AssignmentExpression": {
      const children = all("left", "right");
      if (node.operator === "in" || node.operator === "instanceof") return { ...place, kind: "other", children };
      return { ...place, kind: "binary", children, ...operatorBetween(text, children[0]!, children[1]!) };
    }
    case "UnaryExpression":
    case "UpdateExpression": {
      const operator = String(node.operator);
      const operatorStart = type === "UpdateExpression" && node.prefix === false ? end - operator.length : start;
      return { ...place, kind: "unary", operator, operatorStart, children: all("argument") };
    }
    case "Literal":
      return literal(node, text);
    case "ParenthesizedExpression":
    case "TSAsExpression":
    case "TSSatisfiesExpression":
    case "TSNonNullExpression":
      return { ...place, kind: "wrapper", children: all("expression") };
    case "IfStatement":
      return { ...place, kind: "if", children: all("test", "consequent", "alternate") };
    case "WhileStatement":
    case "DoWhileStatement":
    case "ForStatement":
      return {
        ...place,
        kind: "loop",
        hasCondition: node.test !== null,
        children: all("test", "init", "update", "body"),
      };
    case "ConditionalExpression":
      return { ...place, kind: "choice", children: all("test", "consequent", "alternate") };
    case "ReturnStatement":
      return { ...place, kind: "return", children: all("argument") };
    case "ExpressionStatement":
      return { ...place, kind: "statement", children: all("expression") };
    case "VariableDeclarator":
      return {
        ...place,
        kind: "variable",
        name: text.slice(start, end).match(/^\w+/)?.[0] ?? "",
        children: all("init"),
      };
    case "Identifier":
      return { ...place, kind: "name", name: String(node.name), children: [] };
    default:
      return { ...place, kind: "other", children: partsOf(node).map((one) => convert(one, text)) };
  }
}

function literal(node: Parsed, text: string): SyntaxNode {
  const place = { start: node.start, end: node.end, children: [] };
  const source = text.slice(node.start, node.end);
  if (typeof node.value === "boolean") return { ...place, kind: "boolean", name: source };
  if (/^(?:0[xX][\da-fA-F_]+|0[bB][01_]+|[\d_]+)n?$/.test(source)) {
    return { ...place, kind: "integer", value: BigInt(source.replace(/[n_]/g, "")) };
  }
  return { ...place, kind: "other" };
}

/** Names of members, types, and modules are no code. */
function partsOf(node: Parsed): Parsed[] {
  if (/^(?:TS|Import|ExportAll)/.test(node.type) && node.type !== "TSEnumDeclaration") return [];
  return Object.entries(node)
    .filter(([key]) => !["id", "key", "label", "typeAnnotation", "returnType", "typeArguments"].includes(key))
    .filter(([key]) => key !== "property" || node.computed === true)
    .flatMap(([, value]) => (Array.isArray(value) ? (value as unknown[]) : [value]))
    .filter((one): one is Parsed => typeof one === "object" && one !== null && "type" in one && "start" in one);
}
