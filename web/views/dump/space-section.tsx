/** Which address space is looked at: a processor's, one of a root that is known, or one that a search finds. */
import { useId, useState } from "preact/hooks";
import type { DumpAnswer, SpaceAnswer, SpaceChoice } from "../../engine/dump/answers.js";
import { hex } from "../../paging/words.js";
import { chooseSpace, findSpaces, space, spaceProblem, spaces } from "../../state/dump/session.js";
import { guarded } from "../../state/problem.js";
import { HexInput } from "../../ui/hex-input.jsx";
import { Fact } from "./facts.jsx";
import { FoundSpaces } from "./found-spaces.jsx";

const MODES = { "": "mode as the dump says", "32bit": "32-bit", pae: "PAE", "4level": "4-level", "5level": "5-level" };

const choose = (choice: SpaceChoice) => void guarded(() => chooseSpace(choice));

export function SpaceSection({ dump }: { dump: DumpAnswer }) {
  const current = space.value;
  return (
    <section aria-labelledby="space-title">
      <h2 id="space-title">Address space</h2>
      <div class="controls">
        {dump.cpus.length > 0 && <CpuChoice dump={dump} />}
        <RootChoice />
        <button type="button" onClick={() => void guarded(findSpaces)}>
          Find address spaces
        </button>
      </div>
      {current !== undefined && <SpaceFacts space={current} />}
      {spaceProblem.value !== undefined && (
        <p class="bad" role="status">
          {spaceProblem.value}. A root can be given by hand, or be searched for.
        </p>
      )}
      {spaces.value !== undefined && <FoundSpaces found={spaces.value} onChoose={choose} />}
    </section>
  );
}

function CpuChoice({ dump }: { dump: DumpAnswer }) {
  const id = useId();
  const cpu = dump.cpus.findIndex(({ cr3 }) => cr3 === space.value?.registers.cr3);
  return (
    <span>
      <label for={id}>Processor </label>
      <select id={id} value={cpu} onChange={({ currentTarget }) => choose({ cpu: Number(currentTarget.value) })}>
        {cpu < 0 && <option value={-1}>none</option>}
        {dump.cpus.map(({ number, cr3, cpl }) => (
          <option key={number} value={number}>
            {number}: CR3 {hex(cr3)}
            {cpl === undefined ? "" : `, CPL ${cpl}`}
          </option>
        ))}
      </select>
    </span>
  );
}

function RootChoice() {
  const id = useId();
  const [root, setRoot] = useState(0n);
  const [mode, setMode] = useState<keyof typeof MODES>("");
  return (
    <form
      class="controls"
      onSubmit={(event) => {
        event.preventDefault();
        choose({ cr3: root, mode: mode === "" ? undefined : mode });
      }}
    >
      <HexInput label="CR3" value={root} onValue={setRoot} bits={64} />
      <select
        aria-label="Paging mode of the root"
        id={id}
        value={mode}
        onChange={({ currentTarget }) => setMode(currentTarget.value as keyof typeof MODES)}
      >
        {Object.entries(MODES).map(([name, title]) => (
          <option key={name} value={name}>
            {title}
          </option>
        ))}
      </select>
      <button type="submit">Use this root</button>
    </form>
  );
}

function SpaceFacts({ space: { registers, title, mode, usersRoot } }: { space: SpaceAnswer }) {
  const shown = ["cr0", "cr3", "cr4", "efer"] as const;
  return (
    <>
      <dl class="facts">
        <Fact label="mode" value={title} />
        {shown.map((name) => (
          <Fact key={name} label={name.toUpperCase()} value={hex(registers[name])} origin={registers.origin[name]} />
        ))}
        <Fact label="MAXPHYADDR" value={`${registers.maxPhysAddr}`} origin={registers.origin.maxPhysAddr} />
        {registers.encryptionMask !== 0n && (
          <Fact label="encryption" value={hex(registers.encryptionMask)} origin={registers.origin.encryptionMask} />
        )}
      </dl>
      {mode === "none" && <p>Paging is off: nothing is mapped.</p>}
      {usersRoot !== undefined && (
        <p>
          This is the kernel's root of a process with page-table isolation: no user page is executable by it.{" "}
          <button type="button" onClick={() => choose({ cr3: usersRoot })}>
            Look by the users' root {hex(usersRoot)}
          </button>
        </p>
      )}
    </>
  );
}
