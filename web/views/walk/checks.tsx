/** Every check of a walk in the processor's order, with what decides it. */
import { entryName } from "x86-paging/decode";
import { type Check, type Explanation, factorText } from "x86-paging/explain";

/** What a check is made of: an entry of its stage, or the address. */
function subject({ stage, level }: Check): string {
  if (level === 0) return stage === "second" ? "second-stage address" : "address";
  return stage === "second" ? `second-stage ${entryName(level)}` : entryName(level);
}

export function Checks({ explanation: { checks, deciding } }: { explanation: Explanation }) {
  return (
    <section aria-labelledby="checks-title">
      <h2 id="checks-title">Checks, in order</h2>
      <ol class="checks">
        {checks.map((check, index) => (
          <li key={`${index} ${check.name}`} class={check === deciding ? "check refused" : "check"}>
            <span class={check.passed ? "good verdict" : "bad verdict"}>{check.passed ? "ok" : "NO"}</span>
            <span>
              {subject(check)}: {check.text}
            </span>
            <code>{check.factors.map(factorText).join(" ")}</code>
          </li>
        ))}
      </ol>
    </section>
  );
}
