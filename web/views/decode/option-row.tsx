/** The choices beside a word. */
import { useId } from "preact/hooks";
import type { Option, Options } from "./model.js";

interface OptionRowProps {
  readonly options: readonly Option[];
  readonly values: Options;
  readonly onChange: (name: string, value: string) => void;
}

export function OptionRow({ options, values, onChange }: OptionRowProps) {
  if (options.length === 0) return null;
  return (
    <fieldset class="controls plain">
      <legend class="unseen">Options</legend>
      {options.map((option) =>
        option.type === "switch" ? (
          <label key={option.name}>
            <input
              type="checkbox"
              checked={values[option.name] === "on"}
              onChange={({ currentTarget }) => onChange(option.name, currentTarget.checked ? "on" : "")}
            />{" "}
            {option.label}
          </label>
        ) : (
          <Field key={option.name} option={option} value={values[option.name]!} onChange={onChange} />
        ),
      )}
    </fieldset>
  );
}

interface FieldProps {
  readonly option: Exclude<Option, { type: "switch" }>;
  readonly value: string;
  readonly onChange: (name: string, value: string) => void;
}

function Field({ option, value, onChange }: FieldProps) {
  const change = ({ currentTarget }: { currentTarget: HTMLInputElement | HTMLSelectElement }) => {
    // What is no value of the field is not taken over.
    if (currentTarget.checkValidity()) onChange(option.name, currentTarget.value);
  };
  const id = useId();
  return (
    <span>
      <label for={id}>{option.label}</label>{" "}
      {option.type === "number" ? (
        <input id={id} type="number" required min={option.least} max={option.most} value={value} onChange={change} />
      ) : (
        <select id={id} value={value} onChange={change}>
          {option.values.map((choice) => (
            <option key={choice.value} value={choice.value}>
              {choice.label}
            </option>
          ))}
        </select>
      )}
    </span>
  );
}
