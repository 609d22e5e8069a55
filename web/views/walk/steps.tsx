/** The guest's entries that a walk read, from the root down, each in its bits; the one that refuses is marked. */
import type { WalkStep } from "x86-paging";
import { decodeEntry, type EntryFormat } from "x86-paging/decode";
import type { SpaceAnswer, WalkAnswer } from "../../engine/dump/answers.js";
import { EntryStrip, entryText } from "../../paging/entry-strip.jsx";
import { addressDigits, hex, indexBits, placeText } from "../../paging/words.js";
import { featuresOf } from "./features.js";

interface StepsProps {
  readonly answer: WalkAnswer;
  readonly space: SpaceAnswer;
  readonly strict: boolean;
}

export function Steps({ answer, space, strict }: StepsProps) {
  const { explanation, mode } = answer;
  const { walk, deciding } = explanation;
  const guest = walk.steps.filter(({ stage }) => stage === "guest");
  if (mode === "none" || guest.length === 0) return null;
  const features = featuresOf(space, answer, strict);
  const refuses = ({ stage, level, address }: WalkStep) =>
    deciding !== undefined && deciding.stage === stage && deciding.level === level && deciding.entryAddress === address;
  return (
    <section aria-labelledby="steps-title">
      <h2 id="steps-title">Entries</h2>
      <ol class="steps">
        {guest.map((step) => (
          <Step
            key={step.level}
            step={step}
            format={mode}
            place={placeOfStep(step, mode, walk.address)}
            features={features}
            refused={refuses(step)}
          />
        ))}
      </ol>
    </section>
  );
}

/** The entry's place by the index that the address has for its level. */
export function placeOfStep({ level }: WalkStep, mode: EntryFormat, address: bigint): string {
  const { low, width } = indexBits(mode, level);
  return placeText(level, Number((address >> BigInt(low)) & ((1n << BigInt(width)) - 1n)));
}

interface StepProps {
  readonly step: WalkStep;
  readonly format: EntryFormat;
  readonly place: string;
  readonly features: ReturnType<typeof featuresOf>;
  readonly refused: boolean;
}

export function Step({ step, format, place, features, refused }: StepProps) {
  const decoded = decodeEntry(format, step.level, step.entry, features);
  const word = step.entry.toString(16).padStart(format === "32bit" ? addressDigits("32bit") : 16, "0");
  return (
    <li class={refused ? "step refused" : "step"}>
      <h3>
        {decoded.name} <code>{word}</code> <span class="hint">{entryText(decoded)}</span>
        {refused && <strong class="bad"> refuses</strong>}
      </h3>
      <p class="hint">
        {place}, read at <code>{hex(step.address)}</code>
        {decoded.problems.length > 0 && <span class="bad">; {decoded.problems.join("; ")}</span>}
      </p>
      <EntryStrip
        label={`${decoded.name} ${word}`}
        format={format}
        level={step.level}
        entry={step.entry}
        features={features}
      />
    </li>
  );
}
