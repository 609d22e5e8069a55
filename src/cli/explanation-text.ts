/** An explanation of a walk as text and as JSON. */

import { entryName } from "../decode/entry.js";
import { type Check, type Explanation, factorText } from "../explain/index.js";
import type { Styler } from "./style.js";
import { hex } from "./values.js";

/** What a check is made of: an entry of its stage, or the address. */
function subject({ stage, level }: Check): string {
  if (level === 0) return stage === "second" ? "second-stage address" : "address";
  return stage === "second" ? `second-stage ${entryName(level)}` : entryName(level);
}

/** The check that decides, in one clause: what it found, and the bits that it rests on. */
export function decidingText({ deciding }: Explanation): string | undefined {
  if (deciding === undefined) return undefined;
  const factors = deciding.factors.map(factorText).join(", ");
  return `${deciding.text}${factors === "" ? "" : ` (${factors})`}`;
}

/** Lines for people: every check with what decides it, and every bit of an error code with its reason. */
export function explanationLines(explanation: Explanation, style: Styler): string[] {
  const { checks, code, walk } = explanation;
  const lines = checks.map((check) => {
    const verdict = check.passed ? style("green", "ok") : style("red", "NO");
    const name = `${subject(check)}: ${check.text}`;
    return `  ${verdict}  ${name.padEnd(52)} ${style("cyan", check.factors.map(factorText).join(" "))}`.trimEnd();
  });
  if (code.length === 0 || walk.result.ok) return lines;
  lines.push(`  error code ${hex(walk.result.errorCode)}`);
  for (const { name, bit, set, reason } of code) {
    lines.push(`    bit ${String(bit).padStart(2)}  ${`${name}=${set ? 1 : 0}`.padEnd(18)} ${reason}`);
  }
  return lines;
}

/** The checks and the bits of the code as plain data, addresses as hexadecimal strings. */
export function explanationJson({ checks, code, deciding }: Explanation): Record<string, unknown> {
  return {
    checks: checks.map((check) => ({
      check: check.name,
      passed: check.passed,
      decides: check === deciding,
      stage: check.stage,
      level: check.level,
      entryAddress: hex(check.entryAddress),
      factors: check.factors.map((factor) => ({
        of: factor.of,
        name: factor.name,
        value: hex(factor.value),
        entryAddress: factor.entryAddress === undefined ? null : hex(factor.entryAddress),
      })),
      text: check.text,
    })),
    errorCode: code.map(({ name, bit, set, reason }) => ({ name, bit, set, reason })),
  };
}
