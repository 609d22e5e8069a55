/** A walk over two stages as a grid: the guest's steps by the host's levels. */
import { useEffect, useState } from "preact/hooks";
import type { WalkStep } from "x86-paging";
import { decodeEntry, entryName, levelsOf } from "x86-paging/decode";
import type { SpaceAnswer, WalkAnswer } from "../../engine/dump/answers.js";
import { entryText } from "../../paging/entry-strip.jsx";
import { hex, indexBits, placeText, tableName } from "../../paging/words.js";
import { hostFeatures } from "./features.js";
import { Step } from "./steps.jsx";
import { type StageRow, stageRows } from "./two-stage.js";

interface TwoStageGridProps {
  readonly answer: WalkAnswer;
  readonly space: SpaceAnswer;
  readonly strict: boolean;
}

export function TwoStageGrid({ answer, space }: TwoStageGridProps) {
  const { walk, deciding } = answer.explanation;
  const [chosen, setChosen] = useState<string | undefined>(undefined);
  const host = answer.secondMode!;
  useEffect(() => setChosen(undefined), [walk]);
  if (host === "none") return null;
  const rows = stageRows(walk);
  const levels = Array.from({ length: levelsOf(host) }, (_, index) => levelsOf(host) - index);
  const features = hostFeatures(space);
  const place = (step: WalkStep, { gpa }: StageRow) => {
    if (gpa === undefined) return entryName(step.level);
    const { low, width } = indexBits(host, step.level);
    return placeText(step.level, Number((gpa >> BigInt(low)) & ((1n << BigInt(width)) - 1n)));
  };
  const refuses = (step: WalkStep, last: boolean) =>
    last && deciding?.stage === step.stage && deciding.level === step.level && deciding.entryAddress === step.address;
  const last = rows.at(-1);
  const all = rows.flatMap((row, index) => row.host.map((step) => ({ key: `${index} ${step.level}`, step, row })));
  const told = all.find(({ key }) => key === chosen) ?? all.find(({ step, row }) => refuses(step, row === last));
  return (
    <section aria-labelledby="grid-title">
      <h2 id="grid-title">Two stages</h2>
      <p class="hint">
        A row for each of the guest's entries, and one for the page: the host's tables translate its guest-physical
        address. Choose an entry for its bits.
      </p>
      <div class="scroll">
        <table class="stage-grid">
          <thead>
            <tr>
              <th scope="col">guest's step</th>
              {levels.map((level) => (
                <th key={level} scope="col">
                  host {tableName(level)}
                </th>
              ))}
              <th scope="col">guest's entry</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row, index) => (
              <tr key={row.guest?.level ?? 0}>
                <th scope="row">
                  {row.guest === undefined
                    ? row === last && !walk.result.ok
                      ? "next"
                      : "page"
                    : entryName(row.guest.level)}{" "}
                  <code>{row.gpa === undefined ? "" : hex(row.gpa)}</code>
                </th>
                {levels.map((level) => {
                  const step = row.host.find((one) => one.level === level);
                  if (step === undefined) return <td key={level}>–</td>;
                  const refused = refuses(step, row === last);
                  const decoded = decodeEntry(host, level, step.entry, features);
                  const key = `${index} ${level}`;
                  return (
                    <td key={level}>
                      <button
                        type="button"
                        class={refused ? "stage-cell refused" : "stage-cell"}
                        aria-pressed={told?.key === key}
                        onClick={() => setChosen(key)}
                      >
                        <code>{place(step, row)}</code>
                        <small>{entryText(decoded)}</small>
                        {refused && <strong class="bad">refuses</strong>}
                      </button>
                    </td>
                  );
                })}
                <td>{row.guest !== undefined && <code>{hex(row.guest.entry)}</code>}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {told !== undefined && (
        <ol class="steps">
          <Step
            step={told.step}
            format={host}
            place={`host ${place(told.step, told.row)}`}
            features={features}
            refused={refuses(told.step, told.row === last)}
          />
        </ol>
      )}
    </section>
  );
}
