/** The address spaces that a search found, as `x86-paging spaces` has them. */
import { useState } from "preact/hooks";
import type { FoundSpace, SpaceChoice } from "../../engine/dump/answers.js";
import type { ScannedSpaces } from "../../engine/dump/finding.js";
import { hex, sizeText } from "../../paging/words.js";
import { isNarrow } from "../../ui/narrow.js";
import { VirtualRows } from "../../ui/virtual-rows.jsx";

const KINDS = { process: "process", kernel: "the kernel's part alone", other: "nothing of users" };
const MODES = { "32bit": "32-bit", pae: "PAE", "4level": "4-level", "5level": "5-level" };

export function FoundSpaces({ found, onChoose }: { found: ScannedSpaces; onChoose: (choice: SpaceChoice) => void }) {
  const [selected, setSelected] = useState<number | undefined>(undefined);
  const { spaces, skipped } = found;
  return (
    <>
      <h3>
        {spaces.length} address space{spaces.length === 1 ? "" : "s"}
      </h3>
      {skipped > 0 && <p class="bad">{skipped} pages that look like roots were not judged: all map one another.</p>}
      {spaces.length > 0 && (
        <>
          <p class="hint">Enter or a click opens one.</p>
          <VirtualRows
            label="Address spaces"
            count={spaces.length}
            rowHeight={isNarrow.value ? 48 : 28}
            selected={selected}
            onSelect={setSelected}
            onOpen={(index) => {
              const { root, mode } = spaces[index]!;
              onChoose({ cr3: root, mode });
            }}
            row={(index) => <SpaceRow space={spaces[index]!} sharing={spaces.some(({ shared }) => shared > 1)} />}
          />
        </>
      )}
    </>
  );
}

function SpaceRow({ space, sharing }: { space: FoundSpace; sharing: boolean }) {
  const { root, mode, kind, userRoot, mapped, cpus, isKernels, shared } = space;
  const what = [isKernels ? "the kernel's own" : KINDS[kind]];
  if (cpus.length > 0) what.push(`cpu ${cpus.join(", ")}`);
  if (userRoot !== undefined) what.push(`users' root ${hex(userRoot)}`);
  if (sharing && shared === 1) what.push("shares no kernel");
  return (
    <span class="columns">
      <span class="col-root">{hex(root)}</span>
      <span>{MODES[mode]}</span>
      <span>{sizeText(mapped.user)} user</span>
      <span>{sizeText(mapped.kernel)} kernel</span>
      <span class={mapped.writableExecutable > 0 ? "bad" : ""}>{mapped.writableExecutable} W+X</span>
      <span>{what.join(", ")}</span>
    </span>
  );
}
