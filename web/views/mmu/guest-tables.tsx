/** The guest's tables that shadow pages stand for. */
import { entryName } from "x86-paging/decode";
import type { SideStep } from "../../engine/mmu/session.js";

export function GuestTables({ side }: { side: SideStep }) {
  const { tables } = side.picture;
  const changed = new Set(side.changes.guest);
  return (
    <section>
      <h2>The guest's tables</h2>
      {tables.length === 0 && <p class="hint">None is shadowed: the pages are direct.</p>}
      {tables.map(({ gfn, level, entries, more }) => (
        <div key={`${gfn}`}>
          <h3>
            gfn 0x{gfn.toString(16)}, {entryName(level)}s
          </h3>
          <ul class="words">
            {entries.map(({ index, entry }) => {
              const isChanged = changed.has(`${gfn.toString(16)}/${index}`);
              return (
                <li key={index} class={isChanged ? "changed" : ""}>
                  <code>
                    [{index}] {entry.toString(16)}
                  </code>
                  {isChanged && " changed"}
                </li>
              );
            })}
          </ul>
          {more > 0 && <p class="hint">and {more} more</p>}
        </div>
      ))}
    </section>
  );
}
