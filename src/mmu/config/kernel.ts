/** Which kernel's rules a virtual machine has: a word of flags that is made once, and asked by rule. */
import { hasRule, KERNELS, type Kernel, type KernelRuleName, RULE_BITS, RULE_NAMES } from "../../abi/kernel-rules.js";
import { checkChoice, checkFlag, checkOptions, type OptionNames } from "../../checks.js";

const OPTIONS = Object.fromEntries(RULE_NAMES.map((name) => [name, true])) as OptionNames<
  Partial<Record<KernelRuleName, boolean>>
>;

export interface KernelConfig {
  /** Whose rules: Linux 6.1's or 6.12's. Default "6.1". */
  readonly kernel?: Kernel;
  /** Rules that differ from that kernel's: on or off. For telling which rule makes a difference. */
  readonly kernelRules?: Partial<Readonly<Record<KernelRuleName, boolean>>>;
}

/** Throws ConfigError for a kernel or a rule that is not known. */
export function checkKernel({ kernel, kernelRules }: KernelConfig): void {
  checkChoice(kernel ?? "6.1", KERNELS, "kernel");
  if (kernelRules === undefined) return;
  checkOptions(kernelRules, OPTIONS, "kernelRules");
  for (const name of RULE_NAMES) checkFlag(kernelRules[name], name);
}

/** The word of flags (VM.RULES). */
export function rulesOf({ kernel = "6.1", kernelRules = {} }: KernelConfig): number {
  return RULE_NAMES.reduce((word, name) => {
    return (kernelRules[name] ?? hasRule(kernel, name)) ? word | RULE_BITS[name].bit : word;
  }, 0);
}
