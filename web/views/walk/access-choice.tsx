/** The access that is walked: its kind, who makes it, by which rules, and a second stage. */
import { useId } from "preact/hooks";
import { ACCESS_KINDS, type AccessKind, type WalkQuestion } from "../../engine/dump/answers.js";
import { setParams } from "../../state/route.js";
import { HexInput } from "../../ui/hex-input.jsx";
import { SecondChoice } from "./second-choice.jsx";

const NAMES: Readonly<Record<AccessKind, string>> = {
  any: "any: is something mapped?",
  read: "read",
  write: "write",
  fetch: "fetch",
  "shadow-stack-read": "shadow-stack read",
  "shadow-stack-write": "shadow-stack write",
};

export function AccessChoice({ question }: { question: WalkQuestion }) {
  const id = useId();
  const { address, access, pkru, pkrs } = question;
  const flag = (name: "user" | "ac" | "strict", title: string, disabled = false) => (
    <label>
      <input
        type="checkbox"
        checked={question[name]}
        disabled={disabled}
        onChange={({ currentTarget }) => setParams({ [name]: currentTarget.checked ? "1" : undefined })}
      />{" "}
      {title}
    </label>
  );
  return (
    <>
      <form class="controls" onSubmit={(event) => event.preventDefault()}>
        <HexInput
          label="Address"
          value={address}
          onValue={(value) => setParams({ address: value.toString(16) })}
          late
        />
        <button type="submit" class="primary">
          Walk
        </button>
      </form>
      <div class="controls">
        <span>
          <label for={id}>Access </label>
          <select
            id={id}
            value={access}
            onChange={({ currentTarget: { value } }) => setParams({ access: value === "any" ? undefined : value })}
          >
            {ACCESS_KINDS.map((kind) => (
              <option key={kind} value={kind}>
                {NAMES[kind]}
              </option>
            ))}
          </select>
        </span>
        {flag("user", "user mode (CPL 3)", access === "any")}
        {flag("ac", "EFLAGS.AC", access === "any")}
        {flag("strict", "strict: reserved bits and NXE count")}
      </div>
      <details open={pkru !== undefined || pkrs !== undefined}>
        <summary>Protection keys</summary>
        <div class="controls">
          <HexInput
            label="PKRU"
            bits={32}
            value={BigInt(pkru ?? 0)}
            onValue={(value) => setParams({ pkru: value === 0n ? undefined : value.toString(16) })}
          />
          <HexInput
            label="IA32_PKRS"
            bits={32}
            value={BigInt(pkrs ?? 0)}
            onValue={(value) => setParams({ pkrs: value === 0n ? undefined : value.toString(16) })}
          />
        </div>
      </details>
      <SecondChoice second={question.second} />
    </>
  );
}
