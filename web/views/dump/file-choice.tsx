/** Which file is the dump: chosen, dropped, or the example; and how it is read where it does not say it. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { RawOptions } from "../../engine/dump/answers.js";
import type { InputFile } from "../../engine/served-file.js";
import { input, openExample, openFiles } from "../../state/dump/session.js";
import { guarded } from "../../state/problem.js";
import { RawChoice } from "./raw-choice.jsx";

export function FileChoice() {
  const [raw, setRaw] = useState<RawOptions>({});
  const field = useRef<HTMLInputElement>(null);
  const options = useRef(raw);
  options.current = raw;
  const open = (files: readonly InputFile[]) => {
    if (files.length > 0) void guarded(() => openFiles(files, options.current));
  };
  useEffect(() => {
    const over = (event: DragEvent) => event.preventDefault();
    const drop = (event: DragEvent) => {
      event.preventDefault();
      open([...(event.dataTransfer?.files ?? [])]);
    };
    document.addEventListener("dragover", over);
    document.addEventListener("drop", drop);
    return () => {
      document.removeEventListener("dragover", over);
      document.removeEventListener("drop", drop);
    };
  }, []);
  return (
    <section aria-labelledby="file-title">
      <h2 id="file-title">Dump</h2>
      <div class="controls">
        <label class="button primary">
          Choose a dump…
          <input
            ref={field}
            type="file"
            class="unseen"
            multiple
            onChange={({ currentTarget }) => {
              open([...(currentTarget.files ?? [])]);
              // The same file may be chosen again.
              currentTarget.value = "";
            }}
          />
        </label>
        <button type="button" onClick={() => void guarded(openExample)}>
          Example: Debian, 5 levels
        </button>
        <span class="hint">
          or drop it here: ELF core, kdump, LiME, AVML, Xen, VMware, Microsoft, raw; gzip, xz and zstd. All parts of a
          split dump at once.
        </span>
      </div>
      <RawChoice
        onChange={setRaw}
        onAgain={input.value.length === 0 ? undefined : (next) => void guarded(() => openFiles(input.value, next))}
      />
    </section>
  );
}
