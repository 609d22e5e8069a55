/** The exercises, and how the one that is chosen stands. */
import { EXERCISES } from "../../engine/play/exercise-list.js";
import type { PlayShown } from "../../engine/play/session.js";
import { navigate } from "../../state/route.js";
import { begin } from "./store.js";

export function ExercisePanel({ machine }: { machine: PlayShown }) {
  const exercise = EXERCISES.find(({ id }) => id === machine.exercise);
  return (
    <section>
      <h2>Playground</h2>
      <p class="hint">
        A processor with 4 MiB of memory and a few page tables: change entries and registers, make accesses, and see the
        walk, the TLB, the flags, and what KVM's shadow MMU makes of it. The address of this page is a link to the
        machine as it is.
      </p>
      <div class="controls">
        <label>
          Exercise{" "}
          <select
            value={machine.exercise ?? ""}
            onChange={({ currentTarget }) => {
              const next = EXERCISES.find(({ id }) => id === currentTarget.value);
              navigate("play", next === undefined ? machine.link : { ...next.link, exercise: next.id });
            }}
          >
            <option value="">none: play freely</option>
            {EXERCISES.map(({ id, title }) => (
              <option key={id} value={id}>
                {title}
              </option>
            ))}
          </select>
        </label>
        <button
          type="button"
          onClick={() =>
            begin(
              { ...(exercise?.link ?? { mode: machine.link.mode! }), ...(exercise && { exercise: exercise.id }) },
              true,
            )
          }
        >
          Begin again
        </button>
      </div>
      {exercise && (
        <>
          <p>
            <strong>{exercise.title}.</strong> {exercise.task}
          </p>
          <p role="status" class={machine.solved ? "good" : "hint"}>
            {machine.solved ? "Done." : "Not done yet."}
          </p>
          <details>
            <summary>Hint</summary>
            <p>{exercise.hint}</p>
          </details>
        </>
      )}
    </section>
  );
}
