/** A second stage for the walk: tables in the same dump, of a nested guest; or an example of such a machine. */
import { useId } from "preact/hooks";
import type { SecondStage } from "../../engine/dump/answers.js";
import { openTwoStageExample } from "../../state/dump/session.js";
import { guarded } from "../../state/problem.js";
import { setParams } from "../../state/route.js";
import { HexInput } from "../../ui/hex-input.jsx";

export function SecondChoice({ second }: { second: SecondStage | undefined }) {
  const id = useId();
  return (
    <details open={second !== undefined}>
      <summary>Second stage (EPT, NPT)</summary>
      <div class="controls">
        <span>
          <label for={id}>Guest-physical addresses go through </label>
          <select
            id={id}
            value={second?.kind ?? ""}
            onChange={({ currentTarget: { value } }) =>
              setParams(value === "" ? { stage: undefined, root: undefined, guest: undefined } : { stage: value })
            }
          >
            <option value="">nothing: one stage</option>
            <option value="ept">EPT</option>
            <option value="npt">NPT</option>
          </select>
        </span>
        {second !== undefined && (
          <>
            <HexInput
              label={second.kind === "ept" ? "EPTP" : "nCR3"}
              value={second.root}
              late
              onValue={(value) => setParams({ root: value.toString(16) })}
            />
            <HexInput
              label="The nested guest's CR3"
              value={second.cr3}
              late
              onValue={(value) => setParams({ guest: value.toString(16) })}
            />
          </>
        )}
        <button type="button" onClick={() => void guarded(openTwoStageExample)}>
          Example: a nested guest
        </button>
      </div>
      <p class="hint">
        The dump is the memory of the machine that runs the guest. The guest has the mode of the space that is looked
        at; an EPTP without flags is taken as one of 4 levels.
      </p>
    </details>
  );
}
