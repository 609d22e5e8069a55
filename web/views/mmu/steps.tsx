/** Which step is looked at: a slider, buttons, and a list. */
import type { Shown, ShownStep } from "../../engine/mmu/session.js";
import { goTo } from "./store.js";

export function Steps({ shown, step }: { shown: Shown; step: ShownStep }) {
  const last = shown.steps.length - 1;
  const results = step.sides.map(({ result }) => result).filter((result) => result !== "");
  return (
    <>
      <div class="controls">
        <button type="button" disabled={step.number === 0} onClick={() => goTo(step.number - 1)}>
          Previous
        </button>
        <label class="slider">
          <span class="unseen">Step</span>
          <input
            type="range"
            min={0}
            max={last}
            value={step.number}
            aria-valuetext={`step ${step.number + 1} of ${last + 1}: ${step.title}`}
            onInput={({ currentTarget }) => goTo(Number(currentTarget.value))}
          />
        </label>
        <button type="button" disabled={step.number === last} onClick={() => goTo(step.number + 1)}>
          Next
        </button>
        <label>
          <span class="unseen">Go to step</span>
          <select value={step.number} onChange={({ currentTarget }) => goTo(Number(currentTarget.value))}>
            {shown.steps.map(({ title, changes, differences }, index) => (
              <option key={index} value={index}>
                {index + 1}: {title}
                {changes > 0 ? ` (${changes} changed)` : ""}
                {differences > 0 ? ` (${differences} differences)` : ""}
              </option>
            ))}
          </select>
        </label>
      </div>
      <p role="status">
        <strong>
          {step.number + 1} of {last + 1}: {step.title}
        </strong>
        {results.length > 0 && <> – {[...new Set(results)].join(" / ")}</>}
      </p>
      {step.note !== "" && <p>{step.note}</p>}
    </>
  );
}
