/** Prints the rows of the table in docs/kernels.md, from src/abi/kernel-rules.ts. */
import { KERNEL_RULES, RULE_NAMES } from "../src/abi/kernel-rules.js";

export const kernelRows: readonly string[] = KERNEL_RULES.map(({ since, source, effect }, index) => {
  return `| \`${RULE_NAMES[index]}\` | ${since} | ${source} | ${effect} |`;
});

if (process.argv[1]?.endsWith("kernel-table.ts")) console.log(kernelRows.join("\n"));
