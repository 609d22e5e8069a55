/** What a dump says of itself, and what is wrong with it. */
import type { DumpAnswer } from "../../engine/dump/answers.js";

export function DumpFacts({ dump }: { dump: DumpAnswer }) {
  return (
    <section aria-labelledby="facts-title">
      <h2 id="facts-title">
        <code class="name">{dump.name}</code>
      </h2>
      <dl class="facts">
        {dump.facts.map(({ label, value }, index) => (
          <Fact key={index} label={label} value={value} />
        ))}
        {dump.cpus.length === 0 && <Fact label="processors" value="no control registers of any" />}
      </dl>
      {dump.warnings.map((warning) => (
        <p key={warning} class="bad">
          Warning: {warning}
        </p>
      ))}
    </section>
  );
}

export function Fact({ label, value, origin }: { label: string; value: string; origin?: string | undefined }) {
  return (
    <>
      <dt>{label}</dt>
      <dd>
        <code>{value}</code> {origin !== undefined && <span class="hint">{origin}</span>}
      </dd>
    </>
  );
}
