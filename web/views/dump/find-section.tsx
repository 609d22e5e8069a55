/** Every virtual address of a physical one: in this space, or in all. */
import { useEffect, useState } from "preact/hooks";
import { pageSizeName } from "x86-paging/maps";
import type { FindAnswer, Hit, SpaceAnswer } from "../../engine/dump/answers.js";
import { addressDigits, hex, rightsLetters } from "../../paging/words.js";
import { ask } from "../../state/dump/session.js";
import { guarded } from "../../state/problem.js";
import { setParams } from "../../state/route.js";
import { HexInput } from "../../ui/hex-input.jsx";
import { isNarrow } from "../../ui/narrow.js";
import { VirtualRows } from "../../ui/virtual-rows.jsx";

export function FindSection({ space, suggested }: { space: SpaceAnswer; suggested: bigint | undefined }) {
  const [pa, setPa] = useState(suggested ?? 0n);
  const [found, setFound] = useState<FindAnswer | undefined>(undefined);
  const [selected, setSelected] = useState<number | undefined>(undefined);
  useEffect(() => {
    if (suggested !== undefined) setPa(suggested);
  }, [suggested]);
  const find = (everywhere: boolean) =>
    void guarded(async () => {
      setFound(undefined);
      setSelected(undefined);
      setFound(await ask(`Searching for ${hex(pa)}`, (worker, task) => worker.find(task, space.id, pa, everywhere)));
    });
  const hits = found?.hits ?? [];
  return (
    <>
      <h3>Who maps a physical address</h3>
      <form
        class="controls"
        onSubmit={(event) => {
          event.preventDefault();
          find(false);
        }}
      >
        <HexInput label="Physical address" value={pa} onValue={setPa} />
        <button type="submit">Find in this space</button>
        <button type="button" onClick={() => find(true)}>
          Find in all spaces
        </button>
      </form>
      {found !== undefined && (
        <p role="status">
          {hits.length === 0
            ? `Nothing maps ${hex(found.pa)}.`
            : `${found.more ? `The first ${hits.length} addresses` : `${hits.length} address${hits.length === 1 ? "" : "es"}`} of ${hex(found.pa)}.`}
        </p>
      )}
      {hits.length > 0 && (
        <VirtualRows
          label="Addresses found"
          count={hits.length}
          rowHeight={isNarrow.value ? 48 : 28}
          selected={selected}
          onSelect={setSelected}
          onOpen={(index) => {
            // What is in another space is looked at there.
            const { va, root } = hits[index]!;
            setParams({
              address: va.toString(16),
              ...(root === undefined ? {} : { cr3: root.toString(16), cpu: undefined, mode: undefined }),
            });
          }}
          row={(index) => <HitRow hit={hits[index]!} mode={space.mode} />}
        />
      )}
    </>
  );
}

function HitRow({ hit: { va, pageSize, rights, root, shared }, mode }: { hit: Hit; mode: SpaceAnswer["mode"] }) {
  return (
    <span class="columns">
      <span class="col-address">{va.toString(16).padStart(addressDigits(mode), "0")}</span>
      <span>{rightsLetters(rights)}</span>
      <span>{pageSizeName(pageSize)}</span>
      {root !== undefined && <span>{(shared ?? 1) > 1 ? `kernel of ${shared} spaces` : `in ${hex(root)}`}</span>}
    </span>
  );
}
