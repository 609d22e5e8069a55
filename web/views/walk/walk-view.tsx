/** The walk view: one access, entry by entry and check by check, of one stage or two. */
import { useEffect, useState } from "preact/hooks";
import type { SpaceAnswer, WalkAnswer } from "../../engine/dump/answers.js";
import { hex } from "../../paging/words.js";
import { dump, dumpWorker, followUrl, openFirst, space } from "../../state/dump/session.js";
import { messageOf } from "../../state/problem.js";
import { hrefOf, route } from "../../state/route.js";
import { AccessChoice } from "./access-choice.jsx";
import { Checks } from "./checks.jsx";
import { IndexStrip } from "./index-strip.jsx";
import { Outcome } from "./outcome.jsx";
import { questionInUrl, questionKey } from "./question.js";
import { Steps } from "./steps.jsx";
import { TwoStageGrid } from "./two-stage-grid.jsx";

export function WalkView() {
  const { params } = route.value;
  useEffect(() => void openFirst(), []);
  useEffect(() => void followUrl(), [params]);
  const current = space.value;
  if (current === undefined) {
    return (
      <section>
        <h2>Walk</h2>
        <p>
          {dump.value === undefined ? "No dump is open" : "No address space is chosen"}:{" "}
          <a href={hrefOf("dump")}>choose one</a>.
        </p>
      </section>
    );
  }
  return <WalkOf key={current.id} space={current} />;
}

type Result = { readonly answer: WalkAnswer } | { readonly problem: string };

function WalkOf({ space: current }: { space: SpaceAnswer }) {
  const [result, setResult] = useState<Result | undefined>(undefined);
  const question = questionInUrl(current.start ?? 0n);
  const key = questionKey(question);
  useEffect(() => {
    let left = false;
    dumpWorker()
      .walk(current.id, question)
      .then(
        (answer) => !left && setResult({ answer }),
        (error) => !left && (error as Error).name !== "AbortError" && setResult({ problem: messageOf(error) }),
      );
    return () => {
      left = true;
    };
  }, [current.id, key]);
  return (
    <>
      <section aria-labelledby="walk-title">
        <h2 id="walk-title">Walk</h2>
        <p class="hint">
          <code>{dump.value?.name}</code>: {current.title}, CR3 <code>{hex(current.registers.cr3)}</code> –{" "}
          <a href={hrefOf("dump", { cpu: route.value.params.cpu, cr3: route.value.params.cr3 })}>
            another dump or space
          </a>
        </p>
        <AccessChoice question={question} />
        {result !== undefined && "problem" in result && (
          <p class="bad" role="alert">
            {result.problem}
          </p>
        )}
        {result !== undefined && "answer" in result && <Outcome explanation={result.answer.explanation} />}
      </section>
      {result !== undefined && "answer" in result && (
        <Answer answer={result.answer} space={current} strict={question.strict} />
      )}
    </>
  );
}

function Answer({ answer, space: current, strict }: { answer: WalkAnswer; space: SpaceAnswer; strict: boolean }) {
  const two = answer.secondMode !== undefined;
  return (
    <>
      <IndexStrip answer={answer} />
      {two && <TwoStageGrid answer={answer} space={current} strict={strict} />}
      <Steps answer={answer} space={current} strict={strict} />
      <Checks explanation={answer.explanation} />
    </>
  );
}
