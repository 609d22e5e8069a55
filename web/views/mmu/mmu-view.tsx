/** The MMU view: a recorded or modelled shadow MMU, step by step: the guest's tables, shadow pages, roots, and what changed. */
import { useEffect, useState } from "preact/hooks";
import { STORIES } from "../../engine/mmu/story-list.js";
import { route } from "../../state/route.js";
import { Differences } from "./differences.jsx";
import { GuestTables } from "./guest-tables.jsx";
import { SideView } from "./side-view.jsx";
import { Steps } from "./steps.jsx";
import { busy, follow, open, openExample, openFile } from "./store.js";
import { TraceReportView } from "./trace-report.jsx";

export function MmuView() {
  const { example, step } = route.value.params;
  const current = open.value;
  const [chosen, setChosen] = useState<string | undefined>(undefined);
  useEffect(() => follow(example, step), [example, step]);
  return (
    <>
      <section>
        <h2>A shadow MMU, step by step</h2>
        <div class="controls">
          <label>
            Example{" "}
            <select
              value={current?.example ?? ""}
              onChange={({ currentTarget }) => currentTarget.value !== "" && openExample(currentTarget.value, 0)}
            >
              {current?.example === undefined && <option value="">a file</option>}
              {STORIES.map(({ id, title }) => (
                <option key={id} value={id}>
                  {title}
                </option>
              ))}
            </select>
          </label>
          <label class="button">
            Open a recording or a trace
            <input
              class="unseen"
              type="file"
              onChange={({ currentTarget }) => {
                const file = currentTarget.files?.[0];
                if (file !== undefined) openFile(file);
                currentTarget.value = "";
              }}
            />
          </label>
          <span class="hint">
            A packed recording (x86-paging replay --pack FOLDER), or what trace-cmd, perf script or tracing/trace gave.
          </span>
        </div>
        {busy.value && <p role="status">Opening …</p>}
        {current && (
          <>
            <h3>{current.shown.title}</h3>
            <p>{current.shown.text}</p>
            {current.shown.warning !== undefined && <p class="bad">{current.shown.warning}</p>}
            {current.step && <Steps shown={current.shown} step={current.step} />}
          </>
        )}
      </section>
      {current?.shown.report && <TraceReportView report={current.shown.report} />}
      {current?.step && (
        <div class={current.shown.kind === "trace" ? "" : "mmu"}>
          {current.shown.kind !== "trace" && <GuestTables side={current.step.sides[0]!} />}
          <div>
            {current.step.sides.map((side, index) => (
              <SideView
                key={current.shown.sides[index]}
                name={current.shown.sides[index]!}
                side={side}
                other={current.step!.sides[1 - index]}
                chosen={chosen}
                onChoose={setChosen}
              />
            ))}
            <Differences step={current.step} />
          </div>
        </div>
      )}
    </>
  );
}
