/** The playground: a small machine whose tables, registers and accesses are in the user's hands. */
import { useEffect } from "preact/hooks";
import { route } from "../../state/route.js";
import { AccessPanel } from "./access-panel.jsx";
import { ExercisePanel } from "./exercise-panel.jsx";
import { RegisterPanel } from "./register-panel.jsx";
import { ResultPanel } from "./result-panel.jsx";
import { ShadowPanel } from "./shadow-panel.jsx";
import { begin, failed, said, shown } from "./store.js";
import { TablePanel } from "./table-panel.jsx";
import { TlbPanel } from "./tlb-panel.jsx";

export function PlayView() {
  const { params } = route.value;
  const key = new URLSearchParams(params).toString();
  useEffect(() => {
    begin(params);
  }, [key]);
  const machine = shown.value;
  if (machine === undefined)
    return failed.value ? <NoMachine /> : <section aria-busy="true">The machine is being built …</section>;
  return (
    <>
      <p class="unseen" role="status">
        {said.value}
      </p>
      <ExercisePanel machine={machine} />
      <div class="play">
        <div>
          <AccessPanel />
          {machine.result && machine.before && (
            <ResultPanel result={machine.result} registers={machine.before} outdated={machine.outdated} />
          )}
          {machine.result && <ShadowPanel machine={machine} />}
        </div>
        <div>
          <RegisterPanel machine={machine} />
          <TablePanel machine={machine} />
          <TlbPanel entries={machine.tlb} />
        </div>
      </div>
    </>
  );
}

function NoMachine() {
  return (
    <section>
      <h2>Playground</h2>
      <p>The address of this page means no machine.</p>
      <div class="controls">
        <button type="button" class="primary" onClick={() => begin({}, true)}>
          Begin with a new machine
        </button>
      </div>
    </section>
  );
}
